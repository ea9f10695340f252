"""What a soak sends: actions of every kind, each with a target of its own."""

import random
from collections.abc import Iterator
from typing import Any, Final

import attrs

from aiophlo.model.accounts import Account
from aiophlo.model.actions import (
    AbortTransfer,
    Action,
    AddUser,
    BridgeLeave,
    BridgeMute,
    BridgeUnmute,
    ColdTransfer,
    DialAction,
    GetNode,
    GetPhlo,
    Hangup,
    Hold,
    MemberAction,
    Mute,
    ResumeCall,
    RunPhlo,
    Unhold,
    Unmute,
    VoicemailDrop,
    WarmTransfer,
)

KINDS: Final[tuple[type[Action], ...]] = (
    AddUser,
    WarmTransfer,
    ColdTransfer,
    RunPhlo,
    ResumeCall,
    VoicemailDrop,
    AbortTransfer,
    Hangup,
    Hold,
    Unhold,
    Mute,
    Unmute,
    BridgeMute,
    BridgeUnmute,
    BridgeLeave,
    GetPhlo,
    GetNode,
)
_MAINS: Final = 24
_SUBS: Final = 8
_TOGETHER: Final = 0.2  # share of the actions that could have a second one beside them
_SIP: Final = 0.1  # share of targets that are SIP endpoints


@attrs.frozen
class Task:
    """One action, and what is sent beside it.

    Attributes:
        action: The action.
        twin: An equal dial at the same moment: somebody has clicked twice.
        rival: Another action of the same member, begun as soon as the first attempt
            at `action` is in doubt.
    """

    action: Action
    twin: Action | None = None
    rival: Action | None = None


def accounts(token: str) -> list[Account]:
    """Give main accounts and subaccounts, all unpaced: a 429 pauses only its own."""
    mains = [
        Account(f"MASOAK{number:014}", token, quota=None) for number in range(_MAINS)
    ]
    subs = [
        Account(f"SASOAK{number:014}", token, main=main.auth_id, quota=None)
        for number, main in zip(range(_SUBS), mains, strict=False)
    ]
    return mains + subs


def singles(numbers: range, seed: int) -> Iterator[Action]:
    """Give an action for each number, which is its key."""
    chance = random.Random(f"{seed} singles")  # noqa: S311 -- a mix, not a secret
    for number in numbers:
        yield _make(chance.choice(KINDS), number, chance)


def tasks(numbers: range, seed: int) -> Iterator[Task]:
    """Give tasks whose actions have these numbers as their keys, one each."""
    chance = random.Random(f"{seed} tasks")  # noqa: S311 -- a mix, not a secret
    waiting = iter(numbers)
    for number in waiting:
        kind = chance.choice(KINDS)
        action = _make(kind, number, chance)
        beside = None
        if chance.random() < _TOGETHER:
            beside = next(waiting, None) if _pairs(kind) else None
        if beside is None:
            yield Task(action)
        elif isinstance(action, DialAction):
            yield Task(action, twin=attrs.evolve(action, key=str(beside)))
        else:
            other = chance.choice(_claims(kind))
            yield Task(action, rival=_beside(other, action, beside))


def _pairs(kind: type[Action]) -> bool:
    return issubclass(kind, DialAction) or bool(_claims(kind))


def _claims(kind: type[Action]) -> list[type[Action]]:
    """Give the kinds whose word to a member counts against a repeat of `kind`."""
    if not (issubclass(kind, MemberAction) and kind.idempotent):
        return []
    return [
        other
        for other in KINDS
        if issubclass(other, MemberAction)
        and other is not kind
        and other.node_type == kind.node_type
    ]


def _beside(kind: type[Action], action: Action, number: int) -> Action:
    assert isinstance(action, MemberAction)  # noqa: S101 -- only these have claims
    fields: dict[str, Any] = {"member": action.member, "key": str(number)}
    fields |= {"phlo_id": action.phlo_id, "node_id": action.node_id}
    return kind(**fields)


def _make(kind: type[Action], number: int, chance: random.Random) -> Action:
    address = f"+1{number:010}"
    if chance.random() < _SIP:
        address = f"sip:u{number}@phone.plivo.com"
    fields: dict[str, Any] = {"key": str(number)}
    if issubclass(kind, DialAction | MemberAction):
        fields |= {"phlo_id": f"phlo{number % 7}", "node_id": f"node{number % 11}"}
    else:
        fields["phlo_id"] = f"own{number}"
    if issubclass(kind, DialAction):
        fields |= {"to": address, "trigger_source": f"+447{chance.randrange(1000):08}"}
    elif issubclass(kind, MemberAction):
        fields["member"] = address
    elif kind is RunPhlo:
        fields["parameters"] = {"to": address}
    elif kind is GetNode:
        fields["node_id"] = f"node{number % 11}"
    return kind(**fields)


def halves(actions: int) -> tuple[range, range]:
    """Split numbers in two."""
    return range(actions // 2), range(actions // 2, actions)
