"""What a pool does for its handovers: one per phone, and an end for every one."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from aiophlo.addresses import mask_error
from aiophlo.errors import PhloError
from aiophlo.handover.alarm import logger

_T = TypeVar("_T")


class Open(Protocol):
    """A handover that is open.

    Attributes:
        patience: Seconds that its end may take, besides answers under way.
    """

    @property
    def patience(self) -> float: ...  # noqa: D102 -- said above

    def end(self) -> object:
        """Begin to bring the customer back, in a task that `own` made."""


class Care:
    """The open handovers of a pool, and the tasks that see them through.

    Attributes:
        closed: No handover may begin any more.
    """

    def __init__(self) -> None:
        self.closed = False
        self._open: dict[Open, set[str]] = {}
        self._engaged: dict[str, Open] = {}
        self._tasks: set[asyncio.Future[Any]] = set()

    def __len__(self) -> int:
        return len(self._open)

    def own(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run `work` whether or not anybody goes on waiting for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def abandon(self, work: asyncio.Future[Any]) -> None:
        """Cancel `work`, and hear of how it ends instead of who began it."""
        if work.done():
            _ = work.cancelled() or work.exception()  # which asyncio wants seen
            return
        work.cancel()
        self._tasks.add(work)
        work.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, PhloError):
            logger.error("a handover failed: %s", mask_error(error))

    def begin(self, handover: Open) -> None:
        """Take a handover into care, until `leave`."""
        self._open[handover] = set()

    def leave(self, handover: Open) -> None:
        """Let go of a handover and of everybody in it."""
        for address in self._open.pop(handover, set()):
            del self._engaged[address]

    def engage(self, address: str, handover: Open) -> bool:
        """Keep an address for one handover; False if another has it."""
        if self._engaged.setdefault(address, handover) is not handover:
            return False
        self._open[handover].add(address)
        return True

    def release(self, address: str, handover: Open) -> None:
        """Let others have an address."""
        self._open[handover].discard(address)
        del self._engaged[address]

    def is_engaged(self, address: str) -> bool:
        """Say whether an open handover is about an address."""
        return address in self._engaged

    async def close(self, within: float) -> None:
        """End every handover, and wait until each customer is well.

        Args:
            within: Seconds that an answer may take. What isn't done by the time
                that all patience allows is given up, loudly.
        """
        self.closed = True
        within += max((handover.patience for handover in self._open), default=0.0)
        for handover in list(self._open):
            handover.end()
        try:
            async with asyncio.timeout(within):
                while self._tasks:
                    await asyncio.wait(set(self._tasks))
        except TimeoutError:
            logger.warning("closed before %d handovers had ended", len(self._open))
        finally:
            left = set(self._tasks)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)
