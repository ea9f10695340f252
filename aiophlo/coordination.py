"""What several pools share, as protocols: rates, dials, parties' last words, events.

A pool alone shares nothing: its meters are `sending.rate_meter.RateMeter`, and no dial
but its own is joined. With a `Coordinator` all pools that it reaches keep the promise
together.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import attrs

from aiophlo.model.accounts import Account, Quota
from aiophlo.model.actions import Action, Lane
from aiophlo.model.call_events import CallEvent
from aiophlo.model.outcomes import Outcome

PartyKey = tuple[str, str, str]  # PHLO, node, and the phone of an address


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


@attrs.frozen
class Rate:
    """How often requests of one kind may leave.

    Attributes:
        name: What all pools that share it call it.
        interval: Seconds from one slot to the next at full pace.
        burst: Slots that may come at once after a lull, in a pool alone.
        lateness: Seconds by which a slot may be used late.
        longest_growth: Longest pause, in seconds, after a 429 that doesn't say how
            long to wait.
    """

    name: str
    interval: float
    burst: int = 1
    lateness: float = 0.0
    longest_growth: float = 5.0

    @classmethod
    def of_quota(cls, quota: Quota | None, name: str = "") -> "Rate":
        """Return the rate that keeps to `quota`; with None there are only pauses.

        Half of the quota's jitter is left to this process's own lateness, the other
        half to the way to Plivo.
        """
        if quota is None:
            return cls(name, 0.0)
        return cls(name, quota.interval, quota.burst, quota.jitter / 2, quota.per)


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
