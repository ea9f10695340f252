"""The response timeout: one timer for all the answers that are awaited.

Every answer is given the same time, so the request that left first is the first
to run out of it: a timer for that one does for all. aiohttp's own, two for each
request, are a seventh of what a whole request costs.
"""

import asyncio
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """A request that has left, and waits for its answer."""

    def give_up(self) -> None:
        """End the wait: there was no answer in time."""

    def drop(self) -> None:
        """End the wait: the outcome is decided without the answer."""


_W = TypeVar("_W", bound=Waiting)


class ResponseTimeout(Generic[_W]):
    """Ends the wait for every answer that takes too long.

    Args:
        loop: The event loop, whose clock it goes by.
        seconds: How long an answer may take.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._due: dict[_W, float] = {}  # the first that left comes first
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def __iter__(self) -> Iterator[_W]:
        return iter(self._due)

    def begin(self, waiting: _W) -> None:
        """Begin to time the answer to a request that leaves now."""
        due = self._due[waiting] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._fire)

    def end(self, waiting: _W) -> None:
        """Stop timing an answer, if it was timed."""
        self._due.pop(waiting, None)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        late = []
        for waiting, due in self._due.items():
            if due > now:
                self._timer = self._loop.call_at(due, self._fire)
                break
            late.append(waiting)
        for waiting in late:
            del self._due[waiting]
            self._loop.call_soon(waiting.give_up)  # one that raises harms no other
