"""What has long ended is deleted, as fast as it comes."""

import json
from typing import Any

import psycopg

from tests.support.postgres import Postgres

ENDED = (
    "INSERT INTO {s}.dials (key, id, pool, agent, called, begun, until, ended)"
    " SELECT n, n, 1, 6, 7, 0, 10, true FROM generate_series(1, 4500) n"
)


async def test_dials_of_many_accounts_are_deleted_as_fast_as_they_come(
    postgres: Postgres, namespace: str
) -> None:
    """The table would grow for ever: two accounts make 7,200 in the minute."""
    async with await psycopg.AsyncConnection.connect(
        postgres.url, autocommit=True
    ) as connection:

        async def value(query: str, *parameters: object) -> Any:  # noqa: ANN401 -- of the query
            query = query.replace("{s}", namespace)
            found = await connection.execute(query.encode(), parameters)
            row = await found.fetchone() if found.description else None
            return row and row[0]

        await value(ENDED)
        tidy = json.dumps([{"do": "tidy", "key": 1}])
        left = []
        for _ in range(3):
            done = await value(f"SELECT {{s}}.work(%s::jsonb, '{namespace}')", tidy)
            left.append(
                (done["answers"][0], await value("SELECT count(*) FROM {s}.dials"))
            )
        assert left == [
            ({"more": True}, 2500),
            ({"more": True}, 500),
            ({"more": False}, 0),
        ]


async def test_parties_of_actions_that_have_ended_are_forgotten(
    postgres: Postgres, namespace: str
) -> None:
    """Each hold of a year would be kept."""
    work = f"SELECT {namespace}.work(%s::jsonb, '{namespace}')".encode()
    know = {"do": "know", "party": 1, "pool": 1}
    operations = [
        {**know, "known_for": -1.0},
        {**know, "party": 2, "known_for": 60.0},
        {"do": "tidy", "key": 1},
    ]
    async with await psycopg.AsyncConnection.connect(
        postgres.url, autocommit=True
    ) as connection:
        await connection.execute(work, (json.dumps(operations),))
    kept = await postgres.rows(f"SELECT party FROM {namespace}.known")  # noqa: S608 -- the test's own
    assert kept == [(2,)]
