"""Whatever becomes of the database: transfers leave in time, once, within the quota."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import psycopg
import pytest

from aiophlo import Accepted, Outcome, Quota, SessionPool, WarmTransfer
from aiophlo.postgres import PostgresCoordinator, migrate
from aiophlo.simulator import Simulator
from tests.postgres.conftest import send
from tests.support.doubles import account_of, act, pool_of
from tests.support.postgres import Postgres, find_binaries, running_postgres
from tests.support.relay import Relay

pytestmark = pytest.mark.long

PER_SECOND: Final = 40
DEMAND: Final = 0.8  # of the quota
SEND_WITHIN: Final = 6.0


class Scene:
    """Two pools that send now and again, each with a way of its own to the database."""

    def __init__(self, postgres: Postgres, relays: list[Relay]) -> None:
        self.postgres = postgres
        self.relays = relays
        self.pools: list[SessionPool] = []
        self._sends: list[asyncio.Task[tuple[Outcome, float]]] = []

    async def rush(self, seconds: float) -> None:
        """Send, at `DEMAND`."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self._sends.append(asyncio.create_task(self._send(len(self._sends))))
            await asyncio.sleep(1 / (DEMAND * PER_SECOND))

    async def _send(self, number: int) -> tuple[Outcome, float]:
        began = time.monotonic()
        pool = self.pools[number % len(self.pools)]
        outcome = await send(pool, act(WarmTransfer, number), send_within=SEND_WITHIN)
        return outcome, time.monotonic() - began

    async def outcomes(self) -> list[tuple[Outcome, float]]:
        """Return what came of them, and how long each took."""
        return await asyncio.gather(*self._sends)

    async def until_coordinated(self, *, are: bool) -> None:
        """Wait until all pools are coordinated, or one isn't."""
        async with asyncio.timeout(12.0):
            while all(pool.state().coordinated for pool in self.pools) is not are:  # noqa: ASYNC110 -- of what other processes do
                await asyncio.sleep(0.02)


@asynccontextmanager
async def stopped(scene: Scene) -> AsyncIterator[None]:
    """Let it say nothing, as a machine that swaps."""
    scene.postgres.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        scene.postgres.signal(signal.SIGCONT)


@asynccontextmanager
async def killed(scene: Scene) -> AsyncIterator[None]:
    """Let it crash, and start again."""
    await asyncio.to_thread(scene.postgres.kill)
    yield
    await asyncio.to_thread(scene.postgres.start)


@asynccontextmanager
async def slow(scene: Scene) -> AsyncIterator[None]:
    """Let everything take 3 seconds."""
    for relay in scene.relays:
        relay.delay = 3.0
    yield
    for relay in scene.relays:
        relay.delay = 0.0


@asynccontextmanager
async def cut_off(scene: Scene) -> AsyncIterator[None]:
    """Cut one pool off from it, and from nothing else."""
    scene.relays[0].cut()
    yield
    scene.relays[0].mend()


@asynccontextmanager
async def read_only(scene: Scene) -> AsyncIterator[None]:
    """Let it take nothing more, as while it is moved to another machine."""
    await _set(scene, "default_transaction_read_only = on")
    yield
    await _set(scene, "default_transaction_read_only = off")


async def _set(scene: Scene, setting: str) -> None:
    async with await psycopg.AsyncConnection.connect(
        scene.postgres.url, autocommit=True
    ) as connection:
        await connection.execute(f"ALTER SYSTEM SET {setting}".encode())
        await connection.execute("SELECT pg_reload_conf()")


@asynccontextmanager
async def failed_over(scene: Scene) -> AsyncIterator[None]:
    """Let another answer at its address, which was set up but never used."""
    binaries = find_binaries()
    assert binaries is not None
    with running_postgres(binaries) as other:
        await migrate(other.url)
        for relay in scene.relays:
            relay.to = other.port
            relay.hang_up()
        await scene.until_coordinated(are=False)
        await scene.until_coordinated(are=True)
        yield
        for relay in scene.relays:  # whose state is older now
            relay.to = scene.postgres.port
            relay.hang_up()
        await scene.until_coordinated(are=False)


@asynccontextmanager
async def failed_over_to_nothing(scene: Scene) -> AsyncIterator[None]:
    """Let another answer at its address that knows nothing of us."""
    binaries = find_binaries()
    assert binaries is not None
    with running_postgres(binaries) as other:
        for relay in scene.relays:
            relay.to = other.port
            relay.hang_up()
        yield
        await migrate(other.url)
        await scene.until_coordinated(are=True)
        for relay in scene.relays:
            relay.to = scene.postgres.port
            relay.hang_up()
        await scene.until_coordinated(are=False)


@asynccontextmanager
async def full(scene: Scene) -> AsyncIterator[None]:
    """Let the disk of its dials be full."""
    folder = scene.postgres.folder / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:  # noqa: S603, ASYNC221 -- our own words; short
        pytest.skip("only root may mount a tiny disk")
    shutil.chown(folder, "postgres")
    try:
        async with await psycopg.AsyncConnection.connect(
            scene.postgres.url, autocommit=True
        ) as connection:
            await connection.execute(
                f"CREATE TABLESPACE tiny LOCATION '{folder}'".encode()
            )
            await connection.execute("ALTER TABLE aiophlo.dials SET TABLESPACE tiny")
        _fill(folder / "filler")
        yield
        (folder / "filler").unlink()
        await scene.until_coordinated(are=True)
        async with await psycopg.AsyncConnection.connect(
            scene.postgres.url, autocommit=True
        ) as connection:
            await connection.execute(
                "ALTER TABLE aiophlo.dials SET TABLESPACE pg_default"
            )
            await connection.execute("DROP TABLESPACE tiny")
    finally:
        subprocess.run(["umount", str(folder)], check=False)  # noqa: S603, S607, ASYNC221 -- as above


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.fixture
async def scene(own_postgres: Postgres) -> AsyncIterator[Scene]:
    """Give a database, and a way to it for each of two pools."""
    await migrate(own_postgres.url)
    async with Relay(own_postgres.port) as one, Relay(own_postgres.port) as other:
        yield Scene(own_postgres, [one, other])


@pytest.mark.parametrize(
    "harmed",
    [
        stopped,
        killed,
        slow,
        cut_off,
        read_only,
        failed_over,
        failed_over_to_nothing,
        full,
    ],
)
async def test_all_transfers_leave_once_in_time_and_within_the_quota(
    harmed: Callable[[Scene], AbstractAsyncContextManager[None]],
    scene: Scene,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Callers are on hold meanwhile, and know nothing of a database."""
    caplog.set_level(logging.WARNING, "aiophlo")
    async with (
        Simulator(quota=(PER_SECOND, 1.0)) as simulator,
        AsyncExitStack() as stack,
    ):
        for relay in scene.relays:
            coordinator = PostgresCoordinator(relay.url, share_at_start=0.5)
            account = account_of(simulator, quota=Quota(PER_SECOND, per=1.0))
            pool = pool_of(simulator, account, coordinator=coordinator)
            scene.pools.append(await stack.enter_async_context(pool))
        assert all(pool.state().coordinated for pool in scene.pools)
        await scene.rush(1.5)
        rushing = asyncio.create_task(scene.rush(10.0))
        async with harmed(scene):
            await asyncio.sleep(3.0)
        await scene.until_coordinated(are=True)
        await rushing
        outcomes = await scene.outcomes()
        lost = [it for it in enumerate(outcomes) if not isinstance(it[1][0], Accepted)]
        assert lost == []
        assert max(seconds for _, seconds in outcomes) < SEND_WITHIN
        assert simulator.ledger.refused_429 == 0
        assert simulator.ledger.dials() == len(outcomes)
        assert simulator.ledger.rung_twice() == {}
    warnings = [it.message for it in caplog.records if "database" in it.message]
    assert 1 <= len(warnings) <= 8
