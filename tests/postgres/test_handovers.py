"""Handovers of several pools: nobody is in two, and none is left behind."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from aiophlo import (
    CustomerOnHoldError,
    EngagedError,
    EventRouter,
    Journal,
    NobodyAnsweredError,
    NotSentError,
    PartnerLeftError,
    Reason,
    Recovery,
    SessionPool,
    TakenOverError,
)
from aiophlo.coordination import Claim, Lease
from aiophlo.handover import whereabouts
from aiophlo.handover.whereabouts import SETTLED
from aiophlo.model.handover_records import OpenHandover
from aiophlo.observed_events import HandoverStep, ObservedEvent
from aiophlo.postgres import PostgresCoordinator, migrate
from aiophlo.postgres.lease import PostgresLease
from aiophlo.simulator import Callback, Habit, Simulator
from tests.postgres.test_outage import until
from tests.support.doubles import account_of, pool_of
from tests.support.handover_process import child, stage_of
from tests.support.handover_stage import (
    AGENT,
    CONSULTING,
    CUSTOMER,
    FIRST,
    LEFT,
    NODE,
    ON_HOLD,
    PHLO,
    RINGING,
    SECOND,
    TALKING,
    Stage,
    set_stage,
    webhook,
)
from tests.support.postgres import Postgres
from tests.support.relay import Relay

pytestmark = pytest.mark.long

LEASE = 3.0  # seconds


def coordinator(postgres: Postgres, namespace: str = "aiophlo") -> PostgresCoordinator:
    """Return one whose leases are short."""
    return PostgresCoordinator(postgres.url, namespace=namespace, lease=LEASE)


@asynccontextmanager
async def two_pools(postgres: Postgres, namespace: str) -> AsyncIterator[list[Stage]]:
    """Give a call, and two pools that may hand it over; both hear of its events."""
    async with (
        set_stage(coordinator=coordinator(postgres, namespace)) as stage,
        pool_of(stage.simulator, coordinator=coordinator(postgres, namespace)) as other,
    ):
        yield [stage, attrs.evolve(stage, pool=other)]


async def until_it_says(
    postgres: Postgres, query: str, namespace: str = "aiophlo"
) -> None:
    """Wait until a query returns true, in one row."""
    async with asyncio.timeout(15.0):
        while await postgres.rows(query.format(schema=namespace)) != [(True,)]:  # noqa: ASYNC110 -- of what other processes do
            await asyncio.sleep(0.05)


async def test_database_holds_no_number_but_the_agents_while_a_handover_is_open(
    postgres: Postgres, namespace: str
) -> None:
    """Who was called, and by whom, is nobody's business a year later."""
    everything = (
        "SELECT h::text FROM {schema}.handovers h"
        " UNION ALL SELECT e::text FROM {schema}.engagements e"
    )
    async with two_pools(postgres, namespace) as (one, _), one.consult() as consult:
        held = str(await postgres.rows(everything.format(schema=namespace)))
        assert AGENT in held
        assert CUSTOMER not in held
        assert FIRST not in held
        await consult.complete()
    held = str(await postgres.rows(everything.format(schema=namespace)))
    assert consult.id in held
    assert AGENT not in held
    engaged = f"SELECT * FROM {namespace}.engagements"  # noqa: S608 -- a test's own
    assert await postgres.rows(engaged) == []


@asynccontextmanager
async def survivor(
    simulator: Simulator,
    postgres: Postgres,
    namespace: str,
    **options: Any,  # noqa: ANN401 -- SessionPool's own
) -> AsyncIterator[SessionPool]:
    """Give a pool that takes over what others leave behind."""
    shared = coordinator(postgres, namespace)
    async with pool_of(simulator, coordinator=shared, **options) as pool:
        yield pool


PHASES: dict[str, Callable[[Stage], Awaitable[None]]] = {
    "asking": lambda stage: stage.simulator.wait_for(held=1),
    "ringing": lambda stage: stage.until(CONSULTING, ON_HOLD, RINGING),
    "consulting": lambda stage: stage.until(CONSULTING, ON_HOLD, CONSULTING),
}


@pytest.mark.parametrize("phase", PHASES)
async def test_customer_is_brought_back_by_another_process_when_theirs_is_killed(
    postgres: Postgres,
    namespace: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    phase: str,
) -> None:
    """Nobody may listen to music until somebody restarts a worker."""
    heard: list[ObservedEvent] = []
    caplog.set_level(logging.WARNING, "aiophlo")
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(Simulator(quota=None, strict=True))
        simulator.set_habit(
            Habit("answers" if phase == "consulting" else "ignores", after=30.0)
            if phase == "ringing"
            else Habit("answers"),
            address=FIRST,
        )
        await stack.enter_async_context(
            survivor(simulator, postgres, namespace, observers=[heard.append])
        )
        process = await stack.enter_async_context(
            child(simulator, tmp_path / "journal", 60.0, postgres.url, namespace)
        )
        stage = stage_of(simulator)
        if phase == "asking":
            with simulator.hold_answers():
                await PHASES[phase](stage)
                process.kill()
                await process.wait()
        else:
            await PHASES[phase](stage)
            process.kill()
            await process.wait()
        await until(lambda: "taken over: " in caplog.text, within=15.0)
        assert stage.customer_is_with_agent
    steps = [one for one in heard if isinstance(one, HandoverStep)]
    assert [one.phase for one in steps] == ["bringing_back", "with_agent"]
    assert AGENT not in caplog.text
    assert not [it for it in caplog.records if it.levelno >= logging.CRITICAL]


@asynccontextmanager
async def events_elsewhere(
    postgres: Postgres, namespace: str, lease: float = LEASE
) -> AsyncIterator[tuple[Stage, Relay]]:
    """Give a call whose events go to another process than that which hands it over.

    The one that does has a way of its own to the database.
    """
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(Simulator(quota=None, strict=True))
        relay = await stack.enter_async_context(Relay(postgres.port))
        here = PostgresCoordinator(relay.url, namespace=namespace, lease=lease)
        there = coordinator(postgres, namespace)
        pool = await stack.enter_async_context(pool_of(simulator, coordinator=here))
        await stack.enter_async_context(pool_of(simulator, coordinator=there))
        url = await stack.enter_async_context(
            webhook(EventRouter(coordinator=there), simulator.auth_token)
        )
        simulator.post_events(Callback(url=url))
        call = simulator.place_call(PHLO, NODE, agent=AGENT, customer=CUSTOMER)
        yield Stage(simulator, pool, EventRouter(coordinator=here), call, []), relay


@pytest.mark.parametrize("stays", [True, False])
async def test_alarm_about_an_agent_who_left_is_raised_only_where_the_partner_did_too(
    postgres: Postgres,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
    *,
    stays: bool,
) -> None:
    """An abort says only that the agent is out; events say who has the customer."""
    caplog.set_level(logging.WARNING, "aiophlo")
    async with events_elsewhere(postgres, namespace) as (stage, relay):
        consult = await stage.consult(ring_for=30.0).__aenter__()
        relay.cut()  # as if it were killed
        stage.call.leave(stage.call[AGENT])
        if not stays:
            stage.call.leave(stage.call[FIRST])
        await until(lambda: "taken over: " in caplog.text, within=30.0)
        recovery = "with_partner" if stays else "unknown"
        assert f"taken over: {recovery}" in caplog.text
        assert ("on hold or alone" in caplog.text) is not stays
        relay.mend()
        await consult.ended()
        with pytest.raises(TakenOverError):
            await consult.complete()


async def test_newer_call_of_an_agent_is_left_alone_by_who_takes_the_older_one_over(
    postgres: Postgres,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They hear the next partner, hang up, and that one had just been cut off."""
    caplog.set_level(logging.WARNING, "aiophlo")
    monkeypatch.setattr(whereabouts, "LATEST", SETTLED)
    lease = 3 * SETTLED
    async with events_elsewhere(postgres, namespace, lease) as (stage, relay):
        simulator, older = stage.simulator, stage.call
        consult = await stage.consult(ring_for=30.0).__aenter__()
        relay.cut()  # as if it were killed
        for who in (CUSTOMER, AGENT, FIRST):
            older.leave(older[who])
        await asyncio.sleep(SETTLED)  # so much may an event be late
        newer = simulator.place_call(PHLO, NODE, agent=AGENT, customer="+14157770000")
        node = stage.pool.phlo(PHLO).multi_party_call(NODE)
        await node.warm_transfer(to=SECOND, trigger_source=AGENT)
        await until(lambda: "taken over: " in caplog.text, within=30.0)
        assert "taken over: over" in caplog.text
        assert newer[SECOND].state is newer[AGENT].state is CONSULTING
        assert "on hold or alone" not in caplog.text
        relay.mend()
        await consult.ended()
        with pytest.raises(TakenOverError):
            await consult.complete()


@pytest.mark.parametrize("host", [AGENT, FIRST])
@pytest.mark.parametrize("customer_stays", [True, False])
async def test_customer_left_to_somebody_who_was_gone_is_alarmed_of_once_that_is_told(
    postgres: Postgres,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
    host: str,
    *,
    customer_stays: bool,
) -> None:
    """Their leave came to a process that was cut off from the others."""
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(Simulator(quota=None, strict=True))
        relay = await stack.enter_async_context(Relay(postgres.port))
        here = coordinator(postgres, namespace)
        there = PostgresCoordinator(relay.url, namespace=namespace, lease=LEASE)
        pool = await stack.enter_async_context(pool_of(simulator, coordinator=here))
        other = await stack.enter_async_context(pool_of(simulator, coordinator=there))
        url = await stack.enter_async_context(
            webhook(EventRouter(coordinator=there), simulator.auth_token)
        )
        simulator.post_events(Callback(url=url))
        call = simulator.place_call(PHLO, NODE, agent=AGENT, customer=CUSTOMER)
        router = EventRouter(coordinator=here, told_within=0.15)
        stage = Stage(simulator, pool, router, call, [])
        consult = await stage.consult(ring_for=30.0).__aenter__()
        if host == AGENT:
            call.leave(call[FIRST])
            await consult.partner_left()
            with pytest.raises(PartnerLeftError):
                await consult.complete()
        relay.cut()
        leaving = [host] if customer_stays else [host, CUSTOMER]
        posted = len(simulator.posts) + len(leaving)
        for who in leaving:
            call.leave(call[who])
        await simulator.wait_for(lambda _: len(simulator.posts) == posted)
        await simulator.wait_for(lambda _: simulator.posts[-1].status == 200)
        if host == FIRST:
            assert await consult.complete() == FIRST
        await consult.__aexit__(None, None, None)
        assert "on hold or alone" not in caplog.text, "nobody here can know yet"
        relay.mend()
        await until(lambda: other.state().coordinated)
        if customer_stays:
            await until(lambda: "on hold or alone" in caplog.text)
        else:
            await until(lambda: router._late_news._ended[0].left != set())  # noqa: SLF001 -- that nothing follows, nothing tells
            await asyncio.sleep(2 * router.told_within)
            assert "on hold or alone" not in caplog.text


async def test_journal_of_a_killed_process_is_not_recovered_twice(
    postgres: Postgres, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that starts a minute later would abort the agent's newer transfer."""
    caplog.set_level(logging.WARNING, "aiophlo")
    async with (
        Simulator(quota=None, strict=True) as simulator,
        survivor(simulator, postgres, namespace) as pool,
    ):
        shared = postgres.url, namespace
        path = tmp_path / "journal"
        async with child(simulator, path, 60.0, *shared) as process:
            stage = stage_of(simulator)
            await stage.until(CONSULTING, ON_HOLD, CONSULTING)
            process.kill()
            await process.wait()
        await until(lambda: "taken over: " in caplog.text, within=15.0)
        node = pool.phlo("p").multi_party_call("n")
        await node.warm_transfer(to=SECOND, trigger_source=AGENT)
        async with Journal(path) as journal:
            (found,) = await pool.recover_handovers(journal)
            assert found.recovery is Recovery.TAKEN_OVER
            assert journal.handovers.left_open() == []
        assert stage.reached == {SECOND}, "the newer transfer goes on"


async def test_journal_is_recovered_before_the_lease_has_run_out(
    postgres: Postgres, namespace: str, tmp_path: Path
) -> None:
    """Its lock shows that the process has died: nobody need wait."""
    async with (
        Simulator(quota=None, strict=True) as simulator,
        survivor(simulator, postgres, namespace) as pool,
    ):
        path = tmp_path / "journal"
        shared = postgres.url, namespace
        async with child(simulator, path, 60.0, *shared) as process:
            stage = stage_of(simulator)
            await stage.until(CONSULTING, ON_HOLD, CONSULTING)
            process.kill()
            await process.wait()
        async with Journal(path) as journal:
            (found,) = await pool.recover_handovers(journal)
        assert found.recovery is Recovery.BROUGHT_BACK
        assert stage.customer_is_with_agent
        ended = "SELECT ended IS NOT NULL FROM {schema}.handovers"
        assert await postgres.rows(ended.format(schema=namespace)) == [(True,)]


async def test_process_that_was_stopped_does_nothing_once_it_wakes(
    postgres: Postgres, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It would abort the newer transfer, or hang the agent up in it."""
    caplog.set_level(logging.WARNING, "aiophlo")
    async with (
        Simulator(quota=None, strict=True) as simulator,
        survivor(simulator, postgres, namespace) as pool,
        child(simulator, tmp_path / "j", 6.0, postgres.url, namespace) as process,
    ):
        stage = stage_of(simulator)
        await stage.until(CONSULTING, ON_HOLD, CONSULTING)
        process.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: "taken over: " in caplog.text, within=15.0)
            node = pool.phlo("p").multi_party_call("n")
            await node.warm_transfer(to=SECOND, trigger_source=AGENT)
            await stage.until(CONSULTING, ON_HOLD)
            before = len(simulator.ledger.requests)
        finally:
            process.send_signal(signal.SIGCONT)
        _, errors = await asyncio.wait_for(process.communicate(), 20.0)
        assert b"TakenOverError" in errors
        assert b"on hold or alone" not in errors, "a false alarm"
        assert len(simulator.ledger.requests) == before
        assert stage.reached == {SECOND}


async def test_events_of_a_newer_handover_are_not_taken_for_the_older_ones(
    postgres: Postgres, namespace: str
) -> None:
    """A process that wakes hears that its agent has left, and that is well."""
    async with two_pools(postgres, namespace) as (one, two):
        consult = await one.consult().__aenter__()
        lease = consult._status.lease  # noqa: SLF001 -- nothing else tells when
        assert isinstance(lease, PostgresLease)
        lease._handovers.forget(lease)  # noqa: SLF001 -- a stopped process prolongs nothing
        one.pool._handovers().shared.stop_taking_over()  # noqa: SLF001 -- as above
        await until(lambda: not lease.holds)
        free = "SELECT count(*) = 0 FROM {schema}.engagements"
        await until_it_says(postgres, free, namespace)
        await two.node.warm_transfer(to=SECOND, trigger_source=AGENT)
        await two.node.member(AGENT).hangup()
        await until(lambda: consult._status.situation.ended)  # noqa: SLF001 -- as above
        with pytest.raises(TakenOverError):
            await consult.complete()
        assert one.alarms == []
        assert one.states() == (LEFT, TALKING, LEFT, TALKING)


async def test_handover_does_not_begin_where_other_pools_cannot_know_of_it(
    own_postgres: Postgres,
) -> None:
    """The agent may be in another one, and whose events come here is not known."""
    await migrate(own_postgres.url)
    async with set_stage(coordinator=coordinator(own_postgres)) as stage:
        await asyncio.to_thread(own_postgres.kill)
        await until(lambda: not stage.pool.state().coordinated)
        with pytest.raises(NotSentError) as caught:
            await stage.consult().__aenter__()
        assert caught.value.reason is Reason.NOT_COORDINATED
        assert stage.rung == []


async def test_customer_is_brought_back_though_the_database_is_away(
    own_postgres: Postgres,
) -> None:
    """A handover that is open when it goes must come to its end."""
    await migrate(own_postgres.url)
    async with set_stage(coordinator=coordinator(own_postgres)) as stage:
        async with stage.consult() as consult:
            await asyncio.to_thread(own_postgres.kill)
            lease = consult._status.lease  # noqa: SLF001 -- nothing else tells when
            await until(lambda: not lease.holds)
            with pytest.raises(NotSentError, match="Hangup") as caught:
                await consult.complete()
        assert caught.value.reason is Reason.NOT_COORDINATED
        assert stage.customer_is_with_agent
        assert stage.alarms == []


async def test_handover_completes_within_its_lease_though_the_database_is_away(
    own_postgres: Postgres,
) -> None:
    """A restart of the database takes a second, and nobody need notice."""
    await migrate(own_postgres.url)
    async with set_stage(coordinator=coordinator(own_postgres)) as stage:
        async with stage.consult() as consult:
            await asyncio.to_thread(own_postgres.kill)
            await until(lambda: not stage.pool.state().coordinated)
            await consult.complete()
        await asyncio.to_thread(own_postgres.start)
        await until(lambda: stage.pool.state().coordinated)
        ended = "SELECT ended IS NOT NULL FROM {schema}.handovers"
        await until_it_says(own_postgres, ended)
        assert stage.alarms == []


async def test_next_target_is_not_rung_without_the_database(
    own_postgres: Postgres,
) -> None:
    """They may be in a handover of another pool."""
    await migrate(own_postgres.url)
    async with set_stage(coordinator=coordinator(own_postgres)) as stage:
        stage.people_are("ignores", FIRST, after=30.0)
        entering = asyncio.ensure_future(
            stage.consult(to=[FIRST, SECOND], ring_for=1.5).__aenter__()
        )
        await stage.until(CONSULTING, ON_HOLD, RINGING)
        await asyncio.to_thread(own_postgres.kill)
        with pytest.raises((NotSentError, NobodyAnsweredError)) as caught:
            await entering
        assert "not_coordinated" in str(caught.value)
        assert stage.rung == [FIRST]
        assert stage.customer_is_with_agent


async def test_lease_outlives_a_restart_of_the_database(own_postgres: Postgres) -> None:
    """A talk that goes on must not be ended by a survivor of nothing."""
    await migrate(own_postgres.url)
    async with (
        set_stage(coordinator=coordinator(own_postgres)) as stage,
        survivor(stage.simulator, own_postgres, "aiophlo") as other,
    ):
        async with stage.consult() as consult:
            await asyncio.to_thread(own_postgres.kill)
            await asyncio.to_thread(own_postgres.start)
            lease = consult._status.lease  # noqa: SLF001 -- as above
            await until(lambda: stage.pool.state().coordinated)
            await until(lambda: other.state().coordinated)
            await until(lambda: lease.holds)
            await consult.complete()
        assert stage.alarms == []


async def test_begin_that_was_cancelled_leaves_the_agent_free(
    own_postgres: Postgres,
) -> None:
    """A browser that closed must not engage an agent for good."""
    await migrate(own_postgres.url)
    async with set_stage(coordinator=coordinator(own_postgres)) as stage:
        own_postgres.signal(signal.SIGSTOP)
        entering = asyncio.ensure_future(stage.consult().__aenter__())
        await asyncio.sleep(0)
        entering.cancel()
        own_postgres.signal(signal.SIGCONT)
        with pytest.raises(asyncio.CancelledError):
            await entering
        await until(lambda: stage.pool.state().coordinated)
        async with stage.consult() as consult:
            await consult.complete()
        assert stage.rung == [FIRST]


async def test_draining_pool_takes_nothing_over(
    postgres: Postgres, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It would leave what it has begun to the next one."""
    caplog.set_level(logging.WARNING, "aiophlo")
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(Simulator(quota=None, strict=True))
        draining = await stack.enter_async_context(
            survivor(simulator, postgres, namespace)
        )
        await draining.drain(within=0.1)
        shared = postgres.url, namespace
        process = await stack.enter_async_context(
            child(simulator, tmp_path / "journal", 60.0, *shared)
        )
        stage = stage_of(simulator)
        await stage.until(CONSULTING, ON_HOLD, CONSULTING)
        process.kill()
        await process.wait()
        overdue = (
            "SELECT extract(epoch FROM clock_timestamp()) > until + 2"
            " FROM {schema}.handovers"
        )
        await until_it_says(postgres, overdue, namespace)
        assert "taking over" not in caplog.text
        await stack.enter_async_context(survivor(simulator, postgres, namespace))
        await until(lambda: "taken over: brought_back" in caplog.text)
        assert stage.customer_is_with_agent


async def test_owner_that_wakes_while_another_still_brings_back_has_lost(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """Two that abort may both do so, and the second one aborts what comes after."""
    taken: list[Lease] = []
    account = account_of(simulator)
    one, two = coordinator(postgres, namespace), coordinator(postgres, namespace)
    await one.open(lambda: 0.0, [account])
    handover = OpenHandover(
        account=account.auth_id,
        phlo_id="p",
        node_id="n",
        agent=AGENT,
        customer="…44",
        targets="…55",
    )
    own = one.handovers(lambda *_: None)
    lease = own.lease(handover)
    assert await lease.begin(targets=[FIRST], conference_uuid=None) is None
    assert await lease.claim() is Claim.HELD
    own.forget(lease)  # a stopped process prolongs nothing
    own.stop_taking_over()
    await two.open(lambda: 0.0, [account])
    two.handovers(lambda _, lease, __: taken.append(lease))
    try:
        await until(lambda: bool(taken), within=10.0)
        assert not lease.holds
        assert await lease.claim() is Claim.TAKEN_OVER
        newer = own.lease(attrs.evolve(handover, id="newer"))
        assert await newer.begin(targets=[], conference_uuid=None) == "agent"
        lease.end()
        await lease.ended()
        assert await taken[0].claim() is Claim.HELD
    finally:
        await one.close()
        await two.close()


async def test_alarmed_handover_is_recovered_from_its_journal(
    postgres: Postgres, namespace: str, tmp_path: Path
) -> None:
    """Somebody was told, and the customer is on hold until something is done."""
    async with (
        set_stage(coordinator=coordinator(postgres, namespace)) as stage,
        Journal(tmp_path / "journal") as journal,
    ):
        with pytest.raises(CustomerOnHoldError):
            async with stage.consult(journal=journal, bring_back_within=0.2):
                stage.simulator.answer_next(502, action="abort_transfer", times=None)
        stage.simulator.clear_script()
        (found,) = await stage.pool.recover_handovers(journal)
        assert found.recovery is Recovery.NO_TRANSFER  # the last one came through
        assert stage.customer_is_with_agent


async def test_clicks_at_the_same_moment_in_two_processes_begin_one_handover(
    postgres: Postgres, namespace: str
) -> None:
    """Nobody can say which was first, and neither may harm the other."""
    async with two_pools(postgres, namespace) as stages:

        async def hand_over(stage: Stage) -> bool:
            try:
                async with stage.consult():
                    pass
            except EngagedError:
                return False
            return True

        for number in range(1, 51):
            begun = await asyncio.gather(*map(hand_over, stages))
            assert sum(begun) in {1, 2}  # both, one after the other
            assert stages[0].customer_is_with_agent
            assert len(stages[0].rung) >= number
        assert stages[0].alarms == []
        engaged = "SELECT count(*) = 0 FROM {schema}.engagements"
        assert await postgres.rows(engaged.format(schema=namespace)) == [(True,)]


async def test_process_that_wakes_with_its_connection_lost_asks_before_it_acts(
    postgres: Postgres, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine that slept has lost its connections, and the newer transfer goes on."""
    caplog.set_level(logging.WARNING, "aiophlo")
    async with (
        Simulator(quota=None, strict=True) as simulator,
        survivor(simulator, postgres, namespace) as pool,
        child(simulator, tmp_path / "j", 2.0, postgres.url, namespace) as process,
    ):
        stage = stage_of(simulator)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"talking\n"
        process.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: "taken over: " in caplog.text, within=15.0)
            await postgres.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'aiophlo'",
            )
            await until(lambda: pool.state().coordinated)
            await (
                pool.phlo("p")
                .multi_party_call("n")
                .warm_transfer(to=SECOND, trigger_source=AGENT)
            )
            await stage.until(CONSULTING, ON_HOLD)
            before = len(simulator.ledger.requests)
        finally:
            process.send_signal(signal.SIGCONT)
        _, errors = await asyncio.wait_for(process.communicate(), 20.0)
        assert b"TakenOverError" in errors
        assert b"on hold or alone" not in errors, "a false alarm"
        assert len(simulator.ledger.requests) == before
        assert stage.reached == {SECOND}
