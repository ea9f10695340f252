"""Observing: everybody hears of it in order, and nobody sees a number or a token."""

import asyncio
import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest

from aiophlo.errors import InvalidInputError
from aiophlo.instrumentation import Observers, PoolObserver
from aiophlo.model.accounts import Account
from aiophlo.model.actions import GetPhlo, Hold, Lane, WarmTransfer
from aiophlo.model.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason, Rejected
from aiophlo.observed_events import (
    ActionBegun,
    ActionEnded,
    AttemptBegun,
    AttemptEnded,
    HandoverEnded,
    HandoverStep,
    ObservedEvent,
    Observer,
    WebhookReceived,
)
from aiophlo.pool import SessionPool
from aiophlo.simulator import Simulator
from tests.support.doubles import pool_of
from tests.support.handover_stage import AGENT, CUSTOMER, FIRST, set_stage

TOKEN = "CanaryTokenCanaryTokenCanaryToken1234567"  # noqa: S105 -- made up, to be missed
NUMBER, CALLEE = "+14155550100", "+14155550199"
CANARIES = (TOKEN, "14155550100", "14155550199", "415 555 0199", "bob.canary")
ACCOUNT = Account("MACANARYCANARYCANARY", TOKEN)
ACTION = WarmTransfer(
    phlo_id="p", node_id="n", trigger_source=NUMBER, to=CALLEE, key="row 7"
)
KNOWN: dict[str, Any] = {
    "action": ACTION,
    "attempts": 2,
    "seconds": 1.23456789,
    "status": 400,
    "api_id": "faad0293-f5f0-487e-8ff7-b45ba6c45b25",
    "error": f"{CALLEE}, +1 415 555 0199 and sip:bob.canary@host are busy",
    "body": {"error": f"{CALLEE} is busy"},
}
ACCEPTED = Accepted(action=ACTION, attempts=1, seconds=0.25, status=201)
REJECTED = Rejected(**KNOWN)
NOT_SENT = NotSent(action=ACTION, reason=Reason.EXPIRED, attempts=0)
IN_DOUBT = InDoubt(**KNOWN, reason=Reason.SERVER_ERROR)
EACH = pytest.mark.parametrize(
    "outcome",
    [ACCEPTED, REJECTED, NOT_SENT, IN_DOUBT],
    ids=lambda outcome: outcome.verdict,
)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Collect everything the library logs."""
    caplog.set_level(logging.DEBUG, logger="aiophlo")
    return caplog


def tell_all(observers: Observers, outcome: Outcome) -> None:
    """Tell of an attempt, then of the action's end."""
    observers.attempt_ended(ACCOUNT, outcome)
    observers.action_ended(ACCOUNT, outcome)


def everything_logged(log: pytest.LogCaptureFixture) -> str:
    """Return all a log file could show, extra fields and tracebacks included."""
    formatter = logging.Formatter("%(message)s")
    return "\n".join(
        formatter.format(record) + repr(vars(record)) for record in log.records
    )


@EACH
def test_every_observer_hears_each_event_in_order(outcome: Outcome) -> None:
    """A progress bar that hears the end before the attempt counts wrong."""
    heard: list[tuple[str, object]] = []
    observers = Observers(
        [
            partial(lambda name, event: heard.append((name, event)), name)
            for name in "ab"
        ]
    )
    tell_all(observers, outcome)
    attempt, end = AttemptEnded(ACCOUNT, outcome), ActionEnded(ACCOUNT, outcome)
    assert heard == [("a", attempt), ("b", attempt), ("a", end), ("b", end)]


@EACH
def test_observer_that_raises_harms_nobody(
    outcome: Outcome, log: pytest.LogCaptureFixture
) -> None:
    """A bug in somebody's metrics must not turn a yes into an error."""

    def broken_metrics(event: object) -> None:
        raise KeyError(event)

    heard: list[object] = []
    tell_all(Observers([broken_metrics, heard.append]), outcome)
    assert len(heard) == 2
    errors = [record for record in log.records if record.levelno == logging.ERROR]
    assert "broken_metrics" in errors[0].getMessage()
    assert "KeyError" in everything_logged(log)


def test_failing_observer_is_logged_once_for_each_kind(
    log: pytest.LogCaptureFixture,
) -> None:
    """A dashboard that is down must not fill the disk with one traceback per event."""

    def broken(event: object) -> None:
        raise KeyError if isinstance(event, ActionEnded) else ValueError

    observers = Observers([broken, partial(broken)])
    for _ in range(20):
        tell_all(observers, ACCEPTED)
    errors = [record for record in log.records if record.levelno == logging.ERROR]
    assert len(errors) == 4  # two observers, two kinds each


def test_failing_observer_is_logged_with_its_traceback_as_one(
    log: pytest.LogCaptureFixture,
) -> None:
    """Who mends it needs the lines it came from, one below the other."""
    Observers([quote_chain]).action_ended(ACCOUNT, ACCEPTED)
    error = next(record for record in log.records if record.levelno == logging.ERROR)
    lines = (error.exc_text or "").splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "    quote_number(event)" in lines
    assert lines[-1] == "ValueError: no agent sip:…@host for '…99'"
    assert error.exc_info is None  # whose frames hold the number
    assert logging.Formatter().format(error).endswith(lines[-1])


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_end_of_the_program_is_kept_until_the_verdict_is_told(
    kind: type[BaseException],
) -> None:
    """Ctrl-C in an observer must end the program, and leave no false "not sent"."""
    told: list[str] = []

    def interrupted(_event: object) -> None:
        raise kind

    async def main() -> None:
        Observers([interrupted]).action_ended(ACCOUNT, ACCEPTED)
        told.append("accepted")
        await asyncio.sleep(3600)

    with pytest.raises(kind):
        asyncio.run(main())
    assert told == ["accepted"]


def test_end_of_the_program_is_not_swallowed_without_a_loop() -> None:
    """Ctrl-C must still end a program that tells observers outside of a loop."""

    def interrupted(_event: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Observers([interrupted]).action_ended(ACCOUNT, ACCEPTED)


@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit])
def test_what_ends_a_task_does_not_escape_an_observer(
    kind: type[BaseException], log: pytest.LogCaptureFixture
) -> None:
    """A cancel that nobody asked for would read as "the caller has gone away"."""

    def broken(_event: object) -> None:
        raise kind

    tell_all(Observers([broken]), ACCEPTED)
    assert kind.__name__ in everything_logged(log)


@EACH
def test_nothing_is_logged_in_the_clear(
    outcome: Outcome, log: pytest.LogCaptureFixture
) -> None:
    """Logs are copied to places where no customer's number may be."""
    tell_all(Observers([]), outcome)
    assert len(log.records) == 2
    for canary in CANARIES:
        assert canary not in everything_logged(log)


def quote_number(event: ObservedEvent) -> None:
    """Fail as a lookup by number does: quoting it."""
    assert isinstance(event, ActionEnded | AttemptEnded)
    action = event.outcome.action
    assert isinstance(action, WarmTransfer)
    raise KeyError(action.to)


def quote_chain(event: ObservedEvent) -> None:
    """Fail while failing."""
    try:
        quote_number(event)
    except KeyError as error:
        raise ValueError(f"no agent sip:bob.canary@host for {error}") from error


@pytest.mark.parametrize(
    "observer",
    [quote_number, quote_chain, partial(lambda _number, _event: 1 / 0, NUMBER)],
    ids=["quoting", "chained", "partial"],
)
def test_observer_that_quotes_a_number_is_logged_without_it(
    observer: Callable[[object], object], log: pytest.LogCaptureFixture
) -> None:
    """Metrics kept by number fail with the number in the message."""
    tell_all(Observers([observer]), ACCEPTED)
    text = everything_logged(log)
    assert "Error" in text
    for canary in CANARIES:
        assert canary not in text


def test_log_says_what_came_of_it(log: pytest.LogCaptureFixture) -> None:
    """Whoever reads the log at night needs the verdict and why."""
    observers = Observers([])
    observers.attempt_ended(ACCOUNT, REJECTED)
    for outcome in (ACCEPTED, REJECTED, NOT_SENT, IN_DOUBT):
        observers.action_ended(ACCOUNT, outcome)
    answer = "status 400 …99, …99 and sip:…@host are busy"
    assert [(record.levelname, record.getMessage()) for record in log.records] == [
        ("DEBUG", f"attempt 2 of WarmTransfer: rejected {answer}"),
        ("INFO", "after 1 attempt, WarmTransfer: accepted status 201"),
        ("INFO", f"after 2 attempts, WarmTransfer: rejected {answer}"),
        ("INFO", "after 0 attempts, WarmTransfer: not_sent (expired)"),
        (
            "WARNING",
            f"after 2 attempts, WarmTransfer: in_doubt (server_error) {answer}",
        ),
    ]


def test_question_that_nobody_waits_for_is_no_warning(
    log: pytest.LogCaptureFixture,
) -> None:
    """Whoever reads "in doubt" thinks of a phone, and a GET rings none."""
    question = InDoubt(action=GetPhlo(phlo_id="p"), reason=Reason.CANCELLED)
    Observers([]).action_ended(ACCOUNT, question)
    Observers([]).action_ended(ACCOUNT, attrs.evolve(question, reason=Reason.SILENT))
    assert [record.levelname for record in log.records] == ["INFO", "WARNING"]


def test_record_carries_fields_for_machines(log: pytest.LogCaptureFixture) -> None:
    """Alerts are made of fields, not of sentences."""
    Observers([]).action_ended(ACCOUNT, IN_DOUBT)
    fields = {
        name: value
        for name, value in vars(log.records[0]).items()
        if name.startswith("phlo_")
    }
    assert fields == {
        "phlo_account": "MACANARYCANARYCANARY",
        "phlo_action": "WarmTransfer",
        "phlo_action_id": 0,
        "phlo_handover": None,
        "phlo_joined": False,
        "phlo_key": "row 7",
        "phlo_waited": 0.0,
        "phlo_verdict": "in_doubt",
        "phlo_reason": "server_error",
        "phlo_status": 400,
        "phlo_api_id": "faad0293-f5f0-487e-8ff7-b45ba6c45b25",
        "phlo_request_id": None,
        "phlo_attempts": 2,
        "phlo_seconds": 1.234568,
    }
    assert json.loads(json.dumps(fields)) == fields


@pytest.mark.parametrize(
    ("level", "logged"),
    [(logging.DEBUG, 8), (logging.INFO, 4), (logging.WARNING, 1), (logging.ERROR, 0)],
)
def test_level_decides_what_is_logged(
    level: int, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    """By default only what needs somebody's eyes is shown: what is in doubt."""
    caplog.set_level(level, logger="aiophlo")
    for outcome in (ACCEPTED, REJECTED, NOT_SENT, IN_DOUBT):
        tell_all(Observers([]), outcome)
    assert len(caplog.records) == logged


def test_events_show_no_secrets() -> None:
    """Events end up in other people's logs."""
    for outcome in (ACCEPTED, REJECTED, NOT_SENT, IN_DOUBT):
        for event in (AttemptEnded(ACCOUNT, outcome), ActionEnded(ACCOUNT, outcome)):
            for canary in CANARIES:
                assert canary not in repr(event)


async def test_handover_tells_its_steps_and_which_actions_are_its(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A wallboard shows where each handover stands, and what it has asked for."""
    caplog.set_level(logging.DEBUG, logger="aiophlo")
    heard: list[ObservedEvent] = []
    async with pool_of(simulator, observers=[heard.append]) as pool:
        node = pool.phlo("p").multi_party_call("n")
        consult = pool.consult(node, agent=NUMBER, customer="+14155550101", to=CALLEE)
        await consult.start()
        await consult.abort()
    steps = [event for event in heard if isinstance(event, HandoverStep)]
    phases = [step.phase for step in steps]
    assert phases == ["asking", "ringing", "bringing_back", "with_agent"]
    assert [step.before for step in steps] == ["with_agent", *phases[:-1]]
    assert {step.id for step in steps} == {consult.id}
    actions = [one for one in heard if isinstance(one, ActionBegun | ActionEnded)]
    assert [one.handover for one in actions] == [consult.id] * 4
    outcomes = [vars(one) for one in caplog.records if hasattr(one, "phlo_verdict")]
    assert [one["phlo_handover"] for one in outcomes] == [consult.id] * 4
    assert CALLEE not in repr(steps)
    last = heard[-1]
    assert isinstance(last, HandoverEnded)
    assert (last.id, last.phase, last.alarm) == (consult.id, "with_agent", False)


async def test_webhook_is_told_with_the_handover_that_it_is_about() -> None:
    """Why a partner was taken for gone must be found out from what was heard."""
    heard: list[ObservedEvent] = []
    async with set_stage(observers=[heard.append]) as stage, stage.consult() as consult:
        pass
    told = [one for one in heard if isinstance(one, WebhookReceived)]
    before, about = told[:2], [one for one in told if one.handovers]
    assert [one.handovers for one in before] == [(), ()]
    assert {one.handovers for one in about} == {(consult.id,)}
    assert {one.id for one in told} == {told[0].id} != {""}
    assert all(number not in repr(told) for number in (AGENT, CUSTOMER, FIRST))


async def test_observer_may_be_added_while_the_pool_is_open(
    simulator: Simulator,
) -> None:
    """A wallboard is mounted by a service that has its pool already."""
    heard: list[ObservedEvent] = []
    async with pool_of(simulator) as pool:
        await pool.send(ACTION)
        pool.add_observer(heard.append)
        await pool.send(ACTION, on_duplicate="send")
        with pytest.raises(InvalidInputError, match="observers"):
            pool.add_observer("nonsense")  # type: ignore[arg-type]
    assert [type(event).__name__ for event in heard] == [
        *("ActionBegun", "AttemptBegun", "AttemptEnded", "ActionEnded")
    ]


class _Watcher(PoolObserver):
    """An observer that looks at its pools."""

    def __init__(self) -> None:
        self.pools: list[SessionPool] = []

    def __call__(self, event: ObservedEvent) -> None:
        """Hear an event of no pool."""
        raise AssertionError(event)

    def of_pool(self, pool: SessionPool) -> Observer:
        """Hear a pool's."""
        self.pools.append(pool)
        return lambda _: self.pools.append(pool)


@pytest.mark.parametrize("late", [False, True])
async def test_pool_observer_is_given_each_pool_once_it_is_open(
    simulator: Simulator, *, late: bool
) -> None:
    """What is waiting in a pool is asked of it, and is in no event."""
    watcher = _Watcher()
    async with pool_of(simulator, observers=[] if late else [watcher]) as pool:
        if late:
            pool.add_observer(watcher)
        assert watcher.pools == [pool]
        await pool.send(ACTION)
    assert watcher.pools == [pool] * 5


async def test_attempt_says_where_it_goes_and_its_repr_tells_no_number(
    simulator: Simulator,
) -> None:
    """A span is made of it; a log may show it."""
    heard: list[ObservedEvent] = []
    async with pool_of(simulator, observers=[heard.append]) as pool:
        await pool.send(Hold(phlo_id="p", node_id="n", member=NUMBER))
    (begun,) = [event for event in heard if isinstance(event, AttemptBegun)]
    assert begun.url == (
        f"{simulator.base_url}/phlo/p/multi_party_call/n/members/{NUMBER}"
    )
    assert (begun.method, begun.lane) == ("POST", Lane.AWAITED)
    assert NUMBER[1:] not in repr(begun)
