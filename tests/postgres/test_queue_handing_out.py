"""What the queue hands out next: at once, whatever else goes on in the database."""

import asyncio
import json

import psycopg

from aiophlo.postgres import PostgresCoordinator
from aiophlo.postgres.queue_journal import QueueJournal
from aiophlo.simulator import Simulator
from tests.support.postgres import Postgres
from tests.support.queues import transfer

BACKLOG = 2_000
LOCKED = 3


async def fetched(journal: QueueJournal, account: str) -> list[str | None]:
    """Return the keys that are handed out within the time that a worker waits."""
    async with asyncio.timeout(0.9):
        return [action.key for action in await journal.fetch(account, 50)]


async def test_it_is_found_though_the_tables_were_never_analyzed(
    simulator: Simulator, queue: PostgresCoordinator, postgres: Postgres, namespace: str
) -> None:
    """A campaign's first minute would be lost to sorting its backlog for each call."""
    await queue.enqueue_many(map(transfer, range(BACKLOG)))
    one = {"runner": 1, "lease": 60.0, "serves": True}
    fetch = {"do": "fetch", "queue": simulator.auth_id, "most": 50, "token": 1}
    async with await psycopg.AsyncConnection.connect(postgres.url) as connection:
        begin = f"SELECT {namespace}.begin_queue(%s)"
        begun = {**one, "name": "queue", "salt": "00", "keep": 1e9}
        await connection.execute(begin.encode(), [json.dumps(begun)])
        work = f"SELECT {namespace}.work_on_queue(%s)"
        found = await connection.execute(
            work.encode(), [json.dumps({**one, "asks": [fetch]})]
        )
        row = await found.fetchone()
        assert row is not None
        assert len(row[0]["asked"][0]) == 50
        read = await connection.execute(
            "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables"
            " WHERE relname = 'procrastinate_jobs' AND schemaname = %s",
            [namespace],
        )
        rows = await read.fetchone()
    assert rows is not None
    assert rows[0] <= 4 * 50


async def test_what_another_is_about_to_end_holds_nobody_up(
    simulator: Simulator, queue: PostgresCoordinator, postgres: Postgres, namespace: str
) -> None:
    """Workers would wait for each other, where a campaign's time runs out."""
    await queue.enqueue_many(map(transfer, range(10)))
    held = f"SELECT FROM {namespace}.queued WHERE key = 'row-{LOCKED}' FOR UPDATE"
    async with queue.queue_journal(keep_days=1.0, serves=True) as journal:
        async with await psycopg.AsyncConnection.connect(postgres.url) as other:
            await other.execute(held.encode())
            keys = await fetched(journal, simulator.auth_id)
            assert keys == [f"row-{n}" for n in range(10) if n != LOCKED]
        # It has thought better of it.
        assert await fetched(journal, simulator.auth_id) == [f"row-{LOCKED}"]
