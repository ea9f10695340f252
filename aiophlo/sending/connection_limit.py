"""A semaphore with lanes: how many exchanges an account may have under way."""

import asyncio
import math

from aiophlo.model.actions import Lane

_URGENT = Lane.URGENT
_LANES_THAT_WAIT = (Lane.AWAITED, Lane.STREAMED, Lane.LOOKED)


class ConnectionLimit:
    """A semaphore whose waiters queue in lanes.

    The urgent lane takes no permit: an abort must not queue behind a server that
    doesn't answer. Streams and looks leave a tenth to awaited sends, for the same
    reason.

    Args:
        number: How many may be held at once.
        shared: A limit of several of these together: each permit of this one is one
            of that one, too.
    """

    def __init__(self, number: int, *, shared: "ConnectionLimit | None" = None) -> None:
        self.free = number
        self._shared = shared
        self._reserved = [0] * len(Lane)
        reserved = min(math.ceil(number / 10), number - 1)
        self._reserved[Lane.STREAMED] = self._reserved[Lane.LOOKED] = reserved
        self._lanes: tuple[dict[asyncio.Future[None], None], ...] = tuple(
            {} for _ in Lane
        )

    def waiting(self, lane: Lane) -> int:
        """Return the number of waiters in `lane` and in the lanes before it."""
        return sum(map(len, self._lanes[: lane + 1]))

    def take(self, lane: Lane) -> bool:
        """Take a permit if one is free."""
        if lane is _URGENT:
            return True
        if self.free > self._reserved[lane] and (
            self._shared is None or self._shared.take(lane)
        ):
            self.free -= 1
            return True
        return False

    async def acquire(self, lane: Lane, deadline: float) -> bool:
        """Take a permit; False if there is none by loop time `deadline`."""
        if self.take(lane):
            return True
        if self._shared is None:
            return await self._wait(lane, deadline)
        if self.free > self._reserved[lane]:
            self.free -= 1
        elif not await self._wait(lane, deadline):
            return False
        taken = False
        try:
            taken = await self._shared.acquire(lane, deadline)
        finally:
            if not taken:
                self._give_back()
        return taken

    async def _wait(self, lane: Lane, deadline: float) -> bool:
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
            self._give_back()
            if self._shared is not None:
                self._shared.release(lane)

    def _give_back(self) -> None:
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
            self._give_back()  # it was given one in the moment it was cancelled
