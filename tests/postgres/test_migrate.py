"""The schema is made in time, or not at all."""

import asyncio
import signal
import sys
import time

import psycopg
import pytest

from aiophlo.postgres import MigrationError, PostgresCoordinator, migrate
from aiophlo.postgres.migrate import _LOCK, _apply
from aiophlo.simulator import Simulator
from tests.support.doubles import pool_of
from tests.support.postgres import Postgres

MODULE = sys.modules[
    "aiophlo.postgres.migrate"
]  # its package has a function of that name


@pytest.mark.parametrize("word", ["user", "select", "end"])
async def test_namespace_may_be_a_reserved_word(
    word: str, postgres: Postgres, simulator: Simulator
) -> None:
    """It would be a syntax error, at the first start in production."""
    await migrate(postgres.url, namespace=word)
    coordinator = PostgresCoordinator(postgres.url, namespace=word)
    async with pool_of(simulator, coordinator=coordinator) as pool:
        assert pool.state().coordinated


async def test_migration_ends_though_another_one_never_does(
    own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment would hang, and nobody would know at what."""
    await migrate(own_postgres.url)
    monkeypatch.setattr(MODULE, "_PATIENCE", 0.5)
    async with await psycopg.AsyncConnection.connect(own_postgres.url) as other:
        await other.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        began = time.monotonic()
        with pytest.raises(MigrationError, match=r"no end within 0\.5 s"):
            await migrate(own_postgres.url)
        assert time.monotonic() - began < 2.0
    monkeypatch.undo()
    assert await migrate(own_postgres.url) == []


async def test_migration_ends_though_the_server_is_silent(
    own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver itself would wait for it for ever."""
    monkeypatch.setattr(MODULE, "_PATIENCE", 0.5)

    async def stopped(
        connection: psycopg.AsyncConnection[tuple[object, ...]],
        schema: str,
        *,
        queue: bool,
    ) -> list[int]:
        own_postgres.signal(signal.SIGSTOP)
        return await _apply(connection, schema, queue=queue)

    monkeypatch.setattr(MODULE, "_apply", stopped)
    try:
        began = time.monotonic()
        with pytest.raises(MigrationError, match="no end within"):
            await migrate(own_postgres.url)
        assert time.monotonic() - began < 3.0
    finally:
        own_postgres.signal(signal.SIGCONT)


async def test_migration_ends_though_the_server_falls_silent_at_its_commit(
    own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment would hang with all the work done."""
    monkeypatch.setattr(MODULE, "_PATIENCE", 0.5)
    commit = psycopg.AsyncConnection.commit

    async def stopped(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        own_postgres.signal(signal.SIGSTOP)
        await commit(connection)

    monkeypatch.setattr(psycopg.AsyncConnection, "commit", stopped)
    try:
        async with asyncio.timeout(5.0):
            with pytest.raises(MigrationError, match="no end within"):
                await migrate(own_postgres.url)
    finally:
        own_postgres.signal(signal.SIGCONT)
