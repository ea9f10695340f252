"""Without its database a pool goes on by itself, and says so."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import pytest

from aiophlo import Accepted, InDoubt, NotSent, Quota, Reason, SessionPool, WarmTransfer
from aiophlo.postgres import PostgresCoordinator, migrate
from aiophlo.postgres.listener import Listener
from aiophlo.postgres.pool_shares import PoolShares
from aiophlo.postgres.server_clock import ServerClock
from aiophlo.simulator import Simulator
from tests.postgres.conftest import send
from tests.support.doubles import account_of, act, pool_of
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.relay import Relay

pytestmark = pytest.mark.long

_UNDER_WAY = "SELECT key FROM aiophlo.dials WHERE NOT ended"


@asynccontextmanager
async def coordinated(
    url: str, simulator: Simulator, number: int = 1, share_at_start: float = 0.25
) -> AsyncIterator[list[SessionPool]]:
    """Give pools that share the database."""
    pools = []
    try:
        for _ in range(number):
            coordinator = PostgresCoordinator(
                url, migrate=True, share_at_start=share_at_start
            )
            account = account_of(simulator, quota=Quota(40, per=1.0))
            pool = pool_of(simulator, account, coordinator=coordinator)
            pools.append(await pool.open())
        yield pools
    finally:
        for pool in pools:
            await pool.close()


async def until(holds: Callable[[], bool], *, within: float = 10.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 -- of what other processes do
            await asyncio.sleep(0.02)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said of the database."""
    return [it.message for it in caplog.records if "database" in it.message]


async def test_pool_opens_and_sends_though_the_database_never_was_there(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A service restarted in an outage must still hand callers over."""
    caplog.set_level(logging.WARNING, "aiophlo")
    url = f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"
    async with coordinated(url, simulator, share_at_start=0.1) as (pool,):
        state = pool.state()
        assert not state.coordinated
        began = time.monotonic()
        for number in range(5):
            assert isinstance(await send(pool, act(WarmTransfer, number)), Accepted)
        assert time.monotonic() - began > 4 * 10 / 40, "a tenth of the quota"
    assert len(warnings_in(caplog)) == 1


async def test_killed_database_costs_no_transfer_and_no_429(
    own_postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    """A database is restarted every week, and callers are on hold meanwhile."""
    caplog.set_level(logging.WARNING, "aiophlo")
    async with (
        Simulator(quota=(40, 1.0)) as simulator,
        coordinated(own_postgres.url, simulator, 2) as pools,
    ):
        sends: list[asyncio.Task[object]] = []

        async def rush(seconds: float) -> None:
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                transfer = act(WarmTransfer, len(sends))
                sending = send(pools[len(sends) % 2], transfer, send_within=20.0)
                sends.append(asyncio.create_task(sending))
                await asyncio.sleep(0.03)

        await rush(2.0)
        assert all(pool.state().coordinated for pool in pools)
        await asyncio.to_thread(own_postgres.kill)
        await rush(2.0)
        assert not any(pool.state().coordinated for pool in pools)
        restart = asyncio.create_task(asyncio.to_thread(own_postgres.start))
        await rush(1.0)
        await restart
        await until(lambda: all(pool.state().coordinated for pool in pools))
        await rush(1.5)
        outcomes = await asyncio.gather(*sends)
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        assert simulator.ledger.refused_429 == 0
        assert simulator.ledger.dials() == len(sends)
    assert len(warnings_in(caplog)) == 2, "one of each pool"
    assert not [it for it in caplog.records if "not heard" in it.message]


@pytest.fixture
def stopped(own_postgres: Postgres) -> Iterator[Callable[[], None]]:
    """Give what stops the server without a word, and let it go on at the end."""
    yield lambda: own_postgres.signal(signal.SIGSTOP)
    own_postgres.signal(signal.SIGCONT)


async def test_pool_whose_opening_was_cancelled_leaves_nothing_and_opens_again(
    own_postgres: Postgres, stopped: Callable[[], None], simulator: Simulator
) -> None:
    """What it left behind would connect for ever, and count as a pool."""
    await migrate(own_postgres.url)
    before = asyncio.all_tasks()
    pool = pool_of(simulator, coordinator=PostgresCoordinator(own_postgres.url))
    stopped()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await pool.open()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    own_postgres.signal(signal.SIGCONT)
    async with pool:
        assert pool.state().coordinated


async def test_pool_whose_closing_is_cancelled_leaves_nothing(
    own_postgres: Postgres, stopped: Callable[[], None], simulator: Simulator
) -> None:
    """What it left behind would go on connecting, and count as a pool."""
    await migrate(own_postgres.url)
    before = asyncio.all_tasks()
    coordinator = PostgresCoordinator(own_postgres.url)
    pool = await pool_of(simulator, coordinator=coordinator).open()
    stopped()  # so that nobody hears its goodbye
    closing = asyncio.create_task(pool.close())
    async with asyncio.timeout(10.0):
        while not coordinator._closing:  # noqa: ASYNC110, SLF001 -- it has no event
            await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert asyncio.all_tasks() == before


async def test_silent_database_holds_nobody_up_for_longer_than_a_second(
    own_postgres: Postgres, stopped: Callable[[], None], simulator: Simulator
) -> None:
    """The customer waits for the transfer, not for a disk of ours."""
    async with coordinated(own_postgres.url, simulator) as (pool,):
        await send(pool, act(WarmTransfer, 1))
        stopped()
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(send(pool, act(WarmTransfer, 2 + n), send_within=5.0) for n in range(5))
        )
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        assert time.monotonic() - began < 4.0
        assert not pool.state().coordinated
        assert simulator.ledger.dials() == 6


async def test_silent_database_does_not_outlast_a_short_send_within(
    own_postgres: Postgres, stopped: Callable[[], None], simulator: Simulator
) -> None:
    """Who has half a second must hear within it."""
    async with coordinated(own_postgres.url, simulator) as (pool,):
        await send(pool, act(WarmTransfer, 1))
        stopped()
        began = time.monotonic()
        outcome = await send(pool, act(WarmTransfer, 2), send_within=0.4)
        assert isinstance(outcome, NotSent)
        assert outcome.reason is Reason.EXPIRED
        assert time.monotonic() - began < 0.8
    assert simulator.ledger.dials() == 1


async def test_double_click_in_one_pool_rings_once_without_the_database(
    own_postgres: Postgres, simulator: Simulator
) -> None:
    """Each pool still knows its own dials."""
    async with coordinated(own_postgres.url, simulator) as (pool,):
        await asyncio.to_thread(own_postgres.kill)
        clicks = (send(pool, act(WarmTransfer, 1)) for _ in range(2))
        outcomes = await asyncio.gather(*clicks)
        assert sorted(outcome.joined for outcome in outcomes) == [False, True]
    assert simulator.ledger.dials() == 1


async def test_dial_that_ended_in_an_outage_is_told_afterwards(
    own_postgres: Postgres, simulator: Simulator
) -> None:
    """Its row would stand for a dial under way, and be joined for ever."""
    async with coordinated(own_postgres.url, simulator, 2) as (one, two):
        held = simulator.hold_answers()
        dial = asyncio.create_task(send(one, act(WarmTransfer, 1)))
        await simulator.wait_for(requests=1)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(own_postgres.kill)
        await until(lambda: not one.state().coordinated)
        held.release()
        assert isinstance(await dial, Accepted)
        await asyncio.sleep(3.0)
        await asyncio.to_thread(own_postgres.start)
        await until(lambda: one.state().coordinated and two.state().coordinated)
        async with asyncio.timeout(10.0):  # until its end has been told
            while await own_postgres.rows(_UNDER_WAY):  # noqa: ASYNC110 -- as above
                await asyncio.sleep(0.02)
        again = await send(two, act(WarmTransfer, 1), send_within=5.0)
        assert isinstance(again, Accepted)
        assert not again.joined
    assert simulator.ledger.dials() == 2


async def test_dial_registered_by_a_statement_that_got_no_answer_is_joined_no_more(
    own_postgres: Postgres, stopped: Callable[[], None], simulator: Simulator
) -> None:
    """The agent could not dial that number again for as long as the pool lived."""
    async with coordinated(own_postgres.url, simulator, 2) as (one, two):
        stopped()
        assert isinstance(await send(one, act(WarmTransfer, 1)), Accepted)
        await asyncio.sleep(3.0)
        own_postgres.signal(signal.SIGCONT)  # what is in its sockets is done now
        await until(lambda: one.state().coordinated and two.state().coordinated)
        again = await send(two, act(WarmTransfer, 1), send_within=5.0)
        assert isinstance(again, Accepted)
        assert not again.joined
    assert simulator.ledger.dials() == 2


async def test_pool_that_only_does_not_hear_draws_no_429(
    own_postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    """By itself it would use its share besides what all others book."""
    caplog.set_level(logging.WARNING, "aiophlo")
    deaf = f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"
    async with (
        Simulator(quota=(40, 1.0)) as simulator,
        AsyncExitStack() as stack,
    ):
        sends = []
        for number, listen_url in enumerate((None, deaf)):
            coordinator = PostgresCoordinator(
                own_postgres.url,
                listen_url=listen_url,
                migrate=True,
                share_at_start=0.5,
            )
            account = account_of(simulator, quota=Quota(40, per=1.0))
            pool = pool_of(simulator, account, coordinator=coordinator)
            await stack.enter_async_context(pool)
            assert pool.state().coordinated is (number == 0)
            transfers = (act(WarmTransfer, 1000 * number + n) for n in range(80))
            sends += [send(pool, transfer, send_within=20.0) for transfer in transfers]
        outcomes = await asyncio.gather(*sends)
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        assert simulator.ledger.refused_429 == 0
        assert not warnings_in(caplog)
        assert sum("not heard" in record.message for record in caplog.records) == 1
        await asyncio.to_thread(own_postgres.kill)
        await until(lambda: len(warnings_in(caplog)) == 2)


async def test_pool_that_only_can_not_book_draws_no_429(
    own_postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    """The database misses it after 3 s, and another pool books its share meanwhile."""
    caplog.set_level(logging.WARNING, "aiophlo")
    await migrate(own_postgres.url)
    async with (
        Simulator(quota=(40, 1.0)) as simulator,
        Relay(own_postgres.port) as relay,
        AsyncExitStack() as stack,
    ):
        pools, coordinators = [], []
        for url in (relay.url, own_postgres.url):
            coordinator = PostgresCoordinator(url, listen_url=own_postgres.url)
            account = account_of(simulator, quota=Quota(40, per=1.0))
            pool = pool_of(simulator, account, coordinator=coordinator)
            pools.append(await stack.enter_async_context(pool))
            coordinators.append(coordinator)
        one, two = coordinators
        await until(lambda: one.shares.pools == two.shares.pools == 2)
        sends = [
            asyncio.create_task(
                send(pool, act(WarmTransfer, 1000 * number + n), send_within=20.0)
            )
            for n in range(150)
            for number, pool in enumerate(pools)
        ]
        for _ in range(3):  # as of a disk that is full for some tables
            await simulator.wait_for(requests=simulator.ledger.received + 20)
            relay.cut()
            relay.hang_up()
            await until(lambda: not one.coordinated)
            await until(lambda: two.shares.available == 0.5, within=0.5)
            relay.mend()
            await until(lambda: one.coordinated)
            await until(lambda: two.shares.available == 1.0, within=2.0)
        outcomes = await asyncio.gather(*sends)
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        assert simulator.ledger.refused_429 == 0


async def test_who_opens_or_was_deaf_hears_of_who_is_alone_already(
    own_postgres: Postgres, simulator: Simulator
) -> None:
    """It would book the share of the other for 3 s, as if nothing had been told."""
    await migrate(own_postgres.url)
    async with (
        Relay(own_postgres.port) as relay,
        Relay(own_postgres.port) as hearing,
        AsyncExitStack() as stack,
    ):

        async def open_pool(url: str, listen_url: str) -> PostgresCoordinator:
            coordinator = PostgresCoordinator(url, listen_url=listen_url)
            pool = pool_of(simulator, coordinator=coordinator)
            await stack.enter_async_context(pool)
            return coordinator

        direct = own_postgres.url
        one = await open_pool(relay.url, direct)
        two = await open_pool(direct, hearing.url)
        await until(lambda: one.shares.pools == two.shares.pools == 2)
        hearing.hang_up()
        await until(lambda: not two.coordinated)
        relay.cut()
        relay.hang_up()
        await until(lambda: not one.coordinated)
        three = await open_pool(direct, direct)
        await until(lambda: three.shares.available < 1.0, within=2.0)
        await until(lambda: two.shares.available < 1.0, within=0.5)


async def test_pool_that_is_alone_leaves_their_shares_to_those_that_open(
    own_postgres: Postgres,
) -> None:
    """It took all for itself, beside as many as were started after it."""
    await migrate(own_postgres.url)
    async with (
        Simulator(quota=(40, 1.0)) as simulator,
        Relay(own_postgres.port) as relay,
        AsyncExitStack() as stack,
    ):

        async def open_pool(url: str) -> tuple[SessionPool, PostgresCoordinator]:
            coordinator = PostgresCoordinator(url, listen_url=own_postgres.url)
            account = account_of(simulator, quota=Quota(40, per=1.0))
            pool = pool_of(simulator, account, coordinator=coordinator)
            return await stack.enter_async_context(pool), coordinator

        pool, one = await open_pool(relay.url)
        relay.cut()
        relay.hang_up()
        await until(lambda: not one.coordinated)
        for _ in range(3):
            await open_pool(own_postgres.url)
        await until(lambda: one.shares.pools == 4, within=2.0)
        transfers = [act(WarmTransfer, number) for number in range(6)]
        await send(pool, transfers[0])
        began = time.monotonic()
        await asyncio.gather(*[send(pool, transfer) for transfer in transfers[1:]])
        assert time.monotonic() - began > 4 * 4 / 40


async def test_fault_in_a_sign_of_life_does_not_end_them(
    own_postgres: Postgres,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The others would miss a pool that books on, and its handovers be taken over."""
    times = []
    note = PoolShares.note

    def fail_once(self: PoolShares, now: float, seen: dict[str, Any]) -> float:
        times.append(now)
        if len(times) == 2:
            raise RuntimeError("a fault")
        return note(self, now, seen)

    async with coordinated(own_postgres.url, simulator) as (pool,):
        times.clear()
        monkeypatch.setattr(PoolShares, "note", fail_once)
        await until(lambda: len(times) >= 3)
        await until(lambda: pool.state().coordinated)
    assert "coordinating pools failed" in caplog.text


async def test_joiner_of_a_pool_that_was_cut_off_is_in_doubt(
    own_postgres: Postgres, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Its phone rings, and "not sent" would have the agent dial again."""
    await migrate(own_postgres.url)
    async with Relay(own_postgres.port) as relay, AsyncExitStack() as stack:
        pools = []
        for its_url in (relay.url, own_postgres.url):
            coordinator = PostgresCoordinator(its_url)
            pool = pool_of(simulator, coordinator=coordinator)
            pools.append(await stack.enter_async_context(pool))
        one, two = pools
        held = simulator.hold_answers()
        leader = asyncio.create_task(send(one, act(WarmTransfer, 1)))
        await simulator.wait_for(requests=1)
        relay.cut()
        await until(lambda: bool(warnings_in(caplog)))
        assert not one.state().coordinated
        await asyncio.sleep(2.0)
        outcome = await send(two, act(WarmTransfer, 1), send_within=1.0)
        assert isinstance(outcome, InDoubt)
        await asyncio.sleep(2.0)
        held.release()
        await leader
        assert not (await send(two, act(WarmTransfer, 1))).joined, "it's long over"


async def test_fault_of_ours_does_not_end_coordination_for_ever(
    own_postgres: Postgres, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word the pool would take no more slots, or all of them."""
    async with coordinated(own_postgres.url, simulator) as (pool,):
        with monkeypatch.context() as patch:
            patch.setattr(ServerClock, "note", lambda *_: 1 / 0)
            await until(lambda: not pool.state().coordinated)
            assert isinstance(await send(pool, act(WarmTransfer, 1)), Accepted)
        await until(lambda: pool.state().coordinated)
        assert isinstance(await send(pool, act(WarmTransfer, 2)), Accepted)


async def test_driver_that_never_ends_its_connecting_holds_nobody_up(
    own_postgres: Postgres, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Psycopg waits for a server that is silent, though it has been cancelled."""
    async with coordinated(own_postgres.url, simulator) as (pool,):
        own_connect = psycopg.AsyncConnection.connect
        hanging = asyncio.Event()

        async def hang(*arguments: object, **options: object) -> object:
            while not hanging.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await hanging.wait()
            return await own_connect(*arguments, **options)  # type: ignore[arg-type]  # passed on

        monkeypatch.setattr(psycopg.AsyncConnection, "connect", hang)
        await asyncio.to_thread(own_postgres.kill)
        await until(lambda: not pool.state().coordinated)
        await asyncio.to_thread(own_postgres.start)
        began = time.monotonic()
        outcome = await send(pool, act(WarmTransfer, 1), send_within=2.0)
        assert isinstance(outcome, Accepted)
        await asyncio.sleep(2.5)
        monkeypatch.undo()
        await until(lambda: pool.state().coordinated)
        assert time.monotonic() - began < 8.0
        hanging.set()


async def test_joiner_whose_pool_misses_all_notices_hears_the_outcome(
    own_postgres: Postgres, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a notice tells is in the database, too: it is looked up."""
    monkeypatch.setattr(Listener, "_hear", lambda *_: None)
    async with coordinated(own_postgres.url, simulator, 2) as (one, two):
        held = simulator.hold_answers()
        leader = asyncio.create_task(send(one, act(WarmTransfer, 1)))
        await simulator.wait_for(requests=1)
        joiner = asyncio.create_task(send(two, act(WarmTransfer, 1)))
        await asyncio.sleep(0.3)
        held.release()
        await leader
        async with asyncio.timeout(1.5):
            outcome = await joiner
        assert isinstance(outcome, Accepted)
        assert outcome.joined
    assert simulator.ledger.dials() == 1
