"""The open handovers of a pool: one per address, and each is ended on closing.

What other pools have open, a `coordination.SharedHandovers` knows, if there is one.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

from aiophlo.coordination import Claim, Lease, SharedHandovers, Whereabouts
from aiophlo.errors import PhloError
from aiophlo.logs import logger
from aiophlo.model.handover_records import OpenHandover
from aiophlo.model.redaction import mask_error

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


class OwnLease:
    """The lease of a handover that no other pool knows of: nobody takes it over."""

    may_ring = holds = may_bring_back = True

    def __init__(self) -> None:
        self.when_taken_over: Callable[[], None] = _nothing

    async def begin(
        self, *, targets: Sequence[str], conference_uuid: str | None
    ) -> None:
        """Take it."""

    async def engage(self, target: str) -> bool:  # noqa: ARG002 -- the protocol's
        """Engage a target: in other pools nobody has."""
        return True

    def release(self, target: str) -> None:
        """Let other handovers engage a target."""

    async def claim(self) -> Claim:
        """Claim it again: it is held."""
        return Claim.HELD

    async def look(self) -> Whereabouts:
        """Say where the customer is: without other pools nobody knows more."""
        return Whereabouts.UNKNOWN

    async def look_elsewhere(self) -> None:
        """Say nothing of newer calls: as above."""

    def end(self, *, alarmed: bool = False) -> None:
        """Give it up."""

    async def ended(self) -> None:
        """Wait until other pools know of its end: there are none."""


class Unshared:
    """The handovers of a pool that shares none, as `coordination.SharedHandovers`."""

    def lease(
        self,
        handover: OpenHandover,  # noqa: ARG002 -- as above
        customer: str | None = None,  # noqa: ARG002 -- as above
    ) -> Lease:
        """Return the lease of a handover that is about to begin."""
        return OwnLease()

    adopt = lease

    def stop_taking_over(self) -> None:
        """Take no more handovers over: there are none."""


class HandoverRegistry:
    """The open handovers of a pool, and the asyncio tasks that end them.

    Attributes:
        refusal: Why no handover may begin any more; empty as long as one may.
        shared: What other pools know of them.
    """

    def __init__(self) -> None:
        self.refusal = ""
        self.shared: SharedHandovers = Unshared()
        self._open: dict[Open, set[str]] = {}
        self._engaged: dict[str, Open] = {}
        self._tasks: set[asyncio.Future[Any]] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()

    def __len__(self) -> int:
        return len(self._open)

    def own(self, work: Coroutine[Any, Any, _T], handover: str) -> asyncio.Task[_T]:
        """Run a handover's `work` in a task that no cancelled waiter cancels."""
        task = asyncio.get_running_loop().create_task(work)
        self._keep(task, handover)
        return task

    def _keep(self, task: asyncio.Future[Any], handover: str) -> None:
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, handover))

    def abandon(self, work: asyncio.Future[Any], handover: str) -> None:
        """Cancel `work`, and retrieve its exception instead of its waiter."""
        if work.done():
            _ = work.cancelled() or work.exception()  # which asyncio wants seen
            return
        work.cancel()
        self._keep(work, handover)

    def _ended(self, handover: str, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, PhloError):
            logger.error(
                "a handover failed: %s",
                mask_error(error),
                extra={"phlo_handover": handover},
            )

    def begin(self, handover: Open) -> None:
        """Take a handover into the registry, until `leave`."""
        self._open[handover] = set()
        self._none_open.clear()

    def leave(self, handover: Open) -> None:
        """Remove a handover, and release the addresses that it has engaged."""
        for address in self._open.pop(handover, set()):
            del self._engaged[address]
        if not self._open:
            self._none_open.set()

    def engage(self, address: str, handover: Open) -> bool:
        """Engage an address for one handover; False if another has engaged it."""
        if self._engaged.setdefault(address, handover) is not handover:
            return False
        self._open[handover].add(address)
        return True

    def release(self, address: str, handover: Open) -> None:
        """Let other handovers engage an address, unless this one has left already."""
        if self._engaged.get(address) is handover:
            self._open[handover].discard(address)
            del self._engaged[address]

    def is_engaged(self, address: str) -> bool:
        """Say whether an open handover has engaged an address."""
        return address in self._engaged

    async def drain(self, within: float, answers: float) -> None:
        """Let no handover begin, and wait until those that are open have ended.

        Args:
            within: Seconds that they have for it by themselves; then they are ended.
            answers: Seconds that answers under way may take besides.
        """
        self.refusal = "the pool is draining"
        self.shared.stop_taking_over()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._none_open.wait()
        if not self._open:
            return
        logger.warning("ending handovers that are still open: %d", len(self._open))
        answers += self._end_all()
        with suppress(TimeoutError):  # closing says how many are left
            async with asyncio.timeout(answers):
                await self._none_open.wait()

    def _end_all(self) -> float:
        """Begin to end every handover; return how many seconds they may need."""
        patience = max((handover.patience for handover in self._open), default=0.0)
        for handover in list(self._open):
            handover.end()
        return patience

    async def close(self, within: float) -> None:
        """End every handover, and wait until each customer is back with the agent.

        Args:
            within: Seconds that an answer may take. What isn't done by the time
                that all patience allows is given up, loudly.
        """
        self.refusal = "the pool is closed"
        self.shared.stop_taking_over()
        within += self._end_all()
        try:
            async with asyncio.timeout(within):
                while self._tasks:
                    await asyncio.wait(set(self._tasks))
        except TimeoutError:
            logger.warning("closed before handovers had ended: %d", len(self._open))
        finally:
            left = set(self._tasks)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)


def _nothing() -> None:
    """Do nothing: nobody can take it over."""
