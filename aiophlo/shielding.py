"""Shielding from cancellation: waits for work that has to end, although cancelled.

asyncio delivers a cancellation once. A cancel scope of anyio, and so of Starlette and
FastAPI, delivers the same one again at every turn of the event loop until the scope is
left. Each bears the scope's name as its message, by which a repeat is told from a
second cancellation.
"""

import asyncio
import math
import sys
from collections.abc import Awaitable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

_T = TypeVar("_T")


class RepeatedCancels:
    """Tells anyio's repeats of one cancellation from a second cancellation.

    Args:
        first: What the current task is leaving for; None if nothing was raised.
    """

    def __init__(self, first: BaseException | None) -> None:
        self._first = first
        self._requests = _cancel_requests()

    def include(self, cancel: asyncio.CancelledError) -> bool:
        """Say whether a cancellation, just caught, is a repeat of the first one.

        Another request that comes while anyio's is being delivered is merged
        with it: the number of requests tells.
        """
        before, self._requests = self._requests, _cancel_requests()
        first = self._first if isinstance(self._first, asyncio.CancelledError) else None
        if first is not None and cancel.args and cancel.args == first.args:
            return self._requests - before <= 1
        self._first = cancel
        return False


def _cancel_requests() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def wait_past_repeats(
    work: asyncio.Future[Any], cancelled: BaseException | None
) -> None:
    """Wait until `work` is done; it goes on if this is cancelled.

    Args:
        work: What is waited for; its result or exception stays with it.
        cancelled: What the caller was leaving for: if it is a cancel, repeats
            of it don't end the waiting.

    Raises:
        CancelledError: The caller was cancelled, and not by a repeat.
    """
    repeats = RepeatedCancels(cancelled)
    with shield_from_cancelled_scope():
        while not work.done():
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError as cancel:
                if not repeats.include(cancel):
                    raise


def shield_from_cancelled_scope() -> AbstractContextManager[object]:
    """Return a context in which a cancelled anyio scope repeats no cancellation.

    Each repeat would be a turn of a busy loop, and one that follows an error other
    than a cancellation would pass for a second one.
    """
    anyio = sys.modules.get("anyio")  # where it isn't loaded, no scope is open
    if anyio is None or anyio.current_effective_deadline() != -math.inf:
        return nullcontext()
    shield: AbstractContextManager[object] = anyio.CancelScope(shield=True)
    return shield


async def finish(work: Awaitable[_T]) -> _T:
    """Return the result of `work`, however often the caller is cancelled.

    Args:
        work: A coroutine that has to end, and does so in bounded time.

    Raises:
        CancelledError: The caller was cancelled meanwhile; `work` has ended.
    """
    future = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as cancel:
            cancelled = cancelled or cancel
    if cancelled is None:
        return future.result()
    if not future.cancelled():
        future.exception()  # which asyncio wants seen: the cancel goes first
    try:
        raise cancelled
    finally:
        del cancelled  # its traceback refers to this frame
