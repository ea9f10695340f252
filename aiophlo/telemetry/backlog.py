"""What is still to be recorded: done for many actions at once, as that is cheaper.

OpenTelemetry's SDK takes less time for a measurement or a span if it has just made
another one: its code is in the processor's caches then.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from aiophlo.logs import logger

MOST: Final = 64  # of which a flush takes a few milliseconds at worst
WITHIN: Final = 1.0  # seconds until it is recorded at the latest


class Backlog:
    """Calls that are made later: when there are many, after a second, or when asked.

    May be flushed in any thread, also while something is added.

    Args:
        waits: Whether anything is kept back at all.

    Attributes:
        before: Called before those of each flush: asks once what all want to know.
    """

    def __init__(self, *, waits: bool = True) -> None:
        self.before: Callable[[], None] = _nothing
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._due: asyncio.TimerHandle | None = None
        self._waits = waits
        self._failures: set[type[Exception]] = set()

    def add(self, call: Callable[..., None], *about: Any) -> None:  # noqa: ANN401 -- its own arguments
        """Call it soon."""
        self._calls.append((call, about))
        if len(self._calls) >= MOST or not self._waits:
            self.flush()
        elif self._due is None:
            self._flush_later()

    def flush(self) -> None:
        """Call what was added; never raises."""
        if not self._calls:
            return
        call, about = self.before, tuple[Any, ...]()
        while True:
            try:
                call(*about)
            except Exception as error:  # noqa: BLE001 -- a processor's or a reader's bug
                self._failed(error)
            try:
                call, about = self._calls.popleft()
            except IndexError:  # no more, or another thread took the last one
                return

    def close(self) -> None:
        """Call what was added, and wait with nothing any more."""
        self._waits = False
        if self._due is not None:
            self._due.cancel()
        self.flush()

    def _flush_later(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # told by hand, outside of any loop
            self.flush()
        else:
            self._due = loop.call_later(WITHIN, self._flush_now)

    def _flush_now(self) -> None:
        self._due = None
        self.flush()

    def _failed(self, error: Exception) -> None:
        if type(error) not in self._failures:
            self._failures.add(type(error))
            logger.failure(
                "OpenTelemetry failed to record; this is logged once", error=error
            )


def _nothing() -> None:
    """Ask nothing."""
