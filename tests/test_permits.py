"""Permits bound what an account has open, and none is ever lost."""

import asyncio
import math

import pytest

from aiophlo import Lane
from aiophlo.permits import Permits


async def ask(permits: Permits, *lanes: Lane) -> list["asyncio.Task[bool]"]:
    """Let one caller per lane ask, in order."""
    tasks = [asyncio.create_task(permits.acquire(lane, math.inf)) for lane in lanes]
    await asyncio.sleep(0)
    return tasks


async def granted(tasks: list["asyncio.Task[bool]"]) -> list[int]:
    """Return which callers have their permit by now."""
    for _ in range(3):
        await asyncio.sleep(0)
    return [number for number, task in enumerate(tasks) if task.done()]


async def test_no_more_are_given_than_there_are() -> None:
    """One account's trouble must not take every file descriptor."""
    permits = Permits(2)
    tasks = await ask(permits, *[Lane.AWAITED] * 3)
    assert await granted(tasks) == [0, 1]
    permits.release(Lane.AWAITED)
    assert await granted(tasks) == [0, 1, 2]
    for _ in range(2):
        permits.release(Lane.AWAITED)
    assert permits.free == 2


async def test_people_come_before_streams_and_the_first_before_the_second() -> None:
    """A batch that fills every connection must not hold up an agent."""
    permits = Permits(1)
    waiting = [Lane.STREAMED, Lane.AWAITED, Lane.AWAITED]
    tasks = await ask(permits, Lane.STREAMED, *waiting)
    order = [permits.waiting(lane) for lane in Lane]
    assert order == [0, 2, 3]
    for expected in ([0, 2], [0, 2, 3], [0, 1, 2, 3]):
        permits.release(Lane.AWAITED)
        assert await granted(tasks) == expected


async def test_what_ends_a_wait_takes_no_permit() -> None:
    """An abort must not queue behind a server that doesn't answer."""
    permits = Permits(1)
    await permits.acquire(Lane.AWAITED, math.inf)
    assert await permits.acquire(Lane.URGENT, 0.0)
    permits.release(Lane.URGENT)
    assert permits.free == 0


async def test_waiting_ends_at_the_deadline() -> None:
    """The customer has given up by then."""
    permits = Permits(0)
    assert not await permits.acquire(Lane.AWAITED, asyncio.get_running_loop().time())
    assert permits.waiting(Lane.STREAMED) == 0


async def test_cancelled_caller_leaves_its_place() -> None:
    """A permit given to somebody who has gone would be lost for good."""
    permits = Permits(1)
    tasks = await ask(permits, *[Lane.AWAITED] * 3)
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    permits.release(Lane.AWAITED)
    assert await granted(tasks) == [0, 1, 2]
    permits.release(Lane.AWAITED)
    assert permits.free == 1


@pytest.mark.parametrize("waiters", [1, 2])
async def test_caller_cancelled_while_it_is_given_a_permit_passes_it_on(
    waiters: int,
) -> None:
    """Each one lost this way narrows the account until nothing leaves any more."""
    permits = Permits(1)
    tasks = await ask(permits, *[Lane.AWAITED] * (waiters + 1))
    permits.release(Lane.AWAITED)
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    assert await granted(tasks) == list(range(waiters + 1))
    assert permits.free == (1 if waiters == 1 else 0)
