"""No block waits for another that waits for it."""

import asyncio
import json
from typing import Any

import psycopg
import pytest

from tests.support.postgres import Postgres


def dial(number: int) -> dict[str, Any]:
    """Return what registers a dial, unless it finds its equal."""
    return {
        "do": "dial",
        "key": 5,
        "id": number,
        "pool": 1,
        "agent": 6,
        "called": 7,
        "phone": 8,
        "action": "WarmTransfer",
        "once": True,
        "memory": 3.0,
    }


async def test_dial_is_not_registered_after_its_end(
    postgres: Postgres, namespace: str
) -> None:
    """By a connection that was given up it comes late, and would be joined for ever."""
    query = f"SELECT {namespace}.work(%s::jsonb, '{namespace}')".encode()
    one = await psycopg.AsyncConnection.connect(postgres.url, autocommit=True)
    async with one:
        finish = {"do": "finish", "key": 5, "id": 1, "memory": 0.0, "outcome": None}
        await one.execute(query, [json.dumps([finish])])
        with pytest.raises(psycopg.errors.UniqueViolation):
            await one.execute(query, [json.dumps([dial(1)])])
        found = await one.execute(query, [json.dumps([dial(2)])])
        row = await found.fetchone()
        assert row is not None
        assert row[0]["answers"] == [{}]


async def test_dial_that_ends_and_is_made_again_as_another_pool_joins_it(
    postgres: Postgres, namespace: str
) -> None:
    """The database would end one of both blocks, after a second."""
    query = f"SELECT {namespace}.work(%s::jsonb, '{namespace}')".encode()

    async def do(
        connection: psycopg.AsyncConnection[Any], *operations: dict[str, Any]
    ) -> Any:  # noqa: ANN401 -- JSON
        found = await connection.execute(query, [json.dumps(operations)])
        row = await found.fetchone()
        assert row is not None
        return row[0]["answers"]

    one = await psycopg.AsyncConnection.connect(postgres.url)
    two = await psycopg.AsyncConnection.connect(postgres.url)
    async with one, two:
        assert await do(one, dial(1)) == [{}]
        await one.commit()
        finish = {"do": "finish", "key": 5, "id": 1, "memory": 0.0, "outcome": None}
        await do(one, finish)
        joining = asyncio.create_task(do(two, dial(2)))
        waits = "SELECT FROM pg_locks WHERE NOT granted"
        async with await psycopg.AsyncConnection.connect(postgres.url) as looks:
            while not (await looks.execute(waits)).rowcount:
                await looks.rollback()
        assert await do(one, dial(3)) == [{}]
        await one.commit()
        assert (await joining)[0]["join"] == "3"
