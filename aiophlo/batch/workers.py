"""Workers: the asyncio tasks of a stream, each of which runs one item after the other.

With a task for each item, a streamed transfer costs 5 % more instructions.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aiophlo.batch.item import Item


class _Worker:
    """A task.

    Attributes:
        task: The task.
        item: What it runs; None while it is idle.
        next: What it runs in its next step.
        call: Done once there is a next one, if it is idle.
    """

    __slots__ = ("call", "item", "next", "task")

    task: asyncio.Task[None]
    call: asyncio.Future[None]

    def __init__(self, item: Item) -> None:
        self.item: Item | None = None
        self.next: Item | None = item

    def take(self, item: Item | None) -> bool:
        """Run `item` next, or end with None; False if it was cancelled."""
        if self.call.done():
            return False
        self.next = item
        self.call.set_result(None)
        return True


class Workers:
    """As many workers as there were items at once."""

    def __init__(self) -> None:
        self._all: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._dismissed = False

    def start(
        self,
        item: Item,
        run: Callable[[Item], Coroutine[Any, Any, None]],
        lost: Callable[[Item], None],
    ) -> None:
        """Run an item from the event loop's next step on.

        Args:
            item: What to run.
            run: Runs an item.
            lost: Called with an item that isn't run, since its task was cancelled
                before that step.
        """
        while self._idle:
            if self._idle.pop().take(item):
                return
        worker = _Worker(item)
        self._all.add(worker)

        def end(_: asyncio.Task[None]) -> None:
            self._all.remove(worker)
            if worker.next is not None:
                lost(worker.next)

        worker.task = asyncio.get_running_loop().create_task(self._work(worker, run))
        worker.task.add_done_callback(end)

    async def _work(
        self, worker: _Worker, run: Callable[[Item], Coroutine[Any, Any, None]]
    ) -> None:
        while worker.next is not None:
            worker.item, worker.next = worker.next, None
            await run(worker.item)
            worker.item = None
            if not self._dismissed:
                worker.call = worker.task.get_loop().create_future()
                self._idle.append(worker)
                await worker.call

    def dismiss(self) -> None:
        """Let every task end once it has no item."""
        self._dismissed = True
        while self._idle:
            self._idle.pop().take(None)

    def stop(self, *, even_in_flight: bool) -> None:
        """Cancel the tasks of items that may be stopped."""
        for worker in self._all:
            item = worker.item
            if item is not None and item.may_stop(even_in_flight=even_in_flight):
                worker.task.cancel()

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks that have not ended."""
        return [worker.task for worker in self._all]
