"""Waiting for a slot on the event loop: `pacing` with its timer."""

import asyncio
import math
from collections.abc import Iterable

from aiophlo.actions import Lane
from aiophlo.outcomes import Reason
from aiophlo.pacing import Pacer, Ticket


class Slots:
    """Hands the slots of one pacer to the coroutines that wait for them.

    Args:
        pacer: What decides who is next, and when.
        loop: The event loop, whose clock the pacer goes by.
    """

    def __init__(self, pacer: Pacer, loop: asyncio.AbstractEventLoop) -> None:
        self.pacer = pacer
        self._loop = loop
        self._waiters: dict[Ticket, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._open = len(Lane)  # lanes, from the first

    def take(self, lane: Lane, deadline: float) -> bool:
        """Take the slot that is free at this moment, if there is one."""
        now = self._loop.time()
        return now <= deadline and lane < self._open and self.pacer.take(now)

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
        ticket = self.pacer.enter(now, lane, deadline)
        if ticket.refusal is not None:
            return ticket.refusal
        waiter = self._waiters[ticket] = self._loop.create_future()
        self._wake(self.pacer.overtaken(now, lane))
        self._set_timer(now)
        try:
            await waiter
        except asyncio.CancelledError:
            self.pacer.leave(ticket)
            raise
        finally:
            self._waiters.pop(ticket, None)
        return ticket.refusal

    def slot_for(self, lane: Lane, *, behind: int) -> float:
        """Return the loop time of the slot of one who comes after `behind` more."""
        return self.pacer.slot_for(lane, self._loop.time(), behind=behind)

    def left(self, *, slot: float) -> None:
        """Take note that what had its slot at loop time `slot` leaves only now."""
        self.pacer.left(self._loop.time(), slot=slot)

    def throttled(self, *, sent: float, retry_after: float | None) -> None:
        """Pause after a 429 to a request that left at loop time `sent`."""
        now = self._loop.time()
        self._wake(self.pacer.throttled(now, sent=sent, retry_after=retry_after))
        self._set_timer(now)

    def close(self, lane: Lane = Lane.URGENT) -> None:
        """Refuse who waits in `lane` or behind it, or comes later."""
        self._open = min(self._open, lane)
        self._wake(self.pacer.close(lane))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._set_timer(self._loop.time())

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        self._wake(self.pacer.release(now))
        self._set_timer(now)

    def _wake(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            waiter = self._waiters.get(ticket)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def _set_timer(self, now: float) -> None:
        """Set the timer, unless it is set: no slot comes sooner than foretold."""
        if self._timer is None and (due := self.pacer.due(now)) < math.inf:
            self._timer = self._loop.call_at(due, self._fire)
