"""Many actions: each to exactly one outcome, whatever comes between."""

import asyncio
import contextlib
import gc
import itertools
import logging
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import anyio
import attrs
import pytest

from aiophlo import (
    Accepted,
    Account,
    Action,
    ActionEnded,
    BatchReport,
    Hold,
    InDoubt,
    InDoubtError,
    InvalidInputError,
    Journal,
    JournalError,
    Lane,
    NotSent,
    ObservedEvent,
    Outcome,
    Quota,
    Reason,
    Rejected,
    RetryPolicy,
    SessionPool,
    WarmTransfer,
)
from aiophlo.batch.stream import Stream
from aiophlo.protocol.codec import Answer, Request
from aiophlo.simulator import Simulator
from tests.support.doubles import (
    ACCEPTED,
    ScriptedHttpClient,
    ScriptedPool,
    account_of,
    act,
    address,
    pool_of,
)
from tests.support.virtual_time import run_virtually

ACCOUNT: Final = Account("MABATCH0000000000001", "a-made-up-token", quota=None)
Actions = Iterable[Action] | AsyncIterable[Action]


@pytest.fixture
async def pool(simulator: Simulator) -> AsyncIterator[SessionPool]:
    """Give an open pool."""
    async with pool_of(simulator) as pool:
        yield pool


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the journal lies."""
    return tmp_path / "batch.db"


def transfers(number: int) -> list[Action]:
    """Return so many transfers, each to a phone of its own."""
    return [act(WarmTransfer, n) for n in range(number)]


def keyed(key: str, number: int = 0) -> Action:
    """Return a transfer with a key of the user's."""
    return attrs.evolve(act(WarmTransfer, number), key=key)


async def later(actions: Iterable[Action]) -> AsyncIterator[Action]:
    """Yield actions as something asynchronous would."""
    for action in actions:
        await asyncio.sleep(0)
        yield action


class Queued(AsyncIterator[Action]):
    """Yields what a queue holds, until it gives None."""

    def __init__(self, actions: Iterable[Action]) -> None:
        self.queue: asyncio.Queue[Action | None] = asyncio.Queue()
        for action in actions:
            self.queue.put_nowait(action)
        self.queue.put_nowait(None)

    async def __anext__(self) -> Action:
        """Wait for the next one."""
        action = await self.queue.get()
        if action is None:
            raise StopAsyncIteration
        return action


SOURCES: Final[dict[str, Callable[[Iterable[Action]], Actions]]] = {
    "list": list,
    "generator": iter,
    "async generator": later,
    "queue": Queued,
}
each_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


def reasons(outcomes: Iterable[Outcome]) -> Counter[str]:
    """Count verdicts, by reason where there is one."""
    return Counter(str(getattr(it, "reason", it.verdict)) for it in outcomes)


async def all_of(stream: Stream) -> list[Outcome]:
    """Read a stream to its end."""
    async with stream:
        return [outcome async for outcome in stream]


async def read_into(found: list[Outcome], stream: Stream) -> None:
    """Read a stream to its end, however it ends."""
    async with stream:
        async for outcome in stream:
            found.append(outcome)  # noqa: PERF401 -- a comprehension that raises is lost


async def until(condition: Callable[[], bool]) -> None:
    """Let the others run until something is so."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 -- nothing signals it
            await asyncio.sleep(0)


# Sources and bounds


@each_source
@pytest.mark.parametrize("concurrency", [1, 7, 200])
async def test_each_action_has_one_outcome(
    pool: SessionPool,
    simulator: Simulator,
    source: Callable[[Iterable[Action]], Actions],
    concurrency: int,
) -> None:
    """A row without an outcome is a customer nobody looks after."""
    actions = transfers(60)
    stream = pool.stream(source(actions), concurrency=concurrency)
    outcomes = await all_of(stream)
    assert {id(it.action) for it in outcomes} == {id(action) for action in actions}
    assert (len(outcomes), stream.taken, stream.counts) == (60, 60, {"accepted": 60})
    assert simulator.ledger.disagreements(outcomes) == []
    assert simulator.ledger.dials() == 60


@each_source
async def test_empty_source_ends_at_once(
    pool: SessionPool, source: Callable[[Iterable[Action]], Actions]
) -> None:
    """A day without rows must not hang the job."""
    stream = pool.stream(source([]))
    assert await all_of(stream) == []
    assert stream.taken == 0


@each_source
@pytest.mark.parametrize("concurrency", [1, 5])
async def test_no_more_are_in_hand_than_asked_for(
    pool: SessionPool, source: Callable[[Iterable[Action]], Actions], concurrency: int
) -> None:
    """A batch of any length would fill the memory while its reader is busy."""
    taken = read = most = 0

    def watched() -> Iterator[Action]:
        nonlocal taken, most
        for action in transfers(60):
            taken += 1
            most = max(most, taken - read)
            yield action

    lazily = source if source is not list else iter
    if source is SOURCES["queue"]:
        lazily = later
    async with pool.stream(lazily(watched()), concurrency=concurrency) as stream:
        async for _ in stream:
            read += 1
    assert (most, taken, read) == (concurrency, 60, 60)


async def test_taking_stops_while_the_reader_does(
    pool: SessionPool, simulator: Simulator
) -> None:
    """A reader whose database is down must not find ten thousand phones ringing."""
    endless = (act(WarmTransfer, n) for n in itertools.count())
    async with pool.stream(endless, concurrency=4) as stream:
        await simulator.wait_for(dials=4)
        await pool.send(act(WarmTransfer, 9_999_999))  # time enough to take more
        assert (stream.taken, simulator.ledger.dials()) == (4, 5)
        await anext(stream)
        await simulator.wait_for(dials=6)
        assert stream.taken == 5
    assert len(stream.unread) == 4


async def test_endless_source_can_be_left(pool: SessionPool) -> None:
    """A job fed by a queue runs until it is told to stop."""
    endless = (act(WarmTransfer, n) for n in itertools.count())
    read = 0
    async with pool.stream(endless, concurrency=3) as stream:
        async for _ in stream:
            read += 1
            if read == 20:
                break
    assert stream.counts.total() == stream.taken == 20 + len(stream.unread)
    assert stream.taken <= 23


async def test_wait_for_a_slow_source_leaves_outcomes_readable(
    pool: SessionPool,
) -> None:
    """A row that is done must not wait for the next to be queued."""
    source = Queued([])
    assert source.queue.get_nowait() is None
    async with pool.stream(source, concurrency=5) as stream:
        for number in range(3):
            source.queue.put_nowait(act(WarmTransfer, number))
            assert (await anext(stream)).action == act(WarmTransfer, number)
        source.queue.put_nowait(None)
        assert [outcome async for outcome in stream] == []


@pytest.mark.parametrize("wrong", [None, 7, act(WarmTransfer)])
def test_what_is_no_source_is_refused(wrong: Any) -> None:  # noqa: ANN401 -- anything
    """A mistake should show where it is made."""
    with pytest.raises(InvalidInputError, match="actions"):
        SessionPool(ACCOUNT).stream(wrong)


# Reading


async def test_outcomes_are_numbered_by_their_action(
    pool: SessionPool, simulator: Simulator
) -> None:
    """The result would be written into another customer's row."""
    actions = transfers(20)
    simulator.answer_next(delay=0.05, to=address(0))
    async with pool.stream(actions, concurrency=10) as stream:
        found = [it async for it in stream.numbered()]
    assert found[0][0] != 0
    assert {number: it.action for number, it in found} == dict(enumerate(actions))


async def test_reader_that_gave_up_waiting_loses_nothing(
    pool: SessionPool, simulator: Simulator
) -> None:
    """A reader with a timeout of its own would miss the outcome of a ringing phone."""
    async with pool.stream(transfers(3), concurrency=2) as stream:
        with simulator.hold_answers():
            await simulator.wait_for(held=2)
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(stream), 0.001)
        assert reasons([it async for it in stream]) == {"accepted": 3}
    assert stream.unread == []


async def test_reader_cancelled_as_an_outcome_comes_loses_nothing() -> None:
    """Between the outcome's coming and the reader's waking, it was nobody's."""
    answers: list[asyncio.Future[Answer]] = []

    async def answer(request: Request) -> Answer:
        del request
        answers.append(asyncio.get_running_loop().create_future())
        return await answers[-1]

    async with (
        ScriptedPool(ACCOUNT, transports=[ScriptedHttpClient(answer)]) as pool,
        pool.stream(transfers(1)) as stream,
    ):
        reader = asyncio.ensure_future(anext(stream))
        await until(lambda: bool(answers))
        answers[0].set_result(ACCEPTED)
        await until(lambda: bool(stream.counts))
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert isinstance(await anext(stream), Accepted)


async def test_two_readers_share_the_outcomes(pool: SessionPool) -> None:
    """The one who is not woken would wait for ever."""

    async def read() -> int:
        return len([outcome async for outcome in stream])

    async with pool.stream(transfers(50), concurrency=5) as stream:
        counts = await asyncio.gather(read(), read(), read())
    assert sum(counts) == 50


async def test_stream_is_read_inside_its_block_alone(pool: SessionPool) -> None:
    """Outside of it nobody would wait for what is in flight."""
    stream = pool.stream(transfers(1))
    with pytest.raises(InvalidInputError, match="async with"):
        await anext(stream)
    with pytest.raises(InvalidInputError, match="async with"):
        await anext(stream.numbered())
    await all_of(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    with pytest.raises(InvalidInputError, match="once"):
        await all_of(stream)


# Leaving early


class _LeftError(Exception):
    """Raised to leave a block."""


async def leave(
    stream: Stream, how: str, simulator: Simulator, leaving: asyncio.Event
) -> None:
    """Enter a stream, wait until two answers are held, and leave it.

    One in three connections is kept free for who is awaited.
    """
    async with stream:
        while True:
            await simulator.wait_for(held=2)
            leaving.set()
            if how == "cancel":
                await anext(stream)
            if how == "raise":
                raise _LeftError
            if how == "return":
                return
            break


async def is_told_to_stop(stream: Stream) -> None:
    """Wait until a stream has been left."""
    await until(lambda: stream.counts["not_sent"] > 0)


@pytest.mark.parametrize("how", ["break", "raise", "cancel", "return"])
@pytest.mark.parametrize("journaled", [False, True])
async def test_leaving_ends_what_is_in_flight_and_sends_no_more(
    simulator: Simulator, path: Path, how: str, *, journaled: bool
) -> None:
    """Whoever leaves must know which phones ring, and be able to send the rest."""
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            pool_of(simulator, connections_per_account=3)
        )
        journal = None
        if journaled:
            journal = await stack.enter_async_context(Journal(path))
        stream = pool.stream(transfers(50), concurrency=6, journal=journal)
        leaving = asyncio.Event()
        simulator.hold_answers()
        task = asyncio.create_task(leave(stream, how, simulator, leaving))
        await asyncio.wait_for(leaving.wait(), 10)
        if how == "cancel":
            task.cancel()
        await is_told_to_stop(stream)
        assert not task.done()
        simulator.release_answers()
        await asyncio.wait([task])
        assert task.cancelled() == (how == "cancel")
        if how != "cancel":
            assert isinstance(task.exception(), _LeftError) == (how == "raise")
        assert reasons(stream.unread) == {"accepted": 2, "stopped": 4}
        assert (stream.taken, simulator.ledger.dials()) == (6, 2)
        assert stream.counts == {"accepted": 2, "not_sent": 4}
        if journal is not None:
            assert sum(journal.report().verdicts.values()) == 2
            rest = await all_of(pool.stream(transfers(50), journal=journal))
            assert len(rest) == simulator.ledger.dials() == 50
            assert not simulator.ledger.rung_twice()


@pytest.mark.parametrize("further", [1, 2, 3])
async def test_cancelled_again_leaves_in_flight_ones_in_doubt(
    simulator: Simulator, path: Path, further: int
) -> None:
    """Ctrl-C twice must stop hard, and still say which phones may ring."""
    options = {"connections_per_account": 3}
    async with pool_of(simulator, **options) as pool, Journal(path) as journal:
        stream = pool.stream(transfers(9), concurrency=3, journal=journal)
        leaving = asyncio.Event()
        with simulator.hold_answers():
            task = asyncio.create_task(leave(stream, "cancel", simulator, leaving))
            await simulator.wait_for(held=2)
            await asyncio.wait_for(leaving.wait(), 10)
            for _ in range(1 + further):
                task.cancel()
                await is_told_to_stop(stream)
                await asyncio.sleep(0)
            await asyncio.wait([task])
        assert task.cancelled()
        assert reasons(stream.unread) == {"cancelled": 2, "stopped": 1}
        assert stream.counts == {"in_doubt": 2, "not_sent": 1}
    with Journal.read(path) as reader:
        assert reader.report().reasons == {"cancelled": 2}


@pytest.mark.parametrize("journaled", [False, True])
async def test_leaving_an_anyio_scope_ends_what_is_in_flight(
    simulator: Simulator, path: Path, *, journaled: bool
) -> None:
    """A time limit on Starlette must not make ten phones ring that nobody counts."""
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(pool_of(simulator))
        journal = None
        if journaled:
            journal = await stack.enter_async_context(Journal(path))
        stream = pool.stream(transfers(10), concurrency=10, journal=journal)

        async def leave_at_once() -> None:
            with anyio.CancelScope() as scope:
                async with stream:
                    await simulator.wait_for(held=10)
                    scope.cancel()
                    await anext(stream)

        with simulator.hold_answers():
            task = asyncio.create_task(leave_at_once())
            await simulator.wait_for(held=10)
            for _ in range(20):  # in each of which anyio cancels again
                await asyncio.sleep(0)
            assert not task.done()
        await task
        assert reasons(stream.unread) == {"accepted": 10}


async def test_cancel_besides_those_of_anyio_leaves_in_flight_ones_in_doubt(
    simulator: Simulator,
) -> None:
    """Ctrl-C after the time limit is somebody who does not wait any longer."""
    async with pool_of(simulator) as pool:
        stream = pool.stream(transfers(3), concurrency=3)

        async def leave_at_once() -> None:
            with anyio.CancelScope() as scope:
                async with stream:
                    await simulator.wait_for(held=3)
                    scope.cancel()
                    await anext(stream)

        with simulator.hold_answers():
            task = asyncio.create_task(leave_at_once())
            await simulator.wait_for(held=3)
            for _ in range(20):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert task.cancelled()
        assert reasons(stream.unread) == {"cancelled": 3}


async def test_nothing_is_left_running_when_left_at_once(pool: SessionPool) -> None:
    """A block left before anything began would wait for ever."""
    before = asyncio.all_tasks()
    async with asyncio.timeout(5):
        async with pool.stream(transfers(5)) as stream:
            pass
    assert asyncio.all_tasks() == before
    assert stream.taken == len(stream.unread)


async def test_leaving_lets_an_async_source_end(pool: SessionPool) -> None:
    """A source that holds a cursor has to get the chance to close it."""
    closed = asyncio.Event()

    async def source() -> AsyncIterator[Action]:
        try:
            await asyncio.Event().wait()
            yield act(WarmTransfer)
        finally:
            await asyncio.sleep(0)
            closed.set()

    async with pool.stream(source()) as stream:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert closed.is_set()
    assert stream.taken == 0


async def test_source_that_yields_though_stopped_has_it_unsent(
    pool: SessionPool, simulator: Simulator
) -> None:
    """Its customer would be dialled by a batch that had been called off."""

    async def source() -> AsyncIterator[Action]:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        yield act(WarmTransfer)

    async with pool.stream(source()) as stream:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert reasons(stream.unread) == {"stopped": 1}
    assert simulator.ledger.received == 0


async def test_unread_outcomes_are_logged(
    pool: SessionPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody should hear that phones rang which nobody looked at."""
    async with pool.stream(transfers(2)) as stream:
        await until(lambda: stream.counts.total() == 2)
    (record,) = (it for it in caplog.records if it.levelno == logging.WARNING)
    assert record.getMessage() == "left a stream with outcomes unread: 2"


# What goes wrong


@pytest.mark.parametrize("source", [iter, later])
async def test_source_that_raises_is_told_after_what_was_taken(
    pool: SessionPool, source: Callable[[Iterable[Action]], Actions]
) -> None:
    """The rows before a bad line have been dialled: their outcomes must come."""

    def broken() -> Iterator[Action]:
        yield from transfers(10)
        raise _LeftError

    read: list[Outcome] = []
    stream = pool.stream(source(broken()), concurrency=4)
    with pytest.raises(_LeftError):
        await read_into(read, stream)
    assert reasons(read) == {"accepted": 10}


class _EndsAllError(BaseException):
    """As pytest, trio and others have theirs, which no `except Exception` catches."""


@pytest.mark.parametrize("kind", [_EndsAllError, GeneratorExit])
@pytest.mark.parametrize("source", [iter, later])
async def test_source_that_ends_with_more_than_an_exception_is_told(
    pool: SessionPool,
    source: Callable[[Iterable[Action]], Actions],
    kind: type[BaseException],
) -> None:
    """Whoever reads would wait for ever, and the rows that were dialled be unknown."""

    def broken() -> Iterator[Action]:
        yield from transfers(3)
        raise kind

    read: list[Outcome] = []
    async with asyncio.timeout(60.0):
        with pytest.raises(kind):
            await read_into(read, pool.stream(source(broken())))
    assert reasons(read) == {"accepted": 3}


@pytest.mark.parametrize("kind", [_EndsAllError, asyncio.CancelledError])
async def test_row_that_ends_with_more_than_an_exception_stops_the_batch(
    pool: SessionPool, path: Path, kind: type[BaseException]
) -> None:
    """Whoever reads would wait for ever."""

    class Key(str):  # of a class of the caller's, as a database's driver has some
        __slots__ = ()

        def isascii(self) -> bool:
            raise kind

    rows = [*transfers(2), attrs.evolve(act(WarmTransfer, 9), key=Key("k"))]
    read: list[Outcome] = []
    async with Journal(path) as journal, asyncio.timeout(60.0):
        with pytest.raises(kind):
            await read_into(read, pool.stream(rows, journal=journal))
    assert len(read) == 3
    assert reasons(read)["stopped"] >= 1


async def test_failure_is_told_once(pool: SessionPool) -> None:
    """Whoever has handled it must not meet it again when leaving."""

    def broken() -> Iterator[Action]:
        yield from transfers(1)
        raise _LeftError

    async with pool.stream(broken()) as stream:
        with pytest.raises(_LeftError):
            await asyncio.gather(anext(stream), anext(stream))
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_failure_is_told_to_one_who_leaves_early(pool: SessionPool) -> None:
    """A batch cut short by a broken file would pass for complete."""

    def broken() -> Iterator[Action]:
        yield from transfers(1)
        raise _LeftError

    stream = pool.stream(broken())
    await stream.__aenter__()
    assert isinstance(await anext(stream), Accepted)
    with pytest.raises(_LeftError):
        await stream.__aexit__(None, None, None)
    assert stream.unread == []


async def test_task_ended_from_outside_is_told(
    pool: SessionPool, simulator: Simulator
) -> None:
    """A batch whose tasks were cancelled would look as if it were through."""
    simulator.hold_answers()
    read: list[Outcome] = []
    stream = pool.stream(transfers(5), concurrency=2)
    reading = asyncio.create_task(read_into(read, stream))
    mine = asyncio.all_tasks()
    await simulator.wait_for(held=2)
    for task in asyncio.all_tasks() - mine:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    simulator.release_answers()
    assert reasons(read) == {"cancelled": 2}


def _owner_of(action: Action) -> Any:  # noqa: ANN401 -- right and wrong
    match action.key:
        case "unknown":
            return "MANOBODY000000000000"
        case "wrong type":
            return object()
        case "raises":
            raise KeyError("no such customer")
    return ACCOUNT


@pytest.mark.parametrize("journaled", [False, True])
async def test_bad_action_sinks_no_others(
    simulator: Simulator, path: Path, *, journaled: bool
) -> None:
    """One bad row among thousands is one customer; the rest wait for theirs."""
    bad: list[Any] = [
        "+14155550100",
        None,
        Action(phlo_id="p1"),
        keyed("unknown", 100),
        keyed("wrong type", 101),
        keyed("raises", 102),
    ]
    good = transfers(6)
    mixed = [it for pair in zip(bad, good, strict=True) for it in pair]
    account = attrs.evolve(account_of(simulator), auth_id=ACCOUNT.auth_id)
    simulator.add_account(account.auth_id, account.auth_token)
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(pool_of(simulator, account))
        journal = None
        if journaled:
            journal = await stack.enter_async_context(Journal(path))
        stream = pool.stream(mixed, account=_owner_of, journal=journal, concurrency=3)
        outcomes = await all_of(stream)
        if journal is not None:
            assert sum(journal.report().verdicts.values()) == 6
    assert reasons(outcomes) == {"accepted": 6, "invalid": 6}
    invalid = [it for it in outcomes if isinstance(it, NotSent)]
    assert [it.action for it in invalid] == bad
    assert all(it.error and it.attempts == 0 for it in invalid)
    assert simulator.ledger.received == 6


async def test_key_of_two_actions_is_refused_for_the_second(
    pool: SessionPool, path: Path, simulator: Simulator
) -> None:
    """A file with a key used twice must not pass one customer off as another."""
    async with Journal(path) as journal:
        actions = [keyed("a", 1), keyed("a", 2), keyed("b", 3)]
        stream = pool.stream(actions, journal=journal, concurrency=1)
        outcomes = await all_of(stream)
    assert reasons(outcomes) == {"accepted": 2, "invalid": 1}
    assert simulator.ledger.dials(address(2)) == 0


# Accounts, pace, time


async def test_each_account_sends_its_own(simulator: Simulator) -> None:
    """A tenant would pay for another's calls."""
    accounts = [account_of(simulator)]
    for number in range(1, 4):
        auth_id = f"MATENANT00000000000{number}"
        simulator.add_account(auth_id, simulator.auth_token)
        accounts.append(attrs.evolve(accounts[0], auth_id=auth_id))
    actions = transfers(40)
    owners = {action: accounts[n % 4] for n, action in enumerate(actions)}
    async with pool_of(simulator, *accounts) as pool:
        stream = pool.stream(actions, account=owners.__getitem__, concurrency=8)
        outcomes = await all_of(stream)
    assert reasons(outcomes) == {"accepted": 40}
    assert {record.to: record.account for record in simulator.ledger.dialled} == {
        getattr(action, "to", ""): owner.auth_id for action, owner in owners.items()
    }


async def _yes(request: Request) -> Answer:
    del request
    return ACCEPTED


def test_send_within_counts_from_taking() -> None:
    """A transfer that waited in the list for an hour has not waited at all."""
    slow = attrs.evolve(ACCOUNT, quota=Quota(1, per=1.0, jitter=0.0))
    ended: list[tuple[float, str]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with (
            ScriptedPool(slow, transports=[ScriptedHttpClient(_yes)]) as pool,
            pool.stream(transfers(8), concurrency=4, send_within=2.5) as stream,
        ):
            async for it in stream:
                seconds = round(loop.time() - start, 3)
                ended.append((seconds, str(getattr(it, "reason", it.verdict))))

    run_virtually(main())
    # Of the four taken at 0, the last can't leave by 2.5; each of the others
    # makes room for one that has 2.5 seconds from there.
    assert [it for it in ended if it[1] == "accepted"][:3] == [
        (0.0, "accepted"),
        (1.0, "accepted"),
        (2.0, "accepted"),
    ]
    assert len(ended) == 8
    assert all(seconds <= 2.0 + 2.5 + 2.5 for seconds, _ in ended)
    assert {reason for _, reason in ended} == {"accepted", "expired"}


def test_row_that_waits_out_a_pause_is_stopped_at_once_when_the_stream_is_left() -> (
    None
):
    """Ctrl-C must not wait for the pause, nor call in doubt what Plivo refused."""

    async def throttled(_: Request) -> Answer:
        return Answer(429, {"Retry-After": "30"}, b"")

    async def main() -> tuple[list[Outcome], float]:
        loop = asyncio.get_running_loop()
        transport = ScriptedHttpClient(throttled)
        async with ScriptedPool(ACCOUNT, transports=[transport]) as pool:
            stream = pool.stream(transfers(1))
            async with stream:
                await asyncio.sleep(1.0)
                assert len(transport.requests) == 1
                left = loop.time()
            return stream.unread, loop.time() - left

    (outcome,), seconds = run_virtually(main())
    assert isinstance(outcome, NotSent)
    assert (outcome.reason, outcome.attempts) == (Reason.STOPPED, 1)
    assert seconds == 0.0


def test_stream_never_delays_somebody_who_waits() -> None:
    """An agent's transfer must not queue behind a night's batch."""
    slow = attrs.evolve(ACCOUNT, quota=Quota(1, per=1.0, jitter=0.0))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with (
            ScriptedPool(slow, transports=[ScriptedHttpClient(_yes)]) as pool,
            pool.stream(transfers(30), concurrency=20) as stream,
        ):
            for number in range(3):
                await anext(stream)
                asked = loop.time()
                await pool.send(act(Hold, number))
                assert loop.time() - asked <= 1.0
                assert pool.state().waiting[Lane.STREAMED] <= 1
            assert stream.taken > 10

    run_virtually(main())


async def test_pool_closing_under_a_stream_ends_it_clearly(
    simulator: Simulator, path: Path
) -> None:
    """A service that shuts down must lose no row, nor send one more."""
    async with Journal(path) as journal:
        pool = await pool_of(simulator, connections_per_account=3).open()
        async with pool.stream(transfers(20), concurrency=5, journal=journal) as stream:
            with simulator.hold_answers():
                await simulator.wait_for(held=2)
                closing = asyncio.create_task(pool.close())
                await asyncio.sleep(0)
            outcomes = [outcome async for outcome in stream]
            await closing
        assert reasons(outcomes) == {"accepted": 2, "closed": 18}
        assert simulator.ledger.dials() == 2
        assert journal.report().verdicts["not_sent"] == 0
        async with pool_of(simulator) as other:
            rest = await all_of(other.stream(transfers(20), journal=journal))
    assert reasons(rest) == {"accepted": 20}
    assert simulator.ledger.dials() == 20


async def test_two_streams_at_once_share_the_pool(
    pool: SessionPool, simulator: Simulator
) -> None:
    """Two jobs in one service must not take each other's outcomes."""
    actions = transfers(80)
    first, second = await asyncio.gather(
        all_of(pool.stream(actions[:40], concurrency=5)),
        all_of(pool.stream(actions[40:], concurrency=50)),
    )
    assert {it.action for it in first} == set(actions[:40])
    assert {it.action for it in second} == set(actions[40:])
    assert simulator.ledger.disagreements([*first, *second]) == []


# The journal


async def test_resumed_batch_dials_nobody_twice(
    simulator: Simulator, path: Path
) -> None:
    """The whole point of a journal: the phones of a killed run have rung."""
    actions = transfers(30)
    simulator.answer_next(400, to=address(3))
    simulator.drop_next_answer(to=address(4))
    simulator.answer_next(429, to=address(5))
    retry = RetryPolicy(attempts=1)
    async with pool_of(simulator, retry=retry) as pool:
        async with Journal(path) as journal:
            first = await all_of(pool.stream(actions, journal=journal, concurrency=7))
        async with Journal(path) as journal:
            second = await all_of(pool.stream(actions, journal=journal, concurrency=7))
            third = await all_of(
                pool.stream(actions, journal=journal, include_in_doubt=True)
            )
    assert reasons(first) == {
        "accepted": 27,
        "rejected": 1,
        "disconnected": 1,
        "throttled": 1,
    }
    assert reasons(second) == {"accepted": 28, "rejected": 1, "disconnected": 1}
    assert reasons(third) == {"accepted": 29, "rejected": 1}
    assert simulator.ledger.rung_twice() == {address(4): 2}
    assert simulator.ledger.dials() == 29 + 1


async def test_repeated_key_is_a_duplicate(
    pool: SessionPool, simulator: Simulator, path: Path
) -> None:
    """A row copied by mistake would ring its phone a second time."""
    actions = [keyed("a", 1), keyed("b", 2), keyed("a", 1)]
    for _ in range(2):
        async with Journal(path) as journal:
            outcomes = await all_of(pool.stream(actions, journal=journal))
        assert reasons(outcomes) == {"accepted": 2, "duplicate": 1}
    assert simulator.ledger.dials() == 2


SPELLINGS: Final = ("+14152225555", "+1 (415) 222-5555")


def spelled(*, keys: tuple[str | None, str | None] = (None, None)) -> list[Action]:
    """Return the same transfer twice, spelled differently."""
    first = act(WarmTransfer, 1)
    assert isinstance(first, WarmTransfer)
    return [
        attrs.evolve(first, to=to, key=key)
        for to, key in zip(SPELLINGS, keys, strict=True)
    ]


@pytest.mark.parametrize("keys", [(None, None), ("a", "b")])
@pytest.mark.parametrize("journaled", [False, True])
async def test_equal_dials_ring_once(
    pool: SessionPool,
    simulator: Simulator,
    path: Path,
    keys: tuple[str | None, str | None],
    *,
    journaled: bool,
) -> None:
    """A customer who stands in a list twice must not be called twice."""
    async with contextlib.AsyncExitStack() as stack:
        journal = None
        if journaled:
            journal = await stack.enter_async_context(Journal(path))
        outcomes = await all_of(pool.stream(spelled(keys=keys), journal=journal))
        assert reasons(outcomes) == {"accepted": 1, "duplicate": 1}
        if journal is not None:
            again = await all_of(pool.stream(spelled(keys=keys), journal=journal))
            assert reasons(again) == {"accepted": 1, "duplicate": 1}
            assert sum(journal.report().verdicts.values()) == 1
    assert simulator.ledger.dials() == 1


@pytest.mark.parametrize("journaled", [False, True])
async def test_equal_dials_ring_twice_when_asked_to(
    pool: SessionPool, simulator: Simulator, path: Path, *, journaled: bool
) -> None:
    """A list may name one person twice on purpose."""
    async with contextlib.AsyncExitStack() as stack:
        journal = None
        if journaled:
            journal = await stack.enter_async_context(Journal(path))
        stream = pool.stream(spelled(), journal=journal, on_duplicate="send")
        assert reasons(await all_of(stream)) == {"accepted": 2}
    assert simulator.ledger.dials() == 2


async def test_repeated_row_is_sent_once_somebody_asks_for_it(
    pool: SessionPool, simulator: Simulator, path: Path
) -> None:
    """Two who share a phone, and the second is never called."""
    async with Journal(path) as journal:
        once = await all_of(pool.stream(spelled(), journal=journal))
        assert reasons(once) == {"accepted": 1, "duplicate": 1}
        both = pool.stream(spelled(), journal=journal, on_duplicate="send")
        assert reasons(await all_of(both)) == {"accepted": 2}
    assert simulator.ledger.dials() == 2


async def test_equal_dials_of_a_list_ring_once(
    pool: SessionPool, simulator: Simulator
) -> None:
    """The outcomes still stand in the order of the actions."""
    report = await pool.send_all([*spelled(), act(Hold), act(Hold)])
    assert [one.verdict for one in report.outcomes] == [
        *("accepted", "not_sent", "accepted", "accepted")
    ]
    assert (await pool.send_all(spelled(), on_duplicate="send")).accepted == 2
    with pytest.raises(InvalidInputError, match="'skip' or 'send'"):
        pool.stream([], on_duplicate="join")  # type: ignore[arg-type]
    assert simulator.ledger.dials() == 3


async def test_repeated_row_in_doubt_stays_in_doubt(
    simulator: Simulator, path: Path
) -> None:
    """Its phone may have rung last week: 'not sent' would be a lie."""
    actions = spelled()
    for _ in actions:
        simulator.drop_next_answer()
    async with pool_of(simulator) as pool, Journal(path) as journal:
        await all_of(pool.stream(actions, journal=journal, on_duplicate="send"))
        again = await all_of(
            pool.stream(actions, journal=journal, include_in_doubt=True)
        )
    assert sorted(outcome.verdict for outcome in again) == ["accepted", "in_doubt"]


async def test_released_row_stays_in_doubt(simulator: Simulator, path: Path) -> None:
    """Its phone may have rung last week: 'not sent' would be a lie."""
    action = act(WarmTransfer)
    simulator.drop_next_answer()
    async with pool_of(simulator) as pool, Journal(path) as journal:
        await all_of(pool.stream([action], journal=journal))
        await pool.close()
        again = pool.stream([action], journal=journal, include_in_doubt=True)
        (outcome,) = await all_of(again)
    assert isinstance(outcome, InDoubt)
    assert outcome.reason is Reason.DISCONNECTED
    with Journal.read(path) as reader:
        (record,) = reader.outcomes()
    assert (record.verdict, record.reason) == ("in_doubt", "disconnected")


async def test_row_stopped_while_its_intent_is_written_is_noted(
    pool: SessionPool, simulator: Simulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The intent is on disk all the same: the next run would find it in doubt."""
    intended: list[str] = []
    async with Journal(path) as journal:
        intend = journal.intend

        def note(key: str, action: Action) -> asyncio.Future[None]:
            intended.append(key)
            return intend(key, action)

        monkeypatch.setattr(journal, "intend", note)
        stream = pool.stream(transfers(1), journal=journal)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as slow:
            slow.execute("BEGIN IMMEDIATE")  # as a slow disk holds up a commit
            async with stream:
                await until(lambda: bool(intended))
                asyncio.get_running_loop().call_later(0.05, slow.execute, "ROLLBACK")
        assert reasons(stream.unread) == {"stopped": 1}
        assert journal.report().reasons == {"stopped": 1}
    assert simulator.ledger.received == 0


async def test_expired_row_is_noted(simulator: Simulator, path: Path) -> None:
    """Whoever looks for the customers that were never called has to find them."""
    account = account_of(simulator, quota=Quota(1, per=60.0))
    async with pool_of(simulator, account) as pool, Journal(path) as journal:
        stream = pool.stream(transfers(2), journal=journal, send_within=0.5)
        assert reasons(await all_of(stream)) == {"accepted": 1, "expired": 1}
        assert journal.report().reasons == {"expired": 1}


async def test_row_that_could_not_be_sent_can_be_sent_later(
    pool: SessionPool, simulator: Simulator, path: Path
) -> None:
    """A row whose account was mistyped must not count as repeated ever after."""
    async with Journal(path) as journal:
        wrong = pool.stream(transfers(1), journal=journal, account=lambda _: "unknown")
        assert reasons(await all_of(wrong)) == {"invalid": 1}
        right = pool.stream(transfers(1), journal=journal)
        assert reasons(await all_of(right)) == {"accepted": 1}
    assert simulator.ledger.dials() == 1


async def test_no_request_leaves_once_the_disk_is_full(
    simulator: Simulator, path: Path
) -> None:
    """A request without an intent on disk is dialled again by the next run."""
    read: list[Outcome] = []
    async with pool_of(simulator) as pool:
        journal = Journal(path, max_bytes=100_000)
        stream = pool.stream(transfers(5_000), concurrency=50, journal=journal)
        with pytest.raises(JournalError, match="full"):
            async with journal:
                await read_into(read, stream)
    assert 0 < simulator.ledger.dials() < 5_000
    assert len(read) == stream.taken == stream.counts.total()
    assert simulator.ledger.disagreements(read) == []
    assert reasons(read)["accepted"] == simulator.ledger.dials()
    with Journal.read(path) as reader:
        intended = Counter(record.address for record in reader.outcomes())
    dialled = Counter(f"…{record.to[-2:]}" for record in simulator.ledger.dialled)
    assert dialled <= intended


async def test_settled_outcome_reaches_the_reader_though_it_is_unwritten(
    pool: SessionPool, simulator: Simulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plivo's no is known, even if the disk would not take it."""
    simulator.answer_next(400)

    def settle(*_: object) -> None:
        raise JournalError("the disk is full")

    async with Journal(path) as journal:
        monkeypatch.setattr(journal, "settle", settle)
        read: list[Outcome] = []
        stream = pool.stream(transfers(9), concurrency=1, journal=journal)
        with pytest.raises(JournalError):
            await read_into(read, stream)
    assert [type(it) for it in read] == [Rejected]
    assert simulator.ledger.received == 1


async def test_row_in_doubt_stays_in_doubt_though_its_repeat_is_unwritten(
    simulator: Simulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its phone may have rung last week: a refusal of today's says nothing of that."""

    def settle(*_: object) -> None:
        raise JournalError("the disk is full")

    simulator.drop_next_answer()
    async with pool_of(simulator) as pool, Journal(path) as journal:
        await all_of(pool.stream(transfers(1), journal=journal))
        simulator.answer_next(400)
        monkeypatch.setattr(journal, "settle", settle)
        again = pool.stream(transfers(1), journal=journal, include_in_doubt=True)
        read: list[Outcome] = []
        with pytest.raises(JournalError):
            await read_into(read, again)
    assert reasons(read) == {"disconnected": 1}
    assert simulator.ledger.received == 2


async def test_journal_that_cannot_be_read_stops_the_batch(
    pool: SessionPool, simulator: Simulator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its memory it can't know who has been dialled."""
    read: list[Outcome] = []
    async with Journal(path) as journal:
        recall, asked = journal.recall_row, itertools.count()

        def fail(*args: Any, **options: Any) -> Any:  # noqa: ANN401 -- recall's
            if next(asked) == 5:
                raise JournalError("an I/O error")
            return recall(*args, **options)

        monkeypatch.setattr(journal, "recall_row", fail)
        stream = pool.stream(transfers(9), concurrency=1, journal=journal)
        with pytest.raises(JournalError, match="I/O"):
            await read_into(read, stream)
    assert reasons(read) == {"accepted": 5, "stopped": 1}
    assert simulator.ledger.dials() == stream.taken - 1 == 5


async def test_closed_journal_is_told_before_anything_is_sent(
    pool: SessionPool, simulator: Simulator, path: Path
) -> None:
    """A forgotten `async with` must not cost the batch its memory."""
    with pytest.raises(JournalError, match="not open"):
        await all_of(pool.stream(transfers(3), journal=Journal(path)))
    assert simulator.ledger.received == 0


async def test_unforeseen_failure_in_flight_is_in_doubt() -> None:
    """What nobody foresaw may have rung: 'not sent' would have it sent again."""

    async def broken(request: Request) -> Answer:
        raise _LeftError(request.path)

    read: list[Outcome] = []
    async with ScriptedPool(ACCOUNT, transports=[ScriptedHttpClient(broken)]) as pool:
        await read_into(read, pool.stream(transfers(12), concurrency=1))
    assert reasons(read) == {"unknown": 10, "stopped": 2}


async def test_row_whose_exchange_ends_with_more_than_an_exception_is_in_doubt(
    path: Path,
) -> None:
    """Whoever reads would wait for ever, and the next run would know of no call."""

    async def broken(request: Request) -> Answer:
        raise _EndsAllError(request.path)

    read: list[Outcome] = []
    pool = ScriptedPool(ACCOUNT, transports=[ScriptedHttpClient(broken)])
    async with pool, Journal(path) as journal, asyncio.timeout(60.0):
        stream = pool.stream(transfers(2), concurrency=1, journal=journal)
        with pytest.raises(_EndsAllError):
            await read_into(read, stream)
        assert journal.report().reasons == {"unknown": 1}
    assert reasons(read) == {"unknown": 1}


# send_all


async def test_report_is_in_the_order_of_the_actions(
    simulator: Simulator,
) -> None:
    """Outcome seven has to be customer seven's."""
    actions = transfers(12)
    simulator.answer_next(delay=0.05, to=address(0))
    simulator.answer_next(400, to=address(1))
    simulator.drop_next_answer(to=address(2))
    simulator.answer_next(429, to=address(3))
    async with pool_of(simulator, retry=RetryPolicy(attempts=1)) as pool:
        report = await pool.send_all(actions, concurrency=5)
    assert [it.action for it in report.outcomes] == actions
    counts = report.accepted, report.rejected, report.not_sent, report.in_doubt
    assert counts == (9, 1, 1, 1)
    with pytest.raises(InDoubtError, match="1 of 12") as caught:
        report.raise_if_in_doubt()
    assert caught.value.outcome is report.outcomes[2]


async def test_report_without_doubt_raises_nothing(pool: SessionPool) -> None:
    """A clean batch must not alarm anybody."""
    (await pool.send_all(transfers(3))).raise_if_in_doubt()
    assert await pool.send_all([]) == BatchReport(())


# Telling, and what is left behind


async def test_observers_hear_each_outcome_once(simulator: Simulator) -> None:
    """A progress bar would run past its end."""
    ended: list[Action] = []

    def told(event: ObservedEvent) -> None:
        if isinstance(event, ActionEnded):
            ended.append(event.outcome.action)

    async with pool_of(simulator, observers=[told]) as pool:
        await all_of(pool.stream(transfers(30), concurrency=4))
    assert Counter(ended) == Counter(transfers(30))


async def test_known_rows_leave_others_their_turn(
    pool: SessionPool, path: Path
) -> None:
    """Passing over a million rows must not freeze the service for ten seconds."""
    actions = transfers(1_000)
    async with Journal(path) as journal:
        await all_of(pool.stream(actions, journal=journal))
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        async with pool.stream(actions, journal=journal, concurrency=10) as stream:
            async for _ in stream:
                pass
        counting.cancel()
    assert turns >= 100


async def aenumerate(stream: Stream) -> AsyncIterator[tuple[int, Outcome]]:
    """Count what is read, from 1."""
    number = 0
    async for outcome in stream:
        number += 1
        yield number, outcome


async def _garbage_from(stream: Stream) -> int:
    gc.collect()
    gc.disable()
    try:
        await all_of(stream)
        return gc.collect()
    finally:
        gc.enable()


async def test_stream_makes_no_reference_cycles(path: Path) -> None:
    """The collector's walks would cost more than the requests."""
    async with (
        ScriptedPool(ACCOUNT, transports=[ScriptedHttpClient(_yes)]) as pool,
        Journal(path) as journal,
    ):
        garbage = await _garbage_from(pool.stream(transfers(500)))
        recorded = await _garbage_from(pool.stream(transfers(500), journal=journal))
        known = await _garbage_from(pool.stream(transfers(500), journal=journal))
    assert max(garbage, recorded, known) < 50


@pytest.mark.skipif("coverage" in sys.modules, reason="it keeps objects of its own")
@pytest.mark.parametrize("journaled", [False, True])
async def test_memory_is_flat_over_many_actions(path: Path, *, journaled: bool) -> None:
    """A batch of a million rows must fit where one of a thousand does."""
    alive: list[int] = []
    async with contextlib.AsyncExitStack() as stack:
        transport = ScriptedHttpClient(_yes)
        pool = await stack.enter_async_context(
            ScriptedPool(ACCOUNT, transports=[transport])
        )
        journal = None
        if journaled:
            journal = await stack.enter_async_context(Journal(path))
        actions = (act(WarmTransfer, n) for n in range(20_000))
        async with pool.stream(actions, concurrency=50, journal=journal) as stream:
            async for number, _ in aenumerate(stream):
                transport.requests.clear()
                if number % 5_000 == 0:
                    gc.collect()
                    alive.append(len(gc.get_objects()))
    assert max(alive) - alive[0] < 2_000  # what was left of other tests may go


async def test_loop_takes_steps_while_a_stream_fills(simulator: Simulator) -> None:
    """An agent's transfer must not wait until hundreds of rows have been taken."""
    simulator.hold_answers()
    async with pool_of(simulator) as pool:
        stream = pool.stream(transfers(100), concurrency=100)
        async with asyncio.timeout(10), stream:
            seen = [stream.taken]
            while stream.taken < 100:
                await asyncio.sleep(0)
                seen.append(stream.taken)
            simulator.release_answers()
    assert max(after - before for before, after in itertools.pairwise(seen)) < 20


async def test_nothing_is_lost_when_every_task_is_cancelled_at_once(
    simulator: Simulator, tmp_path: Path
) -> None:
    """A service that shuts down by cancelling all must neither hang nor forget."""
    actions = [act(WarmTransfer, number) for number in range(20)]
    found: list[Outcome] = []

    async def run(journal: Journal) -> None:
        async with pool_of(simulator) as pool:
            async with pool.stream(actions, journal=journal) as outcomes:
                others = asyncio.all_tasks() - {asyncio.current_task()}
                while len(others) < 2:
                    await asyncio.sleep(0)
                    others = asyncio.all_tasks() - {asyncio.current_task()}
                for task in others:
                    task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    async for outcome in outcomes:
                        found.append(outcome)  # noqa: PERF401 -- until it raises
            assert len(found) + len(outcomes.unread) == outcomes.taken

    async with Journal(tmp_path / "j.db") as journal, asyncio.timeout(10.0):
        await run(journal)
        async with pool_of(simulator) as pool:  # which finds them as that one did
            again = await all_of(pool.stream(actions, journal=journal))
    assert reasons(again) == {"accepted": len(actions)}
    assert simulator.ledger.dials() == len(actions)
