"""When a batch stops by itself, rather than go on failing.

Ten actions in a row without a clear answer, or three refusals in a row for
the credentials, or for one PHLO or node, are suspicious. A GET, which rings
nobody, then tells whether it is as bad as it looks.
"""

from collections.abc import Callable, Collection

import attrs

from aiophlo.actions import Action, GetNode, GetPhlo
from aiophlo.outcomes import (
    CREDENTIALS_REFUSED,
    Accepted,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    Rejected,
)
from aiophlo.sending import Sender

DOUBTS = 10
REFUSALS = 3
PROBE_WITHIN = 30.0  # seconds for a probe to leave
_NO_ANSWER = frozenset({Reason.UNREACHABLE, Reason.NO_BUDGET})

_Subject = tuple[str, ...]


@attrs.frozen
class _Suspicion:
    """Something that may be wrong, so that going on would be of no use.

    Attributes:
        limit: Outcomes in a row that raise it.
        speaks_for: Says whether an outcome does; None if it tells nothing.
        subject_of: Returns what it is about: an account, or a place in it.
        question_for: Returns the GET that decides.
    """

    limit: int
    speaks_for: Callable[[Outcome], bool | None]
    subject_of: Callable[[str, Action], _Subject]
    question_for: Callable[[Action], Action]


@attrs.define
class _Breaker:
    in_a_row: int = 0
    stopped: bool = False


class Breakers:
    """What a batch suspects of the accounts and nodes it sends to."""

    def __init__(self) -> None:
        # Only what was ever suspicious is here, and mostly that is nothing.
        self._breakers: dict[tuple[_Suspicion, _Subject], _Breaker] = {}

    async def admits(self, sender: Sender, action: Action) -> bool:
        """Say whether it makes sense to send `action`; probe if that is unclear.

        Args:
            sender: Who would send it; asked for one action at a time.
            action: What would be sent.
        """
        if not self._breakers:
            return True
        for suspicion in _SUSPICIONS:
            subject = suspicion.subject_of(sender.account.auth_id, action)
            breaker = self._breakers.get((suspicion, subject))
            if breaker is None:
                continue
            if breaker.in_a_row >= suspicion.limit and not breaker.stopped:
                await _probe(suspicion, breaker, sender, action)
            if breaker.stopped:
                return False
        return True

    def note(self, sender: Sender, outcome: Outcome) -> None:
        """Take note of an outcome."""
        if not self._breakers and isinstance(outcome, Accepted):
            return
        for suspicion in _SUSPICIONS:
            suspicious = suspicion.speaks_for(outcome)
            if suspicious is None:
                continue
            subject = suspicion.subject_of(sender.account.auth_id, outcome.action)
            breaker = self._breakers.get((suspicion, subject))
            if suspicious and breaker is None:
                breaker = self._breakers[suspicion, subject] = _Breaker()
            if breaker is not None:
                breaker.in_a_row = breaker.in_a_row + 1 if suspicious else 0


async def _probe(
    suspicion: _Suspicion, breaker: _Breaker, sender: Sender, action: Action
) -> None:
    answer = await sender.send(suspicion.question_for(action), send_within=PROBE_WITHIN)
    # Somebody may have had a clear answer in the meantime.
    still = breaker.in_a_row >= suspicion.limit
    breaker.stopped = still and bool(suspicion.speaks_for(answer))
    breaker.in_a_row = 0


def _is_silent(outcome: Outcome) -> bool | None:
    match outcome:
        case InDoubt():
            return True
        case NotSent(reason=Reason.EXPIRED, attempts=attempts):
            return True if attempts else None  # it got no connection in its time
        case NotSent(reason=reason):
            return True if reason in _NO_ANSWER else None
    return False


def _is_locked_out(outcome: Outcome) -> bool | None:
    return _is_refused(outcome, CREDENTIALS_REFUSED)


def _is_missing(outcome: Outcome) -> bool | None:
    return _is_refused(outcome, {404})


def _is_refused(outcome: Outcome, statuses: Collection[int]) -> bool | None:
    match outcome:
        case Rejected(status=status):
            return status in statuses
        case Accepted():
            return False
    return None


def _account(auth_id: str, action: Action) -> _Subject:
    del action
    return (auth_id,)


def _place(auth_id: str, action: Action) -> _Subject:
    return auth_id, action.phlo_id, getattr(action, "node_id", "")


def _phlo_of(action: Action) -> Action:
    return GetPhlo(phlo_id=action.phlo_id)


def _node_of(action: Action) -> Action:
    node_id = getattr(action, "node_id", None)
    if node_id is None:
        return _phlo_of(action)
    node_type = getattr(action, "node_type", "multi_party_call")
    return GetNode(phlo_id=action.phlo_id, node_id=node_id, node_type=node_type)


_SUSPICIONS = (
    _Suspicion(DOUBTS, _is_silent, _account, _phlo_of),
    _Suspicion(REFUSALS, _is_locked_out, _account, _phlo_of),
    _Suspicion(REFUSALS, _is_missing, _place, _node_of),
)
