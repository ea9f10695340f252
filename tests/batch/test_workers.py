"""Workers: every item is run once, or told as lost."""

import asyncio
import weakref
from typing import Any, cast

import pytest

from aiophlo.batch.item import Item
from aiophlo.batch.workers import Workers


class Waiting:
    """An item that takes until it is let go."""

    def __init__(self, *, stoppable: bool = True) -> None:
        self.stoppable = stoppable
        self.begun = False
        self.task: asyncio.Task[Any] | None = None
        self.gate = asyncio.Event()

    def may_stop(self, *, even_in_flight: bool) -> bool:
        """Say what it was made with."""
        return even_in_flight or self.stoppable


class Crew:
    """Workers, and what came of their items."""

    def __init__(self) -> None:
        self.workers = Workers()
        self.done: list[Waiting] = []
        self.stopped: list[Waiting] = []
        self.lost: list[Waiting] = []

    def start(self, **options: bool) -> Waiting:
        """Start one more item."""
        item = Waiting(**options)
        self.workers.start(cast("Item", item), self._run, self._lose)
        return item

    async def _run(self, item: Item) -> None:
        waiting = cast("Waiting", item)
        waiting.begun, waiting.task = True, asyncio.current_task()
        try:
            await waiting.gate.wait()
        except asyncio.CancelledError:
            self.stopped.append(waiting)
        else:
            self.done.append(waiting)

    def _lose(self, item: Item) -> None:
        self.lost.append(cast("Waiting", item))

    async def end(self) -> None:
        """Dismiss them, and wait until all have ended."""
        self.workers.dismiss()
        while tasks := self.workers.tasks():
            await asyncio.wait(tasks)


async def steps(number: int = 3) -> None:
    """Let the event loop take some steps."""
    for _ in range(number):
        await asyncio.sleep(0)


async def idle_one(crew: Crew) -> asyncio.Task[Any]:
    """Return the task of a worker that has run an item and waits for another."""
    item = crew.start()
    item.gate.set()
    await steps()
    assert item.task is not None
    return item.task


async def test_task_is_used_again_and_no_more_are_made_than_are_needed() -> None:
    """A million rows must not cost a million tasks."""
    async with asyncio.timeout(10):
        crew = Crew()
        first = [crew.start() for _ in range(3)]
        await steps()
        for item in first:
            item.gate.set()
        await steps()
        again = [crew.start() for _ in range(4)]
        await steps()
        assert all(item.begun for item in again)
        assert {item.task for item in first} < {item.task for item in again}
        assert len(crew.workers.tasks()) == 4
        for item in again:
            item.gate.set()
        await crew.end()
        assert crew.done == [*first, *again]
        assert crew.lost == []


@pytest.mark.parametrize("reused", [False, True])
async def test_item_is_told_as_lost_when_its_task_is_cancelled_before_it(
    *, reused: bool
) -> None:
    """A row without an outcome is a customer whom nobody calls."""
    async with asyncio.timeout(10):
        crew = Crew()
        idle = await idle_one(crew) if reused else None
        item = crew.start()
        (task,) = crew.workers.tasks()
        assert task is idle or not reused
        task.cancel()
        await steps()
        assert crew.lost == [item]
        assert not item.begun
        await crew.end()


async def test_idle_worker_holds_nothing_of_what_it_ran() -> None:
    """A thousand that wait for a slow source would hold a thousand outcomes."""
    async with asyncio.timeout(10):
        crew = Crew()
        _ = await idle_one(crew)
        ran = weakref.ref(crew.done.pop())
        assert ran() is None
        await crew.end()


async def test_worker_that_was_cancelled_while_idle_is_given_nothing() -> None:
    """What it was given would never be sent, nor told."""
    async with asyncio.timeout(10):
        crew = Crew()
        task = await idle_one(crew)
        task.cancel()
        item = crew.start()
        await steps()
        assert item.begun
        assert item.task is not task
        item.gate.set()
        await crew.end()
        assert item in crew.done
        assert crew.lost == []


async def test_dismissed_workers_end_once_they_have_no_item() -> None:
    """A program would not end while tasks of its batch wait for more."""
    async with asyncio.timeout(10):
        crew = Crew()
        busy = crew.start()
        idle = await idle_one(crew)
        crew.workers.dismiss()
        await steps()
        assert idle.done()
        assert crew.workers.tasks() == [busy.task]
        busy.gate.set()
        await crew.end()
        assert busy in crew.done


@pytest.mark.parametrize("even_in_flight", [False, True])
async def test_only_what_may_be_stopped_is_stopped(*, even_in_flight: bool) -> None:
    """A request that has left and is given up leaves a phone in doubt."""
    async with asyncio.timeout(10):
        crew = Crew()
        waits, flies = crew.start(), crew.start(stoppable=False)
        await steps()
        unbegun = crew.start()
        crew.workers.stop(even_in_flight=even_in_flight)
        await steps()
        assert set(crew.stopped) == ({waits, flies} if even_in_flight else {waits})
        assert unbegun.begun  # it finds out for itself that nothing is sent any more
        for item in (flies, unbegun):
            item.gate.set()
        await crew.end()
        assert crew.lost == []
