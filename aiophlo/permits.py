"""Permits to hold a connection: a bound on what one account may have open."""

import asyncio
import math

from aiophlo.actions import Lane

_URGENT = Lane.URGENT
_LANES_THAT_WAIT = (Lane.AWAITED, Lane.STREAMED)


class Permits:
    """A counting lock whose waiters queue in lanes.

    What ends somebody's wait takes no permit: it must not queue behind a
    server that doesn't answer. Streams leave a tenth to who is awaited, for the
    same reason.

    Args:
        number: How many may be held at once.
    """

    def __init__(self, number: int) -> None:
        self.free = number
        self._reserved = [0] * len(Lane)
        self._reserved[Lane.STREAMED] = min(math.ceil(number / 10), number - 1)
        self._lanes: tuple[dict[asyncio.Future[None], None], ...] = tuple(
            {} for _ in Lane
        )

    def waiting(self, lane: Lane) -> int:
        """Return how many wait for a permit in `lane` or before it."""
        return sum(map(len, self._lanes[: lane + 1]))

    def take(self, lane: Lane) -> bool:
        """Take a permit if one is free."""
        if lane is _URGENT:
            return True
        if self.free > self._reserved[lane]:
            self.free -= 1
            return True
        return False

    async def acquire(self, lane: Lane, deadline: float) -> bool:
        """Take a permit; False if there is none by loop time `deadline`."""
        if self.take(lane):
            return True
        waiter = asyncio.get_running_loop().create_future()
        self._lanes[lane][waiter] = None
        try:
            async with asyncio.timeout_at(deadline if deadline < math.inf else None):
                await waiter
        except TimeoutError:
            self._give_up(lane, waiter)
            return False
        except asyncio.CancelledError:
            self._give_up(lane, waiter)
            raise
        return True

    def release(self, lane: Lane) -> None:
        """Give back what `acquire` in this lane took."""
        if lane is not _URGENT:
            self.free += 1
            if any(self._lanes):
                self._pass_on()

    def _pass_on(self) -> None:
        for lane in _LANES_THAT_WAIT:
            waiters = self._lanes[lane]
            while waiters and self.free > self._reserved[lane]:
                waiter = next(iter(waiters))
                del waiters[waiter]
                if not waiter.done():
                    self.free -= 1
                    waiter.set_result(None)
                    return

    def _give_up(self, lane: Lane, waiter: asyncio.Future[None]) -> None:
        self._lanes[lane].pop(waiter, None)
        if not waiter.cancelled() and waiter.done():
            self.release(lane)  # it was given one in the moment it was cancelled
