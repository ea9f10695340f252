"""The feed: one snapshot for all, and a slow watcher costs nobody anything."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from aiophlo.wallboard.feed import MOST, Feed, TooManyError


class Snapshots:
    """Makes snapshots, and counts them."""

    def __init__(self) -> None:
        self.made = 0
        self.broken = False

    def __call__(self) -> dict[str, Any]:
        """Make one."""
        self.made += 1
        if self.broken:
            raise RuntimeError
        return {"number": self.made}


@pytest.fixture
def snapshots() -> Snapshots:
    """Give what makes them."""
    return Snapshots()


async def number(watch: AsyncGenerator[bytes, None]) -> int:
    """Return the number of the next snapshot that a watcher is given."""
    return int(json.loads(await anext(watch))["number"])


async def test_nobody_watching_makes_no_snapshot(snapshots: Snapshots) -> None:
    """Most pools have a page that nobody looks at, most of the day."""
    feed = Feed(snapshots, every=0.01)
    watch = feed.watch()
    await number(watch)
    await watch.aclose()
    made = snapshots.made
    await asyncio.sleep(0.05)
    assert (snapshots.made, feed.watchers) == (made, 0)


async def test_newcomer_is_shown_something_at_once(snapshots: Snapshots) -> None:
    """An empty page looks broken."""
    feed = Feed(snapshots, every=60.0)
    async with contextlib.aclosing(feed.watch()) as watch:
        assert await number(watch) == 1


async def test_all_get_the_same_snapshot(snapshots: Snapshots) -> None:
    """A thousand walls must not make a thousand snapshots."""
    feed = Feed(snapshots, every=0.05)
    async with contextlib.AsyncExitStack() as stack:
        watches = [
            await stack.enter_async_context(contextlib.aclosing(feed.watch()))
            for _ in range(1_000)
        ]
        await asyncio.gather(*map(number, watches))
        before = snapshots.made
        numbers = await asyncio.gather(*map(number, watches))
        assert len(set(numbers)) <= 2  # who came first may be one ahead
        assert snapshots.made - before <= 5


async def test_slow_watcher_gets_the_newest_and_no_backlog(
    snapshots: Snapshots,
) -> None:
    """Memory would grow for as long as a phone is out of reach."""
    feed = Feed(snapshots, every=0.01)
    async with (
        contextlib.aclosing(feed.watch()) as slow,
        contextlib.aclosing(feed.watch()) as quick,
    ):
        await number(slow)
        while await number(quick) < 4:
            pass
        assert await number(slow) >= 4


async def test_alarm_does_not_wait_for_the_next_second(snapshots: Snapshots) -> None:
    """A customer is on hold meanwhile."""
    feed = Feed(snapshots, every=60.0)
    async with contextlib.aclosing(feed.watch()) as watch:
        await number(watch)
        await asyncio.sleep(0)
        feed.hurry()
        async with asyncio.timeout(1.0):
            assert await number(watch) == 2


async def test_flood_of_alarms_is_few_snapshots(snapshots: Snapshots) -> None:
    """An outage makes many alarms, and the pool has better to do."""
    feed = Feed(snapshots, every=60.0)
    async with contextlib.aclosing(feed.watch()) as watch:
        await number(watch)
        for _ in range(30):
            feed.hurry()
            await asyncio.sleep(0.01)
        assert snapshots.made <= 4


async def test_snapshot_that_fails_is_not_the_last(
    snapshots: Snapshots, caplog: pytest.LogCaptureFixture
) -> None:
    """One bad figure must not freeze the wall."""
    feed = Feed(snapshots, every=0.25)
    async with contextlib.aclosing(feed.watch()) as watch:
        await number(watch)
        snapshots.broken = True
        waiting = asyncio.ensure_future(number(watch))
        while "no snapshot" not in caplog.text:  # noqa: ASYNC110 -- until it is said
            await asyncio.sleep(0.01)
        snapshots.broken = False
        assert await waiting > 1


async def test_closing_ends_every_watch(snapshots: Snapshots) -> None:
    """A server that is told to stop would wait for a wall for ever."""
    feed = Feed(snapshots, every=60.0)

    async def watch() -> int:
        return len([one async for one in feed.watch()])

    watching = [asyncio.ensure_future(watch()) for _ in range(3)]
    while feed.watchers < 3:  # noqa: ASYNC110 -- the loop's own steps, no time
        await asyncio.sleep(0)
    feed.close()
    assert await asyncio.gather(*watching) in ([0, 0, 0], [1, 1, 1])
    assert feed.watchers == 0


async def test_board_of_a_server_that_stopped_is_shown_by_another(
    snapshots: Snapshots,
) -> None:
    """Mounted twice, inside and outside: the outer one's walls went dark for good."""
    feed = Feed(snapshots, every=0.01)
    async with contextlib.aclosing(feed.watch()) as before:
        await anext(before)
        feed.close()
        with pytest.raises(StopAsyncIteration):
            await anext(before)
    async with asyncio.timeout(20.0), contextlib.aclosing(feed.watch()) as after:
        assert await anext(after) != await anext(after)


async def test_more_than_is_good_are_refused(
    snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that reconnects in a loop must not take the process."""
    assert MOST > 1_000
    monkeypatch.setattr("aiophlo.wallboard.feed.MOST", 2)
    feed = Feed(snapshots, every=60.0)
    async with (
        contextlib.aclosing(feed.watch()) as one,
        contextlib.aclosing(feed.watch()) as other,
    ):
        await asyncio.gather(number(one), number(other))
        with pytest.raises(TooManyError):
            await number(feed.watch())
