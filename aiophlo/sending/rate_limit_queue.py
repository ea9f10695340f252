"""Lets coroutines await their slots: the rate limiter with a timer."""

import asyncio
import contextlib
import math
from collections.abc import Iterable, Iterator

from aiophlo.model.actions import Lane
from aiophlo.model.outcomes import Reason
from aiophlo.sending.rate_limiter import RateLimiter, Ticket
from aiophlo.sending.rate_meter import LONGEST_PAUSE


class RateLimitQueue:
    """Hands the slots of one limiter to the coroutines that wait for them.

    Args:
        limiter: Decides which coroutine is next, and when.
        loop: The event loop, whose clock the limiter goes by.
    """

    def __init__(self, limiter: RateLimiter, loop: asyncio.AbstractEventLoop) -> None:
        self.limiter = limiter
        self._loop = loop
        self._waiters: dict[Ticket, asyncio.Future[None]] = {}
        self._timer: asyncio.Handle | None = None
        self._due = math.inf  # of the timer: uvloop's handle may not tell it
        self._open = len(Lane)  # this many lanes, the first ones, still get slots

    def take(self, lane: Lane, deadline: float) -> bool:
        """Take the slot that is free at this moment, if there is one."""
        now = self._loop.time()
        return now <= deadline and lane < self._open and self.limiter.take(now, lane)

    async def acquire(self, lane: Lane, deadline: float) -> Reason | None:
        """Wait for a slot.

        Args:
            lane: Where to queue.
            deadline: Loop time after which a slot is worthless.

        Returns:
            None with a slot, which is now; else why there is none.
        """
        if self.take(lane, deadline):
            return None
        if lane >= self._open:
            return Reason.CLOSED
        now = self._loop.time()
        ticket = self.limiter.enter(now, lane, deadline)
        if ticket.refusal is not None:
            return ticket.refusal
        waiter = self._waiters[ticket] = self._loop.create_future()
        self._wake(self.limiter.superseded(now, lane))
        self.limiter.want(now)
        self._set_timer(now, sooner=lane is Lane.URGENT)
        try:
            await waiter
        except asyncio.CancelledError:
            self.limiter.leave(ticket)
            raise
        finally:
            self._waiters.pop(ticket, None)
        return ticket.refusal

    @contextlib.contextmanager
    def coming(self, lane: Lane) -> Iterator[None]:
        """Have a slot sought for a coroutine that will wait for one, or so it seems."""
        self.limiter.coming[lane] += 1
        self.limiter.want(self._loop.time())
        try:
            yield
        finally:
            self.limiter.coming[lane] -= 1

    def slot_for(self, lane: Lane, *, behind: int) -> float:
        """Return the loop time of the slot of a coroutine after `behind` more."""
        return self.limiter.slot_for(lane, self._loop.time(), behind=behind)

    def left(self, *, slot: float) -> None:
        """Count a request that had its slot at loop time `slot` and leaves only now."""
        self.limiter.meter.left(self._loop.time(), slot=slot)

    def throttled(self, *, sent: float, retry_after: float | None) -> bool:
        """Pause after a 429 to a request that left at loop time `sent`.

        Returns:
            Whether it is a pause that is shorter than asked for.
        """
        now = self._loop.time()
        before = self.limiter.meter.paused_until
        self._wake(self.limiter.throttled(now, sent=sent, retry_after=retry_after))
        self._set_timer(now)
        long = retry_after is not None and retry_after > LONGEST_PAUSE
        return long and self.limiter.meter.paused_until != before

    def answered(self, *, sent: float) -> None:
        """Note an answer other than 429 to a request that left at loop time `sent`."""
        if self.limiter.meter.answered(sent=sent):
            self._set_timer(self._loop.time(), sooner=True)

    def close(self, lane: Lane = Lane.URGENT) -> None:
        """Refuse slots to `lane` and the lanes behind it, from now on."""
        self._open = min(self._open, lane)
        self._wake(self.limiter.close(lane))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._set_timer(self._loop.time())

    def refresh(self, late: bool) -> None:  # noqa: FBT001 -- a callback
        """Look again, since the meter knows of other slots than before.

        Args:
            late: They come later than was foretold.
        """
        if late:
            self._wake(self.limiter.refuse_late(self._loop.time()))
        self._release(sooner=True)

    def _fire(self) -> None:
        self._timer = None
        self._release()

    def _release(self, *, sooner: bool = False) -> None:
        now = self._loop.time()
        self._wake(self.limiter.release(now))
        self.limiter.want(now)
        self._set_timer(now, sooner=sooner)

    def _wake(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            waiter = self._waiters.get(ticket)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def _set_timer(self, now: float, *, sooner: bool = False) -> None:
        """Set the timer, unless it is set.

        Args:
            now: The time.
            sooner: A slot may come sooner than was foretold.
        """
        timer = self._timer
        if timer is not None and not sooner:
            return
        due = self.limiter.due(now)
        if timer is not None:
            if self._due <= due < math.inf:
                return
            timer.cancel()  # also the one for a deadline of who has left
            self._timer = None
        if due < math.inf:
            self._timer, self._due = self._loop.call_at(due, self._fire), due
