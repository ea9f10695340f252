"""Connections are closed, whatever becomes of who connects."""

import asyncio

import psycopg
import pytest

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
