"""(g) Does the cost of one transfer grow with the work?"""

import asyncio
import functools
import time

from aiophlo import Accepted, SessionPool
from benchmarks.clients.phlo import pool_of, transfer
from benchmarks.lab import Lab, Measurement

_CONCURRENCY = 200  # as in (c)
_AT_LEAST = 5_000  # transfers per measurement, so that short queues are sent often
_SHORTEST, _LONGEST = 2, 5  # powers of ten; (c) streams a million


def measure(lab: Lab) -> Measurement:
    """Measure a streamed and an awaited queue, at each length."""
    longest = _LONGEST - 1 if lab.quick else _LONGEST
    sizes = [
        (way, 10**power)
        for way in ("streamed", "awaited")
        for power in range(_SHORTEST, longest + 1)
    ]
    with lab.server() as server:
        trials = {
            f"{way}, {queued:,}": functools.partial(
                _trial, lab, server.base_url, way, queued
            )
            for way, queued in sizes
        }
        rows = lab.take_turns(trials, rounds=1 if lab.quick else 2)
    return {"concurrency": _CONCURRENCY, "rows": rows}


def _trial(lab: Lab, base_url: str, way: str, queued: int) -> Measurement:
    found = lab.work("growth", base_url=base_url, way=way, queued=queued)
    return {"way": way, "queued": queued, **found}


def work(*, base_url: str, way: str, queued: int) -> Measurement:
    """Send so many, queued in one way, as often as it takes to measure it."""
    return asyncio.run(_work(base_url, way, queued))


async def _work(base_url: str, way: str, queued: int) -> Measurement:
    send = _stream if way == "streamed" else _await_all
    times = max(_AT_LEAST // queued, 1)
    async with pool_of(base_url, connections=_CONCURRENCY) as pool:
        await send(pool, range(_CONCURRENCY))
        spent = 0.0
        for turn in range(1, times + 1):
            begun = time.process_time()
            await send(pool, range(turn * queued, (turn + 1) * queued))
            spent += time.process_time() - begun
    return {"cpu_us": spent / (times * queued) * 1e6}


async def _stream(pool: SessionPool, numbers: range) -> None:
    """Queue them in an iterator."""
    actions = map(transfer, numbers)
    async with pool.stream(actions, concurrency=_CONCURRENCY) as outcomes:
        async for outcome in outcomes:
            if not isinstance(outcome, Accepted):
                raise TypeError(outcome)


async def _await_all(pool: SessionPool, numbers: range) -> None:
    """Queue them all inside the pool, a task each."""
    sends = (
        pool.send(transfer(n), send_within=None, on_duplicate="send") for n in numbers
    )
    await asyncio.gather(*sends)
