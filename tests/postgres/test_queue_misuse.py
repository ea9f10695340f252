"""The queue in other hands than it was meant for: nothing rings twice or is lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from aiophlo import (
    Accepted,
    Account,
    InvalidInputError,
    PhloError,
    SessionPool,
)
from aiophlo.postgres import EnqueueReport, PostgresCoordinator, Worker
from aiophlo.simulator import Simulator
from tests.postgres.conftest import DatabaseConnection
from tests.support.postgres import Postgres
from tests.support.queues import transfer

LONG = 60.0  # seconds, for a machine that is busy


@pytest.fixture
async def wrong_pool(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> AsyncIterator[SessionPool]:
    """Give another process's, whose token isn't the account's."""
    async with SessionPool(
        Account(simulator.auth_id, "an-older-token", quota=None),
        base_url=simulator.base_url,
        coordinator=PostgresCoordinator(postgres.url, namespace=namespace),
    ) as pool:
        yield pool


async def test_key_that_was_sent_once_is_enqueued_for_no_other_action(
    pool: SessionPool, queue: PostgresCoordinator
) -> None:
    """It would never ring, and be told as accepted."""
    await queue.send_once(pool, transfer(1), key="row-1")
    with pytest.raises(InvalidInputError, match="stands for another action"):
        await queue.enqueue(transfer(2), key="row-1")
    assert await queue.enqueue(transfer(1)) == "row-1"
    mixed = [transfer(2), transfer(3), transfer(1)]
    assert await queue.enqueue_many(mixed) == EnqueueReport(new=2, known=1)


async def test_key_that_is_queued_is_sent_once_for_no_other_action(
    pool: SessionPool, queue: PostgresCoordinator, simulator: Simulator
) -> None:
    """The queued one would never ring, and be told as accepted."""
    await queue.enqueue(transfer(1))
    with pytest.raises(InvalidInputError, match="two different actions"):
        await queue.send_once(pool, transfer(2), key="row-1")
    async with Worker(pool):
        assert isinstance(await queue.outcome("row-1", wait=LONG), Accepted)
    assert simulator.ledger.dials(transfer(1).to) == 1
    assert simulator.ledger.dials(transfer(2).to) == 0


async def test_what_was_sent_once_long_ago_is_forgotten(
    pool: SessionPool, queue: PostgresCoordinator, postgres: Postgres, namespace: str
) -> None:
    """Keys of every task there ever was would fill the disk one day."""
    await queue.send_once(pool, transfer(1), key="task-1")
    await queue.send_once(pool, transfer(2), key="task-2")
    row = f"{namespace}.batch_rows WHERE key = 'task-1'"
    await postgres.rows(
        f"UPDATE {namespace}.batch_rows SET settled_at = 1.0 WHERE key = 'task-1'"  # noqa: S608 -- a test's own
    )
    elsewhere = PostgresCoordinator(postgres.url, namespace=namespace)
    await elsewhere.send_once(pool, transfer(2), key="task-2")
    assert await postgres.rows(f"SELECT FROM {row}") == []
    assert isinstance(await queue.outcome("task-2"), Accepted)


async def test_worker_whose_credentials_are_refused_uses_up_nothing(
    pool: SessionPool,
    queue: PostgresCoordinator,
    wrong_pool: SessionPool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A token that was replaced would end a campaign of which nobody was called."""
    monkeypatch.setattr("aiophlo.postgres.queue_journal._MUCH_LATER", 0.5)
    await queue.enqueue_many(map(transfer, range(30)))
    worker = Worker(wrong_pool)
    async with worker, asyncio.timeout(LONG):
        refused = "refuses its credentials (status 401): asking again in 5 s"
        while refused not in caplog.text:  # noqa: ASYNC110 -- a log has no event
            await asyncio.sleep(0.05)
    assert "in_doubt" not in caplog.text
    assert not any(worker.ended.values())
    async with Worker(pool):
        for number in range(30):
            assert isinstance(await queue.outcome(f"row-{number}", wait=LONG), Accepted)


async def test_account_that_answers_again_is_noticed_by_a_single_action(
    pool: SessionPool,
    queue: PostgresCoordinator,
    simulator: Simulator,
    *,
    postgres: Postgres,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where few are enqueued, the next one would wait for many others."""
    monkeypatch.setattr("aiophlo.postgres.queue_journal._MUCH_LATER", 5.0)
    monkeypatch.setattr("aiophlo.postgres.worker._PAUSE", (0.1, 0.1))
    simulator.drop_next_answer(times=None)
    later = f"SELECT FROM {namespace}.procrastinate_jobs WHERE scheduled_at > now()"
    async with Worker(pool):
        for number in range(10):
            await queue.enqueue(transfer(number))
            await queue.outcome(f"row-{number}", wait=LONG)
        await queue.enqueue(transfer(10))
        async with asyncio.timeout(LONG):
            while not await postgres.rows(later):  # noqa: ASYNC110 -- a table has no event
                await asyncio.sleep(0.05)
        simulator.clear_script()
        assert isinstance(await queue.outcome("row-10", wait=30.0), Accepted)


async def test_action_that_a_worker_can_not_read_holds_up_no_other(
    pool: SessionPool,
    queue: PostgresCoordinator,
    postgres: Postgres,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While workers are renewed, some are older than what is enqueued."""
    await queue.enqueue_many(map(transfer, range(3)))
    await postgres.rows(
        f'UPDATE {namespace}.queued SET action = action || \'{{"kind": "Later"}}\''  # noqa: S608 -- a test's own
        " WHERE key = 'row-0'"
    )
    async with Worker(pool):
        for key in ("row-1", "row-2"):
            assert isinstance(await queue.outcome(key, wait=LONG), Accepted)
    assert await queue.outcome("row-0") is None
    held = f"SELECT FROM {namespace}.queued WHERE runner IS NOT NULL"
    assert await postgres.rows(held) == []
    assert "a newer worker has to send 'row-0'" in caplog.text


async def test_outcome_that_is_awaited_as_the_pool_closes_leaves_no_connection(
    pool: SessionPool,
    queue: PostgresCoordinator,
    connections: list[DatabaseConnection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It asks for it by a new one, which nobody else would close."""
    monkeypatch.setattr("aiophlo.postgres.queue._LOOK_EVERY", 0.05)
    await queue.enqueue(transfer(1))
    waiting = asyncio.create_task(queue.outcome("row-1", wait=None))
    await pool.close()
    before = len(connections)
    async with asyncio.timeout(LONG):
        while len(connections) == before:  # noqa: ASYNC110 -- a driver has no event
            await asyncio.sleep(0.02)
    waiting.cancel()
    await asyncio.wait({waiting})


async def test_action_sent_once_as_the_pool_closes_leaves_no_connection(
    pool: SessionPool, queue: PostgresCoordinator
) -> None:
    """Its journal may only just be open then."""
    sending = asyncio.create_task(queue.send_once(pool, transfer(1), key="task-1"))
    await asyncio.sleep(0)  # it connects
    await pool.close()
    with contextlib.suppress(PhloError):
        await sending
