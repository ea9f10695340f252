"""A queue and four workers: is each row sent once, whatever is killed?

::

    python -m benchmarks.cluster --queue           # 100,000 rows, some eight minutes
    python -m benchmarks.cluster --queue 20000

The rows are enqueued twice, and sent by four `aiophlo worker` at 600 a second in all:
undisturbed, and with one of them killed every five seconds, each time followed by a
new one, and the database killed once and restarted once. Last, what a worker costs a
transfer, beside a stream with a journal in a file.
"""

import asyncio
import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from aiophlo import WarmTransfer
from aiophlo.postgres import PostgresCoordinator, migrate
from aiophlo.simulator import AUTH_ID, AUTH_TOKEN, Ledger, Simulator
from benchmarks.cluster.batch import cost_of
from benchmarks.cluster.list_runs import (
    BY_KILLS,
    LONGEST,
    ZERO,
    judged,
    no_garbage_collected,
    restarts,
)
from benchmarks.cluster.rows import Report
from benchmarks.harness.lab import ROOT, say
from tests.support.postgres import Postgres

WORKERS: Final = 4
CONCURRENCY: Final = 100
KILL_EVERY: Final = 5.0  # seconds
QUOTA: Final = "3000/5"  # 600 a second
_COST_ROWS: Final = 10_000
_LATENCY: Final = 0.05
_TICK: Final = os.sysconf("SC_CLK_TCK")
_ZERO: Final = (*ZERO, "429", "workers that failed")


def _rows(count: int) -> Iterator[WarmTransfer]:
    for number in range(count):
        yield WarmTransfer(
            phlo_id="my-phlo",
            node_id="my-node",
            trigger_source="+14153330000",
            to=f"+1415{number:07}",
            key=f"row-{number}",
        )


@contextlib.asynccontextmanager
async def worker_beside(
    simulator: Simulator, postgres: Postgres, namespace: str, quota: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `aiophlo worker` in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiophlo", "worker", "--quota", quota),
        *("--concurrency", str(CONCURRENCY), "--namespace", namespace),
        env={
            **os.environ,
            "PLIVO_AUTH_ID": AUTH_ID,
            "PLIVO_AUTH_TOKEN": AUTH_TOKEN,
            "AIOPHLO_BASE_URL": simulator.base_url,
            "AIOPHLO_POSTGRES_URL": postgres.url,
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _cpu_of(process: asyncio.subprocess.Process) -> float:
    """Return the seconds of CPU that a process has had; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text("ascii").split(") ")[1]
    except OSError:
        return 0.0
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / _TICK


@attrs.define
class _Run:
    """One run of all rows."""

    postgres: Postgres
    rows: int
    name: str
    disturbed: bool
    kills: int = 0
    restarts: int = 0
    failed: int = 0
    enqueued_in: float = 0.0
    workers: list[asyncio.subprocess.Process] = attrs.field(factory=list)

    async def __call__(self) -> dict[str, object]:
        await migrate(self.postgres.url, namespace=self.name)
        queue = PostgresCoordinator(self.postgres.url, namespace=self.name)
        began = time.monotonic()
        await queue.enqueue_many(_rows(self.rows), account=AUTH_ID)
        self.enqueued_in = time.monotonic() - began
        say(f"{self.name}: enqueued {self.rows} in {self.enqueued_in:.1f} s")
        with no_garbage_collected():
            async with Simulator(quota=(3_000, 5.0), latency=_LATENCY) as simulator:
                began = time.monotonic()
                await self._until_ended(simulator)
                return self._row(simulator, time.monotonic() - began)

    async def _until_ended(self, simulator: Simulator) -> None:
        async with contextlib.AsyncExitStack() as stack:

            async def start() -> asyncio.subprocess.Process:
                process = await stack.enter_async_context(
                    worker_beside(simulator, self.postgres, self.name, QUOTA)
                )
                self.workers.append(process)
                return process

            running = [await start() for _ in range(WORKERS)]
            troubles = []
            if self.disturbed:
                troubles = [
                    asyncio.create_task(self._kill(running, start)),
                    asyncio.create_task(self._restart(simulator)),
                ]
            while await self._unended():
                await asyncio.sleep(0.5)
                if all(one.returncode is not None for one in running):
                    raise RuntimeError("expected workers that work")
            for trouble in troubles:
                trouble.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await trouble
            self.failed = sum(one.returncode is not None for one in running)

    async def _unended(self) -> bool:
        try:
            found = await self.postgres.rows(
                f"SELECT FROM {self.name}.queued WHERE ended_at IS NULL LIMIT 1"
            )
        except Exception:  # noqa: BLE001 -- it is being restarted
            return True
        return bool(found)

    async def _kill(
        self,
        running: list[asyncio.subprocess.Process],
        start: Callable[[], Coroutine[Any, Any, asyncio.subprocess.Process]],
    ) -> None:
        for turn in itertools.cycle(range(WORKERS)):
            await asyncio.sleep(KILL_EVERY)
            running[turn].kill()
            self.kills += 1
            running[turn] = await start()

    async def _restart(self, simulator: Simulator) -> None:
        async for _ in restarts(self.postgres, simulator, self.rows):
            self.restarts += 1

    def _row(self, simulator: Simulator, seconds: float) -> dict[str, object]:
        queue = PostgresCoordinator(self.postgres.url, namespace=self.name)
        with queue.read_journal("queue") as reader:
            verdicts = judged(reader.outcomes(), simulator.ledger, self.rows)
        return {
            "run": self.name,
            "enqueued in s": round(self.enqueued_in, 1),
            "sent in s": round(seconds, 1),
            "kills": self.kills,
            "restarts": self.restarts,
            **verdicts,
            "workers that failed": self.failed,
            "last tenth at, of the first's pace": _pace_at_the_end(simulator.ledger),
        }


def _pace_at_the_end(ledger: Ledger) -> float:
    """Return the pace of the last tenth but one, as a share of the second's."""
    times = sorted(dial.at for dial in ledger.dialled)
    tenth = len(times) // 10
    first = times[2 * tenth] - times[tenth]
    last = times[9 * tenth] - times[8 * tenth]
    return round(first / last, 2) if last else 0.0


async def _cost(postgres: Postgres) -> float:
    """Return the microseconds of CPU that a worker spends on a transfer, unpaced."""
    await migrate(postgres.url, namespace="cost")
    queue = PostgresCoordinator(postgres.url, namespace="cost")
    async with (
        Simulator(quota=None) as simulator,
        worker_beside(simulator, postgres, "cost", "none") as worker,
    ):
        await queue.enqueue(next(_rows(1)), account=AUTH_ID)
        await queue.outcome("row-0", wait=LONGEST)
        before = _cpu_of(worker)
        await queue.enqueue_many(_rows(_COST_ROWS), account=AUTH_ID)
        while simulator.ledger.dialled_total < _COST_ROWS:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.1)
        return (_cpu_of(worker) - before) / _COST_ROWS * 1e6


async def run_queue(postgres: Postgres, rows: int) -> Report:
    """Send all rows twice, and measure what a worker costs."""
    calm = await _Run(postgres, rows, "calm", disturbed=False)()
    run = _Run(postgres, rows, "disturbed", disturbed=True)
    disturbed = await run()
    wrong = [sentence for row in (calm, disturbed) for sentence in _wrong_in(row)]
    if int(str(disturbed[BY_KILLS])) > CONCURRENCY * run.kills or calm[BY_KILLS]:
        wrong.append("more in doubt than were in flight in what was killed")
    with tempfile.TemporaryDirectory() as folder:
        costs = {
            "CPU µs of a worker": round(await _cost(postgres)),
            "of a stream with a file": round(await cost_of(None, folder)),
        }
    return Report([row | costs for row in (calm, disturbed)], wrong)


def _wrong_in(row: Mapping[str, object]) -> list[str]:
    return [f"{row['run']}: {name}: {row[name]}" for name in _ZERO if row[name]]
