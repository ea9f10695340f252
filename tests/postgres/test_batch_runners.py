"""Runners of one list that are killed and stopped, as processes of their own."""

import ast
import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from aiophlo.postgres import PostgresCoordinator
from aiophlo.simulator import Simulator
from tests.support.batch_runner import transfer
from tests.support.batches import environment
from tests.support.postgres import Postgres

pytestmark = pytest.mark.long

ROWS = 1_500
LEASE = 3.0


@asynccontextmanager
async def runner(
    simulator: Simulator, postgres: Postgres, namespace: str
) -> AsyncIterator[Process]:
    """Run one, which has sent something."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.batch_runner"),
        *(postgres.url, namespace, str(ROWS), str(LEASE)),
        env=environment(simulator),
        stdout=PIPE,
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"begun\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def said(process: Process) -> str:
    """Return how a runner says that it has ended."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


@pytest.fixture
async def slow_simulator() -> AsyncIterator[Simulator]:
    """Give one that has some requests in flight at any time."""
    async with Simulator(quota=None, latency=0.1) as simulator:
        yield simulator


def judge(
    simulator: Simulator, postgres: Postgres, namespace: str, *, doubts: int
) -> None:
    """Hold the journal against the ledger."""
    coordinator = PostgresCoordinator(postgres.url, namespace=namespace)
    with coordinator.read_journal("nightly") as reader:
        found = {record.key: record.verdict for record in reader.outcomes()}
    assert len(found) == ROWS
    assert set(found.values()) <= {"accepted", "in_doubt"}
    assert list(found.values()).count("in_doubt") <= doubts
    assert simulator.ledger.rung_twice() == {}
    for number in range(ROWS):
        row = transfer(number)
        rung = simulator.ledger.dials(row.to)
        assert rung == 1 or found[row.key or ""] == "in_doubt"


async def test_killed_runners_leave_only_what_they_had_in_flight(
    slow_simulator: Simulator, postgres: Postgres, namespace: str
) -> None:
    """After a kill -9 nobody is forgotten, and nobody rung twice."""
    async with AsyncExitStack() as stack:

        async def start() -> Process:
            return await stack.enter_async_context(
                runner(slow_simulator, postgres, namespace)
            )

        doomed = [await start(), await start()]
        helper = await start()
        for process in doomed:
            process.kill()
        counts = ast.literal_eval(await said(helper))
    assert sum(counts.values()) == ROWS
    judge(slow_simulator, postgres, namespace, doubts=2 * 20)


async def test_a_stopped_runner_rings_nobody_when_it_wakes(
    slow_simulator: Simulator, postgres: Postgres, namespace: str
) -> None:
    """It was taken for dead: what it would send now, another one may have sent."""
    async with AsyncExitStack() as stack:
        stopped = await stack.enter_async_context(
            runner(slow_simulator, postgres, namespace)
        )
        stopped.send_signal(signal.SIGSTOP)
        helper = await stack.enter_async_context(
            runner(slow_simulator, postgres, namespace)
        )
        counts = ast.literal_eval(await said(helper))
        rung = len(slow_simulator.ledger.dialled)
        stopped.send_signal(signal.SIGCONT)
        ending = await said(stopped)
    assert sum(counts.values()) == ROWS
    assert "another one has taken over" in ending or "lease is over" in ending
    assert len(slow_simulator.ledger.dialled) == rung
    judge(slow_simulator, postgres, namespace, doubts=20)
