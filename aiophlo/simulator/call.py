"""One live call: its members with their states, and what each action changes.

ringing ──answers──▶ consulting ──starter leaves, resume──▶ talking ⇄ on hold
│                     │                                    │
└──── busy, declines, │ ignored, aborted ──▶ left ◀────────┘
"""

import enum
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Protocol

import attrs

from aiophlo.simulator.ledger import mask
from aiophlo.simulator.people import CANCELED, NORMAL, Habit, HangupCause, Reaction


class State(enum.StrEnum):
    """What a member of a call is doing."""

    RINGING = "ringing"
    TALKING = "talking"
    ON_HOLD = "on_hold"
    CONSULTING = "consulting"
    LEFT = "left"


@attrs.define(eq=False)
class Member:
    """One party of a call.

    Attributes:
        address: Number or SIP endpoint.
        role: agent or customer.
        state: What they are doing.
        muted: Whether they have been muted.
        holding: Whether they have put the others on hold, which mutes them too.
        machine: Whether it is an answering machine.
        dialled: Whether they were called, or called in.
        entered: Whether they were ever inside.
        call_uuid: Id of their leg.
        began_at: Unix time at which they were dialled, or called in.
        answered_at: Unix time at which they came on the line, or None.
        ended_at: Unix time at which they left, or None.
        hangup: Why they left.
    """

    address: str = attrs.field(repr=mask)
    role: str
    state: State
    muted: bool = False
    holding: bool = False
    machine: bool = False
    dialled: bool = True
    entered: bool = False
    call_uuid: str = attrs.field(factory=lambda: str(uuid.uuid4()), repr=False)
    began_at: float = attrs.field(factory=time.time, repr=False)
    answered_at: float | None = attrs.field(default=None, repr=False)
    ended_at: float | None = attrs.field(default=None, repr=False)
    hangup: HangupCause = attrs.field(default=NORMAL, repr=False)

    def end(self, hangup: HangupCause) -> None:
        """Let them be out from now on."""
        self.state, self.hangup = State.LEFT, hangup
        self.ended_at = time.time()

    @property
    def inside(self) -> bool:
        """Whether they are on the line."""
        return self.state not in {State.RINGING, State.LEFT}

    @property
    def present(self) -> bool:
        """Whether they are on the line or being rung."""
        return self.state is not State.LEFT


@attrs.define(eq=False)
class Transfer:
    """A transfer under way.

    Attributes:
        starter: Who started it.
        target: Who was dialled for it.
    """

    starter: Member
    target: Member


class World(Protocol):
    """What a call needs from outside."""

    def habit_of(self, address: str) -> Habit:
        """Return how an address takes calls."""

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Do something when time has passed."""

    def entered(self, call: "Call", member: Member) -> None:
        """Called when a member is on the line."""

    def exited(self, call: "Call", member: Member) -> None:
        """Called when a member has left."""

    def changed(self, call: "Call") -> None:
        """Called when a state has changed."""


class Call:
    """A call in a multi-party-call node.

    Args:
        world: Everything outside.
        phlo_id: PHLO.
        node_id: Node.
        account: auth_id of the account that it runs in.
        returns_customer: Whether a transfer whose target can't be had, or leaves,
            ends by itself and gives the customer back; else the customer stays on
            hold until the transfer is aborted.

    Attributes:
        members: By address, those who have left included.
        transfer: The transfer under way, if there is one.
        conference_uuid: Its id.

    Source:
        Assumed: what becomes of a transfer when its target can't be had, or when its
        starter leaves before anybody has answered.
    """

    def __init__(
        self,
        world: World,
        *,
        phlo_id: str,
        node_id: str,
        account: str,
        returns_customer: bool,
    ) -> None:
        self.phlo_id = phlo_id
        self.node_id = node_id
        self.account = account
        self.members: dict[str, Member] = {}
        self.transfer: Transfer | None = None
        self.conference_uuid = str(uuid.uuid4())
        self._world = world
        self._returns_customer = returns_customer

    def __repr__(self) -> str:
        """Say who is doing what."""
        return f"<Call {list(self.members.values())}>"

    def __getitem__(self, address: str) -> Member:
        """Give the member with an address.

        Raises:
            KeyError: Nobody with it was ever in the call.
        """
        return self.members[address]

    @property
    def completed(self) -> bool:
        """Whether everybody has left."""
        return not any(member.present for member in self.members.values())

    def enter(self, address: str, role: str, *, dialled: bool) -> None:
        """Add a member who is talking at once."""
        member = Member(address, role, State.TALKING, dialled=dialled, entered=True)
        member.answered_at = member.began_at
        self.members[address] = member
        self._world.entered(self, member)

    def ring(self, to: str, role: str) -> Member:
        """Dial an address, which takes the call by its habit."""
        target = self.members[to] = Member(to, role, State.RINGING)
        habit = self._world.habit_of(to)
        self._world.later(habit.after, lambda: self._react(target, habit))
        return target

    def start_transfer(self, starter: Member, target: Member) -> None:
        """Let a member wait for the one rung, and all others hear music."""
        self.hold_others(starter)
        starter.state = State.CONSULTING
        self.transfer = Transfer(starter, target)

    def end_transfer(self) -> None:
        """Let everybody who is still on the line talk to each other."""
        self.transfer = None
        for member in self._inside():
            member.state = State.TALKING

    def abort_transfer(self) -> None:
        """End the transfer without its target."""
        transfer = self.transfer
        self.end_transfer()
        if transfer:
            self.leave(transfer.target)

    def hold_others(self, member: Member) -> None:
        """Let all who talk to a member hear music."""
        for other in self._inside():
            if other is not member and other.state is State.TALKING:
                other.state = State.ON_HOLD

    def unhold_others(self) -> None:
        """Let all who hear music talk again."""
        for member in self._inside():
            if member.state is State.ON_HOLD:
                member.state = State.TALKING

    def leave(self, member: Member, hangup: HangupCause | None = None) -> None:
        """Let a member hang up, or stop ringing."""
        if not member.present:
            return
        member.end(hangup or (NORMAL if member.inside else CANCELED))
        if member.entered:
            self._world.exited(self, member)
        if self.transfer and member is self.transfer.target:
            self._lose_target(self.transfer)
        elif self.transfer and member is self.transfer.starter:
            self._lose_starter(self.transfer)
        elif member.holding:
            self.unhold_others()
        self._stop_ringing_for_nobody()
        self._world.changed(self)

    def _lose_target(self, transfer: Transfer) -> None:
        if not transfer.starter.inside:
            self.transfer = None  # whoever is on hold stays there, alone
        elif self._returns_customer:
            self.end_transfer()

    def _lose_starter(self, transfer: Transfer) -> None:
        if transfer.target.inside:
            self.end_transfer()
        elif not transfer.target.present:
            self.transfer = None

    def _stop_ringing_for_nobody(self) -> None:
        if not any(self._inside()):
            for member in self.members.values():
                if member.present:
                    member.end(CANCELED)

    def _react(self, target: Member, habit: Habit) -> None:
        """Do what the one rung does, unless the ringing has been stopped."""
        if target.state is not State.RINGING:
            return
        if not habit.picks_up:
            self.leave(target, habit.hangup)
            return
        target.machine = habit.reaction is Reaction.MACHINE
        self._answer(target)
        if habit.stays is not None:
            self._world.later(habit.stays, lambda: self.leave(target))
        self._world.changed(self)

    def _answer(self, target: Member) -> None:
        transfer = self.transfer
        target.state, target.entered = State.TALKING, True
        target.answered_at = time.time()
        if transfer and transfer.target is target:
            if transfer.starter.inside:
                target.state = State.CONSULTING
            else:
                self.end_transfer()
        self._world.entered(self, target)

    def _inside(self) -> Iterator[Member]:
        return (member for member in self.members.values() if member.inside)
