"""ConnectionLimit: fair in a lane, never lost, never handed out twice."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiophlo.model.actions import Lane
from aiophlo.sending.connection_limit import ConnectionLimit

AWAITED, STREAMED, URGENT = Lane.AWAITED, Lane.STREAMED, Lane.URGENT


async def settle() -> None:
    """Let everybody who can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_permits_go_first_come_first_served_when_they_are_awaited() -> None:
    """A transfer asked for first must not be superseded for ever."""
    connections = ConnectionLimit(1)
    assert await connections.acquire(AWAITED, math.inf)
    got: list[int] = []

    async def take(number: int) -> None:
        assert await connections.acquire(AWAITED, math.inf)
        got.append(number)
        connections.release(AWAITED)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(take(number))
        await settle()
        assert (connections.waiting(Lane.STREAMED), got) == (5, [])
        connections.release(AWAITED)
    assert got == [0, 1, 2, 3, 4]
    assert (connections.free, connections.waiting(Lane.STREAMED)) == (1, 0)


async def test_awaited_goes_before_streamed_when_a_permit_comes_back() -> None:
    """A caller on the line must not wait for a batch."""
    connections = ConnectionLimit(1)
    await connections.acquire(STREAMED, math.inf)
    streamed = asyncio.ensure_future(connections.acquire(STREAMED, math.inf))
    awaited = asyncio.ensure_future(connections.acquire(AWAITED, math.inf))
    await settle()
    connections.release(STREAMED)
    await settle()
    assert (awaited.done(), streamed.done()) == (True, False)
    connections.release(AWAITED)
    assert await streamed


async def test_urgent_never_waits_when_all_permits_are_out() -> None:
    """A customer on hold must not queue behind a server that is silent."""
    connections = ConnectionLimit(1)
    await connections.acquire(AWAITED, math.inf)
    assert await connections.acquire(URGENT, -math.inf)
    assert connections.free == 0
    connections.release(URGENT)
    assert connections.free == 0


async def test_newcomer_does_not_overtake_when_a_permit_is_on_its_way() -> None:
    """Who waits longest is first, however the loop takes its turns."""
    connections = ConnectionLimit(1)
    await connections.acquire(AWAITED, math.inf)
    waiter = asyncio.ensure_future(connections.acquire(AWAITED, math.inf))
    await settle()
    connections.release(AWAITED)  # the waiter's, though it has not run yet
    assert not await connections.acquire(AWAITED, -math.inf)
    assert await waiter


async def test_waiting_ends_when_the_deadline_comes() -> None:
    """An action that can't be sent in time must be told so, and leave no trace."""
    connections = ConnectionLimit(1)
    await connections.acquire(AWAITED, math.inf)
    loop = asyncio.get_running_loop()
    assert not await connections.acquire(AWAITED, loop.time())
    assert connections.waiting(Lane.STREAMED) == 0
    connections.release(AWAITED)
    assert connections.free == 1


@pytest.mark.parametrize("released_first", [False, True])
async def test_permit_passes_on_when_its_waiter_is_cancelled(
    released_first: bool,
) -> None:
    """A lost permit is a connection fewer for as long as the process lives."""
    connections = ConnectionLimit(1)
    await connections.acquire(AWAITED, math.inf)
    first = asyncio.ensure_future(connections.acquire(AWAITED, math.inf))
    second = asyncio.ensure_future(connections.acquire(AWAITED, math.inf))
    await settle()
    if released_first:
        connections.release(AWAITED)
    first.cancel()
    if not released_first:
        connections.release(AWAITED)
    assert await second
    assert first.cancelled()
    connections.release(AWAITED)
    assert (connections.free, connections.waiting(Lane.STREAMED)) == (1, 0)


class Crowd:
    """Many who want connections, of one account or two, and what they hold by now."""

    def __init__(self, numbers: list[int], together: int | None) -> None:
        self.shared = None if together is None else ConnectionLimit(together)
        self.limits = [ConnectionLimit(it, shared=self.shared) for it in numbers]
        self.waiters: list[tuple[ConnectionLimit, Lane, asyncio.Task[bool]]] = []
        self.held: list[tuple[ConnectionLimit, Lane]] = []
        self.most = [0] * (len(numbers) + 1)

    async def move(self, move: str, lane: Lane, index: int) -> None:
        """Make one move, then see who got a permit."""
        match move:
            case "take" | "late":
                deadline = math.inf if move == "take" else -math.inf
                limit = self.limits[index % len(self.limits)]
                taking = asyncio.ensure_future(limit.acquire(lane, deadline))
                self.waiters.append((limit, lane, taking))
            case "release" if self.held:
                limit, its = self.held.pop(index % len(self.held))
                limit.release(its)
            case "cancel" if self.waiters:
                self.waiters[index % len(self.waiters)][2].cancel()
            case "step":
                await asyncio.sleep(0)
        self.collect()

    def collect(self) -> None:
        """Note who got one, and how many are out at once."""
        for limit, lane, task in [it for it in self.waiters if it[2].done()]:
            self.waiters.remove((limit, lane, task))
            if not task.cancelled() and task.result():
                self.held.append((limit, lane))
        counted = [limit for limit, lane in self.held if lane is not URGENT]
        now = [counted.count(limit) for limit in self.limits] + [len(counted)]
        self.most = [max(pair) for pair in zip(self.most, now, strict=True)]

    async def go_home(self) -> None:
        """Give back all, until nobody waits."""
        while self.held or self.waiters:
            while self.held:
                limit, lane = self.held.pop()
                limit.release(lane)
            await settle()
            self.collect()


MOVES = st.tuples(
    st.sampled_from(["take", "late", "release", "cancel", "step"]),
    st.sampled_from(list(Lane)),
    st.integers(0, 9),
)


@given(
    numbers=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    together=st.none() | st.integers(1, 4),
    moves=st.lists(MOVES, max_size=40),
)
def test_no_permit_is_lost_or_doubled_whatever_happens(
    numbers: list[int], together: int | None, moves: list[tuple[str, Lane, int]]
) -> None:
    """Too few connections starve an account, too many drown a server."""

    async def main() -> None:
        crowd = Crowd(numbers, together)
        for move in moves:
            await crowd.move(*move)
        async with asyncio.timeout(5):
            await crowd.go_home()
        bounds = [*numbers, sum(numbers) if together is None else together]
        assert all(most <= it for most, it in zip(crowd.most, bounds, strict=True))
        limits = [*crowd.limits, *filter(None, [crowd.shared])]
        assert [it.free for it in limits] == bounds[: len(limits)]
        assert not any(it.waiting(Lane.STREAMED) for it in limits)

    asyncio.run(main())


async def test_accounts_wait_for_each_other_when_their_connections_are_one() -> None:
    """What waited inside the connector had 3 seconds, and then was unreachable."""
    shared = ConnectionLimit(1)
    first, second = (ConnectionLimit(5, shared=shared) for _ in range(2))
    assert first.take(AWAITED)
    assert not second.take(AWAITED)
    streamed = asyncio.ensure_future(second.acquire(STREAMED, math.inf))
    awaited = asyncio.ensure_future(first.acquire(AWAITED, math.inf))
    await settle()
    assert second.take(URGENT)
    first.release(AWAITED)
    await settle()
    assert (awaited.done(), streamed.done()) == (True, False)
    first.release(AWAITED)
    assert await streamed
    second.release(STREAMED)
    assert (first.free, second.free, shared.free) == (5, 5, 1)


async def test_streams_leave_a_tenth_to_who_is_awaited() -> None:
    """An agent's click must not queue behind two hundred answers that hang."""
    connections = ConnectionLimit(20)
    assert [connections.take(Lane.STREAMED) for _ in range(20)] == [True] * 18 + [
        False
    ] * 2
    assert [connections.take(Lane.AWAITED) for _ in range(3)] == [True, True, False]
    connections.release(Lane.AWAITED)
    assert not connections.take(Lane.STREAMED)
    assert connections.take(Lane.AWAITED)


@pytest.mark.parametrize("together", [None, 40])
async def test_stream_that_waits_is_not_given_what_is_left_to_who_is_awaited(
    together: int | None,
) -> None:
    """Two hundred rows that wait would have every connection before the next click."""
    shared = None if together is None else ConnectionLimit(together)
    connections = ConnectionLimit(20, shared=shared)
    for _ in range(18):
        assert await connections.acquire(STREAMED, math.inf)
    waiting = asyncio.ensure_future(connections.acquire(STREAMED, math.inf))
    await settle()
    for _ in range(2):
        assert connections.take(AWAITED)
    for lane, is_given in ((AWAITED, False), (AWAITED, False), (STREAMED, True)):
        connections.release(lane)
        await settle()
        assert waiting.done() is is_given
