"""The rate limiter's slots reach the coroutines that wait for them, and only them."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from aiophlo.model.accounts import Quota
from aiophlo.model.actions import Lane
from aiophlo.model.outcomes import Reason
from aiophlo.sending.rate_limit_queue import RateLimitQueue
from aiophlo.sending.rate_limiter import RateLimiter
from aiophlo.sending.rate_meter import RateMeter
from tests.support.virtual_time import VirtualTimeLoop, run_virtually


def virtually(test: Callable[[], Any]) -> Callable[[], None]:
    """Run an async test on a clock that jumps."""

    def run() -> None:
        run_virtually(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Queue:
    """Some who wait for slots, and a list of what they were told, and when."""

    def __init__(self, limiter: RateLimiter | None = None) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self.loop = loop
        self.start = loop.time()
        self.slots = RateLimitQueue(limiter or RateLimiter(RateMeter(1.0)), loop)
        self.told: list[tuple[str, float, Reason | None]] = []

    @property
    def now(self) -> float:
        """Seconds since the queue was made."""
        return round(self.loop.time() - self.start, 6)

    def ask(
        self, name: str, lane: Lane = Lane.AWAITED, patience: float = math.inf
    ) -> asyncio.Task[None]:
        """Let one come, and return its task."""
        return asyncio.create_task(self._ask(name, lane, self.loop.time() + patience))

    async def _ask(self, name: str, lane: Lane, deadline: float) -> None:
        answer = await self.slots.acquire(lane, deadline)
        self.told.append((name, self.now, answer))


@virtually
async def test_each_gets_a_slot_in_turn() -> None:
    """A transfer that came first must not leave last."""
    queue = Queue()
    await asyncio.gather(*(queue.ask(name) for name in "abcd"))
    assert queue.told == [
        ("a", 0, None),
        ("b", 1, None),
        ("c", 2, None),
        ("d", 3, None),
    ]


@virtually
async def test_free_slot_is_had_without_waiting() -> None:
    """A lone transfer must not pay for a queue that isn't there."""
    queue = Queue()
    waiting = queue.slots.acquire(Lane.AWAITED, math.inf)
    with pytest.raises(StopIteration) as end:
        waiting.send(None)
    assert end.value.value is None


@virtually
async def test_free_slot_is_not_given_after_the_deadline() -> None:
    """What could not leave in time must not leave late."""
    queue = Queue()
    assert await queue.slots.acquire(Lane.AWAITED, queue.loop.time() - 0.001) is (
        Reason.EXPIRED
    )
    assert await queue.slots.acquire(Lane.AWAITED, queue.loop.time()) is None


@virtually
async def test_urgent_one_goes_first() -> None:
    """A customer on hold must not wait behind a batch."""
    queue = Queue()
    first = queue.ask("first")
    await asyncio.sleep(0)
    tasks = [queue.ask(lane.name, lane) for lane in sorted(Lane, reverse=True)]
    await asyncio.gather(first, *tasks)
    names = [name for name, _, _ in queue.told]
    assert names == ["first", "URGENT", "AWAITED", "STREAMED", "LOOKED"]


@virtually
async def test_refused_at_once_when_the_slot_would_come_too_late() -> None:
    """A thousand hopeless sends must be told now, not in ten seconds."""
    queue = Queue()
    tasks = [queue.ask(str(number), patience=3.0) for number in range(1_000)]
    await asyncio.sleep(0.001)
    assert len(queue.told) == 1 + 996
    assert {answer for _, _, answer in queue.told} == {None, Reason.EXPIRED}
    assert queue.now < 0.01
    await asyncio.gather(*tasks)
    assert [when for _, when, answer in queue.told if answer is None] == [0, 1, 2, 3]


@virtually
async def test_superseded_one_is_told_at_once() -> None:
    """Whoever can't be served any more must not wait to hear it."""
    queue = Queue()
    first = queue.ask("first")
    last = queue.ask("superseded", Lane.STREAMED, patience=1.5)
    await asyncio.sleep(0.5)
    urgent = queue.ask("urgent", Lane.URGENT)
    await asyncio.gather(first, last)
    assert queue.told[1:] == [("superseded", 0.5, Reason.EXPIRED)]
    await urgent
    assert queue.told[2:] == [("urgent", 1, None)]


@virtually
async def test_pause_moves_everybody_and_keeps_the_order() -> None:
    """The queue survives a 429; those who can't wait so long hear it at once."""
    queue = Queue()
    tasks = [queue.ask(name) for name in "abc"]
    hurried = queue.ask("hurried", patience=5.0)
    await asyncio.sleep(0.5)
    queue.slots.throttled(sent=queue.start, retry_after=10.0)
    await hurried
    assert queue.told[1:] == [("hurried", 0.5, Reason.THROTTLED)]
    await asyncio.gather(*tasks)
    (second, when, _), (third, later, _) = queue.told[2:]
    assert (second, when, third) == ("b", 10.5, "c")
    assert later >= 11.5


@virtually
async def test_cancelled_one_gives_its_place_to_the_next() -> None:
    """A caller who hung up must not hold up those behind."""
    queue = Queue()
    tasks = [queue.ask(name) for name in "abcd"]
    await asyncio.sleep(0.5)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[1].cancelled()
    assert [(name, when) for name, when, _ in queue.told] == [
        ("a", 0),
        ("c", 1),
        ("d", 2),
    ]


@virtually
async def test_one_cancelled_with_its_slot_in_hand_wastes_only_that() -> None:
    """A cancellation in the last moment must not stop the queue."""
    queue = Queue()
    tasks = [queue.ask(name) for name in "abc"]
    queue.loop.call_at(queue.start + 1.0, tasks[1].cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert queue.told[0] == ("a", 0, None)
    assert queue.told[-1][0] == "c"
    assert queue.told[-1][1] in {1, 2}
    assert queue.slots.limiter.waiting(Lane.AWAITED) == 0


@pytest.mark.parametrize("number", range(1, 8))
def test_cancelled_all_at_once_leaves_nothing_behind(number: int) -> None:
    """A service that stops must not leave timers or waiters."""

    async def main() -> None:
        queue = Queue()
        tasks = [queue.ask(str(index)) for index in range(number)]
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [queue.slots.limiter.waiting(lane) for lane in Lane] == [0] * 4
        await asyncio.sleep(1.0)
        assert await queue.slots.acquire(Lane.AWAITED, queue.loop.time()) is None

    run_virtually(main())


@virtually
async def test_closing_refuses_those_who_wait_and_who_come() -> None:
    """Nobody may wait on a pool that is gone."""
    queue = Queue()
    tasks = [queue.ask(name) for name in "abc"]
    await asyncio.sleep(0.5)
    queue.slots.close()
    await asyncio.gather(*tasks)
    assert queue.told[1:] == [("b", 0.5, Reason.CLOSED), ("c", 0.5, Reason.CLOSED)]
    queue.slots.close(Lane.AWAITED)  # which opens no lane again
    assert await queue.slots.acquire(Lane.URGENT, math.inf) is Reason.CLOSED
    queue.slots.close()


def test_closing_leaves_no_timer() -> None:
    """A timer that outlives the pool keeps it, and its sessions, in memory."""
    queues: list[Queue] = []

    async def main() -> None:
        queue = Queue()
        queues.append(queue)
        tasks = [queue.ask(name) for name in "ab"]
        await asyncio.sleep(0.5)
        queue.slots.close()
        await asyncio.gather(*tasks)
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="no timer"):
        run_virtually(main())
    assert queues[0].now == 0.5  # a timer left behind would have moved the clock


@virtually
async def test_nothing_is_kept_of_those_who_are_through() -> None:
    """A service that runs for months must not remember every wait."""
    queue = Queue(RateLimiter(RateMeter(0.001)))
    tasks = [queue.ask(str(number)) for number in range(100)]
    await asyncio.sleep(0.05)
    tasks[-1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not queue.slots._waiters  # noqa: SLF001 -- no other sign of a leak


@virtually
async def test_forecast_counts_those_who_wait() -> None:
    """A dashboard shows how long the next caller waits."""
    queue = Queue()
    tasks = [queue.ask(name) for name in "abc"]
    await asyncio.sleep(0.25)
    assert queue.slots.slot_for(Lane.AWAITED, behind=0) == queue.start + 3
    assert queue.slots.slot_for(Lane.URGENT, behind=2) == queue.start + 3
    await asyncio.gather(*tasks)


@virtually
async def test_thousands_are_served_at_the_whole_pace_with_a_late_loop() -> None:
    """A busy service's timers are late, and its quota is used all the same."""
    queue = Queue(RateLimiter(RateMeter.of_quota(Quota())))

    def be_late() -> None:
        queue.loop.now += 0.001
        if len(queue.told) < 3_000:
            queue.loop.call_later(0.004, be_late)

    queue.loop.call_soon(be_late)
    await asyncio.gather(*(queue.ask(str(number)) for number in range(3_000)))
    assert queue.now <= 3_000 / (0.98 * 60)


def test_a_slot_that_is_almost_due_can_be_asked_for_on_uvloop() -> None:
    """A timer of under a millisecond is none there, and can't say when it is due."""

    async def ask_twice() -> list[Reason | None]:
        slots = RateLimitQueue(
            RateLimiter(RateMeter(0.0004)), asyncio.get_running_loop()
        )
        assert slots.take(Lane.STREAMED, math.inf)
        lanes = Lane.AWAITED, Lane.URGENT
        return await asyncio.gather(*(slots.acquire(lane, math.inf) for lane in lanes))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(ask_twice()) == [None, None]


class BookedMeter(RateMeter):
    """Knows no slot until one was booked, as a meter that pools share does."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.booked: list[float] = []

    def next_slot(self, now: float, lane: Lane = Lane.AWAITED) -> float:
        """Return the first that is booked."""
        del now, lane
        return self.booked[0] if self.booked else math.inf

    def forecast(self, now: float, lane: Lane = Lane.AWAITED) -> float:
        """Return that it comes at once."""
        del lane
        return now

    def use(self, now: float, lane: Lane) -> None:
        """Take it."""
        del now, lane
        self.booked.pop(0)


@virtually
async def test_booked_slot_is_had_by_who_came_after_one_with_a_far_deadline() -> None:
    """A queued transfer would wait for as long as the one before it could have."""
    meter = BookedMeter()
    queue = Queue(RateLimiter(meter))
    first = queue.ask("first", patience=86_400.0)
    await asyncio.sleep(0.1)
    now = queue.loop.time()
    meter.booked = [now, now + 0.5]
    queue.slots.refresh(False)  # noqa: FBT003 -- a callback
    await first
    await queue.ask("second", patience=86_400.0)
    assert queue.told == [("first", 0.1, None), ("second", 0.6, None)]
