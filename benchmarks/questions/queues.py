"""Queues transfers in one way or another, and watches; in a process of its own."""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from aiophlo import Accepted, Journal, SessionPool
from benchmarks.clients.phlo import pool_of, transfer
from benchmarks.harness.lab import Measurement
from benchmarks.harness.machine import peak_mib, resident_mib

CONCURRENCY = 200
_PER_POOL = 10_000  # transfers, unless one queue has more
_SAMPLES = 50


class _Watch:
    """Notes how much memory there is as transfers are done."""

    def __init__(self, transfers: int) -> None:
        self._every = max(transfers // _SAMPLES, 1)
        self._next = self._every
        self._done = 0
        self.samples: list[tuple[int, float]] = []

    def note(self, done: int) -> None:
        """Note that so many more are done."""
        self._done += done
        if self._done >= self._next:
            self._next = self._done + self._every
            self.samples.append((self._done, resident_mib()))


Send = Callable[[SessionPool, Iterator[int], _Watch], Awaitable[None]]


def work(*, base_url: str, way: str, queued: int, transfers: int) -> Measurement:
    """Send transfers, so many queued at a time, again and again.

    Args:
        base_url: Where the API is.
        way: To queue them: `streamed`, `journaled` or `awaited`.
        queued: At a time.
        transfers: In all, a multiple of that.
    """
    return asyncio.run(_work(base_url, _WAYS[way], queued, transfers))


async def _work(base_url: str, send: Send, queued: int, transfers: int) -> Measurement:
    before, watch = resident_mib(), _Watch(transfers)
    numbers, queues = itertools.count(), transfers // queued
    per_pool = max(_PER_POOL // queued, 1)
    spent = 0.0
    # What one pool gathers over a long queue must not burden the short ones, too.
    for first in range(0, queues, per_pool):
        async with pool_of(base_url, connections=CONCURRENCY) as pool:
            await send(pool, itertools.islice(numbers, CONCURRENCY), _Watch(transfers))
            for _ in range(first, min(first + per_pool, queues)):
                begun = time.process_time()
                await send(pool, itertools.islice(numbers, queued), watch)
                spent += time.process_time() - begun
    return {
        "before_mib": before,
        "peak_mib": peak_mib(),
        "samples": watch.samples,
        "cpu_us": spent / (queues * queued) * 1e6,
    }


async def _stream(
    pool: SessionPool,
    numbers: Iterator[int],
    watch: _Watch,
    journal: Journal | None = None,
) -> None:
    """Queue them in an iterator."""
    async with pool.stream(
        map(transfer, numbers), concurrency=CONCURRENCY, journal=journal
    ) as outcomes:
        async for outcome in outcomes:
            if not isinstance(outcome, Accepted):
                raise TypeError(outcome)
            watch.note(1)


async def _journal(pool: SessionPool, numbers: Iterator[int], watch: _Watch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Journal(Path(folder) / "batch.db") as journal:
            await _stream(pool, numbers, watch, journal)


async def _await_all(pool: SessionPool, numbers: Iterator[int], watch: _Watch) -> None:
    """Queue them inside the pool, a task each."""
    sends = (pool.send(transfer(n), send_within=None) for n in numbers)
    accepted = await asyncio.gather(*sends)
    watch.note(len(accepted))


_WAYS: dict[str, Send] = {
    "streamed": _stream,
    "journaled": _journal,
    "awaited": _await_all,
}
