"""What several pools share, as protocols: rates, dials, events of calls, handovers.

A pool alone shares nothing: its meters are `sending.rate_meter.RateMeter`, no dial
but its own is joined, and its handovers are `handover.registry.Unshared`. With a
`Coordinator` all pools that it reaches keep the promise together.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, Protocol

from aiophlo.model.accounts import Account, Rate
from aiophlo.model.actions import Action, DialAction, Lane, PartyKey
from aiophlo.model.call_events import CallEvent
from aiophlo.model.handover_records import OpenHandover
from aiophlo.model.outcomes import Outcome


class AwayError(Exception):
    """What pools share can't be reached, or doesn't do what it is asked."""


class Meter(Protocol):
    """Says when the slots of one rate come, to this pool.

    Times are of the event loop's clock, passed in.

    Attributes:
        paused_until: When the last pause after a 429 ends, or ended.
        lateness: Seconds by which a slot may be used late.
    """

    paused_until: float
    lateness: float

    def next_slot(self, now: float, lane: Lane = Lane.AWAITED) -> float:
        """Return when the next slot comes for `lane`; infinity while none is known."""

    def forecast(self, now: float, lane: Lane = Lane.AWAITED) -> float:
        """Return when it should come, known or not."""

    def step(self, now: float) -> float:
        """Return the seconds from one slot to the next, as things are."""

    def use(self, now: float, lane: Lane) -> None:
        """Take the slot that has come for `lane`."""

    def left(self, now: float, *, slot: float) -> None:
        """Skip a slot for a request that leaves now, long after its own at `slot`."""

    def throttled(
        self, now: float, *, sent: float, retry_after: float | None = None
    ) -> bool:
        """Pause after a 429 to what was sent then; say whether that begins a pause."""

    def answered(self, *, sent: float) -> bool:
        """Note another answer; say whether slots come sooner now than foretold."""

    def pace(self, now: float) -> float:
        """Return the share of the full pace in use, above 0 and at most 1."""

    def want(self, now: float, waiting: Sequence[int], coming: Sequence[int]) -> None:
        """Hear how many wait in each lane, whenever that has changed.

        Args:
            now: The time.
            waiting: How many wait.
            coming: How many more will wait, unless they join another pool's dial.
        """


class UnderWay(Protocol):
    """What coordination asks about an action of this pool that has no outcome yet.

    Attributes:
        action: What is asked.
        deadline: Loop time after which sending is worthless.
        has_left: Whether a phone can be ringing, for all that is known so far.
        left_elsewhere: Another pool's dial that this one waits for has left.
    """

    action: Action
    deadline: float
    left_elsewhere: bool

    @property
    def has_left(self) -> bool:
        """Whether a phone can be ringing, for all that is known so far."""

    def coming(self) -> AbstractContextManager[None]:
        """Seek a slot for it, while it isn't known whether it has to be sent."""


class SharedActions(Protocol):
    """The actions under way of one account, in all pools that send for it."""

    async def begin(self, dial: UnderWay) -> Outcome | None:
        """Register a dial, unless an equal one of another pool stands for it.

        Returns:
            None if it is to be sent, else what the other one came to; or that this
            one is not sent, as the other hadn't left by this one's deadline.
        """

    def register(self, action: UnderWay) -> None:
        """Register an action that joins no other, such as a streamed dial."""

    async def others_dialled(
        self, dial: DialAction, *, since: float, until: float, joined: bool
    ) -> bool:
        """Say whether another pool's dial can have rung the same phone.

        Args:
            dial: A dial of this pool, which doesn't count.
            since: Seconds ago from which its call can have begun.
            until: Seconds ago until which it can.
            joined: It has joined an equal one of another pool, which doesn't count,
                either.

        Raises:
            AwayError: Nobody can be asked.
        """

    def finish(self, action: UnderWay, outcome: Outcome) -> None:
        """Tell whoever joined it, in whatever pool, what it came to."""


class Heard(Protocol):
    """What a pool does when an action is begun in another pool."""

    def __call__(self, party: PartyKey, action: str, *, ends_dials: bool) -> None:
        """Hear of an action, by the name of its class, on a party of this pool's."""


class SharedCalls(Protocol):
    """What events tell of calls, in all pools."""

    def hide(self, text: str) -> str:
        """Return the keyed digest of a key or an id; of nothing, nothing.

        Raises:
            InvalidInputError: The coordinator isn't open yet.
        """

    def now(self) -> float:
        """Return the time that events' `at` is compared with."""

    def tell(self, event: CallEvent) -> CallEvent:
        """Tell the routers of all other pools of an event.

        Returns:
            It, as they are told.

        Raises:
            InvalidInputError: The coordinator isn't open yet, or is on another event
                loop.
        """


class Claim(Enum):
    """Whether a pool may bring the customer of a handover back."""

    HELD = "held"  # it may: no other does
    UNCLAIMED = "unclaimed"  # it may, though nobody can be asked at present
    UNKNOWN = "unknown"  # it may not: another may have, and nobody can be asked
    TAKEN_OVER = "taken_over"  # it may not: another has
    ENGAGED = "engaged"  # it may not: the agent is in a newer handover


class Whereabouts(Enum):
    """Where a customer is, as far as events of all pools tell."""

    UNKNOWN = "unknown"
    WITH_PARTNER = "with_partner"  # the agent has left them to who was rung
    OVER = "over"  # they have hung up


class Lease(Protocol):
    """A pool's right to act in one handover, for some seconds, again and again.

    Attributes:
        when_taken_over: Called once it is known that another pool has taken over.
    """

    when_taken_over: Callable[[], None]

    @property
    def may_ring(self) -> bool:
        """Whether who was engaged last may be rung now."""

    @property
    def holds(self) -> bool:
        """Whether the agent may be hung up now."""

    @property
    def may_bring_back(self) -> bool:
        """Whether the customer may be brought back now, as `claim` has just said."""

    async def begin(
        self, *, targets: Sequence[str], conference_uuid: str | None
    ) -> str | None:
        """Take it, and engage the agent in all pools.

        Args:
            targets: Who is to be reached, but for those who take many callers.
            conference_uuid: The conversation, if it is known.

        Returns:
            None, or what is in another handover: `"agent"`, `"to"` if all targets
            are, or `"conference_uuid"`.

        Raises:
            AwayError: Nobody can be asked.
        """

    async def engage(self, target: str) -> bool:
        """Engage a target in all pools; False if it is in another handover."""

    def release(self, target: str) -> None:
        """Let other handovers engage a target."""

    async def claim(self) -> Claim:
        """Claim it again, if it is over; say who may bring the customer back."""

    async def look(self) -> Whereabouts:
        """Say where the customer is, now that the agent is known to be out."""

    async def look_elsewhere(self) -> Whereabouts | None:
        """Say where the customer is of an agent who is in a newer call; else None."""

    def end(self, *, alarmed: bool = False) -> None:
        """Give it up: no other pool has anything left to do for the customer.

        Args:
            alarmed: Who recovers a journal that has it may still try.
        """

    async def ended(self) -> None:
        """Wait until other pools know of its end, for a second at most."""


class SharedHandovers(Protocol):
    """The handovers of a pool, as others see them."""

    def lease(self, handover: OpenHandover, customer: str | None = None) -> Lease:
        """Return the lease of a handover that is about to begin.

        Args:
            handover: Which.
            customer: The customer's address; None if it isn't known.
        """

    def adopt(self, handover: OpenHandover) -> Lease:
        """Return the lease of one whose process is known to have died."""

    def stop_taking_over(self) -> None:
        """Take no more handovers over from other pools."""


class TakeOver(Protocol):
    """What a pool does with a handover whose owner's lease has run out."""

    def __call__(self, handover: OpenHandover, lease: Lease, overdue: float) -> None:
        """Begin to bring its customer back.

        Args:
            handover: Which.
            lease: This pool's.
            overdue: Seconds since the owner's lease ran out.
        """


class Coordinator(Protocol):
    """What the pools that share it have in common. One serves one pool.

    Attributes:
        coordinated: Whether it is reached at present.
    """

    coordinated: bool

    async def open(
        self, random: Callable[[], float], accounts: Collection[Account]
    ) -> None:
        """Reach it, or begin to try.

        Args:
            random: Spreads what pools do at once.
            accounts: The pool's.
        """

    async def close(self) -> None:
        """Say goodbye, and close what is its own."""

    def meter(self, rate: Rate, refresh: Callable[[bool], None]) -> Meter:
        """Return the meter of one rate.

        Args:
            rate: Which.
            refresh: Called when the meter knows of other slots than before; True if
                they come later than was foretold.
        """

    def actions(self, account: Account, heard: Heard) -> SharedActions:
        """Return the actions of one account; `heard` is told of others' actions."""

    def calls(self, hear: Callable[[CallEvent], object]) -> SharedCalls:
        """Return the calls of all pools, before it is open or while it is.

        Args:
            hear: Told of other pools' events, each once.
        """

    def handovers(self, take_over: TakeOver) -> SharedHandovers:
        """Return this pool's handovers, once it is open.

        Args:
            take_over: Called with each that it has taken over from another pool.
        """

    def attach(self, pool: object) -> None:
        """Hear which `SessionPool` it serves, once that is open."""

    def exhibit(
        self, part: Callable[[], Mapping[str, Any]], on_alarm: Callable[[], None]
    ) -> None:
        """Tell other pools' wallboards of this pool, while one of them is watched.

        Args:
            part: Gives what it does, masked.
            on_alarm: Called when another pool has an alarm.
        """

    def hurry(self) -> None:
        """Tell them at once: there is an alarm."""

    async def exhibits(self) -> list[dict[str, Any]]:
        """Return what other pools told lately, and ask them to go on.

        Raises:
            AwayError: It can't be reached.
        """
