"""A batch's memory in Postgres: several runners, one list, nobody rung twice."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import attrs
import psycopg
import pytest

from aiophlo import (
    Account,
    Action,
    InDoubt,
    InvalidInputError,
    JournalError,
    NotSent,
    Outcome,
    Reason,
    Rejected,
    SessionPool,
    WarmTransfer,
)
from aiophlo.postgres import (
    MigrationError,
    PostgresCoordinator,
    PostgresJournal,
    migrate,
)
from aiophlo.postgres.batch_link import BatchLink
from aiophlo.simulator import Simulator
from tests.support.doubles import pool_of
from tests.support.postgres import Postgres

OpenJournal = Callable[..., Coroutine[Any, Any, PostgresJournal]]


class Clock:
    """A runner's clock, which a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def transfer(number: int, *, key: str | None = None) -> WarmTransfer:
    """Return a transfer of its own."""
    return WarmTransfer(
        phlo_id="p",
        node_id="n",
        trigger_source="+14155559999",
        to=f"+1{4_150_000_000 + number}",
        key=key or f"row-{number}",
    )


def transfers(count: int) -> list[WarmTransfer]:
    """Return a list."""
    return [transfer(number) for number in range(count)]


async def close(journal: PostgresJournal) -> None:
    """Close a runner's, which may have failed, or be closed already."""
    with suppress(JournalError):
        await journal.__aexit__(None, None, None)


@pytest.fixture
async def journal(postgres: Postgres, namespace: str) -> AsyncIterator[OpenJournal]:
    """Give what opens the batch's memory once more, as another runner does."""
    async with AsyncExitStack() as stack:

        async def open_journal(
            name: str = "nightly",
            *,
            lease: float = 15.0,
            **options: Any,  # noqa: ANN401 -- PostgresJournal's own
        ) -> PostgresJournal:
            made = PostgresJournal(
                postgres.url, namespace, name, lease=lease, keep_days=30.0, **options
            )
            await made.__aenter__()
            stack.push_async_callback(close, made)
            return made

        yield open_journal


@pytest.fixture
async def slow_simulator() -> AsyncIterator[Simulator]:
    """Give one whose answers take a while."""
    async with Simulator(quota=None, latency=0.02) as simulator:
        yield simulator


@pytest.fixture
async def pool(simulator: Simulator) -> AsyncIterator[SessionPool]:
    """Give a pool without a quota."""
    async with pool_of(simulator) as pool:
        yield pool


async def run(
    pool: SessionPool,
    actions: Sequence[Action],
    journal: PostgresJournal,
    **options: Any,  # noqa: ANN401 -- stream's own
) -> list[tuple[int, Outcome]]:
    """Return the outcomes of a list, each with its place."""
    async with pool.stream(actions, journal=journal, **options) as stream:
        return [one async for one in stream.numbered()]


def verdicts(outcomes: list[tuple[int, Outcome]]) -> list[str]:
    """Return what came of each row, in the list's order."""
    assert [number for number, _ in sorted(outcomes, key=lambda one: one[0])] == list(
        range(len(outcomes))
    )
    return [outcome.verdict for _, outcome in sorted(outcomes, key=lambda one: one[0])]


def link_of(journal: PostgresJournal) -> BatchLink:
    """Return what a runner speaks to the database by."""
    link = journal._link  # noqa: SLF001 -- a test ends it as a kill does
    assert link is not None
    return link


async def die(journal: PostgresJournal) -> None:
    """Let a runner end as a kill ends it: it says nothing any more."""
    task = link_of(journal)._task  # noqa: SLF001 -- as above
    assert task is not None
    task.cancel()
    await asyncio.wait({task})


async def test_two_runners_split_a_list(
    pool: SessionPool, simulator: Simulator, journal: OpenJournal
) -> None:
    """Each row rings once, and both runners can say what came of all."""
    rows = transfers(1_000)
    first, second = await journal(), await journal()
    outcomes = await asyncio.gather(
        run(pool, rows, first, concurrency=20), run(pool, rows, second, concurrency=20)
    )
    assert [verdicts(one) for one in outcomes] == [["accepted"] * 1_000] * 2
    assert len(simulator.ledger.dialled) == 1_000
    assert simulator.ledger.rung_twice() == {}
    assert first.report().verdicts["accepted"] == 1_000


async def test_a_late_runner_helps(
    slow_simulator: Simulator, journal: OpenJournal
) -> None:
    """A machine that is added while a list is under way has to be of use."""
    rows = transfers(600)
    simulator = slow_simulator
    helped: list[int] = []

    async def help_late(late: PostgresJournal) -> None:
        async with pool_of(simulator, observers=[lambda _: helped.append(1)]) as own:
            await run(own, rows, late, concurrency=10)

    first = await journal()
    async with (
        pool_of(simulator) as pool,
        asyncio.TaskGroup() as others,
        pool.stream(rows, journal=first, concurrency=10) as stream,
    ):
        async for _ in stream:
            if stream.counts.total() == 20:
                others.create_task(help_late(await journal()))
    assert helped
    assert len(simulator.ledger.dialled) == 600
    assert simulator.ledger.rung_twice() == {}


async def test_run_again_rings_nobody(
    pool: SessionPool, simulator: Simulator, journal: OpenJournal
) -> None:
    """Who runs the same list again must not ring everybody again."""
    rows = transfers(5)
    simulator.drop_next_answer(to=rows[2].to)
    async with pool.stream(rows, journal=await journal()) as stream:
        before = {one.action.key: one async for one in stream}
    async with pool.stream(rows, journal=await journal()) as stream:
        after = {one.action.key: one async for one in stream}
    assert len(simulator.ledger.dialled) == 5
    assert after["row-2"].verdict == "in_doubt"
    assert {
        key: (one.verdict, one.api_id, one.attempts) for key, one in after.items()
    } == {key: (one.verdict, one.api_id, one.attempts) for key, one in before.items()}


async def test_doubt_is_sent_again_once_and_by_one(
    pool: SessionPool, simulator: Simulator, journal: OpenJournal
) -> None:
    """Two runners that were asked to repeat doubts must not both do so."""
    rows = transfers(3)
    simulator.drop_next_answer(to=rows[1].to)
    await run(pool, rows, await journal())
    simulator.drop_next_answer(to=rows[1].to)
    runners = await journal(), await journal()
    outcomes = await asyncio.gather(
        *(run(pool, rows, one, include_in_doubt=True) for one in runners)
    )
    for one in outcomes:
        assert verdicts(one) == ["accepted", "in_doubt", "accepted"]
    assert simulator.ledger.dials(rows[1].to) == 2
    assert all(
        one[1].attempts == 2 for found in outcomes for one in found if one[0] == 1
    )


async def test_what_was_not_sent_is_sent_by_the_next_run_alone(
    simulator: Simulator, journal: OpenJournal
) -> None:
    """A row that a run gave up is tried by the next, not by all runners of this one."""
    rows = transfers(1)
    seen: list[str] = []
    nowhere = "http://127.0.0.1:9/v1"
    first, second = await journal(), await journal()
    async with pool_of(
        simulator, base_url=nowhere, observers=[lambda e: seen.append(type(e).__name__)]
    ) as cut:
        for runner in (first, second):
            assert verdicts(await run(cut, rows, runner, send_within=0.2)) == [
                "not_sent"
            ]
        tries = seen.count("AttemptBegun")
        assert verdicts(await run(cut, rows, second, send_within=0.2)) == ["not_sent"]
        assert seen.count("AttemptBegun") == tries
    async with pool_of(simulator) as pool:
        assert verdicts(await run(pool, rows, await journal())) == ["accepted"]


async def test_a_dead_runner_leaves_in_doubt_what_had_its_intent(
    pool: SessionPool, simulator: Simulator, journal: OpenJournal
) -> None:
    """What a killed process only had claimed is sent; what may ring is in doubt."""
    rows = transfers(4)
    dead = await journal(lease=0.5)
    claimed = [dead.row(number, row) for number, row in enumerate(rows)]
    assert await dead.claim(claimed, include_in_doubt=False) == [None] * 4
    await dead.intend("row-0", rows[0])
    await dead.intend("row-1", rows[1])
    await dead.settle(
        "row-1", NotSent(action=rows[1], attempts=0, reason=Reason.EXPIRED)
    )
    await die(dead)
    found = await run(pool, rows, await journal(lease=0.5))
    assert verdicts(found) == ["in_doubt", *["accepted"] * 3]
    doubt = next(outcome for number, outcome in found if number == 0)
    assert isinstance(doubt, InDoubt)
    assert (doubt.reason, doubt.attempts) == ("interrupted", 1)
    assert len(simulator.ledger.dialled) == 3


@pytest.mark.parametrize(
    ("after", "verdict"),
    [(0.0, "in_doubt"), (2.1, "accepted")],
    ids=["restarted at once", "later"],
)
async def test_doubt_is_repeated_by_who_began_after_its_runner_was_dead(
    pool: SessionPool,
    simulator: Simulator,
    journal: OpenJournal,
    *,
    after: float,
    verdict: str,
) -> None:
    """Whoever repeats in the morning what a crash left must not need two runs."""
    rows = transfers(2)
    dead = await journal(lease=2.0)
    await dead.claim([dead.row(0, rows[0])], include_in_doubt=False)
    await dead.intend("row-0", rows[0])
    await die(dead)
    await asyncio.sleep(after)
    found = await run(pool, rows, await journal(lease=2.0), include_in_doubt=True)
    assert verdicts(found) == [verdict, "accepted"]
    assert simulator.ledger.dials(rows[0].to) == (verdict == "accepted")


async def test_a_runner_that_was_taken_for_dead_writes_nothing(
    pool: SessionPool, journal: OpenJournal
) -> None:
    """What wakes after a pause must not undo what others know by then."""
    rows = transfers(2)
    stopped = await journal(lease=0.5)
    await stopped.claim([stopped.row(0, rows[0])], include_in_doubt=False)
    await stopped.intend("row-0", rows[0])
    await die(stopped)
    assert verdicts(await run(pool, rows, await journal(lease=0.5)))[0] == "in_doubt"
    link = link_of(stopped)
    link._task = asyncio.create_task(link._run())  # noqa: SLF001 -- it wakes
    refused = NotSent(action=rows[0], attempts=0, reason=Reason.EXPIRED)
    with pytest.raises(JournalError, match="another one has taken over"):
        await stopped.settle("row-0", refused)
    assert (await journal()).report().verdicts["in_doubt"] == 1


async def test_nothing_leaves_once_the_lease_is_over(
    pool: SessionPool,
    simulator: Simulator,
    journal: OpenJournal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that slept must not ring whom another one may have rung."""
    clock = Clock()
    asleep = await journal(clock=clock)
    link = link_of(asleep)
    intend = link.intend

    def fall_asleep(name: int) -> asyncio.Future[Any]:
        noted = intend(name)
        noted.add_done_callback(lambda _: setattr(clock, "now", clock.now + 60.0))
        return noted

    monkeypatch.setattr(link, "intend", fall_asleep)
    with pytest.raises(JournalError, match="lease is over"):
        await run(pool, transfers(1), asleep)
    assert simulator.ledger.dialled == []


async def test_lease_is_looked_at_as_the_request_leaves(
    simulator: Simulator, journal: OpenJournal
) -> None:
    """Between intent and request lies a connection that may take seconds to get."""
    clock = Clock()
    asleep = await journal(clock=clock)

    def on_attempt(event: object) -> None:
        if type(event).__name__ == "AttemptBegun":
            clock.now += 60.0

    async with pool_of(simulator, observers=[on_attempt]) as pool:
        assert verdicts(await run(pool, transfers(1), asleep)) == ["not_sent"]
    assert simulator.ledger.dialled == []


async def test_keys_and_equal_rows(
    pool: SessionPool, simulator: Simulator, journal: OpenJournal
) -> None:
    """A list that was joined twice rings nobody twice, however it is written."""
    rows = [
        transfer(1, key="a"),
        transfer(1, key="a"),  # told twice
        transfer(2, key="a"),  # another transfer by the same key
        transfer(1, key="b"),  # the same transfer by another key
        "no action",
        transfer(3, key="c"),
    ]
    for _ in range(2):
        found = await run(pool, rows, await journal())  # type: ignore[arg-type]
        told = [
            (outcome.verdict, getattr(outcome, "reason", None))
            for _, outcome in sorted(found, key=lambda one: one[0])
        ]
        assert told == [
            ("accepted", None),
            ("not_sent", "duplicate"),
            ("not_sent", "invalid"),
            ("not_sent", "duplicate"),
            ("not_sent", "invalid"),
            ("accepted", None),
        ]
    assert len(simulator.ledger.dialled) == 2


async def test_a_slow_source_waits_for_no_page(
    pool: SessionPool, journal: OpenJournal
) -> None:
    """A row that came now is sent now, not with the next two hundred."""
    sent = asyncio.Event()

    async def source() -> AsyncIterator[WarmTransfer]:
        yield transfer(0)
        await sent.wait()
        yield transfer(1)

    async with pool.stream(source(), journal=await journal()) as stream:
        async for outcome in stream:
            assert outcome.verdict == "accepted"
            sent.set()
    assert stream.taken == 2


async def test_a_source_that_fails_ends_the_stream_after_what_it_gave(
    pool: SessionPool, journal: OpenJournal
) -> None:
    """The error has to be seen, and what came before it has its outcome."""

    def source() -> Iterator[WarmTransfer]:
        yield transfer(0)
        raise LookupError("no more")

    stream = pool.stream(source(), journal=await journal())

    async def read() -> None:
        async with stream:
            async for _ in stream:
                pass

    with pytest.raises(LookupError, match="no more"):
        await read()
    assert stream.counts == {"accepted": 1}


async def test_leaving_early_gives_claims_back(
    pool: SessionPool, simulator: Simulator, journal: OpenJournal
) -> None:
    """What a runner doesn't send is another one's at once, not after its lease."""
    rows = transfers(300)
    first = await journal()
    async with pool.stream(rows, journal=first, concurrency=2) as stream:
        async for _ in stream:
            break
    await close(first)
    async with asyncio.timeout(10):
        found = await run(pool, rows, await journal())
    assert [one for one in found if one[1].verdict != "accepted"] == []
    assert simulator.ledger.rung_twice() == {}


async def test_numbers_are_kept_masked_alone(
    pool: SessionPool, postgres: Postgres, namespace: str, journal: OpenJournal
) -> None:
    """Who reads the database must not learn whom a call centre rang."""
    rows = [transfer(7, key="+14150000007"), attrs.evolve(transfer(8), key=None)]
    await run(pool, rows, await journal())
    with psycopg.connect(postgres.url) as database:
        database.execute(f'SET search_path TO "{namespace}"')
        kept = database.execute("SELECT to_jsonb(r)::text FROM batch_rows r").fetchall()
    text = str(kept)
    assert len(kept) == 2
    assert "4150000007" not in text
    assert "4150000008" not in text
    assert "5559999" not in text


async def test_texts_that_the_database_cannot_hold_end_nothing(
    journal: OpenJournal,
) -> None:
    """One odd answer of somebody's proxy must not stop the night's list."""
    runner = await journal()
    odd = transfer(1, key="case\0one")
    assert await runner.claim([runner.row(0, odd)], include_in_doubt=False) == [None]
    outcome = Rejected(action=odd, attempts=1, status=400, error="a\0b\ud800")
    assert await runner.settle("case\0one", outcome) is outcome
    (known,) = await runner.claim([runner.row(0, odd)], include_in_doubt=False)
    assert isinstance(known, NotSent)  # a duplicate in this run
    (record,) = runner.outcomes()
    assert record.verdict == "rejected"
    assert record.error == "a b "


async def test_commits_are_durable_whatever_the_server_says(
    postgres: Postgres, namespace: str, journal: OpenJournal
) -> None:
    """An intent that a crash takes back is a phone that rings twice."""
    runner = await journal()
    number = link_of(runner)._runner  # noqa: SLF001 -- it asks in its name
    with psycopg.connect(postgres.url) as database:
        database.execute("SET synchronous_commit = off")
        database.commit()
        database.execute(f'SET LOCAL search_path TO "{namespace}"')
        asked = f'{{"runner": {number}, "intents": []}}'
        answer = database.execute("SELECT work_on_batch(%s)", (asked,)).fetchone()
        assert answer == ({"intended": []},)
        assert database.execute("SHOW synchronous_commit").fetchone() == ("on",)
        database.commit()
        assert database.execute("SHOW synchronous_commit").fetchone() == ("off",)


async def test_a_runner_needs_few_rights(
    pool: SessionPool, postgres: Postgres, namespace: str
) -> None:
    """A service that can drop tables is one fault away from doing it."""
    rights = f"""
        CREATE ROLE runner LOGIN;
        GRANT USAGE ON SCHEMA {namespace} TO runner;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {namespace}
            TO runner;
    """
    with psycopg.connect(postgres.url) as database:
        database.execute(rights.encode())
    url = postgres.url.replace("postgres@", "runner@")
    coordinator = PostgresCoordinator(url, namespace=namespace)
    async with coordinator.journal("nightly") as journal:
        assert verdicts(await run(pool, transfers(2), journal)) == ["accepted"] * 2
        assert journal.report().verdicts["accepted"] == 2


async def test_old_batches_are_deleted_and_others_kept(
    pool: SessionPool, postgres: Postgres, namespace: str, journal: OpenJournal
) -> None:
    """What nobody needs any more isn't kept for ever."""
    await run(pool, transfers(3), await journal("old"))
    await run(pool, transfers(2), await journal("new"))
    with psycopg.connect(postgres.url, autocommit=True) as database:
        database.execute(f'SET search_path TO "{namespace}"')
        database.execute(
            "UPDATE batches SET last_at = last_at - 40 * 86400 WHERE name = 'old'"
        )
        for _ in range(2):
            database.execute("SELECT tidy_batches(extract(epoch FROM now())::float8)")
        found = database.execute(
            "SELECT b.name, count(*) FROM batches b"
            " JOIN batch_rows r ON r.batch = b.id GROUP BY 1"
        ).fetchall()
    assert found == [("new", 2)]


async def test_without_its_schema_it_says_what_to_do(postgres: Postgres) -> None:
    """Nobody finds out by themselves that `migrate` was forgotten."""
    coordinator = PostgresCoordinator(postgres.url, namespace="nobody_made_it")
    with pytest.raises(MigrationError, match="aiophlo postgres migrate"):
        async with coordinator.journal("nightly"):
            raise AssertionError


@pytest.mark.parametrize("name", ["", "a b", "x" * 101, "../x"])
def test_a_name_that_can_be_none_is_refused(name: str) -> None:
    """It is shown, and typed again by somebody else."""
    with pytest.raises(InvalidInputError, match="name: expected"):
        PostgresCoordinator("postgresql://x/y").journal(name)


async def test_reading_from_elsewhere(
    pool: SessionPool, postgres: Postgres, namespace: str, journal: OpenJournal
) -> None:
    """A supervisor's machine has no runner, and wants to know how far it came."""
    rows = transfers(2_500)
    simulated = await journal("night")
    await run(pool, rows, simulated)
    with PostgresCoordinator(postgres.url, namespace=namespace).read_journal(
        "night"
    ) as reader:
        report = reader.report()
        records = list(reader.outcomes())
    assert report.verdicts["accepted"] == len(records) == 2_500
    assert {record.key for record in records} == {row.key for row in rows}
    assert report.open == 0
    with pytest.raises(JournalError, match="there is none"):
        PostgresCoordinator(postgres.url, namespace=namespace).read_journal("day")


async def test_what_is_under_way_is_told_from_what_a_dead_runner_left(
    postgres: Postgres, namespace: str, journal: OpenJournal
) -> None:
    """Who is told to ask about calls that are being made asks in vain."""
    rows = transfers(3)
    live, dead = await journal(lease=60.0), await journal(lease=0.5)
    for number, runner in enumerate((live, dead, live)):
        await runner.claim([runner.row(number, rows[number])], include_in_doubt=False)
    await live.intend("row-0", rows[0])
    await dead.intend("row-1", rows[1])
    coordinator = PostgresCoordinator(postgres.url, namespace=namespace)
    with coordinator.read_journal("nightly") as reader:
        report = reader.report()
        assert (report.open, report.under_way) == (2, 2)
        await die(dead)
        async with asyncio.timeout(10.0):
            while reader.report().under_way == 2:  # noqa: ASYNC110 -- its lease ends
                await asyncio.sleep(0.05)
        report = reader.report()
        assert (report.open, report.under_way) == (2, 1)
        found = {record.key: record.under_way for record in reader.outcomes()}
        assert found == {"row-0": True, "row-1": False}


async def test_the_database_is_killed_and_comes_back(
    own_postgres: Postgres, slow_simulator: Simulator
) -> None:
    """A batch of the night goes on when the database does."""
    simulator = slow_simulator
    coordinator = PostgresCoordinator(own_postgres.url, migrate=True)
    rows = transfers(400)
    async with (
        SessionPool(
            Account(simulator.auth_id, simulator.auth_token, quota=None),
            base_url=simulator.base_url,
            coordinator=coordinator,
        ) as pool,
        coordinator.journal("nightly") as journal,
        pool.stream(rows, journal=journal, concurrency=10) as stream,
    ):
        async for _ in stream:
            if stream.counts.total() in {50, 200}:
                own_postgres.kill()
                await asyncio.to_thread(own_postgres.start)
        assert stream.counts == {"accepted": 400}
    assert len(simulator.ledger.dialled) == 400
    assert simulator.ledger.rung_twice() == {}


async def test_a_database_that_stays_away_ends_the_batch(
    own_postgres: Postgres, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing leaves without its intent, and somebody is told."""
    monkeypatch.setattr("aiophlo.postgres.batch_journal._PATIENCE", 0.5)
    coordinator = PostgresCoordinator(own_postgres.url)
    await migrate(own_postgres.url)
    seen = 0

    async def go_on(pool: SessionPool) -> None:
        nonlocal seen
        async with (
            coordinator.journal("nightly") as journal,
            pool.stream(transfers(400), journal=journal, concurrency=5) as stream,
        ):
            async for _ in stream:
                seen += 1
                if seen == 20:
                    own_postgres.kill()

    async with pool_of(simulator) as pool:
        with pytest.raises(JournalError, match="its database is away"):
            await go_on(pool)
    assert len(simulator.ledger.dialled) <= seen + 5
