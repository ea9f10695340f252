"""Workers that are killed and stopped, as processes of their own."""

import asyncio
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from aiophlo import Accepted, InDoubt, Reason, SessionPool
from aiophlo.cli.exit_codes import Exit
from aiophlo.postgres import PostgresCoordinator, Worker
from aiophlo.simulator import Simulator
from tests.support.batches import environment
from tests.support.postgres import Postgres
from tests.support.queues import account_of, transfer, verdicts, worker_process

pytestmark = pytest.mark.long

ROWS = 300
CONCURRENCY = 20
LONG = 120.0  # seconds, for a machine that is busy


@pytest.fixture
async def slow_simulator() -> AsyncIterator[Simulator]:
    """Give one that has some requests in flight at any time."""
    async with Simulator(quota=None, latency=0.1) as simulator:
        yield simulator


@asynccontextmanager
async def at_work(
    simulator: Simulator, queue: PostgresCoordinator
) -> AsyncIterator[None]:
    """Let a worker of this process work."""
    async with (
        SessionPool(
            account_of(simulator), base_url=simulator.base_url, coordinator=queue
        ) as pool,
        Worker(pool),
    ):
        yield


@asynccontextmanager
async def child(
    simulator: Simulator, postgres: Postgres, namespace: str
) -> AsyncIterator[Process]:
    """Run a task that sends once, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.task_child"),
        *(postgres.url, namespace),
        env=environment(simulator),
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def until_dialled(simulator: Simulator, number: int) -> None:
    """Wait until so many phones have rung."""
    async with asyncio.timeout(LONG):
        while len(simulator.ledger.dialled) < number:
            await asyncio.to_thread(time.sleep, 0.02)


async def all_ended(queue: PostgresCoordinator, rows: int) -> None:
    """Wait until every row has its outcome."""
    for row in range(rows):
        assert await queue.outcome(f"row-{row}", wait=LONG) is not None


def judge(
    simulator: Simulator, postgres: Postgres, namespace: str, *, doubts: int
) -> None:
    """Hold the outcomes against the ledger."""
    found = verdicts(postgres, namespace)
    assert len(found) == ROWS
    assert set(found.values()) <= {"accepted", "in_doubt"}
    assert list(found.values()).count("in_doubt") <= doubts
    assert simulator.ledger.rung_twice() == {}
    for number in range(ROWS):
        rung = simulator.ledger.dials(transfer(number).to)
        assert rung == 1 or found[f"row-{number}"] == "in_doubt"


async def test_killed_workers_leave_only_what_they_had_in_flight(
    slow_simulator: Simulator, postgres: Postgres, namespace: str
) -> None:
    """After a kill -9 nobody is forgotten, and nobody rung twice."""
    simulator = slow_simulator
    queue = PostgresCoordinator(postgres.url, namespace=namespace)
    await queue.enqueue_many(map(transfer, range(ROWS)), account=simulator.auth_id)
    async with AsyncExitStack() as stack:

        async def start() -> Process:
            return await stack.enter_async_context(
                worker_process(
                    *(simulator, postgres, namespace),
                    *("--concurrency", str(CONCURRENCY)),
                )
            )

        doomed = [await start(), await start()]
        await start()
        await until_dialled(simulator, 60)
        for process in doomed:
            process.kill()
        await all_ended(queue, ROWS)
    judge(simulator, postgres, namespace, doubts=2 * CONCURRENCY)


async def test_a_stopped_worker_rings_nobody_when_it_wakes(
    slow_simulator: Simulator, postgres: Postgres, namespace: str
) -> None:
    """It was taken for dead: what it would send now, another one may have sent."""
    simulator = slow_simulator
    queue = PostgresCoordinator(postgres.url, namespace=namespace)
    await queue.enqueue_many(map(transfer, range(ROWS)), account=simulator.auth_id)
    options = "--concurrency", str(CONCURRENCY)
    async with AsyncExitStack() as stack:

        async def start() -> Process:
            return await stack.enter_async_context(
                worker_process(simulator, postgres, namespace, *options)
            )

        stopped = await start()
        await until_dialled(simulator, 20)
        stopped.send_signal(signal.SIGSTOP)
        await start()
        await all_ended(queue, ROWS)
        rung = len(simulator.ledger.dialled)
        stopped.send_signal(signal.SIGCONT)
        # It works on, as a runner of its own that others count with.
        key = await queue.enqueue(transfer(ROWS), account=simulator.auth_id)
        assert isinstance(await queue.outcome(key, wait=LONG), Accepted)
        stopped.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LONG):
            assert await stopped.wait() == Exit.ACCEPTED
    assert len(simulator.ledger.dialled) == rung + 1
    assert simulator.ledger.rung_twice() == {}
    found = verdicts(postgres, namespace)
    assert list(found.values()).count("in_doubt") <= CONCURRENCY
    assert len(found) == ROWS + 1


async def test_what_a_dead_worker_had_not_sent_is_sent(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """Without an intent nothing rang: whoever was to be called has to be."""
    queue = PostgresCoordinator(postgres.url, namespace=namespace, lease=3.0)
    await queue.enqueue_many(map(transfer, range(2)), account=simulator.auth_id)
    in_hand = (
        f"SELECT FROM {namespace}.batch_rows"
        " WHERE runner IS NOT NULL AND intended_at IS NULL"
    )
    async with worker_process(simulator, postgres, namespace, quota="1/1000") as worker:
        await until_dialled(simulator, 1)
        assert await postgres.rows(in_hand) == [()]
        worker.kill()
        await worker.wait()
    await postgres.rows(f"DELETE FROM {namespace}.rates")  # noqa: S608 -- a test's own
    async with at_work(simulator, queue):
        for key in ("row-0", "row-1"):
            assert isinstance(await queue.outcome(key, wait=LONG), Accepted)
    assert [simulator.ledger.dials(transfer(row).to) for row in range(2)] == [1, 1]


async def test_what_a_dead_worker_had_sent_is_in_doubt(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """With an intent a phone may be ringing: it must not ring again."""
    queue = PostgresCoordinator(postgres.url, namespace=namespace, lease=3.0)
    await queue.enqueue(transfer(1), account=simulator.auth_id)
    with simulator.hold_answers():
        async with worker_process(simulator, postgres, namespace) as worker:
            async with asyncio.timeout(LONG):
                while not simulator.held:
                    await asyncio.to_thread(time.sleep, 0.02)
            worker.kill()
            await worker.wait()
    async with at_work(simulator, queue):
        assert isinstance(await queue.outcome("row-1", wait=LONG), InDoubt)
        await queue.enqueue(transfer(2))
        await queue.outcome("row-2", wait=LONG)
    assert simulator.ledger.dials(transfer(1).to) <= 1


async def test_task_that_died_is_in_doubt_for_the_one_that_runs_again(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """A queue that runs it again can't know that a phone may be ringing."""
    queue = PostgresCoordinator(postgres.url, namespace=namespace, lease=3.0)
    with simulator.hold_answers():
        async with child(simulator, postgres, namespace) as task:
            async with asyncio.timeout(LONG):
                while not simulator.held:
                    await asyncio.to_thread(time.sleep, 0.02)
            task.kill()
            await task.wait()
    async with SessionPool(
        account_of(simulator), base_url=simulator.base_url, coordinator=queue
    ) as pool:
        outcome = await queue.send_once(pool, transfer(1), key="task-1")
    assert isinstance(outcome, InDoubt)
    assert outcome.reason is Reason.INTERRUPTED
    assert simulator.ledger.dials(transfer(1).to) <= 1
