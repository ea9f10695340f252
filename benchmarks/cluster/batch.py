"""One batch in four processes: is each row sent once, whatever is killed?

::

    python -m benchmarks.cluster --batch           # 100,000 rows, some seven minutes
    python -m benchmarks.cluster --batch 20000

The list is run twice at 600 a second in all: undisturbed, and with a worker killed
every five seconds, each time followed by a new one, and the database killed once and
restarted once. Last, what the journal costs a transfer, beside one in a file.
"""

import asyncio
import contextlib
import itertools
import json
import resource
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from aiophlo import Account, Journal, Quota, SessionPool, WarmTransfer
from aiophlo.postgres import PostgresCoordinator, migrate
from aiophlo.simulator import AUTH_ID, AUTH_TOKEN, Simulator
from benchmarks.cluster.list_runs import (
    BY_KILLS,
    ZERO,
    judged,
    no_garbage_collected,
    restarts,
)
from benchmarks.cluster.rows import Report
from benchmarks.harness.lab import ROOT
from tests.support.postgres import Postgres

WORKERS: Final = 4
CONCURRENCY: Final = 100
KILL_EVERY: Final = 5.0  # seconds
REQUESTS, PER = 3_000, 5.0  # of the quota: 600 a second
_COST_ROWS: Final = 10_000
_LATENCY: Final = 0.05


_ZERO: Final = (*ZERO, "429", "runners that failed", "runners that didn't")


@attrs.frozen
class Work:
    """What one process is to do.

    Attributes:
        base_url: Of the simulator.
        rows: How many.
        name: Of the journal.
        database: Where that is; None for a file in `folder`.
        folder: Where its file is.
        paced: Whether all processes share the quota.
    """

    base_url: str
    rows: int
    name: str
    database: str | None = None
    folder: str = ""
    paced: bool = True


def _rows(count: int) -> Iterator[WarmTransfer]:
    for number in range(count):
        yield WarmTransfer(
            phlo_id="my-phlo",
            node_id="my-node",
            trigger_source="+14153330000",
            to=f"+1415{number:07}",
            key=f"row-{number}",
        )


async def work(order: Work) -> dict[str, Any]:
    """Be one of the processes; returns what came of all rows, and its own CPU."""
    quota = Quota(REQUESTS, per=PER) if order.paced else None
    account = Account(AUTH_ID, AUTH_TOKEN, quota=quota)
    coordinator = PostgresCoordinator(order.database) if order.database else None
    journal: Any = (
        Journal(Path(order.folder, "journal.db"))
        if coordinator is None
        else coordinator.journal(order.name)
    )
    shared = coordinator if order.paced else None
    async with (
        SessionPool(account, base_url=order.base_url, coordinator=shared) as pool,
        journal,
    ):
        cpu = time.process_time()
        stream = pool.stream(
            _rows(order.rows), journal=journal, concurrency=CONCURRENCY
        )
        async with stream as outcomes:
            async for _ in outcomes:
                pass
        return {
            "counts": dict(stream.counts),
            "cpu": time.process_time() - cpu,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        }


@contextlib.asynccontextmanager
async def _process(order: Work) -> AsyncIterator[asyncio.subprocess.Process]:
    arguments = json.dumps(attrs.asdict(order))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.cluster", "--batch-work", arguments),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _result(process: asyncio.subprocess.Process) -> dict[str, Any] | None:
    """Return what a process says when it has ended; None if it was killed."""
    told, _ = await process.communicate()
    if process.returncode:
        return None
    result: dict[str, Any] = json.loads(told)
    return result


@attrs.define
class _Run:
    """One run of the list."""

    postgres: Postgres
    rows: int
    name: str
    disturbed: bool
    kills: int = 0
    restarts: int = 0
    failed: int = 0
    ended: list[dict[str, Any]] = attrs.field(factory=list)

    async def __call__(self) -> dict[str, object]:
        with no_garbage_collected():
            return await self._run()

    async def _run(self) -> dict[str, object]:
        async with Simulator(quota=(REQUESTS, PER), latency=_LATENCY) as simulator:
            began = time.monotonic()
            await self._until_ended(simulator)
            seconds = time.monotonic() - began
            return self._row(simulator, seconds)

    async def _until_ended(self, simulator: Simulator) -> None:
        order = Work(simulator.base_url, self.rows, self.name, self.postgres.url)
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:

            async def start() -> asyncio.subprocess.Process:
                process = await stack.enter_async_context(_process(order))
                tasks.create_task(self._read(process))
                return process

            running = [await start() for _ in range(WORKERS)]
            if self.disturbed:
                restarting = tasks.create_task(self._restart(simulator))
                for turn in itertools.cycle(range(WORKERS)):
                    await asyncio.sleep(KILL_EVERY)
                    if simulator.ledger.dialled_total > self.rows * 0.95 or self.ended:
                        break
                    running[turn].kill()
                    self.kills += 1
                    running[turn] = await start()
                await restarting

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        result = await _result(process)
        if result is not None:
            self.ended.append(result)
        elif process.returncode != -signal.SIGKILL:
            self.failed += 1

    async def _restart(self, simulator: Simulator) -> None:
        async for _ in restarts(self.postgres, simulator, self.rows):
            self.restarts += 1

    def _row(self, simulator: Simulator, seconds: float) -> dict[str, object]:
        coordinator = PostgresCoordinator(self.postgres.url)
        with coordinator.read_journal(self.name) as reader:
            verdicts = judged(reader.outcomes(), simulator.ledger, self.rows)
        told = [sum(one["counts"].values()) for one in self.ended]
        return {
            "run": "disturbed" if self.disturbed else "calm",
            "s": round(seconds, 1),
            "kills": self.kills,
            "restarts": self.restarts,
            **verdicts,
            "runners that told of all": sum(one == self.rows for one in told),
            "runners that failed": self.failed,
            "runners that didn't": sum(one != self.rows for one in told),
            "CPU µs per row and runner": round(
                max((one["cpu"] for one in self.ended), default=0.0) / self.rows * 1e6
            ),
            "peak MiB": max((one["peak_mib"] for one in self.ended), default=0),
        }


async def cost_of(database: str | None, folder: str) -> float:
    """Return the microseconds of CPU of a transfer in one process, unpaced."""
    async with Simulator(quota=None) as simulator:
        order = Work(
            simulator.base_url,
            _COST_ROWS,
            f"cost-{time.monotonic_ns()}",
            database,
            folder,
            paced=False,
        )
        async with _process(order) as process:
            result = await _result(process)
    if result is None or result["counts"] != {"accepted": _COST_ROWS}:
        raise RuntimeError(f"expected all to be accepted, got {result}")
    return float(result["cpu"] / _COST_ROWS * 1e6)


async def run_batch(postgres: Postgres, rows: int) -> Report:
    """Run the list twice, and measure what its journal costs."""
    await migrate(postgres.url)
    calm = await _Run(postgres, rows, "calm", disturbed=False)()
    disturbed_run = _Run(postgres, rows, "disturbed", disturbed=True)
    disturbed = await disturbed_run()
    wrong = [sentence for row in (calm, disturbed) for sentence in _wrong_in(row)]
    in_flight = CONCURRENCY * disturbed_run.kills
    if int(str(disturbed[BY_KILLS])) > in_flight or calm[BY_KILLS]:
        wrong.append("more in doubt than were in flight in what was killed")
    costs = await _costs(postgres.url)
    return Report([row | costs for row in (calm, disturbed)], wrong)


async def _costs(database: str) -> dict[str, object]:
    costs: dict[str, object] = {}
    for kind, url in (("file", None), ("Postgres", database)):
        with tempfile.TemporaryDirectory() as folder:
            costs[f"CPU µs alone, {kind}"] = round(await cost_of(url, folder))
    return costs


def _wrong_in(row: Mapping[str, object]) -> list[str]:
    return [f"{row['run']}: {name}: {row[name]}" for name in _ZERO if row[name]]
