"""Rivals: a late repeat may only follow if nothing newer was said to the member."""

import itertools
from typing import Any

import pytest

from aiophlo.actions import (
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
from aiophlo.rivals import Rivals

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
def test_lone_action_is_the_last_word(action: Action) -> None:
    """An abort whose answer got lost must be tried again."""
    assert Rivals().begin(action).is_last


@pytest.mark.parametrize("newer", SETTERS + OTHER_WORDS, ids=name)
@pytest.mark.parametrize("older", SETTERS, ids=name)
def test_newer_action_for_the_party_takes_the_last_word(
    older: Action, newer: Action
) -> None:
    """A late second Hold would undo a newer Unhold: the customer hears music again."""
    rivals = Rivals()
    word, newer_word = rivals.begin(older), rivals.begin(newer)
    assert not word.is_last
    assert newer_word.is_last


@pytest.mark.parametrize("stranger", STRANGERS, ids=repr)
def test_action_for_somebody_else_takes_no_word(stranger: Action) -> None:
    """A busy node must not keep every lost abort from being repeated."""
    rivals = Rivals()
    word = rivals.begin(HOLD)
    rivals.begin(stranger)
    assert word.is_last


def test_word_once_lost_stays_lost() -> None:
    """The newer action may be done already, and would still be undone."""
    rivals = Rivals()
    older = rivals.begin(HOLD)
    rivals.end(rivals.begin(Unhold(**NODE, member=AGENT)))
    assert not older.is_last


def test_action_begun_before_takes_no_word() -> None:
    """What was said before is what the newer word was meant to change."""
    rivals = Rivals()
    rivals.begin(Hold(**NODE, member=AGENT))
    assert rivals.begin(Unhold(**NODE, member=AGENT)).is_last


def test_spelling_of_an_address_makes_no_stranger() -> None:
    """The same agent, typed with blanks, is still the same agent."""
    rivals = Rivals()
    word = rivals.begin(HOLD)
    rivals.begin(Unhold(**NODE, member="+1 (415) 555-0100"))
    assert not word.is_last


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_nothing_is_kept_of_what_has_ended(order: tuple[int, ...]) -> None:
    """A service that runs for months must not remember every hold."""
    rivals = Rivals()
    words = [rivals.begin(action) for action in SETTERS[:3]]
    for index in order:
        assert len(rivals) == 1
        rivals.end(words[index])
    assert len(rivals) == 0


@pytest.mark.parametrize("action", OTHER_WORDS + STRANGERS[4:], ids=name)
def test_what_is_never_repeated_so_is_not_kept(action: Action) -> None:
    """A million transfers streamed must not pass through this memory."""
    rivals = Rivals()
    word = rivals.begin(action)
    assert len(rivals) == 0
    rivals.begin(HOLD)
    assert word.is_last  # the policy knows without it: never, or always
    rivals.end(word)


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
def test_word_is_overtaken_by_what_undoes_it(
    later: type[Action], earlier: type[Action]
) -> None:
    """A Hold that leaves after its Unhold leaves a customer with the music."""
    rivals = Rivals()
    words = [said(earlier), said(earlier, "+14155550111")]
    first, elsewhere = [rivals.wait(it, rivals.begin(it)) for it in words]
    rivals.end(rivals.begin(said(later)))
    assert first.overtaken
    assert not elsewhere.overtaken
    rivals.end(first)
    rivals.end(elsewhere)
    assert not len(rivals)


def test_word_is_not_overtaken_by_anything_else() -> None:
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
        rivals = Rivals()
        word = rivals.wait(said(earlier), rivals.begin(said(earlier)))
        rivals.begin(said(later))
        assert not word.overtaken, (later, earlier)


def test_abort_that_waits_is_overtaken_by_a_new_transfer() -> None:
    """A late abort would end the transfer that the agent has just begun."""
    rivals = Rivals()
    word = rivals.begin(said(AbortTransfer))
    rivals.begin(said(WarmTransfer))
    assert word.overtaken
