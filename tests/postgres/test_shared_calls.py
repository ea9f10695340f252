"""Whichever process is fed an event, all hear of it, and one that starts later, too."""

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import psycopg
import pytest

from aiophlo import Account, EventRouter, InvalidInputError, SessionPool
from aiophlo.handover.conversations import Presence
from aiophlo.handover.watch import Party
from aiophlo.model.call_events import CallEvent
from aiophlo.postgres import PostgresCoordinator, migrate
from aiophlo.postgres.keyed_hash import common_secret
from aiophlo.postgres.shared_calls import CallDigests, PostgresCalls
from aiophlo.simulator import Callback, Simulator, State
from aiophlo.webhooks.events import Event, parse_event
from tests.handover.test_event_router import (
    AGENT,
    CUSTOMER,
    HERE,
    PARTNER,
    SECOND,
    enter,
    leave,
    refused,
)
from tests.postgres.conftest import SharedPool
from tests.postgres.test_outage import until
from tests.support.doubles import pool_of
from tests.support.handover_stage import webhook
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.relay import Relay

ACCOUNT = Account("MA" + "A" * 18, "t" * 40)
OTHER = Account("MA" + "B" * 18, "u" * 40)
SECRET = "a secret of the whole service"  # noqa: S105 -- a test's
INSIDE, LEFT = Presence.INSIDE, Presence.LEFT


class Process:
    """What hears events as one process does.

    Attributes:
        coordinator: Its own.
        heard: What it heard from others.
    """

    def __init__(self, coordinator: PostgresCoordinator) -> None:
        self.coordinator = coordinator
        self.heard: list[CallEvent] = []
        self.calls: PostgresCalls = coordinator.calls(self.heard.append)

    def tell(self, number: int = 0, *, left: bool = False, **more: Any) -> int:  # noqa: ANN401 -- CallEvent's own
        """Tell of a call; returns the event's id."""
        event = CallEvent(
            keys=(f"+1415000{number:04}",),
            call_uuid=f"call {number}",
            conference_uuid="conference",
            called_in=False,
            left=left,
        )
        return self.calls.tell(attrs.evolve(event, **more)).id

    @property
    def ids(self) -> Counter[int]:
        """How often each event was heard."""
        return Counter(event.id for event in self.heard)

    async def has_heard(self, told: Collection[int]) -> None:
        """Wait until it has heard these, and see that it heard each once."""
        await until(lambda: len(self.heard) >= len(told))
        assert self.ids == Counter(told)


@asynccontextmanager
async def processes(
    url: str,
    number: int = 1,
    *,
    account: Account = ACCOUNT,
    **options: Any,  # noqa: ANN401 -- PostgresCoordinator's own
) -> AsyncIterator[list[Process]]:
    """Give so many that share events."""
    async with AsyncExitStack() as stack:
        some = []
        for _ in range(number):
            process = Process(PostgresCoordinator(url, **options))
            await process.coordinator.open(random.random, [account])
            stack.push_async_callback(process.coordinator.close)
            some.append(process)
        yield some


async def all_told(router: EventRouter) -> None:
    """Wait until all that a router was fed is in the database."""
    await until(calls_of(router)._all_told.is_set)  # noqa: SLF001 -- nobody else needs to know


async def has_read(router: EventRouter) -> None:
    """Wait until a router has heard all that was told before it began."""
    await until(lambda: calls_of(router)._hears_all)  # noqa: SLF001 -- as above


def calls_of(router: EventRouter) -> PostgresCalls:
    """Return what a router shares."""
    calls = router._shared  # noqa: SLF001 -- as above
    assert isinstance(calls, PostgresCalls)
    return calls


async def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """Return what a query gives."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as it:
        cursor = await it.execute(query.encode())
        return await cursor.fetchall() if cursor.description else []


def listen(router: EventRouter) -> list[tuple[Party, Presence]]:
    """Begin a handover that rings the partner; give what it is told."""
    told: list[tuple[Party, Presence]] = []
    watch = router.watch(
        agent=AGENT, customer=CUSTOMER, tell=lambda *what: told.append(what)
    )
    router.follow(watch, PARTNER)
    return told


@asynccontextmanager
async def workers(
    postgres: Postgres, namespace: str, simulator: Simulator, number: int
) -> AsyncIterator[list[EventRouter]]:
    """Give the routers of so many pools."""
    async with AsyncExitStack() as stack:
        routers = []
        for _ in range(number):
            coordinator = PostgresCoordinator(postgres.url, namespace=namespace)
            routers.append(EventRouter(coordinator=coordinator))
            pool = pool_of(simulator, coordinator=coordinator)
            await stack.enter_async_context(pool)
        yield routers


async def test_event_reaches_the_handover_wherever_it_is(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """Of 60 handovers on three workers, 48 partners who answered were cut off."""
    async with workers(postgres, namespace, simulator, 2) as (one, two):
        two.feed(enter(CUSTOMER))
        one.feed(enter(AGENT))
        told = listen(one)
        two.feed(enter(PARTNER))
        await until(lambda: (Party.PARTNER, INSIDE) in told)
        two.feed(leave(CUSTOMER))
        await until(lambda: (Party.CUSTOMER, LEFT) in told)


async def test_process_that_starts_in_mid_call_knows_who_is_inside(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """After a deployment nobody could be handed over whose call was older."""
    async with workers(postgres, namespace, simulator, 1) as (one,):
        for event in (enter(CUSTOMER), enter(AGENT), enter(SECOND), leave(SECOND)):
            one.feed(event)
        async with workers(postgres, namespace, simulator, 1) as (two,):
            told = listen(two)
            await until(lambda: dict(told).get(Party.CUSTOMER) is INSIDE)
            assert (Party.AGENT, INSIDE) in told
            one.feed(refused("busy", "ring"))
            await until(lambda: told[-1] == (Party.PARTNER, LEFT))


async def test_handover_comes_off_in_a_process_that_gets_none_of_its_events(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """It began after the call, and the proxy has another favourite."""
    people = {AGENT: State.LEFT, CUSTOMER: State.TALKING, PARTNER: State.TALKING}
    coordinator = PostgresCoordinator(postgres.url, namespace=namespace)
    router = EventRouter(coordinator=coordinator)
    async with (
        workers(postgres, namespace, simulator, 1) as (other,),
        webhook(other, simulator.auth_token) as url,
    ):
        simulator.post_events(Callback(url=url))
        call = simulator.place_call("p", "n", agent=AGENT, customer=CUSTOMER)
        await simulator.wait_for(lambda _: len(simulator.posts) == 2)
        async with pool_of(simulator, coordinator=coordinator) as pool:
            node = pool.phlo("p").multi_party_call("n")
            options: dict[str, Any] = {"agent": AGENT, "customer": CUSTOMER}
            async with pool.consult(
                node, to=PARTNER, router=router, **options
            ) as consult:
                assert await consult.complete() == PARTNER
            assert {it.address: it.state for it in call.members.values()} == people


async def test_router_that_is_made_late_knows_who_is_inside(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """Who makes it at the first handover must not be the only one who knows nothing."""
    coordinator = PostgresCoordinator(postgres.url, namespace=namespace)
    async with (
        workers(postgres, namespace, simulator, 1) as (one,),
        pool_of(simulator, coordinator=coordinator),
    ):
        one.feed(enter(CUSTOMER))
        one.feed(enter(AGENT))
        await all_told(one)
        router = EventRouter(coordinator=coordinator)
        told = listen(router)
        await until(lambda: len(dict(told)) == 2)


async def test_last_words_of_a_process_are_heard(
    postgres: Postgres, namespace: str
) -> None:
    """A worker that is renewed got the event, and nobody else ever will."""
    async with processes(postgres.url, namespace=namespace) as (one,):
        async with processes(postgres.url, namespace=namespace) as (two,):
            told = [two.tell(number) for number in range(250)]
        await one.has_heard(told)


async def test_no_event_is_missed_when_every_connection_is_cut_at_once(
    own_postgres: Postgres,
) -> None:
    """A failover of the database in mid-call would leave answered phones unnoticed."""
    await migrate(own_postgres.url)
    async with processes(own_postgres.url, 4) as some:
        told: list[set[int]] = [set() for _ in some]
        for number in range(1_500):
            which = number % len(some)
            told[which].add(some[which].tell(number, left=number % 3 == 0))
            await asyncio.sleep(0.002)
            if number % 400 == 399:
                await rows(own_postgres.url, CUT_ALL)
        everything = set.union(*told)
        for process, own in zip(some, told, strict=True):
            await process.has_heard(everything - own)


CUT_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'aiophlo'"
)


async def test_no_event_is_missed_by_one_that_is_cut_off_without_a_word(
    own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes three seconds to notice, and partners answer meanwhile."""
    monkeypatch.setattr("aiophlo.postgres.shared_calls._OUT_OF_ORDER", 0.1)
    await migrate(own_postgres.url)
    async with (
        Relay(own_postgres.port) as relay,
        processes(relay.url) as (one,),
        processes(own_postgres.url) as (two,),
    ):
        by_two = [two.tell(number) for number in range(10)]
        await one.has_heard(by_two)
        relay.cut()
        by_one: list[int] = []
        while one.coordinator.coordinated:
            by_two.append(two.tell(len(by_two)))
            by_one.append(one.tell(5_000 + len(by_one)))
            await asyncio.sleep(0.02)
        relay.mend()
        await one.has_heard(by_two)
        await two.has_heard(by_one)


async def test_what_is_written_late_is_heard_by_one_that_was_cut_off(
    own_postgres: Postgres,
) -> None:
    """What was asked first isn't always what is there first."""
    await migrate(own_postgres.url)
    async with (
        processes(own_postgres.url, 2) as (one, two),
        await psycopg.AsyncConnection.connect(own_postgres.url) as late,
    ):
        event = two.calls.tell(CallEvent(("+14150000000",), "call", "", False, False))  # noqa: FBT003 -- short
        await one.has_heard([event.id])
        row = json.dumps({"id": "late", "joined_id": 7})
        await late.execute(
            "INSERT INTO aiophlo.calls"
            " SELECT (jsonb_populate_record(c, %s)).* FROM aiophlo.calls c",
            (row,),
        )
        await late.execute(
            "UPDATE aiophlo.calls SET joined_told = joined_told - 4 WHERE id = 'late'"
        )
        await rows(own_postgres.url, CUT_ALL)
        await late.commit()
        await until(lambda: one.ids[7] == 1)


async def test_one_that_cannot_listen_is_heard(own_postgres: Postgres) -> None:
    """Its events would be lost for the others, whose handovers they are about."""
    await migrate(own_postgres.url)
    deaf = f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"
    async with (
        processes(own_postgres.url, listen_url=deaf) as (one,),
        processes(own_postgres.url) as (two,),
    ):
        assert not one.coordinator.coordinated
        told = [one.tell(number) for number in range(150)]
        await two.has_heard(told)
        await asyncio.to_thread(own_postgres.kill)
        await until(lambda: not one.coordinator._operations.open)  # noqa: SLF001 -- said nowhere else
        told += [one.tell(number) for number in range(150, 300)]
        await asyncio.to_thread(own_postgres.start)
        await two.has_heard(told)


async def test_event_is_known_again_for_a_while(
    postgres: Postgres, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids of every event of a year would fill the memory."""
    monkeypatch.setattr("aiophlo.postgres.shared_calls._KNOWN", 3)
    async with processes(postgres.url, namespace=namespace) as (one,):
        known = [one.tell(number) for number in range(5)][-3:]
        assert one.calls._known == set(known)  # noqa: SLF001 -- no other sees it


@pytest.mark.parametrize("is_told_before", [True, False])
async def test_no_event_is_missed_through_a_crash_of_the_server(
    own_postgres: Postgres,
    is_told_before: bool,
) -> None:
    """What it wrote in its last moment may be lost, and callers stay on the line."""
    await migrate(own_postgres.url)
    async with processes(own_postgres.url, 2) as (one, two):
        told = {one.tell(number) for number in range(200)}
        if is_told_before:
            await two.has_heard(told)
        await asyncio.to_thread(own_postgres.kill)
        told |= {one.tell(number) for number in range(200, 400)}
        await asyncio.sleep(0.1)
        told |= {one.tell(number) for number in range(400, 600)}
        await asyncio.to_thread(own_postgres.start)
        await two.has_heard(told)
        async with processes(own_postgres.url) as (later,):
            await later.has_heard(told)


async def test_what_cannot_be_told_is_bounded(
    own_postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A night without the database must not fill the memory of every worker."""
    monkeypatch.setattr("aiophlo.postgres.shared_calls._UNTOLD", 10)
    await migrate(own_postgres.url)
    async with processes(own_postgres.url, 2) as (one, two):
        await asyncio.to_thread(own_postgres.kill)
        await until(lambda: not one.coordinator.coordinated)
        told = [one.tell(number) for number in range(50)]
        await asyncio.to_thread(own_postgres.start)
        await until(lambda: len(two.heard) >= 10)
        assert two.ids == Counter(told[-10:])
    assert sum("dropped" in record.message for record in caplog.records) == 1


async def test_other_secret_is_counted_and_said_once(
    postgres: Postgres, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whose accounts differ would wonder why half of the events don't arrive."""
    caplog.set_level(logging.WARNING, "aiophlo")
    async with (
        processes(postgres.url, namespace=namespace) as (one,),
        processes(postgres.url, namespace=namespace, account=OTHER) as (two,),
    ):
        for number in range(3):
            two.tell(number)
        await until(lambda: one.coordinator.foreign_events == 3)
        assert one.heard == []
        assert two.coordinator.foreign_events == 0
        said = [it.message for it in caplog.records if "secret" in it.message]
        assert len(said) == 1
    async with processes(postgres.url, namespace=namespace) as (late,):
        own = late.tell(7)
        async with processes(postgres.url, namespace=namespace) as (later,):
            await until(lambda: later.ids[own] == 1)
            assert later.ids == Counter([own])


async def test_secret_lets_other_accounts_share(
    postgres: Postgres, namespace: str
) -> None:
    """One process has all accounts, another some of them."""
    options: dict[str, Any] = {"namespace": namespace, "secret": SECRET}
    async with (
        processes(postgres.url, **options) as (one,),
        processes(postgres.url, account=OTHER, **options) as (two,),
    ):
        told = one.tell()
        await until(lambda: two.ids == Counter([told]))


def digests_of(*accounts: Account, common: str | None = None) -> CallDigests:
    """Return the digests that pools with these accounts share."""
    return CallDigests(common_secret("calls", accounts, common))


def test_digests_are_made_of_any_text() -> None:
    """A key holds a lone surrogate where an endpoint's user was no UTF-8."""
    digests = digests_of(ACCOUNT, common="a secret \udcff of an environment")
    hidden = {digests.hide(text) for text in ("\udcff@host", "é@host", "+14150000000")}
    assert {len(text) for text in hidden} == {16}
    assert len(hidden) == 3
    assert digests.hide("") == ""
    assert digests_of(ACCOUNT, OTHER).fingerprint == (
        digests_of(OTHER, ACCOUNT).fingerprint
    )


@pytest.mark.parametrize("secret", ["", "short", b"0123456789abcdef"])
def test_secret_that_is_none_is_refused_and_not_shown(secret: Any) -> None:  # noqa: ANN401 -- anything
    """One that anybody can guess hides no number."""
    with pytest.raises(InvalidInputError, match="secret: expected text of 16") as it:
        PostgresCoordinator("postgresql:///calls", secret=secret)
    assert "short" not in str(it.value)
    assert SECRET not in repr(PostgresCoordinator("postgresql:///calls", secret=SECRET))


async def test_no_number_is_written_told_or_logged(
    postgres: Postgres,
    namespace: str,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who reads the database, or listens to it, must not learn who calls whom."""
    caplog.set_level(logging.DEBUG, "aiophlo")
    async with (
        workers(postgres, namespace, simulator, 1) as (one,),
        await psycopg.AsyncConnection.connect(
            postgres.url, autocommit=True
        ) as connection,
    ):
        await connection.execute(f"LISTEN {namespace}".encode())
        one.feed(enter(CUSTOMER))
        one.feed(parse_event({**enter(AGENT).fields, "direction": ""}))
        one.feed(parse_event({**enter(AGENT).fields, "to": "04152223333"}))
        notices = [
            notice.payload
            async for notice in connection.notifies(timeout=5, stop_after=1)
        ]
        await all_told(one)
        found = await rows(postgres.url, f"SELECT c::text FROM {namespace}.calls c")  # noqa: S608 -- a test's
    text = repr((notices, found, [it.getMessage() for it in caplog.records]))
    assert "call" in notices[0]
    assert len(found) == 3
    for secret in (AGENT[1:], AGENT[2:], CUSTOMER[1:], HERE, simulator.auth_token):
        assert secret not in text


async def test_calls_are_forgotten_some_minutes_after_they_ended(
    postgres: Postgres, namespace: str
) -> None:
    """A table of every call of a year is what nobody wants to have."""
    times = {"ended": 301, "just ended": 299, "live": 86_000, "lost": 87_000}
    table = f"{namespace}.calls"
    async with processes(postgres.url, namespace=namespace) as (one,):
        for number, name in enumerate(times):
            for left in (False, True)[: 2 if "ended" in name else 1]:
                one.tell(number, left=left, call_uuid=name)
        one.tell(8, left=True, call_uuid="")  # no id: they came back
        one.tell(8, call_uuid="")
        one.tell(9, call_uuid="")  # no id, and gone
        one.tell(9, left=True, call_uuid="")
        await until(one.calls._all_told.is_set)  # noqa: SLF001 -- as above
        hidden = {one.calls.hide(name): name for name in times}
        for uuid, name in hidden.items():
            seconds = times[name]
            await rows(
                postgres.url,
                f"UPDATE {table} SET joined_told = joined_told - {seconds},"  # noqa: S608 -- a test's
                f" left_told = left_told - {seconds} WHERE call_uuid = '{uuid}'",
            )
        await rows(
            postgres.url,
            f"UPDATE {table} SET joined_told = joined_told - 999,"  # noqa: S608 -- a test's
            " left_told = left_told - 999 WHERE call_uuid = ''",
        )
        await one.coordinator._operations.ask({"do": "tidy"})  # noqa: SLF001 -- once a minute
        found = await rows(postgres.url, f"SELECT call_uuid FROM {table}")  # noqa: S608 -- a test's
    assert sorted(hidden.get(uuid, "back") for (uuid,) in found) == [
        "back",
        "just ended",
        "live",
    ]


async def test_reading_two_hours_of_calls_lets_others_have_their_turn(
    postgres: Postgres, namespace: str
) -> None:
    """A worker that starts would answer nobody for half a minute."""
    async with processes(postgres.url, namespace=namespace) as (one,):
        told = Counter(one.tell(number) for number in range(2_300))
        await until(one.calls._all_told.is_set)  # noqa: SLF001 -- as above
        turns: list[int] = []
        later = Process(PostgresCoordinator(postgres.url, namespace=namespace))
        turn = 0

        def note(event: CallEvent) -> None:
            turns.append(turn)
            later.heard.append(event)

        later.calls._hear = note  # noqa: SLF001 -- counts
        await later.coordinator.open(random.random, [ACCOUNT])
        while len(later.heard) < 2_300:
            turn += 1
            await asyncio.sleep(0)
        await later.coordinator.close()
        assert later.ids == told
        assert max(Counter(turns).values()) <= 50


async def test_event_that_is_told_twice_changes_nothing(
    postgres: Postgres, namespace: str
) -> None:
    """Who came back without an id would be taken to have left, or the other way."""
    async with processes(postgres.url, namespace=namespace) as (one,):
        told = [
            one.tell(1, call_uuid=""),
            one.tell(1, call_uuid="", left=True),
            one.tell(1, call_uuid=""),
        ]
        await until(one.calls._all_told.is_set)  # noqa: SLF001 -- as above
        query = (
            "SELECT joined_id, round(joined_at::numeric, 1), left_id,"  # noqa: S608 -- a test's
            f" round(left_at::numeric, 1) FROM {namespace}.calls"
        )
        before = await rows(postgres.url, query)
        assert (before[0][0], before[0][2]) == (told[2], told[1])
        for _ in range(2):  # as after a crash
            one.calls.catch_up()
            await until(one.calls._all_told.is_set)  # noqa: SLF001 -- as above
        assert await rows(postgres.url, query) == before


async def test_router_is_fed_only_while_its_pool_is_open(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """Before, nobody could be told; and an event loop's own things aren't another's."""
    coordinator = PostgresCoordinator(postgres.url, namespace=namespace)
    router = EventRouter(coordinator=coordinator)
    with pytest.raises(InvalidInputError, match="router: expected the pool"):
        router.feed(enter(AGENT))
    async with pool_of(simulator, coordinator=coordinator):
        assert router.feed(enter(AGENT)) is None
        with pytest.raises(InvalidInputError, match="router: it is used from a thread"):
            await asyncio.to_thread(router.feed, enter(CUSTOMER))
    assert router.feed(enter(CUSTOMER)) is None, "what comes late harms nobody"


async def test_pool_refuses_the_router_of_another_coordinator(
    shared_pool: SharedPool, postgres: Postgres, namespace: str
) -> None:
    """Its events would never reach the handover."""
    pool: SessionPool = await shared_pool()
    other = PostgresCoordinator(postgres.url, namespace=namespace)
    node = pool.phlo("phlo").multi_party_call("node")
    options: dict[str, Any] = {"agent": AGENT, "customer": CUSTOMER, "to": PARTNER}
    with pytest.raises(InvalidInputError, match="router: expected one with the coord"):
        pool.consult(node, router=EventRouter(coordinator=other), **options)
    pool.consult(node, router=EventRouter(), **options)  # which shares nothing


def random_event(chance: random.Random) -> Event:
    """Return an event of a few people in a few calls."""
    member = chance.choice((AGENT, CUSTOMER, PARTNER, SECOND))
    where = chance.choice(("a", "b"))
    leg = chance.choice(("", f"{member} in {where}", f"{member} again in {where}"))
    event = chance.choice((enter, leave))(member, where, leg or "nameless")
    return parse_event({**event.fields, "call_uuid": leg})


async def test_who_reads_the_table_knows_what_all_events_tell(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> None:
    """A row for a call must say no less than its events did."""
    seed = random.randrange(10**6)  # noqa: S311 -- another one each time
    chance = random.Random(seed)  # noqa: S311 -- a test's
    for number in range(15):
        name = f"{namespace}_{number}"
        await migrate(postgres.url, namespace=name)
        async with workers(postgres, name, simulator, 2) as (one, two):
            for _ in range(chance.randrange(1, 25)):
                chance.choice((one, two)).feed(random_event(chance))
                await asyncio.sleep(0.002)
            for it in (one, two):
                await all_told(it)
            async with workers(postgres, name, simulator, 1) as (late,):
                await has_read(late)
                assert seen_by(late) == seen_by(one) == seen_by(two), f"seed {seed}"


def seen_by(router: EventRouter) -> dict[str, object]:
    """Return what a router tells a handover that begins now, in each conversation."""
    seen: dict[str, object] = {}
    for where in ("a", "b"):
        told: list[tuple[Party, Presence]] = []
        watch = router.watch(
            agent=AGENT,
            customer=CUSTOMER,
            tell=lambda *what: told.append(what),  # noqa: B023 -- at once
            conference_uuid=where,
        )
        seen[where] = told
        router.forget(watch)
    return seen
