"""An event loop whose clock doesn't notice that the machine stands still.

A machine that others use, too, may take the processor away for as long as a test
waits for nothing to happen. Here such a moment is no longer than any other: a timer
never runs out while what it waits for was held up with it.
"""

import asyncio
import selectors
import time
from collections.abc import Callable

_WAIT = 0.005  # seconds that are waited before the clock is looked at again
_WAKING = 0.002  # seconds that it may take to wake up from that
_WORK = 0.0005  # seconds that what is done between two waits counts as, at most


class CalmSelector(selectors.DefaultSelector):
    """Waits in small pieces, and tells of each.

    Args:
        count: Called with what each may count as, at most; says what it does.
    """

    def __init__(self, count: Callable[[float], float]) -> None:
        super().__init__()
        self._count = count

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait until something is ready, or that long."""
        self._count(_WORK)
        ready = super().select(0)
        left = float("inf") if timeout is None else timeout
        while not ready and left > 0:
            piece = min(left, _WAIT)
            ready = super().select(piece)
            left -= self._count(piece + _WAKING)
        return ready


class CalmLoop(asyncio.SelectorEventLoop):
    """An event loop that is told the time by what it did, rather than by a clock.

    Args:
        selector: Makes the selector that tells it.
    """

    def __init__(
        self,
        selector: Callable[[Callable[[float], float]], CalmSelector] = CalmSelector,
    ) -> None:
        self._now = self._seen = time.monotonic()
        super().__init__(selector(self._count))

    def time(self) -> float:
        """Return the seconds that have passed, stalls not counted."""
        return self._now + min(time.monotonic() - self._seen, _WORK)

    def _count(self, longest: float) -> float:
        before, self._seen = self._seen, time.monotonic()
        counted = min(self._seen - before, longest)
        self._now += counted
        return counted
