"""(c) How much memory do very many transfers take?"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from aiophlo import Accepted, Journal, SessionPool, WarmTransfer
from benchmarks.clients.phlo import pool_of, transfer
from benchmarks.lab import Lab, Measurement, say
from benchmarks.machine import peak_mib, resident_mib

Samples = list[tuple[int, float]]

_SAMPLES = 50
_CONCURRENCY = 200


def measure(lab: Lab) -> Measurement:
    """Stream a million, also with a journal; gather a tenth: it all has to fit."""
    streamed = 50_000 if lab.quick else 1_000_000
    gathered = streamed // 10
    rows = []
    with lab.server() as server:
        for way, transfers in (
            ("stream", streamed),
            ("journaled", streamed),
            ("gather", gathered),
        ):
            row = lab.work(
                "memory", base_url=server.base_url, way=way, transfers=transfers
            )
            rows.append({"client": way, "transfers": transfers, **row})
            say(f"  {way} of {transfers:,}: {row['peak_mib']:.1f} MiB at most")
    return {"concurrency": _CONCURRENCY, "rows": rows}


def work(*, base_url: str, way: str, transfers: int) -> Measurement:
    """Send that many in one way, and watch the memory over the whole run."""
    return asyncio.run(_work(base_url, way, transfers))


async def _work(base_url: str, way: str, transfers: int) -> Measurement:
    before = resident_mib()
    async with pool_of(base_url, connections=_CONCURRENCY) as pool:
        begun = time.process_time()
        samples = await _WAYS[way](pool, transfers)
        spent = time.process_time() - begun
    return {
        "before_mib": before,
        "peak_mib": peak_mib(),
        "samples": samples,
        "cpu_us": spent / transfers * 1e6,
    }


async def _stream(
    pool: SessionPool, transfers: int, journal: Journal | None = None
) -> Samples:
    done, samples = 0, []
    every = max(transfers // _SAMPLES, 1)
    actions: Iterator[WarmTransfer] = map(transfer, range(transfers))
    async with pool.stream(
        actions, concurrency=_CONCURRENCY, journal=journal
    ) as outcomes:
        async for outcome in outcomes:
            if not isinstance(outcome, Accepted):
                raise TypeError(outcome)
            done += 1
            if done % every == 0:
                samples.append((done, resident_mib()))
    return samples


async def _journaled(pool: SessionPool, transfers: int) -> Samples:
    with tempfile.TemporaryDirectory() as folder:
        async with Journal(Path(folder) / "batch.db") as journal:
            return await _stream(pool, transfers, journal)


async def _gather(pool: SessionPool, transfers: int) -> Samples:
    """Ask for all at once; the pool has as many connections as for the stream."""
    sends = (pool.send(transfer(n), send_within=None) for n in range(transfers))
    accepted = await asyncio.gather(*sends)
    return [(len(accepted), resident_mib())]


_WAYS = {"stream": _stream, "journaled": _journaled, "gather": _gather}
