"""Marks queued or repeatable actions that a newer one on the member supersedes.

Repeating an action late is harmless only if no other action on the same member was
begun since: a second Hold would undo a newer Unhold, a second abort would end a newer
transfer. And an action that waits for its slot must not leave after the one that
undoes it: an urgent Unhold leaves first, and a Hold that followed it would stay.
"""

from typing import Final

from aiophlo.model.actions import Action, DialAction, MemberAction, PartyKey
from aiophlo.model.address_matching import phone_of
from aiophlo.model.outcomes import NotSent, Outcome, Rejected

_TRANSFERS: Final = frozenset({"WarmTransfer", "ColdTransfer"})


class Claim:
    """What superseding knows of one action under way.

    Attributes:
        kind: Class of the action.
        party: Whom the action is about; None for an action that isn't tracked.
        is_latest: No other action on the same party was begun since.
        superseded: An action that undoes this one was begun since.
    """

    __slots__ = ("is_latest", "kind", "party", "superseded")

    def __init__(self, kind: type[Action], party: PartyKey | None) -> None:
        self.kind = kind
        self.party = party
        self.is_latest = True
        self.superseded = False


class NewerTransfers:
    """The transfers that an agent has begun since a handover asked for its own.

    In this pool: what comes of another's isn't told. An agent whose worker has died
    clicks again elsewhere, and is refused: their customer is to be brought back.

    Attributes:
        party: The agent.
        under_way: Those that have no outcome yet.
        begun: Whether one may have been carried out.
    """

    __slots__ = ("begun", "party", "under_way")

    def __init__(self, party: PartyKey) -> None:
        self.party = party
        self.under_way: list[Action] = []
        self.begun = False

    def __bool__(self) -> bool:
        return self.begun or bool(self.under_way)


UNTRACKED = Claim(Action, None)
_ClaimsByParty = dict[PartyKey, dict[Claim, None]]


class Claims:
    """The claims of actions under way that a newer action may supersede, by party."""

    def __init__(self) -> None:
        self._setters: _ClaimsByParty = {}
        self._waiting: _ClaimsByParty = {}  # dials and others that are never repeated
        self._followed: dict[PartyKey, list[NewerTransfers]] = {}

    def __len__(self) -> int:
        return len(self._setters) + len(self._waiting)

    def begin(self, action: Action) -> Claim:
        """Mark what `action`, which begins, supersedes; pass the result to `end`."""
        if not (self._setters or self._followed or action.idempotent):
            return UNTRACKED
        party = party_of(action)
        if party is None:
            return UNTRACKED
        name = type(action).__name__
        self.hear(party, name)
        for newer in self._followed.get(party, ()) if name in _TRANSFERS else ():
            newer.under_way.append(action)
        if not action.idempotent:
            return UNTRACKED
        return _enter(self._setters, action, party)

    def hear(self, party: PartyKey, action: str) -> None:
        """Mark what an action of another pool, by its class's name, supersedes."""
        for claims in (self._setters, self._waiting):
            _challenge(claims.get(party), action)

    def wait(self, action: Action, claim: Claim) -> Claim:
        """Track an `action` that can't leave at once, so that it may be superseded.

        Args:
            action: The action that waits.
            claim: What `begin` returned for it.

        Returns:
            The claim to ask from now on, and to pass to `end`.
        """
        party = party_of(action)
        if party is None or claim.party is not None:
            return claim
        return _enter(self._waiting, action, party)

    def follow(self, agent: MemberAction) -> NewerTransfers:
        """Listen for transfers that the member of an action begins; see `unfollow`."""
        party = agent.phlo_id, agent.node_id, phone_of(agent.member)
        newer = NewerTransfers(party)
        self._followed.setdefault(party, []).append(newer)
        return newer

    def unfollow(self, newer: NewerTransfers) -> None:
        """Listen no more to what `follow` returned."""
        followed = self._followed[newer.party]
        followed.remove(newer)
        if not followed:
            del self._followed[newer.party]

    def settle(self, outcome: Outcome) -> None:
        """Note what came of an action of this pool."""
        party = party_of(outcome.action) if self._followed else None
        for newer in self._followed.get(party, ()) if party else ():
            if outcome.action in newer.under_way:
                newer.under_way.remove(outcome.action)
                is_out = isinstance(outcome, NotSent | Rejected) or outcome.joined
                newer.begun = newer.begun or not is_out

    def end(self, claim: Claim) -> None:
        """Stop tracking an action that has its outcome."""
        if claim.party is None:
            return
        for claims in (self._setters, self._waiting):
            found = claims.get(claim.party, {})
            if claim in found:
                del found[claim]
                if not found:
                    del claims[claim.party]


def party_of(action: Action) -> PartyKey | None:
    """Return the PHLO, node and address of the one whom `action` is for."""
    if isinstance(action, MemberAction):
        return action.phlo_id, action.node_id, phone_of(action.member)
    if isinstance(action, DialAction):
        return action.phlo_id, action.node_id, phone_of(action.trigger_source)
    return None


def _enter(claims: _ClaimsByParty, action: Action, party: PartyKey) -> Claim:
    claim = Claim(type(action), party)
    claims.setdefault(party, {})[claim] = None
    return claim


def _challenge(claims: dict[Claim, None] | None, action: str) -> None:
    for claim in claims or ():
        claim.is_latest = False
        undone = action in claim.kind.undone_by
        claim.superseded = claim.superseded or undone
