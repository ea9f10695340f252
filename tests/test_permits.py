"""Permits: fair in a lane, never lost, never handed out twice."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiophlo.actions import Lane
from aiophlo.permits import Permits

AWAITED, STREAMED, URGENT = Lane.AWAITED, Lane.STREAMED, Lane.URGENT


async def settle() -> None:
    """Let everybody who can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_permits_go_first_come_first_served_when_they_are_awaited() -> None:
    """A transfer asked for first must not be overtaken for ever."""
    permits = Permits(1)
    assert await permits.acquire(AWAITED, math.inf)
    got: list[int] = []

    async def take(number: int) -> None:
        assert await permits.acquire(AWAITED, math.inf)
        got.append(number)
        permits.release(AWAITED)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(take(number))
        await settle()
        assert (permits.waiting(Lane.STREAMED), got) == (5, [])
        permits.release(AWAITED)
    assert got == [0, 1, 2, 3, 4]
    assert (permits.free, permits.waiting(Lane.STREAMED)) == (1, 0)


async def test_awaited_goes_before_streamed_when_a_permit_comes_back() -> None:
    """A caller on the line must not wait for a batch."""
    permits = Permits(1)
    await permits.acquire(STREAMED, math.inf)
    streamed = asyncio.ensure_future(permits.acquire(STREAMED, math.inf))
    awaited = asyncio.ensure_future(permits.acquire(AWAITED, math.inf))
    await settle()
    permits.release(STREAMED)
    await settle()
    assert (awaited.done(), streamed.done()) == (True, False)
    permits.release(AWAITED)
    assert await streamed


async def test_urgent_never_waits_when_all_permits_are_out() -> None:
    """A customer on hold must not queue behind a server that is silent."""
    permits = Permits(1)
    await permits.acquire(AWAITED, math.inf)
    assert await permits.acquire(URGENT, -math.inf)
    assert permits.free == 0
    permits.release(URGENT)
    assert permits.free == 0


async def test_newcomer_does_not_overtake_when_a_permit_is_on_its_way() -> None:
    """Who waits longest is first, however the loop takes its turns."""
    permits = Permits(1)
    await permits.acquire(AWAITED, math.inf)
    waiter = asyncio.ensure_future(permits.acquire(AWAITED, math.inf))
    await settle()
    permits.release(AWAITED)  # the waiter's, though it has not run yet
    assert not await permits.acquire(AWAITED, -math.inf)
    assert await waiter


async def test_waiting_ends_when_the_deadline_comes() -> None:
    """An action that can't be sent in time must be told so, and leave no trace."""
    permits = Permits(1)
    await permits.acquire(AWAITED, math.inf)
    loop = asyncio.get_running_loop()
    assert not await permits.acquire(AWAITED, loop.time())
    assert permits.waiting(Lane.STREAMED) == 0
    permits.release(AWAITED)
    assert permits.free == 1


@pytest.mark.parametrize("released_first", [False, True])
async def test_permit_passes_on_when_its_waiter_is_cancelled(
    released_first: bool,
) -> None:
    """A lost permit is a connection fewer for as long as the process lives."""
    permits = Permits(1)
    await permits.acquire(AWAITED, math.inf)
    first = asyncio.ensure_future(permits.acquire(AWAITED, math.inf))
    second = asyncio.ensure_future(permits.acquire(AWAITED, math.inf))
    await settle()
    if released_first:
        permits.release(AWAITED)
    first.cancel()
    if not released_first:
        permits.release(AWAITED)
    assert await second
    assert first.cancelled()
    permits.release(AWAITED)
    assert (permits.free, permits.waiting(Lane.STREAMED)) == (1, 0)


class Crowd:
    """Many who want permits, and what they hold by now."""

    def __init__(self, number: int) -> None:
        self.permits = Permits(number)
        self.waiters: list[tuple[Lane, asyncio.Task[bool]]] = []
        self.held: list[Lane] = []
        self.most = 0

    async def move(self, move: str, lane: Lane, index: int) -> None:
        """Make one move, then see who got a permit."""
        match move:
            case "take" | "late":
                deadline = math.inf if move == "take" else -math.inf
                taking = self.permits.acquire(lane, deadline)
                self.waiters.append((lane, asyncio.ensure_future(taking)))
            case "release" if self.held:
                self.permits.release(self.held.pop(index % len(self.held)))
            case "cancel" if self.waiters:
                self.waiters[index % len(self.waiters)][1].cancel()
            case "step":
                await asyncio.sleep(0)
        self.collect()

    def collect(self) -> None:
        """Note who got one, and how many are out at once."""
        for lane, task in [pair for pair in self.waiters if pair[1].done()]:
            self.waiters.remove((lane, task))
            if not task.cancelled() and task.result():
                self.held.append(lane)
        self.most = max(self.most, sum(lane is not URGENT for lane in self.held))

    async def go_home(self) -> None:
        """Give back all, until nobody waits."""
        while self.held or self.waiters:
            while self.held:
                self.permits.release(self.held.pop())
            await settle()
            self.collect()


MOVES = st.tuples(
    st.sampled_from(["take", "late", "release", "cancel", "step"]),
    st.sampled_from(list(Lane)),
    st.integers(0, 9),
)


@given(number=st.integers(1, 3), moves=st.lists(MOVES, max_size=40))
def test_no_permit_is_lost_or_doubled_whatever_happens(
    number: int, moves: list[tuple[str, Lane, int]]
) -> None:
    """Too few permits starve an account, too many drown a server."""

    async def main() -> None:
        crowd = Crowd(number)
        for move in moves:
            await crowd.move(*move)
        async with asyncio.timeout(5):
            await crowd.go_home()
        assert crowd.most <= number
        assert (crowd.permits.free, crowd.permits.waiting(Lane.STREAMED)) == (number, 0)

    asyncio.run(main())
