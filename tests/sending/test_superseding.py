"""Claims: a late repeat may only follow if nothing newer was said to the member."""

import itertools
from typing import Any

import attrs
import pytest

from aiophlo.model.actions import (
    AbortTransfer,
    Action,
    AddUser,
    BridgeLeave,
    BridgeMute,
    BridgeUnmute,
    ColdTransfer,
    GetNode,
    GetPhlo,
    Hangup,
    Hold,
    Mute,
    ResumeCall,
    RunPhlo,
    Unhold,
    Unmute,
    VoicemailDrop,
    WarmTransfer,
)
from aiophlo.model.outcomes import Accepted, Rejected
from aiophlo.sending.superseding import Claims

AGENT, OTHER = "+14155550100", "+14155550199"
NODE: dict[str, Any] = {"phlo_id": "p", "node_id": "n"}
SETTERS: list[Action] = [
    kind(**NODE, member=AGENT)
    for kind in (
        AbortTransfer,
        Hangup,
        Hold,
        Unhold,
        Mute,
        Unmute,
        BridgeMute,
        BridgeUnmute,
        BridgeLeave,
    )
]
OTHER_WORDS: list[Action] = [
    ResumeCall(**NODE, member=AGENT),
    VoicemailDrop(**NODE, member=AGENT),
    *(
        kind(**NODE, trigger_source=AGENT, to=OTHER)
        for kind in (WarmTransfer, ColdTransfer, AddUser)
    ),
]
STRANGERS: list[Action] = [
    Hold(**NODE, member=OTHER),
    Hold(phlo_id="p", node_id="m", member=AGENT),
    Hold(phlo_id="q", node_id="n", member=AGENT),
    WarmTransfer(**NODE, trigger_source=OTHER, to=AGENT),
    RunPhlo(phlo_id="p"),
    GetPhlo(phlo_id="p"),
    GetNode(**NODE),
]
HOLD = Hold(**NODE, member=AGENT)


def name(action: Action) -> str:
    """Name an action in a test's id."""
    return type(action).__name__


@pytest.mark.parametrize("action", SETTERS, ids=name)
def test_lone_action_is_the_latest(action: Action) -> None:
    """An abort whose answer got lost must be tried again."""
    assert Claims().begin(action).is_latest


@pytest.mark.parametrize("newer", SETTERS + OTHER_WORDS, ids=name)
@pytest.mark.parametrize("older", SETTERS, ids=name)
def test_newer_action_for_the_party_is_the_latest(older: Action, newer: Action) -> None:
    """A late second Hold would undo a newer Unhold: the customer hears music again."""
    claims = Claims()
    claim, newer_claim = claims.begin(older), claims.begin(newer)
    assert not claim.is_latest
    assert newer_claim.is_latest


@pytest.mark.parametrize("stranger", STRANGERS, ids=repr)
def test_action_for_another_party_changes_no_claim(stranger: Action) -> None:
    """A busy node must not keep every lost abort from being repeated."""
    claims = Claims()
    claim = claims.begin(HOLD)
    claims.begin(stranger)
    assert claim.is_latest


def test_claim_once_lost_stays_lost() -> None:
    """The newer action may be done already, and would still be undone."""
    claims = Claims()
    older = claims.begin(HOLD)
    claims.end(claims.begin(Unhold(**NODE, member=AGENT)))
    assert not older.is_latest


def test_action_begun_before_changes_no_claim() -> None:
    """What was begun before is what the newer action was meant to change."""
    claims = Claims()
    claims.begin(Hold(**NODE, member=AGENT))
    assert claims.begin(Unhold(**NODE, member=AGENT)).is_latest


def test_spelling_of_an_address_makes_no_stranger() -> None:
    """The same agent, typed with blanks, is still the same agent."""
    claims = Claims()
    claim = claims.begin(HOLD)
    claims.begin(Unhold(**NODE, member="+1 (415) 555-0100"))
    assert not claim.is_latest


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_nothing_is_kept_of_what_has_ended(order: tuple[int, ...]) -> None:
    """A service that runs for months must not remember every hold."""
    claims = Claims()
    claimed = [claims.begin(action) for action in SETTERS[:3]]
    for index in order:
        assert len(claims) == 1
        claims.end(claimed[index])
    assert len(claims) == 0


@pytest.mark.parametrize("action", OTHER_WORDS + STRANGERS[4:], ids=name)
def test_what_is_never_repeated_so_is_not_kept(action: Action) -> None:
    """A million transfers streamed must not pass through this memory."""
    claims = Claims()
    claim = claims.begin(action)
    assert len(claims) == 0
    claims.begin(HOLD)
    assert claim.is_latest  # the policy knows without it: never, or always
    claims.end(claim)


UNDOES = {
    (Unhold, Hold),
    (Hold, Unhold),
    (Unmute, Mute),
    (Mute, Unmute),
    (BridgeUnmute, BridgeMute),
    (BridgeMute, BridgeUnmute),
    (BridgeLeave, BridgeMute),
    (BridgeLeave, BridgeUnmute),
    (AbortTransfer, WarmTransfer),
    (AbortTransfer, ColdTransfer),
    *((Hangup, kind) for kind in (Hold, Unhold, Mute, Unmute, AbortTransfer)),
    *((Hangup, kind) for kind in (ResumeCall, VoicemailDrop, Hangup)),
    *((Hangup, kind) for kind in (WarmTransfer, ColdTransfer, AddUser)),
}


def said(kind: type[Any], party: str = AGENT) -> Action:
    """Return an action of this kind for the party."""
    if issubclass(kind, AddUser | ColdTransfer | WarmTransfer):
        action: Action = kind(**NODE, trigger_source=party, to=OTHER)
    else:
        action = kind(**NODE, member=party)
    return action


@pytest.mark.parametrize(("later", "earlier"), sorted(UNDOES, key=str))
def test_action_is_superseded_by_what_undoes_it(
    later: type[Action], earlier: type[Action]
) -> None:
    """A Hold that leaves after its Unhold leaves a customer with the music."""
    claims = Claims()
    claimed = [said(earlier), said(earlier, "+14155550111")]
    first, elsewhere = [claims.wait(it, claims.begin(it)) for it in claimed]
    claims.end(claims.begin(said(later)))
    assert first.superseded
    assert not elsewhere.superseded
    claims.end(first)
    claims.end(elsewhere)
    assert not len(claims)


def test_action_is_not_superseded_by_anything_else() -> None:
    """Muting somebody must not lose the transfer that waits."""
    kinds = [type(action) for action in SETTERS]
    kinds += [ResumeCall, VoicemailDrop, WarmTransfer, ColdTransfer, AddUser]
    bridge = {BridgeMute, BridgeUnmute, BridgeLeave}
    for later, earlier in itertools.product(kinds, kinds):
        undone = (later, earlier) in UNDOES or (
            later in {WarmTransfer, ColdTransfer} and earlier is AbortTransfer
        )
        if undone or (later is Hangup and earlier in bridge):
            continue
        claims = Claims()
        claim = claims.wait(said(earlier), claims.begin(said(earlier)))
        claims.begin(said(later))
        assert not claim.superseded, (later, earlier)


@pytest.mark.parametrize("kind", [WarmTransfer, ColdTransfer])
def test_abort_that_waits_is_superseded_by_a_new_transfer(kind: type[Action]) -> None:
    """A late abort would end the transfer that the agent has just begun."""
    claims = Claims()
    claim = claims.begin(said(AbortTransfer))
    claims.begin(said(kind))
    assert claim.superseded


def test_what_was_superseded_stays_so_whatever_comes_next() -> None:
    """Muting somebody after their Unhold must not let the old Hold leave."""
    claims = Claims()
    claim = claims.begin(said(Hold))
    for later in (Unhold, Mute):
        claims.begin(said(later))
        assert claim.superseded


@pytest.mark.parametrize("kind", [WarmTransfer, ColdTransfer])
def test_transfer_of_a_followed_agent_stands_until_it_is_known_to_be_out(
    kind: type[WarmTransfer | ColdTransfer],
) -> None:
    """Only what was refused can't be ended by an older handover's abort."""
    transfer = kind(**NODE, trigger_source=AGENT, to=OTHER)
    refused = Rejected(action=transfer, status=409, attempts=1)
    taken = Accepted(action=transfer, status=201, attempts=1)
    claims = Claims()
    newer = claims.follow(AbortTransfer(**NODE, member=AGENT))
    claims.settle(taken)  # it was begun before
    assert not newer
    for outcome in (refused, attrs.evolve(taken, joined=True)):
        claims.begin(transfer)
        assert newer
        assert not newer.begun
        claims.settle(outcome)
        assert not newer
    claims.begin(transfer)
    claims.settle(taken)
    assert newer.begun


@pytest.mark.parametrize("action", [*SETTERS, *STRANGERS], ids=repr)
def test_what_is_no_transfer_of_a_followed_agent_is_none(action: Action) -> None:
    """A customer must be brought back though others' calls go on."""
    claims = Claims()
    newer = claims.follow(AbortTransfer(**NODE, member=AGENT))
    claims.begin(action)
    assert not newer


def test_transfer_of_another_pool_keeps_no_customer_on_hold() -> None:
    """The agent clicks again, elsewhere, as their worker died: Plivo refuses that."""
    claims = Claims()
    newer = claims.follow(AbortTransfer(**NODE, member=AGENT))
    claims.hear(newer.party, "WarmTransfer")
    assert not newer


def test_nothing_is_kept_of_agents_who_are_not_followed_any_more() -> None:
    """Each handover ends, and the pool goes on for months."""
    claims = Claims()
    abort = AbortTransfer(**NODE, member=AGENT)
    first, second = claims.follow(abort), claims.follow(abort)
    claims.unfollow(first)
    transfer = ColdTransfer(**NODE, trigger_source=AGENT, to=OTHER)
    claims.begin(transfer)
    claims.settle(Accepted(action=transfer, status=201, attempts=1))
    assert (first.begun, second.begun) == (False, True)
    claims.unfollow(second)
    assert not claims._followed  # noqa: SLF001 -- what must not grow
