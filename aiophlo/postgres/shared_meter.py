"""When this pool's slots of a rate come that several pools share.

The database's row says when. One slot is booked for the first who waits, and the next
only when the last is nearer than two round trips: what is booked and not used is
wasted, and what is booked early can't be given to somebody more urgent. While the
database is away this pool keeps to its share, by a meter of its own.
"""

import bisect
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from aiophlo.model.accounts import Rate
from aiophlo.model.actions import Lane
from aiophlo.postgres.operations import Answer, Operations
from aiophlo.postgres.pool_shares import PoolShares
from aiophlo.postgres.server_clock import ServerClock
from aiophlo.sending.rate_meter import LONGEST_PAUSE, RateMeter, recovered

_APART: Final = 1.0  # seconds without slots once it is back: others may not know yet
_LATE: Final = 0.025  # seconds that a booked slot is good for at least
_SOON: Final = 0.05  # seconds to a slot that can't be taken from a stream any more
_HEARD: Final = 2.0  # seconds after which nobody is told of it any more
_NEAR: Final = 0.03  # seconds of a round trip by which that is told in time
_REGAINED: Final = 0.02  # of the lateness, by each booking
_HASTE: Final = 0.01  # seconds that a process may need to use one, at most
_SMOOTHED: Final = 1.0  # seconds over which slots are counted: they come unevenly
_WORSE: Final = 1.2  # times what was foretold
_BUSY: Final = 1.0  # seconds after a slot for which the pool's own step is believed
_MOST_AHEAD: Final = 64
_WAITING_PER_SLOT: Final = 8  # that is booked ahead


class SharedMeter:
    """A `Meter` of one rate in the database.

    Args:
        rate: Which.
        operations: Asks the database.
        clock: Maps its times.
        shares: What pools there are.
        refresh: Called when it knows of other slots than before.
        is_coordinated: Says whether this pool books, and hears what is told.
        time: The event loop's clock.
        call_at: Calls back at a loop time.

    Attributes:
        name: Of the rate.
        lateness: Seconds by which a slot may be used late.
        paused_until: When the last pause after a 429 ends, or ended.
    """

    def __init__(
        self,
        rate: Rate,
        operations: Operations,
        clock: ServerClock,
        shares: PoolShares,
        refresh: Callable[[bool], None],
        *,
        is_coordinated: Callable[[], bool],
        time: Callable[[], float],
        call_at: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.name = rate.name
        self._rate = rate
        self._operations = operations
        self._clock = clock
        self._shares = shares
        self._refresh = refresh
        self._is_coordinated = is_coordinated
        self._time = time
        self._call_at = call_at
        self.lateness = max(rate.lateness, _LATE)
        self.paused_until = -math.inf
        self._pace, self._pace_at = 1.0, 0.0  # as the row had it, and when
        self._unsettled = False  # the row waits for an answer that isn't a 429
        self._booked: deque[float] = deque()  # loop times
        self._urgent: deque[float] = deque()
        self._credit = 1.0  # share of the lateness that is asked for
        self._streamed: dict[float, float] = {}  # of the booked, by the server's time
        self._asking = 0
        self._asking_urgent = 0
        self._step = self._foretold = rate.interval
        self._received_at = -math.inf
        self._last = math.nan  # slot, while somebody has waited ever since
        self._not_before = -math.inf
        self._alone: RateMeter | None = None

    def next_slot(self, now: float, lane: Lane = Lane.AWAITED) -> float:
        """Return when the next slot comes for `lane`; infinity while none is known."""
        if self._alone is not None:
            # What has no deadline waits for the database, and leaves all to the rest.
            return (
                math.inf if lane is Lane.STREAMED else self._alone.next_slot(now, lane)
            )
        self._drop_stale(now)
        first = self._booked[0] if self._booked else math.inf
        if lane is Lane.URGENT and self._urgent:
            return min(first, self._urgent[0])
        return first

    def forecast(self, now: float, lane: Lane = Lane.AWAITED) -> float:
        """Return when it should come, known or not."""
        if self._alone is not None:
            return self._alone.next_slot(now, lane)
        slot = self.next_slot(now, lane)
        if slot < math.inf:
            return slot
        soonest = now + self._clock.round_trip
        if lane is Lane.URGENT:
            return soonest
        last = now if math.isnan(self._last) else self._last + self._step
        return max(soonest, self.paused_until, min(last, now + self._step))

    def step(self, now: float) -> float:
        """Return the seconds from one slot of this pool to its next."""
        if self._alone is not None:
            return self._alone.step(now)
        if now - self._received_at > max(_BUSY, 2 * self._step):
            self._step = self._foretold = self._rate.interval
        return max(self._step, self._interval / self.pace(now))

    @property
    def _interval(self) -> float:
        return self._rate.interval / self._shares.available

    def use(self, now: float, lane: Lane) -> None:
        """Take the slot that has come for `lane`."""
        if self._alone is not None:
            self._alone.use(now, lane)
        elif (
            lane is Lane.URGENT
            and self._urgent
            and not (self._booked and self._booked[0] < self._urgent[0])
        ):
            self._urgent.popleft()
        else:
            self._booked.popleft()

    def left(self, now: float, *, slot: float) -> None:
        """Skip a slot for a request that leaves now, long after its own at `slot`."""
        if self._alone is not None:
            self._alone.left(now, slot=slot)
        elif now - slot > self.lateness:
            self._skip()

    def _skip(self) -> None:
        self._operations.tell(self._operation("skip", interval=self._interval))

    def throttled(
        self, now: float, *, sent: float, retry_after: float | None = None
    ) -> bool:
        """Pause after a 429 to what was sent then; say whether that begins a pause."""
        if self._alone is not None:
            begun = self._alone.throttled(now, sent=sent, retry_after=retry_after)
            self.paused_until = self._alone.paused_until
            return begun
        begun = sent >= self.paused_until
        self._tell_pause(sent, retry_after)
        if begun:
            self._unsettled = True
            pause = 0.25 if retry_after is None else min(retry_after, LONGEST_PAUSE)
            self._pause_until(now + pause)
        return begun

    def _tell_pause(self, sent: float, retry_after: float | None) -> None:
        self._ask(
            self._operation(
                "throttled",
                sent=self._clock.to_server(sent),
                retry_after=retry_after,
                longest_growth=self._rate.longest_growth,
            )
        )

    def answered(self, *, sent: float) -> bool:
        """Note another answer; say whether slots come sooner now than foretold."""
        if self._alone is not None:
            return self._alone.answered(sent=sent)
        if self._unsettled:
            self._ask(self._operation("answered", sent=self._clock.to_server(sent)))
        return False

    def pace(self, now: float) -> float:
        """Return the share of the full pace in use, above 0 and at most 1."""
        if self._alone is not None:
            return self._alone.pace(now)
        return recovered(self._pace, now - self._pace_at)

    def want(self, now: float, waiting: Sequence[int], coming: Sequence[int]) -> None:
        """Book slots for the actions that wait, as far as that is due."""
        if self._alone is not None or now < self._not_before:
            return
        urgent = waiting[Lane.URGENT] + coming[Lane.URGENT]
        if urgent > len(self._urgent) + self._asking_urgent:
            self._asking_urgent += 1
            self._book(1, urgent=True)
        here = sum(waiting) - waiting[Lane.URGENT]
        others = here + sum(coming) - coming[Lane.URGENT]
        if not others:
            self._last = math.nan
        elif not self._asking:
            streams = others == sum(waiting[Lane.STREAMED :])  # and looks behind them
            without = others - len(self._booked)
            # A stream lets one wait at a time, and more come after it.
            most = _MOST_AHEAD if waiting[Lane.STREAMED] else without
            count = min(max(self._due_to_book(now), self._share(waiting)), most)
            if not streams and self._has_only_late_ones_of_streams(now):
                count = 1
            if count > 0:
                self._asking = count
                coming_alone = max(count - here, 0)
                self._book(count, coming=coming_alone, streamed=streams)

    def _share(self, waiting: Sequence[int]) -> int:
        """Return what to book so that a pool with more waiting gets more.

        Where all have one slot booked, all get as much, and who is asked most often
        makes callers wait for whom the others have no use.
        """
        ahead = min(waiting[Lane.AWAITED] // _WAITING_PER_SLOT, _MOST_AHEAD)
        return ahead - len(self._booked)

    def _has_only_late_ones_of_streams(self, now: float) -> bool:
        """Say whether what is awaited has no slot, and might have one sooner."""
        booked = self._booked
        if not booked or booked[0] < now + 2 * _SOON:
            return False
        return set(booked) <= set(self._streamed.values())

    def _due_to_book(self, now: float) -> int:
        ahead = now + 2 * self._clock.round_trip
        last = self._booked[-1] if self._booked else now
        if self._booked and last >= ahead:
            return 0
        interval = self._interval
        if not interval:  # only pauses: all may leave at once
            return _MOST_AHEAD
        return max(math.ceil((ahead - last) / interval), 1)

    def _book(
        self,
        count: int,
        *,
        urgent: bool = False,
        coming: int = 0,
        streamed: bool = False,
    ) -> None:
        is_near = self._is_coordinated() and self._clock.round_trip < _NEAR
        may_be_taken = streamed and is_near

        def came(answer: Answer | None) -> None:
            if urgent:
                self._asking_urgent -= 1
            else:
                self._asking = 0
            if answer is not None:
                self._received(answer["slots"], urgent=urgent, streamed=may_be_taken)
                self.told(answer)

        booking = self._operation(
            "book",
            interval=self._interval,
            count=count,
            coming=coming,
            urgent=urgent,
            streamed=may_be_taken,
            late=self._late(),
            overdraft=self._rate.overdraft,
        )
        self._operations.call(booking, came)

    def _late(self) -> float:
        """Return by how much a slot may be over already when it is booked.

        What is left of the time for which it is good has to do for its way here; that
        a pool's own meter catches up by as much is why it is seldom idle. Where slots
        come too late, as on a busy machine, less is asked for.
        """
        way = self._clock.round_trip + _HASTE
        return max(self._rate.lateness - way, 0.0) * self._credit

    def _received(self, slots: list[float], *, urgent: bool, streamed: bool) -> None:
        if self._alone is not None:
            return
        self._received_at = self._time()
        self._credit = min(self._credit + _REGAINED, 1.0)
        if slots and not urgent:
            self._note_gaps(slots)
        for server_time in slots:
            slot = self._clock.to_loop(server_time)
            if urgent:
                self._urgent.append(slot)
            elif slot >= self.paused_until - self.lateness:
                bisect.insort(self._booked, slot)  # one of a stream may come before
                if streamed:
                    self._streamed[server_time] = slot

    def _note_gaps(self, slots: list[float]) -> None:
        """Learn how far apart slots are, on average over the last second or so.

        By the first few alone many would be refused who get theirs in time.
        """
        last = self._clock.to_loop(slots[-1])
        gap = min(last - self._last, len(slots) * self._longest_gap())
        if gap > 0.0:  # none is known before the first one that somebody waits for
            old = math.exp(-gap / _SMOOTHED)
            rate = old / self._step + (1.0 - old) * len(slots) / gap
            self._step = 1.0 / rate
        self._last = last

    def _longest_gap(self) -> float:
        """Return what comes of many pools; what is longer is a pause, which ends."""
        return 2 * self._shares.pools * self._interval / self.pace(self._time())

    def _ask(self, operation: dict[str, object]) -> None:
        self._operations.call(operation, self._answered)

    def _answered(self, answer: Answer | None) -> None:
        if answer is not None:
            self.told(answer)

    def told(self, news: Answer) -> None:
        """Learn what the row says of pause and pace."""
        now = self._time()
        self._pace, self._pace_at = news["pace"], now
        self._unsettled = news["unsettled"]
        if news["paused_for"] is not None:
            self._pause_until(now + news["paused_for"])
        if self._alone is not None:
            return
        late = self._step > self._foretold * _WORSE
        if late or self._step < self._foretold:
            self._foretold = self._step
        self._refresh(late)

    def taken(self, slots: Sequence[float]) -> None:
        """Give up slots of streams that are another's now, by the server's time."""
        for server_time in slots:
            slot = self._streamed.pop(server_time, None)
            if slot is None:
                continue
            if slot in self._booked:
                self._booked.remove(slot)
                self._refresh(False)  # noqa: FBT003 -- a callback
            else:  # used: two left by it
                self._skip()

    def thin(self, kept: float, random: Callable[[], float]) -> None:
        """Give up booked slots, evenly, but for this share of them.

        They were booked for a pace of which a pool that is by itself now uses a part.
        """
        phase = random()
        booked = list(self._booked)
        steps = [math.floor(kept * n + phase) for n in range(len(booked) + 1)]
        for slot, step, next_step in zip(booked, steps, steps[1:], strict=False):
            if step == next_step:
                self._booked.remove(slot)
                self._forget_streamed(slot)
        self._refresh(False)  # noqa: FBT003 -- a callback

    def _pause_until(self, time: float) -> None:
        if time <= self.paused_until:
            return
        self.paused_until = time
        while self._booked and self._booked[0] < time - self.lateness:
            self._booked.popleft()

    def _drop_stale(self, now: float) -> None:
        oldest = now - self.lateness
        for slots in (self._booked, self._urgent):
            while slots and slots[0] < oldest:
                self._waste(slots.popleft())
        while self._streamed and next(iter(self._streamed.values())) < now - _HEARD:
            del self._streamed[next(iter(self._streamed))]  # used

    def _waste(self, wasted: float) -> None:
        self._credit /= 2
        self._forget_streamed(wasted)

    def _forget_streamed(self, forgotten: float) -> None:
        streamed = self._streamed.items()
        self._streamed = {time: slot for time, slot in streamed if slot != forgotten}

    def go_alone(self, random: Callable[[], float]) -> None:
        """Keep to this pool's share, by a meter of its own."""
        if self._alone is not None:
            return
        now = self._time()
        share = self._rate.share(self._shares.pools)
        # The row counted what left just now; a whole interval later this share begins.
        first_slot = max(now, self.paused_until) + (1.0 + random()) * share.interval
        self._alone = RateMeter.of(share, first_slot=first_slot)
        self._booked.clear()
        self._urgent.clear()
        self._streamed.clear()
        self._last = math.nan
        self._refresh(True)  # noqa: FBT003 -- a callback

    def share_alone(self) -> None:
        """Keep to what this pool's share is now, if it keeps to one by itself."""
        if self._alone is not None:
            self._alone.interval = self._rate.share(self._shares.pools).interval

    def look(self) -> None:
        """Ask how the row stands. A new one is made, with a first slot in a second."""
        self._ask(self._operation("look"))

    def share_again(self) -> None:
        """Book in the database again, a second from now."""
        if self._alone is None:
            return
        self._alone = None
        self._step = self._foretold = self._rate.interval
        now = self._time()
        if self.paused_until > now:  # the row doesn't know, and others would go on
            self._tell_pause(now, self.paused_until - now)
        else:
            self.look()
        self._not_before = now + _APART
        self._call_at(self._not_before, lambda: self._refresh(False))  # noqa: FBT003 -- as above

    def _operation(self, do: str, **details: object) -> dict[str, object]:
        return {"do": do, "rate": self._rate.name, **details}
