"""Pools that share a Postgres keep the promise together."""

import asyncio
import contextlib
import copy
import json
import logging
import os
import sys
from typing import Any, Final

import psycopg
import pytest

from aiophlo import (
    AbortTransfer,
    Accepted,
    Hold,
    InDoubt,
    InvalidInputError,
    NotSent,
    Quota,
    Reason,
    SessionPool,
    Unhold,
    WarmTransfer,
)
from aiophlo.cli import main
from aiophlo.cli.exit_codes import Exit
from aiophlo.errors import PhloError
from aiophlo.postgres import PostgresCoordinator, migrate
from aiophlo.postgres.migrate import migrations
from aiophlo.postgres.operations import Answer, Operation, Operations
from aiophlo.postgres.pool_shares import PoolShares
from aiophlo.protocol.client_set import HttpClients
from aiophlo.simulator import Simulator
from tests.postgres.conftest import SharedPool, send
from tests.support.batches import environment
from tests.support.doubles import AGENT, account_of, act, pool_of
from tests.support.postgres import Postgres
from tests.support.queues import shared_by


async def test_pools_share_one_quota_evenly(postgres: Postgres, namespace: str) -> None:
    """With three workers the account would draw 429s where one draws none."""
    async with (
        Simulator(quota=(40, 1.0)) as simulator,
        contextlib.AsyncExitStack() as s,
    ):
        pools = []
        for _ in range(3):
            pool = SessionPool(
                account_of(simulator, quota=Quota(40, per=1.0)),
                base_url=simulator.base_url,
                coordinator=PostgresCoordinator(postgres.url, namespace=namespace),
            )
            pools.append(await s.enter_async_context(pool))

        async def work(pool: SessionPool, first: int) -> int:
            transfers = (act(WarmTransfer, first + number) for number in range(50))
            return (await pool.send_all(transfers, concurrency=5)).accepted

        works = (work(pool, 100 * number) for number, pool in enumerate(pools))
        assert await asyncio.gather(*works) == [50, 50, 50]
        assert simulator.ledger.refused_429 == 0
        first_half = simulator.ledger.requests[:75]
        for number in range(3):
            mine = sum(record.to[-7:-2] == f"0000{number}" for record in first_half)
            assert 15 <= mine <= 35, "each had its share all the time"


async def test_row_of_a_rate_is_there_before_anything_is_sent(
    postgres: Postgres, namespace: str, shared_pool: SharedPool
) -> None:
    """A new one has no slot for a second, for which callers of a new service waited."""
    await shared_pool()
    found = f"SELECT name FROM {namespace}.rates"  # noqa: S608 -- a test's own
    async with asyncio.timeout(10.0):
        while not await postgres.rows(found):  # noqa: ASYNC110 -- of the database
            await asyncio.sleep(0.02)


async def test_pool_that_opens_takes_no_share_from_the_others(
    shared_pool: SharedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose listening connection came first said that it sends by itself."""
    heard: list[object] = []

    def hear(_: PoolShares, *said: object, **options: object) -> bool:
        heard.append((said, options))
        return False

    monkeypatch.setattr(PoolShares, "hear_alone", hear)
    book = PostgresCoordinator._book  # noqa: SLF001 -- which of the connections is late

    async def book_late(coordinator: PostgresCoordinator) -> None:
        await asyncio.sleep(0.2)
        await book(coordinator)

    await shared_pool()
    monkeypatch.setattr(PostgresCoordinator, "_book", book_late)
    await shared_pool()
    await asyncio.sleep(0.2)
    assert heard == []


async def test_joiner_takes_over_from_a_pool_that_closes(
    shared_pool: SharedPool, simulator: Simulator
) -> None:
    """Workers are renewed in turns: the click on one that stays must be served."""
    account = account_of(simulator, quota=Quota(1, per=1.5))
    one, two = await shared_pool(accounts=[account]), await shared_pool()
    await send(one, act(WarmTransfer, 1))  # uses the slot
    leader = asyncio.create_task(send(one, act(WarmTransfer)))
    await asyncio.sleep(0.2)
    joiner = asyncio.create_task(send(two, act(WarmTransfer)))
    await asyncio.sleep(0.2)
    await one.close()
    closed = await leader
    assert isinstance(closed, NotSent)
    assert closed.reason is Reason.CLOSED
    assert isinstance(await joiner, Accepted)
    assert simulator.ledger.dials() == 2


async def test_joiner_is_in_doubt_soon_after_the_other_process_died(
    shared_pool: SharedPool, simulator: Simulator, postgres: Postgres, namespace: str
) -> None:
    """Its phone may be ringing, and nobody else will say so."""
    simulator.hold_answers()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.sending_child", postgres.url, namespace),
        env={**os.environ, **environment(simulator)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"sending\n"
    await simulator.wait_for(requests=1)
    pool = await shared_pool()
    joiner = asyncio.create_task(send(pool, act(WarmTransfer, 1)))
    await asyncio.sleep(0.3)
    process.kill()
    loop = asyncio.get_running_loop()
    killed = loop.time()
    outcome = await joiner
    await process.wait()
    assert isinstance(outcome, InDoubt)
    assert outcome.reason is Reason.INTERRUPTED
    assert loop.time() - killed < 2.0
    assert simulator.ledger.dials() == 1


STRANGE_NOTICES: Final = (
    *("hello", "5", "[5]", '[["begun", 1]]', '[["paused", 1]]'),
    *('[["alone", "5", NaN]]', '[["alone", "5", "soon"]]', '[["alone", 1e999, 5]]'),
    *('[["alone", "5", 1e999]]', '[["alone", "\\ud800", 5]]', '[["alone"]]'),
    "[" * 7000,
)


async def test_strange_notice_leaves_the_pool_hearing(
    shared_pool: SharedPool,
    simulator: Simulator,
    postgres: Postgres,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An application may notify its own by the same name, and nobody be heard again."""
    account = account_of(simulator, quota=Quota(1, per=2.0))
    one, two = await shared_pool(accounts=[account]), await shared_pool()
    async with await psycopg.AsyncConnection.connect(postgres.url) as connection:
        for notice in STRANGE_NOTICES:
            await connection.execute("SELECT pg_notify(%s, %s)", (namespace, notice))
    await send(one, act(WarmTransfer, 1))
    hold = asyncio.create_task(send(one, act(Hold)))
    await asyncio.sleep(0.2)
    await send(two, act(Unhold))
    outcome = await hold
    assert isinstance(outcome, NotSent)
    assert outcome.reason is Reason.SUPERSEDED
    assert one.state().coordinated
    assert not [it for it in caplog.records if it.levelno >= logging.WARNING]


async def test_many_notices_of_pools_ask_the_database_seldom(
    shared_pool: SharedPool,
    postgres: Postgres,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 18 pools that come and go, each asks for itself, of each of them."""
    asked: list[str] = []
    ask = Operations.ask

    def noted(self: Operations, operation: Operation) -> asyncio.Future[Answer]:
        asked.append(operation["do"])
        return ask(self, operation)

    monkeypatch.setattr(Operations, "ask", noted)
    pool = await shared_pool()
    async with await psycopg.AsyncConnection.connect(
        postgres.url, autocommit=True
    ) as connection:
        asked.clear()
        began = asyncio.get_running_loop().time()
        for number in range(500):
            notice = json.dumps([["alone", str(number), 5.0]])
            await connection.execute("SELECT pg_notify(%s, %s)", (namespace, notice))
        took = asyncio.get_running_loop().time() - began
    assert pool.state().coordinated
    assert "seen" in asked
    assert asked.count("seen") <= 2 + took / 0.05
    assert asked.count("tidy") <= 1
    assert asked.count("take_over") <= 2 + took


async def test_dial_that_waits_for_the_database_does_not_leave_after_its_abort(
    shared_pool: SharedPool, simulator: Simulator
) -> None:
    """An abort waits for nobody, and the phone would ring after it."""
    pool = await shared_pool()
    await send(pool, act(WarmTransfer, 1))
    transfer = act(WarmTransfer)
    assert isinstance(transfer, WarmTransfer)
    abort = AbortTransfer(
        phlo_id=transfer.phlo_id, node_id=transfer.node_id, member=AGENT
    )
    dial, _ = await asyncio.gather(send(pool, transfer), send(pool, abort))
    assert isinstance(dial, NotSent)
    assert dial.reason is Reason.SUPERSEDED
    assert simulator.ledger.dials() == 1


async def test_coordinator_serves_one_pool(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """Two pools would each take the other's slots for its own."""
    coordinator = PostgresCoordinator(postgres.url, namespace=namespace)
    async with pool_of(simulator, coordinator=coordinator) as pool:
        assert pool.state().coordinated
        with pytest.raises(InvalidInputError, match="coordinator"):
            await (other := pool_of(simulator, coordinator=coordinator)).open()
        await other.close()
        assert pool.state().coordinated
        assert isinstance(await send(pool, act(WarmTransfer)), Accepted)
    async with pool_of(simulator) as alone:
        assert not alone.state().coordinated


async def test_coordinator_made_before_a_fork_is_another_pool_in_each_process(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """Gunicorn with --preload: workers that count as one use the quota twice."""
    made = PostgresCoordinator(postgres.url, namespace=namespace)
    forked = copy.deepcopy(made)
    counted = f"SELECT count(*) FROM {namespace}.pools"  # noqa: S608 -- a test's own
    async with (
        pool_of(simulator, coordinator=made),
        pool_of(simulator, coordinator=forked),
        await psycopg.AsyncConnection.connect(postgres.url) as database,
    ):
        found = await database.execute(counted.encode())
        assert await found.fetchone() == (2,)


async def test_pool_whose_closing_is_cancelled_says_goodbye(
    shared_pool: SharedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would count as a pool, and connect anew, for as long as the process lives."""
    pool = await shared_pool()
    close, closed = HttpClients.close, asyncio.Event()

    async def close_and_wait(clients: HttpClients) -> None:
        await close(clients)
        closed.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(HttpClients, "close", close_and_wait)
    closing = asyncio.create_task(pool.close())
    await closed.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert not shared_by(pool).coordinated


async def test_pool_that_never_was_open_can_be_closed(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """An error in closing would hide the one for which it wasn't opened."""
    coordinator = PostgresCoordinator(postgres.url, namespace=namespace)
    await pool_of(simulator, coordinator=coordinator).close()


async def test_schema_that_is_missing_is_named_with_its_remedy(
    postgres: Postgres, simulator: Simulator
) -> None:
    """Without a word the pools would share nothing."""
    coordinator = PostgresCoordinator(postgres.url, namespace="nobody_made_it")
    pool = pool_of(simulator, coordinator=coordinator)
    with pytest.raises(PhloError, match="aiophlo postgres migrate"):
        await pool.open()
    await pool.close()
    own = PostgresCoordinator(postgres.url, namespace="it_made_itself", migrate=True)
    async with pool_of(simulator, coordinator=own) as pool:
        assert pool.state().coordinated


async def test_pool_opens_though_the_schema_could_not_be_looked_at(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """A service that restarts while connections are short must hand callers over."""
    async with await psycopg.AsyncConnection.connect(postgres.url) as connection:
        await connection.execute("CREATE ROLE short LOGIN CONNECTION LIMIT 1")
    url = postgres.url.replace("postgres@", "short@")
    own = PostgresCoordinator(url, namespace=namespace, migrate=True)
    async with pool_of(simulator, coordinator=own) as pool:
        assert not pool.state().coordinated
        assert isinstance(await send(pool, act(WarmTransfer)), Accepted)


async def test_schema_is_made_once_by_many(postgres: Postgres) -> None:
    """Every worker of a service may do it when it starts."""
    made = await asyncio.gather(
        *(migrate(postgres.url, namespace="made_at_once") for _ in range(4))
    )
    assert sorted(made) == [[], [], [], [it for it, _ in migrations()]]


def test_command_makes_the_schema(
    postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stands in a deployment's script, which reads what it says."""
    command = [
        "postgres",
        "migrate",
        "--url",
        postgres.url,
        "--namespace",
        "by_command",
    ]
    assert main(command) == Exit.ACCEPTED
    assert main(command) == Exit.ACCEPTED
    all_of_them = ", ".join(str(number) for number, _ in migrations())
    *_, applied, then = (
        capsys.readouterr().out.splitlines()
    )  # first, the queue's tables
    assert applied == f"by_command: applied {all_of_them}"
    assert then == "by_command: up to date"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"url": "secret"}, "url"),
        ({"listen_url": 5}, "listen_url"),
        ({"namespace": "a-b"}, "namespace"),
        ({"migrate": "yes"}, "migrate"),
        ({"share_at_start": 0}, "share_at_start"),
        ({"share_at_start": True}, "share_at_start"),
        ({"lease": 1.0}, "lease"),
        ({"lease": "15"}, "lease"),
    ],
)
def test_bad_argument_is_named_without_its_value(
    options: dict[str, Any], field: str
) -> None:
    """A URL holds a password."""
    with pytest.raises(InvalidInputError, match=field) as caught:
        PostgresCoordinator(**{"url": "postgresql://h/d", **options})
    assert caught.value.field == field
    assert "secret" not in str(caught.value)


async def test_pool_needs_few_rights(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """A service that can drop tables is one fault away from doing it."""
    rights = f"""
        CREATE ROLE few LOGIN;
        GRANT USAGE ON SCHEMA {namespace} TO few;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {namespace} TO few;
    """
    async with await psycopg.AsyncConnection.connect(postgres.url) as connection:
        await connection.execute(rights.encode())
    url = postgres.url.replace("postgres@", "few@")
    async with pool_of(
        simulator, coordinator=PostgresCoordinator(url, namespace=namespace)
    ) as pool:
        assert pool.state().coordinated
        assert isinstance(await send(pool, act(WarmTransfer, 1)), Accepted)
        assert isinstance(await send(pool, act(Hold, 1)), Accepted)
        assert pool.state().coordinated
