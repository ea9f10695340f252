"""A soak finds nothing wrong, and would if there were."""

import functools
from collections import Counter
from collections.abc import Callable

import attrs
import pytest

from aiophlo.model.actions import Action, DialAction
from aiophlo.model.outcomes import (
    Accepted,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    Rejected,
)
from aiophlo.pool import SessionPool
from aiophlo.protocol import codec
from aiophlo.protocol.codec import Answer, NoAnswer
from aiophlo.sending import delivery
from aiophlo.sending.deduplication import DialRegistry
from aiophlo.sending.retry import RetryPolicy
from aiophlo.simulator import Fault
from benchmarks.soak import actions as soak_actions
from benchmarks.soak import report as soak_report
from benchmarks.soak.__main__ import main
from benchmarks.soak.judge import Findings
from benchmarks.soak.result import Options, Result
from benchmarks.soak.run import chances, soak

pytestmark = pytest.mark.long

Decode = Callable[..., Outcome]
Break = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("lends_session", [False, True], ids=["bare", "session"])
async def test_nothing_disagrees_when_everything_goes_wrong(
    lends_session: bool,
) -> None:
    """This is the promise: no phone rings twice, and no verdict is a lie."""
    options = Options(
        actions=2_500,
        concurrency=600,
        seed=3,
        faults=chances(0.02),
        lends_session=lends_session,
    )
    result = await soak(options)
    assert result.agrees, soak_report.write(options, result)
    assert {fault for fault, _ in result.findings.struck} == set(Fault)
    assert {word for _, word in result.findings.struck} == set(soak_report.WORDS)
    assert result.reasons["accepted, joined"] > 0
    assert {verdict for _, verdict in result.findings.verdicts} >= {
        "accepted",
        "rejected",
        "in_doubt",
    }


def say(status: int, verdict: Callable[..., Outcome], **known: object) -> Break:
    """Break the rule for a status."""

    def change(answer: Answer | NoAnswer, outcome: Outcome) -> Outcome:
        if isinstance(answer, NoAnswer) or answer.status != status:
            return outcome
        return _as(outcome, verdict, **known)

    return _deciding(change)


def unanswered(verdict: Callable[..., Outcome], **known: object) -> Break:
    """Break the rule for requests that left and got no answer."""

    def change(answer: Answer | NoAnswer, outcome: Outcome) -> Outcome:
        lost = isinstance(answer, NoAnswer) and answer.left
        return _as(outcome, verdict, **known) if lost else outcome

    return _deciding(change)


def _as(outcome: Outcome, verdict: Callable[..., Outcome], **known: object) -> Outcome:
    return verdict(
        action=outcome.action,
        attempts=outcome.attempts,
        status=outcome.status,
        **known,
    )


def _deciding(change: Callable[[Answer | NoAnswer, Outcome], Outcome]) -> Break:
    def broken(
        right: Decode, action: Action, answer: Answer | NoAnswer, **known: object
    ) -> Outcome:
        return change(answer, right(action, answer, **known))

    def apply(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(delivery, "decode", functools.partial(broken, codec.decode))

    return apply


def error_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every 2xx for a yes, as the official SDKs do."""
    monkeypatch.setattr(codec, "_error_text", lambda _: None)


def repeating(may: Callable[[Outcome], bool]) -> Break:
    """Repeat what is in doubt whatever else was begun, if `may` says so."""
    right = RetryPolicy.may_send_again

    def broken(
        self: RetryPolicy, outcome: Outcome, *, since_sent: float, alone: bool = True
    ) -> bool:
        if isinstance(outcome, InDoubt) and may(outcome):
            return True
        return right(self, outcome, since_sent=since_sent, alone=alone)

    def apply(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(RetryPolicy, "may_send_again", broken)

    return apply


def latest_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget that an earlier attempt is in doubt."""
    monkeypatch.setattr(delivery, "combine", lambda _, latest: latest)


def nobody_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both clicks of a double click ring."""
    monkeypatch.setattr(DialRegistry, "has_equal", lambda *_: False)


def something_else_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an awaited send raise what is no verdict."""

    async def broken(*_: object, **__: object) -> Accepted:
        raise RuntimeError

    monkeypatch.setattr(SessionPool, "send", broken)


BREAKS: dict[str, tuple[Break, dict[Fault, float]]] = {
    "502 is rejected": (say(502, Rejected), {Fault.STATUS_502: 0.2}),
    "502 is accepted": (say(502, Accepted), {Fault.STATUS_502: 0.2}),
    "429 is accepted": (say(429, Accepted), {Fault.STATUS_429: 0.1}),
    "429 is in doubt": (
        say(429, InDoubt, reason=Reason.UNKNOWN),
        {Fault.STATUS_429: 0.1},
    ),
    "408 is rejected": (say(408, Rejected), {Fault.STATUS_408: 0.2}),
    "302 is rejected": (say(302, Rejected), {Fault.STATUS_302: 0.2}),
    "307 is in doubt": (
        say(307, InDoubt, reason=Reason.REDIRECTED),
        {Fault.STATUS_307: 0.2},
    ),
    "404 is not sent": (
        say(404, NotSent, reason=Reason.CLOSED),
        {Fault.STATUS_404: 0.2},
    ),
    "201 with an error is accepted": (error_unread, {Fault.ERROR_IN_201: 0.2}),
    "disconnected is not sent": (
        unanswered(NotSent, reason=Reason.CLOSED),
        {Fault.DROP_BEFORE_READ: 0.2},
    ),
    "garbage is rejected": (unanswered(Rejected), {Fault.GARBAGE: 0.2}),
    "half an answer is accepted": (unanswered(Accepted), {Fault.CUT_BODY: 0.2}),
    "dials are repeated in doubt": (
        repeating(lambda outcome: isinstance(outcome.action, DialAction)),
        {Fault.DROP_BEFORE_READ: 0.2},
    ),
    "setters are repeated after another action": (
        repeating(lambda outcome: outcome.action.idempotent),
        {Fault.DROP_AFTER_READ: 0.5},
    ),
    "doubt is forgotten": (
        latest_wins,
        {Fault.DROP_AFTER_READ: 0.2, Fault.STATUS_404: 0.4},
    ),
    "nobody joins": (nobody_joins, {}),
}


async def run_broken(name: str, monkeypatch: pytest.MonkeyPatch) -> Result:
    """Run a short soak with one rule broken, and the one fault that shows it."""
    apply, faults = BREAKS[name]
    apply(monkeypatch)
    by_name = {fault.value: chance for fault, chance in faults.items()}
    actions = 300
    return await soak(
        Options(actions=actions, concurrency=actions, seed=1, faults=by_name)
    )


@pytest.mark.parametrize("name", BREAKS)
async def test_soak_disagrees_when_a_rule_is_broken(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A soak that nods at a broken rule is worth nothing."""
    result = await run_broken(name, monkeypatch)
    assert not result.agrees
    assert result.findings.disagreements or result.findings.rung_twice
    assert result.without_outcome == 0


async def test_soak_disagrees_when_an_action_gets_no_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An action without an outcome is a caller forgotten on hold."""
    something_else_comes_out(monkeypatch)
    result = await soak(Options(actions=100, concurrency=50, seed=1, faults={}))
    assert not result.agrees
    assert result.escaped["RuntimeError"] == result.without_outcome == 50


def test_actions_have_each_number_once() -> None:
    """An action that is never sent would pass for one without a fault."""
    awaited, streamed = soak_actions.halves(2_001)
    keys = [action.key for action in soak_actions.singles(streamed, 1)]
    for task in soak_actions.tasks(awaited, 1):
        beside = task.twin or task.rival
        keys += [task.action.key, *([beside.key] if beside else [])]
    assert sorted(map(int, filter(None, keys))) == list(range(2_001))


def test_rival_is_another_word_to_the_same_member() -> None:
    """Only then does a repeat after it do harm."""
    tasks = [task for task in soak_actions.tasks(range(2_000), 1) if task.rival]
    assert len(tasks) > 50
    for task in tasks:
        assert isinstance(task.rival, Action)
        assert type(task.rival) is not type(task.action)
        assert attrs.asdict(task.rival)["member"] == attrs.asdict(task.action)["member"]


def test_exit_status_is_0_when_all_agree(capsys: pytest.CaptureFixture[str]) -> None:
    """The gate reads it."""
    assert main(["--actions", "200", "--concurrency", "100", "--chance", "0"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].split() == ["disagreements", "0"]


def test_gap_is_a_failure_when_the_run_was_long_enough() -> None:
    """A fault that never strikes proves nothing."""
    options = Options(actions=100_000, concurrency=1, seed=1, faults=chances(0.01))
    result = _result()
    missing = soak_report.gaps(options, result)
    assert len(missing) == len(Fault) * len(soak_report.WORDS)
    for fault in Fault:
        for word in soak_report.WORDS:
            result.findings.struck[fault, word] = 1
    assert soak_report.gaps(options, result) == []
    assert soak_report.gaps(attrs.evolve(options, actions=100), _result()) == []


def _result() -> Result:
    return Result(
        findings=Findings(),
        without_outcome=0,
        escaped=Counter(),
        reasons=Counter(),
        seconds=1.0,
        peak_memory=1.0,
    )
