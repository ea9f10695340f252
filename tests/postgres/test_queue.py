"""The queue: what is enqueued is sent once, by whichever worker comes first."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aiophlo import (
    Accepted,
    Account,
    Hangup,
    InDoubt,
    InvalidInputError,
    NotSent,
    Reason,
    RunPhlo,
    SessionPool,
)
from aiophlo.postgres import (
    EnqueueReport,
    MigrationError,
    PostgresCoordinator,
    QueueError,
    Worker,
    migrate,
)
from aiophlo.postgres.connection import Connection
from aiophlo.simulator import Simulator
from tests.support.postgres import Postgres
from tests.support.queues import account_of, shared_by, transfer

LONG = 60.0  # seconds, for a machine that is busy


@pytest.fixture
async def slow_simulator() -> AsyncIterator[Simulator]:
    """Give one that has some requests in flight at any time."""
    async with Simulator(quota=None, latency=0.05) as simulator:
        yield simulator


@pytest.fixture
async def coordinator(postgres: Postgres, namespace: str) -> PostgresCoordinator:
    """Give one that serves no pool."""
    return PostgresCoordinator(postgres.url, namespace=namespace)


async def test_what_is_enqueued_is_sent_once_and_its_outcome_told(
    pool: SessionPool, simulator: Simulator
) -> None:
    """Whoever put it there has to hear what came of it."""
    queue = shared_by(pool)
    key = await queue.enqueue(transfer(1, keyed=False))
    assert await queue.outcome(key) is None
    async with Worker(pool) as worker:
        assert not worker.idle
        outcome = await queue.outcome(key, wait=LONG)
        async with asyncio.timeout(LONG):
            while not worker.idle:  # noqa: ASYNC110 -- it looks once a second
                await asyncio.sleep(0.05)
    assert isinstance(outcome, Accepted)
    assert outcome.action.key == key
    assert worker.ended == {"accepted": 1, "rejected": 0, "not_sent": 0, "in_doubt": 0}
    assert simulator.ledger.dials(transfer(1).to) == 1


async def test_key_is_enqueued_once_whatever_came_of_it(
    pool: SessionPool, simulator: Simulator
) -> None:
    """A client that tries again must not ring a phone again."""
    queue = shared_by(pool)
    assert [await queue.enqueue(transfer(1)) for _ in range(2)] == ["row-1"] * 2
    async with Worker(pool):
        await queue.outcome("row-1", wait=LONG)
        assert await queue.enqueue(transfer(1)) == "row-1"
        await queue.enqueue(transfer(2))
        await queue.outcome("row-2", wait=LONG)
    assert len(simulator.ledger.dialled) == 2


async def test_key_of_another_action_is_refused(
    coordinator: PostgresCoordinator, simulator: Simulator
) -> None:
    """One of the two would never ring, and nobody would know which."""
    own, other = simulator.auth_id, "MA" + "X" * 18
    await coordinator.enqueue(transfer(1), account=own)
    with pytest.raises(InvalidInputError, match="stands for another action"):
        await coordinator.enqueue(transfer(2), key="row-1", account=own)
    with pytest.raises(InvalidInputError, match="stands for another action"):
        await coordinator.enqueue(transfer(1), account=other)
    rows = [transfer(1), transfer(2), transfer(3), transfer(3)]
    report = await coordinator.enqueue_many(rows, account=own)
    assert report == EnqueueReport(new=2, known=2)


async def test_unknown_key_is_told(coordinator: PostgresCoordinator) -> None:
    """Somebody would wait for ever."""
    with pytest.raises(InvalidInputError, match="never enqueued"):
        await coordinator.outcome("nobody")


async def test_what_can_not_be_enqueued_is_refused(
    coordinator: PostgresCoordinator,
) -> None:
    """It would be found out hours later, by nobody."""
    whose = "MA" + "X" * 18
    hangup = Hangup(phlo_id="p", node_id="n", member="+14155550000")
    naive = datetime(2040, 1, 1)  # noqa: DTZ001 -- that is what is wrong with it
    wrong: dict[str, dict[str, object]] = {
        "action": {"action": hangup},
        "by": {"by": naive},
        "priority": {"priority": 40_000},
        "callback_url": {"callback_url": "ftp://host"},
        "account": {"account": None},
    }
    for field, change in wrong.items():
        options = {"action": transfer(1), "account": whose, **change}
        with pytest.raises(InvalidInputError) as caught:
            await coordinator.enqueue(**options)  # type: ignore[arg-type]
        assert caught.value.field == field


async def test_run_of_a_phlo_keeps_its_parameters(
    pool: SessionPool, simulator: Simulator
) -> None:
    """A run without what its Start node declares rings the wrong person, or nobody."""
    queue = shared_by(pool)
    run = RunPhlo(phlo_id="p", parameters={"to": "+14155550001", "tries": [1, 2]})
    key = await queue.enqueue(run)
    async with Worker(pool):
        assert isinstance(await queue.outcome(key, wait=LONG), Accepted)
    assert len(simulator.ledger.dialled) == 1


async def test_what_is_too_late_ends_expired_and_unsent(
    pool: SessionPool, simulator: Simulator
) -> None:
    """A campaign must not ring people at night."""
    queue = shared_by(pool)
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    await queue.enqueue(transfer(1), by=soon)
    await queue.enqueue(transfer(2), by=time.time() + 0.2, account="MA" + "X" * 18)
    await asyncio.sleep(0.3)
    async with Worker(pool):
        for key in ("row-1", "row-2"):  # of an account that nobody works for, too
            outcome = await queue.outcome(key, wait=LONG)
            assert isinstance(outcome, NotSent)
            assert outcome.reason is Reason.EXPIRED
    assert simulator.ledger.dialled == []


async def test_what_is_called_off_rings_nobody(
    pool: SessionPool, simulator: Simulator, postgres: Postgres, namespace: str
) -> None:
    """The statement is documented, for who has enqueued the wrong list."""
    queue = shared_by(pool)
    await queue.enqueue_many(map(transfer, range(30)))
    await postgres.rows(
        f"UPDATE {namespace}.queued SET send_by = 0"  # noqa: S608 -- a test's own
        " WHERE ended_at IS NULL AND key IN ('row-1', 'row-2')"
    )
    async with Worker(pool):
        for number in range(30):
            outcome = await queue.outcome(f"row-{number}", wait=LONG)
            off = number in (1, 2)
            assert isinstance(outcome, NotSent if off else Accepted)
            if isinstance(outcome, NotSent):
                assert outcome.reason is Reason.EXPIRED
    assert len(simulator.ledger.dialled) == 28


async def test_high_priority_passes_a_backlog(
    postgres: Postgres, namespace: str, slow_simulator: Simulator
) -> None:
    """A call-back that was promised must not wait behind a campaign."""
    simulator = slow_simulator
    queue = PostgresCoordinator(postgres.url, namespace=namespace)
    async with SessionPool(
        account_of(simulator), base_url=simulator.base_url, coordinator=queue
    ) as pool:
        await queue.enqueue_many(map(transfer, range(400)))
        async with Worker(pool, concurrency=8):
            await queue.outcome("row-0", wait=LONG)
            await queue.enqueue(transfer(1_000), priority=1)
            await queue.outcome("row-1000", wait=LONG)
            assert len(simulator.ledger.dialled) < 350


async def test_backlog_of_one_account_does_not_hold_up_another(
    postgres: Postgres, namespace: str, slow_simulator: Simulator
) -> None:
    """A customer's campaign must not delay another customer's calls."""
    simulator = slow_simulator
    other = Account("MA" + "B" * 18, "token", quota=None)
    simulator.add_account(other.auth_id, other.auth_token)
    queue = PostgresCoordinator(postgres.url, namespace=namespace)
    async with SessionPool(
        account_of(simulator), other, base_url=simulator.base_url, coordinator=queue
    ) as pool:
        backlog = map(transfer, range(400))
        await queue.enqueue_many(backlog, account=simulator.auth_id)
        await queue.enqueue(transfer(1_000), account=other)
        async with Worker(pool, concurrency=8):
            await queue.outcome("row-1000", wait=LONG)
            assert len(simulator.ledger.dialled) < 350


async def test_what_found_no_connection_is_sent_later(
    postgres: Postgres,
    namespace: str,
    stoppable_simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An outage of some seconds must lose nobody's call, nor pass in silence."""
    monkeypatch.setattr("aiophlo.sending.retry.OUTAGE_PATIENCE", 0.2)
    simulator = stoppable_simulator
    queue = PostgresCoordinator(postgres.url, namespace=namespace)
    await simulator.stop()
    async with SessionPool(
        account_of(simulator), base_url=simulator.base_url, coordinator=queue
    ) as pool:
        await queue.enqueue(transfer(1))
        async with Worker(pool):
            told = "goes back into the queue, to be sent later (unreachable: "
            async with asyncio.timeout(LONG):
                while told not in caplog.text:  # noqa: ASYNC110 -- a log has no event
                    await asyncio.sleep(0.05)
            assert await queue.outcome("row-1") is None
            await simulator.start()
            assert isinstance(await queue.outcome("row-1", wait=LONG), Accepted)
    assert simulator.ledger.dials(transfer(1).to) == 1


async def test_in_doubt_is_an_outcome_and_never_sent_again(
    pool: SessionPool, simulator: Simulator
) -> None:
    """The phone may be ringing already."""
    simulator.drop_next_answer()
    queue = shared_by(pool)
    await queue.enqueue(transfer(1))
    async with Worker(pool):
        assert isinstance(await queue.outcome("row-1", wait=LONG), InDoubt)
        await queue.enqueue(transfer(2))
        await queue.outcome("row-2", wait=LONG)
    assert simulator.ledger.dials(transfer(1).to) == 1


async def test_outcome_is_posted_signed_and_again_if_it_fails(
    pool: SessionPool,
) -> None:
    """A service that was restarting must hear of it all the same."""
    posts: asyncio.Queue[tuple[dict[str, object], str | None]] = asyncio.Queue()
    statuses = [500, 200]

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        signature = request.headers.get("X-Aiophlo-Signature")
        assert signature == shared_by(pool).sign(body)
        posts.put_nowait((json.loads(body), signature))
        return web.Response(status=statuses.pop(0))

    app = web.Application()
    app.router.add_post("/told", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/told"
        queue = shared_by(pool)
        await queue.enqueue(transfer(1), callback_url=url)
        async with Worker(pool):
            async with asyncio.timeout(LONG):
                told = [(await posts.get())[0] for _ in range(2)]
    finally:
        await runner.cleanup()
    assert told[0] == told[1]
    assert told[0]["key"] == "row-1"
    assert told[0]["verdict"] == "accepted"


async def test_worker_that_is_cancelled_again_and_again_leaves_no_callback(
    pool: SessionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel scope of anyio cancels in every turn until it is left."""
    sessions: list[aiohttp.ClientSession] = []
    init = aiohttp.ClientSession.__init__

    def noted(self: aiohttp.ClientSession, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 -- aiohttp's
        init(self, *arguments, **options)
        sessions.append(self)

    called = asyncio.Event()

    async def take(_: web.Request) -> web.Response:
        called.set()
        await asyncio.sleep(LONG)
        return web.Response()

    app = web.Application()
    app.router.add_post("/told", take)
    async with TestServer(app) as server:
        url = str(server.make_url("/told"))
        await shared_by(pool).enqueue(transfer(1), callback_url=url)
        monkeypatch.setattr(aiohttp.ClientSession, "__init__", noted)
        working = asyncio.create_task(Worker(pool).run())
        await asyncio.wait_for(called.wait(), LONG)
        while not working.done():
            working.cancel()
            await asyncio.sleep(0)
        assert sessions
        assert all(session.closed for session in sessions)


async def test_numbers_are_gone_once_it_has_ended(
    pool: SessionPool, postgres: Postgres, namespace: str
) -> None:
    """What isn't needed any more can't leak."""
    queue = shared_by(pool)
    number = transfer(7).to.removeprefix("+")
    await queue.enqueue(transfer(7), key=f"call {number}")

    async def found() -> int:
        text = ""
        for table in ("queued", "batch_rows", "procrastinate_jobs"):
            rows = await postgres.rows(f"SELECT one::text FROM {namespace}.{table} one")  # noqa: S608 -- a test's own
            text += "".join(row[0] for row in rows)
        return text.count(number)

    assert await found() > 0
    async with Worker(pool):
        await queue.outcome(f"call {number}", wait=LONG)
    assert await found() == 0


async def test_what_ended_long_ago_is_forgotten(
    pool: SessionPool, postgres: Postgres, namespace: str
) -> None:
    """A table that only grows fills the disk one day."""
    queue = shared_by(pool)
    await queue.enqueue(transfer(1))
    async with Worker(pool, keep_days=1e-6):
        await queue.outcome("row-1", wait=LONG)
        async with asyncio.timeout(LONG):
            while await postgres.rows(f"SELECT FROM {namespace}.queued"):
                await asyncio.to_thread(time.sleep, 0.1)
    with pytest.raises(InvalidInputError, match="never enqueued"):
        await queue.outcome("row-1")


async def test_worker_that_stops_gives_back_what_has_not_left(
    postgres: Postgres,
    namespace: str,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it had in hand must not wait for its lease, nor be lost."""
    queue = PostgresCoordinator(postgres.url, namespace=namespace)
    slow = Account(simulator.auth_id, simulator.auth_token)
    async with SessionPool(
        slow, base_url=simulator.base_url, coordinator=queue
    ) as pool:
        await queue.enqueue_many(map(transfer, range(100)))
        async with Worker(pool):
            await queue.outcome("row-0", wait=LONG)
        warned = [it for it in caplog.records if it.levelno >= logging.WARNING]
        assert not warned, "it is nothing to worry about"
        rung = len(simulator.ledger.dialled)
        assert rung < 100
        waiting = f"SELECT count(*) FROM {namespace}.procrastinate_jobs"  # noqa: S608 -- a test's own
        assert await postgres.rows(f"{waiting} WHERE status = 'todo'") == [
            (100 - rung,)
        ]
        assert await postgres.rows(f"SELECT FROM {namespace}.batch_runners") == []


async def test_queue_without_its_tables_says_what_to_do(postgres: Postgres) -> None:
    """Whoever upgrades forgets the extra."""
    await migrate(postgres.url, namespace="queueless", queue=False)
    queue = PostgresCoordinator(postgres.url, namespace="queueless")
    with pytest.raises(MigrationError, match=r"aiophlo\[queue\]"):
        await queue.enqueue(transfer(1), account="MA" + "X" * 18)
    account = Account("MA" + "X" * 18, "token")
    async with SessionPool(account, coordinator=queue) as pool:
        with pytest.raises(MigrationError, match=r"aiophlo\[queue\]"):
            await Worker(pool).run()
    assert await migrate(postgres.url, namespace="queueless") == []
    await queue.enqueue(transfer(1), account=account)


async def test_database_that_is_away_is_told(
    coordinator: PostgresCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever enqueues has to know that it may be in it, or not."""
    from aiophlo.coordination import AwayError  # noqa: PLC0415 -- for this one

    async def away(_: Connection) -> None:
        raise AwayError("no connection")

    monkeypatch.setattr("aiophlo.postgres.queue._AGAIN", 0.001)
    monkeypatch.setattr(Connection, "open", away)
    with pytest.raises(QueueError, match="away"):
        await coordinator.enqueue(transfer(1), account="MA" + "X" * 18)


async def test_pool_without_a_coordinator_has_no_worker() -> None:
    """It would wait for work for ever."""
    with pytest.raises(InvalidInputError, match="PostgresCoordinator"):
        Worker(SessionPool(Account("MA" + "X" * 18, "token")))


async def test_send_once_sends_once(pool: SessionPool, simulator: Simulator) -> None:
    """A task that runs again must not ring again."""
    queue = shared_by(pool)
    first = await queue.send_once(pool, transfer(1), key="task-1")
    again = await queue.send_once(pool, transfer(1), key="task-1")
    assert isinstance(first, Accepted)
    assert first.api_id == again.api_id
    assert simulator.ledger.dials(transfer(1).to) == 1
    known = await queue.outcome("task-1")
    assert known is not None
    assert known.api_id == first.api_id
    with pytest.raises(InvalidInputError, match="two different actions"):
        await queue.send_once(pool, transfer(2), key="task-1")


async def test_send_once_at_the_same_time_waits_for_the_first(
    pool: SessionPool, simulator: Simulator, postgres: Postgres, namespace: str
) -> None:
    """Two workers that are given one task are one phone."""
    queue = shared_by(pool)
    elsewhere = PostgresCoordinator(postgres.url, namespace=namespace)
    outcomes = await asyncio.gather(
        queue.send_once(pool, transfer(1), key="task-1"),
        queue.send_once(pool, transfer(1), key="task-1"),
        elsewhere.send_once(pool, transfer(1), key="task-1"),
    )
    assert {type(outcome) for outcome in outcomes} == {Accepted}
    assert simulator.ledger.dials(transfer(1).to) == 1


async def test_send_once_sends_what_was_not_sent(
    postgres: Postgres, namespace: str, stoppable_simulator: Simulator
) -> None:
    """Nothing rang: the task's next try has to ring."""
    simulator = stoppable_simulator
    queue = PostgresCoordinator(postgres.url, namespace=namespace)
    async with SessionPool(
        account_of(simulator), base_url=simulator.base_url, coordinator=queue
    ) as pool:
        await simulator.stop()
        once = queue.send_once(pool, transfer(1), key="task-1", send_within=0.3)
        assert isinstance(await once, NotSent)
        await simulator.start()
        outcome = await queue.send_once(pool, transfer(1), key="task-1")
    assert isinstance(outcome, Accepted)


async def test_rights_that_are_documented_are_enough(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """A worker that owns nothing must not fail at its first transfer."""
    role = f"role_{namespace}"
    await postgres.rows(f"CREATE ROLE {role} LOGIN")
    await postgres.rows(f"GRANT USAGE ON SCHEMA {namespace} TO {role}")
    rights = {"TABLES": "SELECT, INSERT, UPDATE, DELETE", "SEQUENCES": "USAGE"}
    for what, right in rights.items():
        everything = f"ALL {what} IN SCHEMA {namespace}"
        await postgres.rows(f"GRANT {right} ON {everything} TO {role}")
    url = postgres.url.replace("postgres@", f"{role}@")
    queue = PostgresCoordinator(url, namespace=namespace)
    async with SessionPool(
        account_of(simulator), base_url=simulator.base_url, coordinator=queue
    ) as pool:
        await queue.enqueue(transfer(1))
        async with Worker(pool):
            assert isinstance(await queue.outcome("row-1", wait=LONG), Accepted)
