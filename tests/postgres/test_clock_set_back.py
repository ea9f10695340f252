"""The server's clock was set back, or one whose clock is behind took over."""

import json
import time
from typing import Any, Final

import psycopg
import pytest

from tests.support.postgres import Postgres

HOUR: Final = 3600.0


class Database:
    """The tables of a namespace, and what is asked of them."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], schema: str) -> None:
        self._connection = connection
        self._schema = schema

    async def do(self, query: str, *parameters: object) -> None:
        """Change a table."""
        query = query.replace("{s}", self._schema)
        await self._connection.execute(query.encode(), parameters)

    async def ask(self, **operation: object) -> dict[str, Any]:
        """Ask for an operation."""
        query = f"SELECT {self._schema}.work(%s::jsonb, '{self._schema}')".encode()
        found = await self._connection.execute(query, [json.dumps([operation])])
        row = await found.fetchone()
        assert row is not None
        answer: dict[str, Any] = row[0]["answers"][0]
        return answer


@pytest.fixture
async def database(postgres: Postgres, namespace: str) -> Any:  # noqa: ANN401 -- a generator
    """Give the tables of a namespace."""
    connection = await psycopg.AsyncConnection.connect(postgres.url, autocommit=True)
    async with connection:
        yield Database(connection, namespace)


@pytest.mark.parametrize("urgent", [False, True])
@pytest.mark.parametrize("pause", [0.0, 2.0])
async def test_slots_come_as_if_the_clock_had_been_so_before(
    pause: float, database: Database, *, urgent: bool
) -> None:
    """All pools would wait for an hour."""
    then = time.time() + HOUR
    await database.do(
        "INSERT INTO {s}.rates (name, next_free, paused_until, set_at)"
        " VALUES ('MA', %s, %s, %s)",
        *(then + 0.5, then + pause, then),
    )
    for number in range(1 if urgent else 2):
        began = time.time()
        answer = await database.ask(
            do="book", rate="MA", interval=0.1, count=1, urgent=urgent, overdraft=2
        )
        due = began if urgent else began + max(0.5, pause) + number * 0.1
        assert due - 0.2 < answer["slots"][0] < due + 0.4


async def test_dial_that_ended_before_is_joined_no_more(database: Database) -> None:
    """The agent could not dial that number again for an hour."""
    await database.do(
        "INSERT INTO {s}.dials (key, id, pool, agent, called, begun, until, ended)"
        " VALUES (5, 1, 1, 6, 7, %s, %s, true)",
        *(time.time() + HOUR - 1.0, time.time() + HOUR + 2.0),
    )
    dial = {"key": 5, "id": 2, "pool": 2, "agent": 6, "called": 7, "phone": 8}
    assert (
        await database.ask(do="dial", action="X", once=True, memory=3.0, **dial) == {}
    )
    again = await database.ask(do="dial", action="X", once=True, memory=3.0, **dial)
    assert again["join"] == "2"


async def test_pools_that_were_seen_before_are_lost_or_have_ended(
    database: Database, postgres: Postgres
) -> None:
    """One that goes on by itself counted for an hour as one that books: 429s."""
    then = time.time() + HOUR
    await database.do("INSERT INTO {s}.pools VALUES (2, %s), (3, %s)", then, then)
    async with await psycopg.AsyncConnection.connect(postgres.url) as connection:
        await connection.execute("SELECT pg_advisory_lock_shared(3)")
        assert await database.ask(do="seen", pool=1) == {"live": 1, "lost": 1}
    assert await database.ask(do="seen", pool=2) == {"live": 2, "lost": 0}
