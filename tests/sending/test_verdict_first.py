"""The verdict is stored first: nothing of ours or yours can make it another one."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import attrs
import pytest

from aiophlo import (
    Account,
    ActionBegun,
    ActionEnded,
    ActionJoined,
    AttemptBegun,
    AttemptEnded,
    Hold,
    Journal,
    JournalError,
    ObservedEvent,
    Outcome,
    Quota,
    Reason,
    RetryPolicy,
    WarmTransfer,
)
from aiophlo.instrumentation import Observers
from aiophlo.protocol.codec import Answer, NoAnswer, Request, decode
from aiophlo.protocol.tracked_request import TrackedRequest
from aiophlo.sending.delivery import Delivery
from aiophlo.simulator import Simulator
from tests.support.doubles import (
    ACCEPTED,
    ScriptedHttpClient,
    ScriptedPool,
    account_of,
    act,
    address,
    outcome_of,
    pool_of,
)
from tests.support.virtual_time import run_virtually

ACCOUNT: Final = Account("MAVERDICT00000000001", "token", quota=None)
TRANSFER: Final = act(WarmTransfer)
ENDS_TASKS: Final = [asyncio.CancelledError, GeneratorExit, ZeroDivisionError]
ENDS_PROGRAMS: Final = [KeyboardInterrupt, SystemExit]
KINDS: Final = [
    ActionBegun,
    AttemptBegun,
    AttemptEnded,
    ActionEnded,
    ActionJoined,
]


def failing_at(
    moment: type[ObservedEvent], kind: type[BaseException]
) -> Callable[[ObservedEvent], None]:
    """Return an observer that raises when it hears of one kind of event."""

    def observe(event: ObservedEvent) -> None:
        if isinstance(event, moment):
            raise kind("an observer's own")

    return observe


@pytest.mark.parametrize("kind", ENDS_TASKS)
@pytest.mark.parametrize("moment", KINDS)
async def test_no_observer_changes_what_is_told_journalled_or_joined(
    simulator: Simulator,
    tmp_path: Path,
    moment: type[ObservedEvent],
    kind: type[BaseException],
) -> None:
    """A false "not sent" in a journal rings everybody again in the next run."""
    transfers = [act(WarmTransfer, number) for number in range(1, 6)]
    observers = [failing_at(moment, kind)]
    async with (
        pool_of(simulator, observers=observers) as pool,
        Journal(tmp_path / "batch.journal") as journal,
    ):
        both = await asyncio.gather(pool.send(TRANSFER), pool.send(TRANSFER))
        assert [one.verdict for one in both] == ["accepted", "accepted"]
        async with pool.stream(transfers, journal=journal) as outcomes:
            told = [outcome.verdict async for outcome in outcomes]
        assert told == ["accepted"] * 5
        assert journal.report().verdicts["accepted"] == 5
        async with pool.stream(transfers, journal=journal) as outcomes:
            assert len([outcome async for outcome in outcomes]) == 5
        assert pool.state().in_flight == 0
    assert simulator.ledger.dials() == 6
    assert not simulator.ledger.rung_twice()


@pytest.mark.parametrize("telling", ["attempt_ended", "action_ended"])
async def test_nothing_that_telling_raises_changes_what_is_known(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, telling: str
) -> None:
    """Memory can run out between the answer and an observer: the phone rings."""

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    simulator.hold_answers()
    async with pool_of(simulator) as pool:
        first, second = (asyncio.create_task(pool.send(TRANSFER)) for _ in range(2))
        await simulator.wait_for(held=1, within=30)
        with monkeypatch.context() as patched:
            patched.setattr(Observers, telling, fail)
            simulator.release_answers()
            await asyncio.wait([first, second])
        assert pool.state().in_flight == 0
    assert first.result().verdict == second.result().verdict == "accepted"
    assert simulator.ledger.dials() == 1


@pytest.mark.parametrize("kind", ENDS_PROGRAMS)
@pytest.mark.parametrize("moment", KINDS[:-1])
def test_end_of_the_program_leaves_a_true_journal(
    tmp_path: Path, moment: type[ObservedEvent], kind: type[BaseException]
) -> None:
    """Ctrl-C in an observer must neither be swallowed nor ring everybody again."""
    rung: list[str] = []
    path = tmp_path / "batch.journal"
    transfers = [act(WarmTransfer, number) for number in range(5)]

    async def answer(request: Request) -> Answer:
        rung.append(str(request.body))
        return ACCEPTED

    async def run(*observers: Callable[[ObservedEvent], None]) -> None:
        transport = ScriptedHttpClient(answer)
        pool = ScriptedPool(ACCOUNT, transports=[transport], observers=observers)
        async with (
            pool,
            Journal(path) as journal,
            pool.stream(transfers, journal=journal) as outcomes,
        ):
            async for _ in outcomes:
                pass

    with pytest.raises(kind):
        asyncio.run(run(failing_at(moment, kind)))
    asyncio.run(run())
    assert sorted(rung) == sorted(set(rung))
    assert len(rung) == 5


class Raising(logging.Filter):
    """A filter with a bug, as one that looks for a number in the arguments."""

    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__()
        self.kind = kind

    def filter(self, record: logging.LogRecord) -> bool:
        """Fail."""
        raise self.kind(record.name)


@pytest.fixture(params=[IndexError, asyncio.CancelledError])
def broken_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give a logger that raises at every level."""
    logger = logging.getLogger("aiophlo")
    level, broken = logger.level, Raising(request.param)
    logger.setLevel(logging.DEBUG)
    logger.addFilter(broken)
    yield
    logger.removeFilter(broken)
    logger.setLevel(level)


@pytest.mark.usefixtures("broken_log")
async def test_triple_click_rings_once_though_logging_fails(
    simulator: Simulator,
) -> None:
    """A filter's IndexError came out of `send`, and the phone rang three times."""
    async with pool_of(simulator, observers=[failing_at(AttemptEnded, KeyError)]) as p:
        told = await asyncio.gather(*(p.send(TRANSFER) for _ in range(3)))
        again = await p.send(TRANSFER)
    assert [one.verdict for one in told] == ["accepted"] * 3
    assert again.joined
    assert simulator.ledger.dials() == 1


@pytest.mark.parametrize("kind", ENDS_TASKS)
async def test_key_that_cannot_be_logged_changes_no_verdict(
    simulator: Simulator, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    """Its error came out of `send` in place of the outcome: the phone was ringing."""

    class Key(str):  # of a class of the caller's, as a database's driver has some
        __slots__ = ()

        def __str__(self) -> str:
            raise kind

    caplog.set_level(logging.DEBUG, logger="aiophlo")
    transfer = attrs.evolve(TRANSFER, key=Key("k"))
    async with pool_of(simulator) as pool:
        assert (await pool.send(transfer)).verdict == "accepted"
        assert (await pool.send(transfer)).joined
    assert simulator.ledger.dials() == 1


@pytest.mark.usefixtures("broken_log")
async def test_stream_ends_well_though_logging_fails(simulator: Simulator) -> None:
    """Leaving a block must not fail since it had a warning to log."""
    async with pool_of(simulator) as pool:
        stream = pool.stream([act(WarmTransfer, 1), act(WarmTransfer, 2)])
        async with stream:
            await anext(stream)
        assert len(stream.unread) == 1


def test_dice_that_fail_change_no_verdict() -> None:
    """A `random` of the caller's own that runs out must not lose "in doubt"."""

    async def answer(_request: Request) -> NoAnswer:
        return NoAnswer(left=True, reason=Reason.DISCONNECTED)

    async def main() -> Outcome:
        pool = ScriptedPool(
            ACCOUNT,
            transports=[ScriptedHttpClient(answer)],
            random=iter(()).__next__,
        )
        async with pool:
            outcome = await outcome_of(pool.send(act(Hold)))
            assert pool.sender(ACCOUNT).under_way.number == 0
            return outcome

    outcome = run_virtually(main())
    assert (outcome.verdict, outcome.attempts) == ("in_doubt", 1)


@pytest.mark.parametrize(("left", "verdict"), [(True, "in_doubt"), (False, "not_sent")])
def test_clock_that_fails_after_the_answer_leaves_a_doubt(
    monkeypatch: pytest.MonkeyPatch,
    left: bool,
    verdict: str,
) -> None:
    """Whatever breaks between answer and verdict, a phone may be ringing."""

    def broken() -> float:
        raise OSError("no clock")

    # Not everybody's clock: the log has one, too.
    monkeypatch.setattr("aiophlo.sending.delivery.time", SimpleNamespace(time=broken))

    async def answer(_request: Request) -> Answer | NoAnswer:
        if not left:
            return NoAnswer(left=False, reason=Reason.CLOSED)
        return Answer(429, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, b"")

    async def main() -> Outcome:
        pool = ScriptedPool(ACCOUNT, transports=[ScriptedHttpClient(answer)])
        async with pool:
            told = await outcome_of(pool.send(TRANSFER))
            assert pool.state().in_flight == 0
            return told

    assert run_virtually(main()).verdict == verdict


@pytest.mark.parametrize(
    "answer", [ACCEPTED, Answer(400, {}, b'{"error":"no such node"}')]
)
def test_pace_that_fails_after_the_answer_changes_no_verdict(answer: Answer) -> None:
    """Plivo has said yes or no: a bug of ours makes no doubt of it, nor a second ring.

    A doubt would stop a batch; what was refused would count as what may be ringing.
    """

    def broken(**_: float) -> None:
        raise ArithmeticError

    async def says(_request: Request) -> Answer:
        return answer

    async def main() -> tuple[str, str]:
        pool = ScriptedPool(ACCOUNT, transports=[ScriptedHttpClient(says)])
        async with pool:
            slots = pool.sender(ACCOUNT).context.slots
            slots.answered = broken  # type: ignore[method-assign]
            told = await outcome_of(pool.send(TRANSFER))
            return told.verdict, decode(TRANSFER, answer, now=lambda: 0.0).verdict

    told, right = run_virtually(main())
    assert told == right


def test_click_takes_the_place_of_a_row_whose_intent_failed() -> None:
    """A full disk under a batch would keep an agent's own transfer from ringing."""
    rung: list[Request] = []

    async def answer(request: Request) -> Answer:
        rung.append(request)
        return ACCEPTED

    async def main() -> str:
        pool = ScriptedPool(ACCOUNT, transports=[ScriptedHttpClient(answer)])
        async with pool:
            sender, failing = pool.sender(ACCOUNT), asyncio.Event()

            async def intend() -> None:
                await failing.wait()
                raise JournalError("the disk is full")

            row = Delivery(sender.context, TRANSFER, None, before_leaving=intend)
            batch = asyncio.create_task(sender.run(row))
            click = asyncio.create_task(outcome_of(pool.send(TRANSFER)))
            await asyncio.sleep(1.0)
            failing.set()
            with pytest.raises(JournalError):
                await batch
            return (await click).verdict

    assert run_virtually(main()) == "accepted"
    assert len(rung) == 1


def test_click_waits_for_one_in_flight_beyond_its_own_deadline() -> None:
    """Told "not sent", the agent would click again while the phone is ringing."""

    async def answer(_request: Request) -> Answer:
        await asyncio.sleep(5.0)
        return ACCEPTED

    async def main() -> Outcome:
        pool = ScriptedPool(ACCOUNT, transports=[ScriptedHttpClient(answer)])
        async with pool:
            first = asyncio.create_task(pool.send(TRANSFER))
            await asyncio.sleep(0.1)
            second = await outcome_of(pool.send(TRANSFER, send_within=1.0))
            await first
            return second

    second = run_virtually(main())
    assert (second.verdict, second.joined) == ("accepted", True)


def test_click_waits_for_one_in_doubt_beyond_its_own_deadline() -> None:
    """Told "not sent", the agent would click again while the phone is ringing."""
    answers = iter([Answer(502, {}, b""), ACCEPTED])

    async def answer(_request: Request) -> Answer:
        return next(answers)

    async def main() -> Outcome:
        pool = ScriptedPool(
            ACCOUNT,
            transports=[ScriptedHttpClient(answer)],
            retry=RetryPolicy(first_wait=5.0, repeat_dials=True),
            random=lambda: 1.0,
        )
        async with pool:
            first = asyncio.create_task(pool.send(TRANSFER))
            await asyncio.sleep(0.1)
            second = await outcome_of(pool.send(TRANSFER, send_within=1.0))
            await first
            return second

    second = run_virtually(main())
    assert (second.verdict, second.joined) == ("accepted", True)


@pytest.mark.parametrize("left", [True, False])
def test_exchange_that_fails_is_judged_by_whether_it_left(
    left: bool,
) -> None:
    """What nobody foresaw may have rung, and is no exception of ours to raise."""

    async def answer(_request: Request) -> Answer:
        raise ZeroDivisionError

    class HttpClient(ScriptedHttpClient):
        async def exchange(
            self, request: Request, departure: TrackedRequest, *, within: float
        ) -> Answer | NoAnswer:
            try:
                return await super().exchange(request, departure, within=within)
            finally:
                departure.left = left

    async def main() -> Outcome:
        async with ScriptedPool(ACCOUNT, transports=[HttpClient(answer)]) as pool:
            outcome = await outcome_of(pool.send(TRANSFER))
            sender = pool.sender(ACCOUNT)
            assert (sender.context.in_flight, sender.under_way.number) == (0, 0)
            assert sender.context.connections.free == 1_000
            return outcome

    outcome = run_virtually(main())
    assert outcome.verdict == ("in_doubt" if left else "not_sent")


async def test_every_event_of_an_action_bears_its_id(simulator: Simulator) -> None:
    """A trace has to tie a repeat, its answer and the verdict to one transfer."""
    heard: list[ObservedEvent] = []
    simulator.answer_next(429, to=address(1))
    async with pool_of(
        simulator, account_of(simulator), observers=[heard.append]
    ) as pool:
        await asyncio.gather(
            pool.send(act(WarmTransfer, 1)), pool.send(act(WarmTransfer, 2))
        )
        await pool.send(act(WarmTransfer, 2))
    begun = {
        event.id: event.action for event in heard if isinstance(event, ActionBegun)
    }
    assert len(begun) == 3
    for number, action in begun.items():
        mine = [
            event
            for event in heard
            if not isinstance(event, ActionBegun)
            if getattr(event, "id", None) == number
        ]
        for event in mine:
            if isinstance(event, AttemptBegun):
                assert event.action is action
            else:
                assert isinstance(event, AttemptEnded | ActionEnded | ActionJoined)
                assert event.outcome.action is action
        kinds = [type(event) for event in mine]
        attempts = sum(kind is AttemptBegun for kind in kinds)
        if mine[-1] == heard[-1]:
            assert kinds == [ActionJoined]
        else:
            assert kinds == [AttemptBegun, AttemptEnded] * attempts + [ActionEnded]
            assert attempts == (2 if action == act(WarmTransfer, 1) else 1)
    joined = heard[-1]
    assert isinstance(joined, ActionJoined)
    assert begun[joined.joined] == joined.outcome.action


def test_attempt_tells_its_own_seconds_and_its_own_wait() -> None:
    """Sums over all attempts hide which of them was slow."""
    heard: list[ObservedEvent] = []
    answers: Iterator[Answer | NoAnswer] = iter(
        [NoAnswer(left=False, reason=Reason.UNREACHABLE), ACCEPTED]
    )

    async def answer(_request: Request) -> Answer | NoAnswer:
        await asyncio.sleep(2.0)
        return next(answers)

    async def main() -> None:
        pool = ScriptedPool(
            ACCOUNT,
            transports=[ScriptedHttpClient(answer)],
            observers=[heard.append],
            random=lambda: 1.0,
        )
        async with pool:
            await pool.send(TRANSFER)

    run_virtually(main())
    ends = [event for event in heard if isinstance(event, AttemptEnded)]
    assert [round(event.seconds, 6) for event in ends] == [2.0, 2.0]
    assert [round(event.waited, 6) for event in ends] == [0.0, 0.0]
    assert [round(event.outcome.seconds, 6) for event in ends] == [2.0, 4.25]


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_joiner_that_goes_before_its_leader_ends_for_observers(
    *, is_cancelled: bool
) -> None:
    """Whoever counts begun actions must see each of them end."""
    heard: list[ObservedEvent] = []

    async def answer(_request: Request) -> Answer:
        return ACCEPTED

    async def main() -> None:
        paced = attrs.evolve(ACCOUNT, quota=Quota(2, per=59.95))  # a slot in 60 s
        transports = [ScriptedHttpClient(answer)]
        async with ScriptedPool(
            paced, transports=transports, observers=[heard.append]
        ) as pool:
            await pool.send(act(WarmTransfer, 1))
            first = asyncio.create_task(pool.send(TRANSFER, send_within=None))
            await asyncio.sleep(0.0)
            second = asyncio.create_task(outcome_of(pool.send(TRANSFER)))
            await asyncio.sleep(1.0)
            if is_cancelled:
                second.cancel()
            await asyncio.wait([second])
            assert not first.done()
            await first

    run_virtually(main())
    ends = [event.outcome for event in heard if isinstance(event, ActionEnded)]
    assert [end.verdict for end in ends] == ["accepted", "not_sent", "accepted"]
    assert getattr(ends[1], "reason", None) is (
        Reason.CANCELLED if is_cancelled else Reason.EXPIRED
    )
