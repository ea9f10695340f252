"""Connections are closed, whatever becomes of who connects."""

import asyncio

import psycopg
import pytest

from aiophlo.postgres import PostgresCoordinator, migrate
from aiophlo.postgres.batch_link import BatchLink
from aiophlo.postgres.connection import Connection
from tests.support.postgres import Postgres


async def test_connection_that_comes_as_its_opening_is_cancelled_is_closed(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool that closes in that moment would leave one open at the server."""
    came: list[psycopg.AsyncConnection] = []
    connect = psycopg.AsyncConnection.connect

    async def cancelled(*arguments: object, **options: object) -> object:
        came.append(await connect(*arguments, **options))  # type: ignore[arg-type]  # passed on
        opening.cancel()
        return came[0]

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", cancelled)
    connection = Connection(postgres.url)
    opening = asyncio.create_task(connection.open())
    with pytest.raises(asyncio.CancelledError):
        await opening
    await asyncio.sleep(0)
    assert came[0].closed


async def test_journal_whose_refusal_is_cancelled_is_closed(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runner would go on, with nobody who could end it."""
    await migrate(postgres.url, namespace="without_queue", queue=False)
    before = asyncio.all_tasks()
    close = BatchLink.close

    async def cancelled(link: BatchLink) -> None:
        opening.cancel()
        await close(link)

    monkeypatch.setattr(BatchLink, "close", cancelled)
    coordinator = PostgresCoordinator(postgres.url, namespace="without_queue")
    journal = coordinator.queue_journal(keep_days=1.0, serves=True)
    opening = asyncio.create_task(journal.__aenter__())
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert asyncio.all_tasks() == before
