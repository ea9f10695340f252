"""Makes one snapshot a second for all browsers that watch, and none where none does.

A slow reader gets the newest one when it is done with the last: nothing piles up, and
no browser waits for another.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, Final

from aiophlo.logs import logger

EVERY: Final = 1.0  # seconds
_HURRIED: Final = 0.2  # seconds from one to the next, if there is an alarm
MOST: Final = 2_000  # who watch
_AT_ONCE: Final = 20  # of them woken in one step of the loop
_PAUSE: Final = 0.005  # seconds from that to the next step: the pool goes on meanwhile


class TooManyError(Exception):
    """More watch already than is good for the process."""


class _Watcher:
    """A browser that watches: the newest snapshot that it has not had yet."""

    def __init__(self) -> None:
        self.newest: bytes | None = None
        self.news = asyncio.Event()
        self.ended = False


class Feed:
    """Makes snapshots for as long as somebody watches.

    Args:
        snapshot: Makes one.
        every: Seconds from one to the next.
        before: Called as often, before each: asks for what the next ones will show.

    Attributes:
        watchers: How many watch.
    """

    def __init__(
        self,
        snapshot: Callable[[], dict[str, Any]],
        *,
        every: float = EVERY,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._snapshot = snapshot
        self._before = before
        self._every = every
        self._watchers: dict[_Watcher, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._hurry: asyncio.Event | None = None
        self._latest: bytes | None = None

    @property
    def watchers(self) -> int:
        """How many watch at present."""
        return len(self._watchers)

    def encoded(self) -> bytes:
        """Return a snapshot of this moment as JSON."""
        return json.dumps(self._snapshot(), separators=(",", ":")).encode()

    async def watch(self) -> AsyncGenerator[bytes, None]:
        """Yield one snapshot at once, and the newest one whenever there is one.

        Raises:
            TooManyError: Too many watch already.
        """
        if len(self._watchers) >= MOST:
            raise TooManyError
        watcher = _Watcher()
        self._watchers[watcher] = None
        try:
            self._start()
            watcher.newest = self._latest or self.encoded()
            watcher.news.set()
            while not watcher.ended:
                await watcher.news.wait()
                watcher.news.clear()
                if watcher.newest is not None and not watcher.ended:
                    newest, watcher.newest = watcher.newest, None
                    yield newest
        finally:
            del self._watchers[watcher]
            if not self._watchers:
                self._stop()

    def hurry(self) -> None:
        """Make the next snapshot at once: there is an alarm."""
        if self._hurry is not None:
            self._hurry.set()

    def close(self) -> None:
        """End the watch of everybody; a server that stops would wait for them.

        Who watches through another server comes again.
        """
        for watcher in self._watchers:
            watcher.ended = True
            watcher.news.set()

    def _start(self) -> None:
        if self._task is None:
            self._hurry = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run())

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = self._hurry = self._latest = None

    async def _run(self) -> None:
        loop, hurry = asyncio.get_running_loop(), self._hurry
        assert hurry is not None  # noqa: S101 -- `_start` has just made it
        due = loop.time() + self._every
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await hurry.wait()
            hurry.clear()
            begun = loop.time()
            if begun >= due:
                due = max(due + self._every, begun)
            try:
                self._before()
                self._latest = self.encoded()
                await self._hand_out(self._latest)
            except Exception as error:  # noqa: BLE001 -- the next one may be good
                logger.failure("a wallboard has no snapshot", error=error)
            await asyncio.sleep(max(begun + _HURRIED - loop.time(), 0.0))

    async def _hand_out(self, snapshot: bytes) -> None:
        for number, watcher in enumerate(list(self._watchers)):
            watcher.newest = snapshot
            watcher.news.set()
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(_PAUSE)
