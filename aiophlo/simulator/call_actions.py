"""Carries out each action on a live call, or says why it is impossible.

Source:
    Plivo docs, "Multi-Party Call" and "PHLO API": what each action does. Assumed: the
    reasons for which one is impossible, and that they are answered with 409.
"""

from collections.abc import Callable
from typing import Final

from aiophlo.simulator.call import Call, Member, State


def objection(action: str, call: Call, member: Member, to: str) -> str | None:
    """Say why `member` can't take an action now; None if it is possible."""
    if action in _DIALS:
        return _cannot_dial(action, call, member, to)
    return _OBJECTIONS[action](call, member) if action in _OBJECTIONS else None


def apply(action: str, call: Call, member: Member, to: str, role: str) -> None:
    """Carry out an action of `member` that nothing was objected to."""
    if action in _DIALS:
        _DIALS[action](call, member, call.ring(to, role))
    else:
        _BY_MEMBER[action](call, member)


def _cannot_dial(action: str, call: Call, member: Member, to: str) -> str | None:
    if action != "call" and call.transfer:
        return "a transfer is in progress"
    if action != "call" and member.state is not State.TALKING:
        return "trigger_source is not talking"
    there = call.members.get(to)
    return "to is in the call already" if there and there.present else None


def _no_transfer(call: Call, member: Member) -> str | None:
    if call.transfer and call.transfer.starter is member:
        return None
    return "the member has no transfer in progress"


def _no_consult(call: Call, member: Member) -> str | None:
    missing = _no_transfer(call, member)
    if missing or (call.transfer and call.transfer.target.inside):
        return missing
    return "nobody has answered the transfer"


def _no_machine(call: Call, member: Member) -> str | None:
    answerer = _answerer(call, member)
    if answerer.machine and answerer.inside:
        return None
    return "no answering machine is on the line"


def _answerer(call: Call, member: Member) -> Member:
    """Give the one to whom the member has transferred, or the member."""
    transfer = call.transfer
    return transfer.target if transfer and transfer.starter is member else member


def _call(call: Call, member: Member, target: Member) -> None:
    """Whoever is rung joins on answering, and nothing else changes."""


def _warm_transfer(call: Call, member: Member, target: Member) -> None:
    call.start_transfer(member, target)


def _cold_transfer(call: Call, member: Member, target: Member) -> None:
    call.start_transfer(member, target)
    call.leave(member)


def _abort_transfer(call: Call, member: Member) -> None:
    del member
    call.abort_transfer()


def _resume_call(call: Call, member: Member) -> None:
    del member
    call.end_transfer()


def _voicemail_drop(call: Call, member: Member) -> None:
    call.leave(_answerer(call, member))


def _leave(call: Call, member: Member) -> None:
    call.leave(member)


def _hold(call: Call, member: Member) -> None:
    member.holding = True
    call.hold_others(member)


def _unhold(call: Call, member: Member) -> None:
    member.holding = False
    call.unhold_others()


def _mute(call: Call, member: Member) -> None:
    del call
    member.muted = True


def _unmute(call: Call, member: Member) -> None:
    del call
    member.muted = False


_OBJECTIONS: Final[dict[str, Callable[[Call, Member], str | None]]] = {
    "abort_transfer": _no_transfer,
    "resume_call": _no_consult,
    "voicemail_drop": _no_machine,
}
_DIALS: Final[dict[str, Callable[[Call, Member, Member], None]]] = {
    "call": _call,
    "warm_transfer": _warm_transfer,
    "cold_transfer": _cold_transfer,
}
_BY_MEMBER: Final[dict[str, Callable[[Call, Member], None]]] = {
    "abort_transfer": _abort_transfer,
    "resume_call": _resume_call,
    "voicemail_drop": _voicemail_drop,
    "hangup": _leave,
    "leave": _leave,
    "hold": _hold,
    "unhold": _unhold,
    "mute": _mute,
    "unmute": _unmute,
}
