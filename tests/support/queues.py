"""What the tests of the queue share: `aiophlo worker` as a process."""

import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiophlo import Account, SessionPool, WarmTransfer
from aiophlo.postgres import PostgresCoordinator
from aiophlo.simulator import Simulator
from tests.support.batches import environment
from tests.support.postgres import Postgres


def transfer(number: int, *, keyed: bool = True) -> WarmTransfer:
    """Return a transfer to a number of its own."""
    return WarmTransfer(
        phlo_id="p",
        node_id="n",
        trigger_source="+14155559999",
        to=f"+1{4_150_000_000 + number}",
        key=f"row-{number}" if keyed else None,
    )


def account_of(simulator: Simulator) -> Account:
    """Return the simulator's account, without a quota."""
    return Account(simulator.auth_id, simulator.auth_token, quota=None)


def shared_by(pool: SessionPool) -> PostgresCoordinator:
    """Return the pool's coordinator."""
    assert isinstance(pool.coordinator, PostgresCoordinator)
    return pool.coordinator


@asynccontextmanager
async def worker_process(
    simulator: Simulator,
    postgres: Postgres,
    namespace: str,
    *options: str,
    lease: float = 3.0,
    quota: str = "none",
) -> AsyncIterator[Process]:
    """Run a worker that is at work, in a process of its own."""
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.queue_worker", str(lease)),
        *("--postgres-url", postgres.url, "--namespace", namespace, *options),
        *("--quota", quota),
        env=environment(simulator),
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stderr is not None
    try:
        line = await process.stderr.readline()
        assert b"working on the queue" in line, line + await process.stderr.read()
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def verdicts(postgres: Postgres, namespace: str) -> dict[str, str | None]:
    """Return the verdict of each key that was begun."""
    coordinator = PostgresCoordinator(postgres.url, namespace=namespace)
    with coordinator.read_journal("queue") as reader:
        return {record.key: record.verdict for record in reader.outcomes()}
