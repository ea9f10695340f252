"""One action's way: verdicts and repeats, judged by the simulator's ledger."""

import asyncio
import itertools
import random
from collections.abc import Iterable
from typing import Any, Final

import attrs
import pytest

from aiophlo import (
    AbortTransfer,
    Accepted,
    Account,
    Action,
    AddUser,
    ColdTransfer,
    Hangup,
    Hold,
    InDoubt,
    InDoubtError,
    Lane,
    NotSent,
    NotSentError,
    Outcome,
    Quota,
    Reason,
    RejectedError,
    RetryPolicy,
    RunPhlo,
    SessionPool,
    Unhold,
    WarmTransfer,
)
from aiophlo.protocol.codec import Answer, NoAnswer, Request
from aiophlo.sending.delivery import Delivery
from aiophlo.simulator import Fault, Simulator
from tests.support.doubles import (
    ACCEPTED,
    AGENT,
    ONCE_ONLY,
    PHLO_ID,
    READS,
    SETTERS,
    WORDS,
    ScriptedHttpClient,
    ScriptedPool,
    account_of,
    act,
    address,
    outcome_of,
    pool_of,
)
from tests.support.virtual_time import run_virtually

ACCOUNT: Final = Account("MASENDING00000000001", "token", quota=None)
TRANSFER: Final = act(WarmTransfer)

# What each fault comes to, once: verdict and reason, or verdict and status.
DISCONNECTED: Final = ("in_doubt", Reason.DISCONNECTED)
SILENT: Final = ("in_doubt", Reason.SILENT)
UNREADABLE: Final = ("in_doubt", Reason.UNREADABLE)
REDIRECTED: Final = ("in_doubt", Reason.REDIRECTED)
SERVER_ERROR: Final = ("in_doubt", Reason.SERVER_ERROR)
REJECTED: Final = ("rejected", None)
ACCEPTS: Final = ("accepted", None)
THROTTLED: Final = ("not_sent", Reason.THROTTLED)
FAULTS: Final[dict[Fault, tuple[str, Reason | None]]] = {
    Fault.DROP_BEFORE_READ: DISCONNECTED,
    Fault.RESET_BEFORE_READ: DISCONNECTED,
    Fault.STALE_408: SILENT,
    Fault.DROP_AFTER_READ: DISCONNECTED,
    Fault.RESET: DISCONNECTED,
    Fault.CUT_STATUS_LINE: DISCONNECTED,
    Fault.CUT_HEADERS: DISCONNECTED,
    Fault.CUT_BODY: UNREADABLE,
    Fault.CUT_CHUNKED: UNREADABLE,
    Fault.NO_LENGTH: UNREADABLE,
    Fault.BAD_GZIP: UNREADABLE,
    Fault.GARBAGE: UNREADABLE,
    Fault.GARBAGE_HEADERS: UNREADABLE,
    Fault.NOT_JSON: UNREADABLE,
    Fault.NOT_AN_OBJECT: UNREADABLE,
    Fault.EMPTY_BODY: UNREADABLE,
    Fault.IDLE_CLOSE: ACCEPTS,
    Fault.IDLE_408: ACCEPTS,
    Fault.NO_CONTENT: ACCEPTS,
    Fault.ERROR_IN_201: REJECTED,
    Fault.STATUS_301: REDIRECTED,
    Fault.STATUS_302: REDIRECTED,
    Fault.STATUS_303: REDIRECTED,
    Fault.STATUS_307: REJECTED,
    Fault.STATUS_308: REJECTED,
    Fault.STATUS_400: REJECTED,
    Fault.STATUS_401: REJECTED,
    Fault.STATUS_403: REJECTED,
    Fault.STATUS_404: REJECTED,
    Fault.STATUS_405: REJECTED,
    Fault.STATUS_408: SILENT,
    Fault.STATUS_409: REJECTED,
    Fault.STATUS_422: REJECTED,
    Fault.STATUS_500: SERVER_ERROR,
    Fault.STATUS_502: SERVER_ERROR,
    Fault.STATUS_503: SERVER_ERROR,
    Fault.STATUS_504: SERVER_ERROR,
}
# Those that take a second or more, tried side by side.
SLOW_FAULTS: Final[dict[Fault, tuple[str, Reason | None]]] = {
    Fault.SILENCE: SILENT,
    Fault.STALL_HEADERS: SILENT,
    Fault.STALL_BODY: SILENT,
    Fault.DRIP: SILENT,
    Fault.STATUS_429: THROTTLED,
    Fault.STATUS_429_SECONDS: THROTTLED,
    Fault.STATUS_429_DATE: THROTTLED,
}
STATUSES: Final[dict[int, tuple[str, Reason | None]]] = {
    200: ACCEPTS,
    201: ACCEPTS,
    202: ACCEPTS,
    204: ACCEPTS,
    300: ("in_doubt", Reason.UNKNOWN),
    301: REDIRECTED,
    302: REDIRECTED,
    303: REDIRECTED,
    304: ("in_doubt", Reason.UNKNOWN),
    307: REJECTED,
    308: REJECTED,
    400: REJECTED,
    401: REJECTED,
    403: REJECTED,
    404: REJECTED,
    405: REJECTED,
    408: SILENT,
    409: REJECTED,
    422: REJECTED,
    500: SERVER_ERROR,
    502: SERVER_ERROR,
    503: SERVER_ERROR,
    599: SERVER_ERROR,
    600: ("in_doubt", Reason.UNKNOWN),
}
Result = tuple[str, Reason | None, int]  # verdict, reason, attempts


async def try_each_action(
    simulator: Simulator,
    **options: Any,  # noqa: ANN401 -- SessionPool's own
) -> dict[str, Result]:
    """Send every kind of action; hold the outcomes against the ledger.

    Returns:
        Verdict, reason and number of attempts, by Plivo's word for the action.
    """
    actions = [act(kind, number) for number, kind in enumerate(WORDS)]
    async with pool_of(simulator, **options) as pool:
        sends = (outcome_of(pool.send(action)) for action in actions)
        outcomes = await asyncio.gather(*sends)
    assert simulator.ledger.disagreements(outcomes) == []
    assert simulator.ledger.rung_twice() == {}
    asked = [record.action for record in simulator.ledger.requests]
    results = {}
    for outcome in outcomes:
        word = WORDS[type(outcome.action)]
        assert outcome.attempts == asked.count(word)
        reason = getattr(outcome, "reason", None)
        results[word] = (outcome.verdict, reason, outcome.attempts)
    return results


def expected(first: tuple[str, Reason | None], *, forever: bool) -> dict[str, Result]:
    """Say what a fault comes to for every action, by the rules for repeating."""
    verdict, reason = first
    repeated = {
        "accepted": (),
        "rejected": (),
        "not_sent": WORDS.values(),
        "in_doubt": (*SETTERS.values(), *READS.values()),
    }[verdict]
    again: Result = (verdict, reason, 4) if forever else ("accepted", None, 2)
    return {
        word: again if word in repeated else (verdict, reason, 1)
        for word in WORDS.values()
    }


async def struck(
    fault: Fault,
    *,
    times: int | None,
    **options: Any,  # noqa: ANN401 -- SessionPool's own
) -> dict[str, Result]:
    """Let a fault strike each kind of action so many times."""
    async with Simulator(quota=None) as simulator:
        for word in WORDS.values():
            simulator.fault_next(fault, action=word, times=times)
        return await try_each_action(simulator, **options)


def test_every_fault_is_tried_here() -> None:
    """A fault that nobody has tried is the one that rings twice."""
    assert {*FAULTS, *SLOW_FAULTS} == set(Fault)


@pytest.mark.parametrize("fault", FAULTS)
async def test_verdict_is_right_after_one_fault(fault: Fault) -> None:
    """A caller told wrongly rings a second phone, or forgets a customer."""
    result = await struck(fault, times=1)
    assert result == expected(FAULTS[fault], forever=False)


@pytest.mark.parametrize("fault", FAULTS)
async def test_verdict_is_right_while_a_fault_lasts(fault: Fault) -> None:
    """A dial in doubt must not be repeated however long it lasts."""
    result = await struck(fault, times=None)
    assert result == expected(FAULTS[fault], forever=True)


async def test_verdict_is_right_after_a_slow_fault() -> None:
    """Silence rings phones too, and a throttled transfer must still leave."""
    strikes = (struck(fault, times=1, answer_within=1.0) for fault in SLOW_FAULTS)
    results = await asyncio.gather(*strikes)
    assert dict(zip(SLOW_FAULTS, results, strict=True)) == {
        fault: expected(first, forever=False) for fault, first in SLOW_FAULTS.items()
    }


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("times", [1, None])
async def test_verdict_is_right_for_each_status(status: int, times: int | None) -> None:
    """A status misread is a second ring, or a customer forgotten."""
    async with Simulator(quota=None) as simulator:
        for word in WORDS.values():
            simulator.answer_next(status, action=word, times=times)
        result = await try_each_action(simulator)
    assert result == expected(STATUSES[status], forever=times is None)


@pytest.mark.parametrize("stale", [Fault.IDLE_CLOSE, Fault.IDLE_408])
async def test_kept_connection_that_dies_rings_nobody_twice(stale: Fault) -> None:
    """A transfer that meets a connection just closing must not be sent twice."""
    async with Simulator(quota=None) as simulator:
        simulator.fault_next(stale, times=None)
        async with pool_of(simulator) as pool:
            outcomes = [
                await outcome_of(pool.send(act(WarmTransfer, number)))
                for number in range(20)
            ]
        assert simulator.ledger.disagreements(outcomes) == []
        assert simulator.ledger.rung_twice() == {}
        assert outcomes[0].verdict == "accepted"


# Every pair of attempt results

ANSWERS: Final[dict[str, Answer | NoAnswer]] = {
    "accepted": ACCEPTED,
    "refused": Answer(404, {}, b'{"error": "no such node"}'),
    "error in 201": Answer(201, {}, b'{"api_id": "1", "error": "no"}'),
    "429": Answer(429, {}, b"{}"),
    "unreachable": NoAnswer(left=False, reason=Reason.UNREACHABLE),
    "502": Answer(502, {}, b"<html>"),
    "301": Answer(301, {}, b""),
    "silent": NoAnswer(left=True, reason=Reason.SILENT),
    "disconnected": NoAnswer(left=True, reason=Reason.DISCONNECTED),
    "unreadable": Answer(201, {}, b"<html>"),
}
CLEAR: Final = {
    "accepted": "accepted",
    "refused": "rejected",
    "error in 201": "rejected",
}
NOTHING_LEFT: Final = {"429": Reason.THROTTLED, "unreachable": Reason.UNREACHABLE}
DOUBTS: Final = {
    "502": Reason.SERVER_ERROR,
    "301": Reason.REDIRECTED,
    "silent": Reason.SILENT,
    "disconnected": Reason.DISCONNECTED,
    "unreadable": Reason.UNREADABLE,
}


def over_both(kind: type[Action], first: str, then: str) -> Result:
    """Say what two results come to, the second lasting; 4 requests at most.

    One that got no connection is not counted, but where that is all there is.
    """
    most = 5 if first == "unreachable" != then else 4
    idempotent = kind not in ONCE_ONLY
    if first in CLEAR:
        return CLEAR[first], None, 1
    if first in DOUBTS and idempotent and then == "accepted":
        return "accepted", None, 2
    if first in DOUBTS:  # a refusal of the second says nothing of the first
        return "in_doubt", DOUBTS[first], 4 if idempotent else 1
    if then in CLEAR:
        return CLEAR[then], None, 2
    if then in DOUBTS:
        return "in_doubt", DOUBTS[then], most if idempotent else 2
    return "not_sent", NOTHING_LEFT[then], most


@pytest.mark.parametrize("first", ANSWERS)
@pytest.mark.parametrize("then", ANSWERS)
def test_verdict_over_two_attempts_is_right(first: str, then: str) -> None:
    """Once a phone may be ringing, no later answer but a yes may hide it."""

    async def one(kind: type[Action]) -> Result:
        answers = itertools.chain([ANSWERS[first]], itertools.repeat(ANSWERS[then]))

        async def script(_: Request) -> Answer | NoAnswer:
            return next(answers)

        transport = ScriptedHttpClient(script)
        async with ScriptedPool(
            ACCOUNT, transports=[transport], random=lambda: 0.5
        ) as pool:
            outcome = await outcome_of(pool.send(act(kind)))
        assert outcome.attempts == len(transport.requests)
        attempts = outcome.attempts
        if then == "429" and kind in {AbortTransfer, Hangup, Unhold}:
            attempts = min(attempts, 4 + (first == "unreachable"))  # tried in pauses
        if outcome.verdict == "not_sent" and then == "unreachable":
            attempts = min(attempts, 4)  # it is tried until `send_within`
        return outcome.verdict, getattr(outcome, "reason", None), attempts

    async def each() -> dict[type[Action], Result]:
        return {kind: await one(kind) for kind in WORDS}

    assert run_virtually(each()) == {
        kind: over_both(kind, first, then) for kind in WORDS
    }


# Repeats


class Line:
    """A scripted account on the virtual clock.

    Args:
        answers: What comes back, in order; the last one for ever.
        takes: Seconds from a request to its answer.
        quota: The account's.
        calls_per_second: The account's.
        options: As for `SessionPool`.

    Attributes:
        left: Action's word and time of each request, from the first on.
    """

    def __init__(
        self,
        *answers: Answer | NoAnswer,
        takes: float = 0.0,
        quota: Quota | None = None,
        calls_per_second: float | None = None,
        **options: Any,  # noqa: ANN401 -- SessionPool's own
    ) -> None:
        self._answers = list(answers)
        self._takes = takes
        self.left: list[tuple[str, float]] = []
        self.account = attrs.evolve(
            ACCOUNT, quota=quota, calls_per_second=calls_per_second
        )
        self.pool = ScriptedPool(
            self.account, transports=[ScriptedHttpClient(self._answer)], **options
        )

    async def _answer(self, request: Request) -> Answer | NoAnswer:
        word = (request.body or b"").decode().split('"')[3]
        self.left.append((word, asyncio.get_running_loop().time()))
        answers = self._answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        await asyncio.sleep(self._takes)
        return answer


BUSY: Final = ANSWERS["502"]


@pytest.mark.parametrize("rival", [Unhold, Hold, WarmTransfer, AbortTransfer])
def test_setter_is_not_repeated_once_another_action_was_begun(
    rival: type[Action],
) -> None:
    """A late second Hold would undo a newer Unhold."""

    async def main() -> list[str]:
        line = Line(BUSY, ACCEPTED, random=lambda: 0.5)
        member = act(Hold).member  # type: ignore[attr-defined]
        newer = act(rival, 9)
        named = "trigger_source" if rival is WarmTransfer else "member"
        async with line.pool as pool:
            first = asyncio.create_task(outcome_of(pool.send(act(Hold))))
            await asyncio.sleep(0.01)
            await pool.send(attrs.evolve(newer, **{named: member}))
            assert (await first).verdict == "in_doubt"
        return [word for word, _ in line.left]

    assert run_virtually(main()) == ["hold", WORDS[rival]]


def test_setter_is_repeated_beside_other_members_actions() -> None:
    """Somebody else's transfer is no reason to leave a caller on hold."""

    async def main() -> list[str]:
        line = Line(BUSY, ACCEPTED, random=lambda: 0.5)
        async with line.pool as pool:
            first = asyncio.create_task(pool.send(act(Unhold, 1)))
            await asyncio.sleep(0.01)
            await pool.send(act(Hold, 2))
            assert (await first).attempts == 2
        return [word for word, _ in line.left]

    assert run_virtually(main()) == ["unhold", "hold", "unhold"]


def test_setter_is_not_repeated_after_five_seconds() -> None:
    """A late second abort would end a newer transfer."""

    async def main() -> tuple[Outcome, int]:
        line = Line(BUSY, takes=2.0, random=lambda: 1.0)
        async with line.pool as pool:
            outcome = await outcome_of(pool.send(act(AbortTransfer), send_within=60.0))
        return outcome, len(line.left)

    outcome, requests = run_virtually(main())
    assert outcome.verdict == "in_doubt"
    assert requests == 3  # at 0.0, 2.25 and 4.75 seconds; the next would be at 7.75


def test_setter_held_up_beyond_five_seconds_is_not_repeated() -> None:
    """The wait for its slot must count, or the repeat comes too late."""

    async def main() -> tuple[Outcome, int]:
        line = Line(BUSY, quota=Quota(1, per=6.0), random=lambda: 0.0)
        async with line.pool as pool:
            outcome = await outcome_of(pool.send(act(Hold), send_within=60.0))
        return outcome, len(line.left)

    outcome, requests = run_virtually(main())
    assert (outcome.verdict, outcome.attempts, requests) == ("in_doubt", 1, 1)


def test_no_repeat_starts_that_cannot_leave_in_time() -> None:
    """What comes after `send_within` is worthless, and costs quota."""

    async def main() -> tuple[Outcome, float]:
        line = Line(ANSWERS["unreachable"], random=lambda: 1.0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with line.pool as pool:
            outcome = await outcome_of(pool.send(TRANSFER, send_within=0.3))
        return outcome, loop.time() - began

    outcome, took = run_virtually(main())
    assert (outcome.verdict, outcome.attempts) == ("not_sent", 2)
    assert took == pytest.approx(0.25)  # the second wait would end at 0.75


def test_single_attempt_is_not_repeated_when_nobody_can_be_reached() -> None:
    """Whoever asked for one attempt has another way, and wants it now."""

    async def main() -> Outcome:
        line = Line(ANSWERS["unreachable"], retry=RetryPolicy(attempts=1))
        async with line.pool as pool:
            return await outcome_of(pool.send(TRANSFER))

    outcome = run_virtually(main())
    assert (outcome.verdict, outcome.attempts, outcome.seconds) == ("not_sent", 1, 0.0)


def test_dials_in_doubt_are_repeated_only_when_asked_for() -> None:
    """Some would rather ring twice than not at all; nobody else should."""

    async def main(policy: RetryPolicy) -> tuple[str, int]:
        line = Line(BUSY, ACCEPTED, retry=policy)
        async with line.pool as pool:
            outcome = await outcome_of(pool.send(TRANSFER))
        return outcome.verdict, len(line.left)

    assert run_virtually(main(RetryPolicy())) == ("in_doubt", 1)
    assert run_virtually(main(RetryPolicy(repeat_dials=True))) == ("accepted", 2)


# 429


@pytest.mark.parametrize(("wait", "moments"), [("3", [0.0, 3.0]), (None, [0.0, 0.25])])
def test_throttled_transfer_leaves_after_the_pause(
    wait: str | None, moments: list[float]
) -> None:
    """A 429 dials nobody: the transfer still has to be made, and not too soon."""

    async def main() -> tuple[Accepted, list[float]]:
        headers = {} if wait is None else {"Retry-After": wait}
        line = Line(Answer(429, headers, b""), ACCEPTED)
        async with line.pool as pool:
            accepted = await pool.send(TRANSFER)
        return accepted, [at - line.left[0][1] for _, at in line.left]

    accepted, left = run_virtually(main())
    assert accepted.attempts == 2
    assert accepted.waited == pytest.approx(moments[-1])
    assert left == pytest.approx(moments)


def test_throttled_transfer_that_would_wait_too_long_is_not_sent() -> None:
    """The customer has given up by then."""

    async def main() -> tuple[Outcome, float]:
        line = Line(Answer(429, {"Retry-After": "20"}, b""), ACCEPTED)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with line.pool as pool:
            outcome = await outcome_of(pool.send(TRANSFER))
        return outcome, loop.time() - began

    outcome, took = run_virtually(main())
    assert outcome.verdict == "not_sent"
    assert getattr(outcome, "reason", None) is Reason.THROTTLED
    assert getattr(outcome, "retry_after", None) == 20.0
    assert took == 0.0


ABSURD: Final = ["90", "1764358230", "60000000", "Fri, 31 Dec 2049 23:59:59 GMT"]


@pytest.mark.parametrize("asked", ABSURD)
def test_stream_outlasts_whatever_a_retry_after_asks_for(
    asked: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A night's batch was thrown away after 1.4 s, without a word about why."""

    async def main() -> tuple[int, list[float]]:
        line = Line(Answer(429, {"Retry-After": asked}, b""), *[ACCEPTED] * 50)
        async with line.pool as pool:
            report = await pool.send_all([act(WarmTransfer, n) for n in range(50)])
        return report.accepted, [at for _, at in line.left]

    accepted, left = run_virtually(main())
    assert accepted == 50
    gaps = [after - before for before, after in itertools.pairwise(left)]
    assert max(gaps) == pytest.approx(60.0)
    assert "pausing for 60 s" in caplog.text


def test_long_pauses_of_a_stream_count_against_no_attempts() -> None:
    """A night's batch met an hour of `Retry-After: 600`, and lost its first row."""

    async def main() -> tuple[Outcome, int]:
        refused = [Answer(429, {"Retry-After": "600"}, b"")] * 12
        line = Line(*refused, ACCEPTED, retry=RetryPolicy(attempts=3))
        async with line.pool as pool, pool.stream([TRANSFER]) as outcomes:
            (outcome,) = [outcome async for outcome in outcomes]
        return outcome, len(line.left)

    outcome, requests = run_virtually(main())
    assert (outcome.verdict, outcome.attempts, requests) == ("accepted", 13, 13)


def test_long_pauses_count_for_who_has_a_deadline() -> None:
    """A caller who gives ten minutes would fill them with requests in vain."""

    async def main() -> tuple[Outcome, int]:
        line = Line(Answer(429, {"Retry-After": "90"}, b""))
        async with line.pool as pool:
            outcome = await outcome_of(pool.send(TRANSFER, send_within=600.0))
        return outcome, len(line.left)

    outcome, left = run_virtually(main())
    assert isinstance(outcome, NotSent)
    assert (outcome.reason, left) == (Reason.THROTTLED, 4)


def test_awaited_ones_are_refused_at_once_in_a_pause_they_can_not_outlast() -> None:
    """Callers should hear at once that the account is shut, and whose word it is."""

    async def main() -> tuple[set[Reason], int, float]:
        line = Line(Answer(429, {"Retry-After": "600"}, b""), ACCEPTED)
        async with line.pool as pool:
            loop = asyncio.get_running_loop()
            began = loop.time()
            outcomes = [
                await outcome_of(pool.send(act(WarmTransfer, number)))
                for number in range(5)
            ]
            took = loop.time() - began
        reasons = {getattr(it, "reason", Reason.UNKNOWN) for it in outcomes}
        return reasons, len(line.left), took

    assert run_virtually(main()) == ({Reason.THROTTLED}, 1, 0.0)


def test_one_request_tries_after_a_pause_that_was_cut_short() -> None:
    """Plivo asked for ten minutes: a whole queue after one would draw it out."""

    async def main() -> list[float]:
        times: list[float] = []
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def answer(_request: Request) -> Answer:
            times.append(round(loop.time() - began, 3))
            await asyncio.sleep(0.5)
            if loop.time() - began < 120.0:
                return Answer(429, {"Retry-After": "600"}, b"")
            return ACCEPTED

        pool = ScriptedPool(ACCOUNT, transports=[ScriptedHttpClient(answer)])
        async with pool:
            await pool.send_all([act(WarmTransfer, n) for n in range(9)], concurrency=9)
        return times

    times = run_virtually(main())
    assert times[:9] == [0.0] * 9  # no quota: they were out before the first answer
    assert times[9:11] == [60.5, 121.0]
    assert times[11] == 121.5  # once that one is accepted, the rest
    assert len(times) == 9 + 2 + 8


@pytest.mark.parametrize("kind", [AbortTransfer, Unhold, Hangup])
def test_what_ends_a_wait_is_tried_during_a_pause(kind: type[Action]) -> None:
    """A customer was left on hold for up to a day because of a quota."""

    async def main() -> tuple[Outcome, list[float]]:
        line = Line(
            Answer(429, {"Retry-After": "86400"}, b""),
            *[Answer(429, {}, b"")] * 5,
            ACCEPTED,
        )
        async with line.pool as pool:
            await outcome_of(pool.send(TRANSFER, send_within=1.0))
            assert pool.state().paused_for == pytest.approx(60.0)
            outcome = await outcome_of(pool.send(act(kind, 3)))
            assert pool.state().paused_for > 50.0  # for all others
        return outcome, [at for _, at in line.left]

    outcome, left = run_virtually(main())
    assert (outcome.verdict, outcome.attempts) == ("accepted", 6)
    gaps = [round(b - a, 2) for a, b in itertools.pairwise(left)]
    assert gaps == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]


def test_what_ends_a_wait_is_tried_one_at_a_time_in_a_pause() -> None:
    """Twenty hang-ups at once would each draw a 429."""

    async def main() -> int:
        under_way = most = 0
        first = True

        async def answer(_request: Request) -> Answer:
            nonlocal under_way, most, first
            if first:
                first = False
                return Answer(429, {"Retry-After": "600"}, b"")
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.3)
            under_way -= 1
            return ACCEPTED

        async with ScriptedPool(
            ACCOUNT, transports=[ScriptedHttpClient(answer)]
        ) as pool:
            await outcome_of(pool.send(TRANSFER))
            sends = (pool.send(act(Hangup, number)) for number in range(20))
            told = await asyncio.gather(*sends)
        assert {one.verdict for one in told} == {"accepted"}
        return most

    assert run_virtually(main()) == 1


def test_dials_keep_their_own_pace_after_a_pause() -> None:
    """Calls placed all at once after a pause would queue at Plivo, and ring late."""

    async def main() -> list[float]:
        line = Line(
            *[ACCEPTED] * 2,
            Answer(429, {"Retry-After": "5"}, b""),
            ACCEPTED,
            quota=Quota(),
            calls_per_second=2.0,
        )
        async with line.pool as pool:
            sends = (
                pool.send(act(WarmTransfer, number), send_within=None)
                for number in range(10)
            )
            await asyncio.gather(*sends)
        return [at - line.left[0][1] for _, at in line.left]

    left = run_virtually(main())
    assert left[:4] == pytest.approx([0.0, 0.5, 1.0, 6.0])
    gaps = [then - now for now, then in itertools.pairwise(left[3:])]
    assert min(gaps) >= 0.5


def test_dials_keep_a_pace_of_their_own_and_nothing_else_does() -> None:
    """A Hold must not wait behind the calls that may be placed per second."""

    async def main() -> list[tuple[str, float]]:
        line = Line(ACCEPTED, calls_per_second=2.0)
        kinds = [WarmTransfer, AddUser, ColdTransfer, Hold, Unhold]
        async with line.pool as pool:
            await asyncio.gather(*(pool.send(act(kind)) for kind in kinds))
        return [(word, at - line.left[0][1]) for word, at in line.left]

    assert run_virtually(main()) == [
        ("warm_transfer", 0.0),
        ("hold", 0.0),
        ("unhold", 0.0),
        ("call", 0.5),
        ("cold_transfer", 1.0),
    ]


def test_dials_that_their_own_pace_makes_too_late_are_refused_at_once() -> None:
    """An agent should hear at once that this call can't be placed in time."""

    async def main() -> list[str]:
        line = Line(ACCEPTED, calls_per_second=0.1)
        async with line.pool as pool:
            sends = (
                outcome_of(pool.send(act(WarmTransfer, number), send_within=5.0))
                for number in range(3)
            )
            outcomes = await asyncio.gather(*sends)
            assert asyncio.get_running_loop().time() == line.left[0][1]
        return [str(getattr(it, "reason", it.verdict)) for it in outcomes]

    assert run_virtually(main()) == ["accepted", "expired", "expired"]


# Refused up front


def test_a_thousand_sends_that_would_come_too_late_are_refused_at_once() -> None:
    """A thousand agents must not watch a spinner for what can't happen."""

    async def main() -> tuple[set[str], int, float]:
        line = Line(Answer(429, {"Retry-After": "30"}, b""), ACCEPTED)
        async with line.pool as pool:
            await outcome_of(pool.send(TRANSFER, send_within=1.0))
            loop = asyncio.get_running_loop()
            began = loop.time()
            sends = (
                outcome_of(pool.send(act(WarmTransfer, number), send_within=1.0))
                for number in range(1_000)
            )
            outcomes = await asyncio.gather(*sends)
            took = loop.time() - began
        return {str(getattr(it, "reason", it)) for it in outcomes}, len(line.left), took

    assert run_virtually(main()) == ({"throttled"}, 1, 0.0)


@pytest.mark.parametrize("connections", [10, 1_000])
def test_those_whom_the_quota_has_no_room_for_are_refused_at_once(
    connections: int,
) -> None:
    """Of a thousand at once as many leave as can, and the rest hears so at once."""

    async def main() -> tuple[list[float], int]:
        line = Line(ACCEPTED, quota=Quota(), connections_per_account=connections)
        loop = asyncio.get_running_loop()
        began = loop.time()
        refused: list[float] = []

        async def send(number: int) -> None:
            outcome = await outcome_of(pool.send(act(WarmTransfer, number)))
            if outcome.verdict == "not_sent":
                refused.append(loop.time() - began)

        async with line.pool as pool:
            await asyncio.gather(*map(send, range(1_000)))
        assert loop.time() - began <= 10.0
        return refused, len(line.left)

    refused, left = run_virtually(main())
    assert set(refused) == {0.0}
    assert len(refused) + left == 1_000
    assert left == pytest.approx(593, abs=2)  # in 10 seconds at 59.2 per second


# Single flight


@pytest.mark.parametrize("kind", [WarmTransfer, ColdTransfer, AddUser])
async def test_double_click_rings_once(
    simulator: Simulator, kind: type[Action]
) -> None:
    """An agent who clicks twice must not have two supervisors on the line."""
    async with pool_of(simulator) as pool:
        keyed = attrs.evolve(act(kind), key="second")
        first, second = await asyncio.gather(pool.send(act(kind)), pool.send(keyed))
        third = await pool.send(act(kind))
        other = await pool.send(act(kind, 1))
    outcomes = [first, second, third, other]
    assert [it.joined for it in outcomes] == [False, True, True, False]
    assert first.api_id == second.api_id == third.api_id != other.api_id
    assert second.action is keyed
    assert simulator.ledger.dials(address(0)) == 1
    assert simulator.ledger.disagreements(outcomes) == []


async def test_double_click_on_a_dial_in_doubt_stays_in_doubt(
    simulator: Simulator,
) -> None:
    """The second click would ring the phone that may be ringing already."""
    simulator.drop_next_answer()
    async with pool_of(simulator) as pool:
        outcomes = [await outcome_of(pool.send(TRANSFER)) for _ in range(2)]
    assert [(it.verdict, it.joined) for it in outcomes] == [
        ("in_doubt", False),
        ("in_doubt", True),
    ]
    assert simulator.ledger.dials(address(0)) == 1


async def test_refused_dial_may_be_asked_again(simulator: Simulator) -> None:
    """Nothing rings: the second click is a new try."""
    simulator.answer_next(409)
    async with pool_of(simulator) as pool:
        with pytest.raises(RejectedError):
            await pool.send(TRANSFER)
        accepted = await pool.send(TRANSFER)
    assert not accepted.joined
    assert simulator.ledger.dials(address(0)) == 1


# Nobody is superseded by what should undo it


@pytest.mark.parametrize(
    ("first", "then"),
    [(Hold, Unhold), (WarmTransfer, AbortTransfer), (WarmTransfer, Hangup)],
)
def test_what_waits_is_not_sent_once_it_was_undone(
    first: type[Action], then: type[Action]
) -> None:
    """A customer must not be put on hold after being taken off it."""
    transport = ScriptedHttpClient(lambda _: asyncio.sleep(0, ACCEPTED))
    paced = attrs.evolve(ACCOUNT, quota=Quota(2, per=1.0))
    party = {"phlo_id": PHLO_ID, "node_id": "n"}
    member = {**party, "member": address(1)}
    dial = {**party, "trigger_source": address(1), "to": address(2)}
    arguments = dial if first is WarmTransfer else member

    async def main() -> list[Outcome]:
        async with ScriptedPool(paced, transports=[transport]) as pool:
            await pool.send(RunPhlo(phlo_id=PHLO_ID))
            waiting = asyncio.create_task(outcome_of(pool.send(first(**arguments))))
            await asyncio.sleep(0)
            return [await outcome_of(pool.send(then(**member))), await waiting]

    done, undone = run_virtually(main())
    assert done.verdict == "accepted"
    assert isinstance(undone, NotSent)
    assert undone.reason is Reason.SUPERSEDED
    assert len(transport.requests) == 2


def test_what_is_to_be_tried_again_is_not_sent_once_it_was_undone() -> None:
    """An Unhold must not be followed by the Hold that could not leave before."""
    answers = iter([ANSWERS["unreachable"], ACCEPTED])

    async def answer(_: Request) -> Answer | NoAnswer:
        return next(answers)

    transport = ScriptedHttpClient(answer)
    member = {"phlo_id": PHLO_ID, "node_id": "n", "member": address(1)}

    async def main() -> list[Outcome]:
        async with ScriptedPool(
            ACCOUNT, transports=[transport], random=lambda: 0.9
        ) as pool:
            waiting = asyncio.create_task(outcome_of(pool.send(Hold(**member))))
            await asyncio.sleep(0.01)
            return [await outcome_of(pool.send(Unhold(**member))), await waiting]

    done, undone = run_virtually(main())
    assert done.verdict == "accepted"
    assert undone.verdict == "not_sent"
    assert len(transport.requests) == 2


def test_what_found_a_stale_connection_is_not_sent_once_it_was_undone() -> None:
    """A transfer that leaves after its abort rings a supervisor for nobody."""
    unreachable, stale = (
        NoAnswer(left=False, reason=reason)
        for reason in (Reason.UNREACHABLE, Reason.STALE_CONNECTION)
    )

    async def main() -> tuple[Outcome, list[str]]:
        line = Line(
            *(unreachable, stale, ACCEPTED),
            takes=0.01,
            quota=Quota(jitter=1.0),
            random=lambda: 0.0,
        )
        abort = attrs.evolve(act(AbortTransfer), member=AGENT)  # type: ignore[call-arg]
        async with line.pool as pool:
            undone = asyncio.create_task(outcome_of(pool.send(TRANSFER)))
            while len(line.left) < 2:  # noqa: ASYNC110 -- costs no real time
                await asyncio.sleep(0.001)  # its second one is about to find it stale
            await pool.send(abort)
            return await undone, [word for word, _ in line.left]

    undone, words = run_virtually(main())
    assert undone.verdict == "not_sent"
    assert words == ["warm_transfer", "warm_transfer", "abort_transfer"]


@pytest.mark.parametrize("ending", [AbortTransfer, Hangup])
async def test_dial_after_an_abort_rings_again(
    simulator: Simulator, ending: type[AbortTransfer | Hangup]
) -> None:
    """An agent who aborts and tries again must not wait for a phone that is silent."""
    agent, colleague = address(1), address(2)

    def transfer(trigger_source: str) -> WarmTransfer:
        return WarmTransfer(
            phlo_id="p", node_id="n", to=address(3), trigger_source=trigger_source
        )

    async with pool_of(simulator) as pool:
        await pool.send(transfer(agent))
        await pool.send(transfer(colleague))
        await pool.send(ending(phlo_id="p", node_id="n", member=agent))
        assert not (await pool.send(transfer(agent))).joined
        assert (await pool.send(transfer(agent))).joined  # a double click all the same
        assert (await pool.send(transfer(colleague))).joined  # somebody else's abort
    assert simulator.ledger.dials(to=address(3)) == 3


async def test_actions_that_ring_nobody_are_not_joined(simulator: Simulator) -> None:
    """A second Hold after an Unhold is no double click."""
    async with pool_of(simulator) as pool:
        both = await asyncio.gather(pool.send(act(Hold)), pool.send(act(Hold)))
        runs = await asyncio.gather(pool.send(act(RunPhlo)), pool.send(act(RunPhlo)))
    assert not any(it.joined for it in (*both, *runs))
    assert simulator.ledger.received == 4


def test_equal_dial_rings_again_after_three_seconds() -> None:
    """Nobody answered: the agent tries the same supervisor again."""

    async def main() -> list[bool]:
        line = Line(ACCEPTED, takes=1.0)
        joined = []
        async with line.pool as pool:
            for pause in (0.0, 2.9, 0.1):
                await asyncio.sleep(pause)
                joined.append((await pool.send(TRANSFER)).joined)
        return joined

    assert run_virtually(main()) == [False, True, False]


async def test_joiner_takes_over_from_a_leader_that_never_left(
    simulator: Simulator,
) -> None:
    """The second click must not be lost with the first."""
    account = account_of(simulator, quota=Quota(10, per=1.0))
    async with pool_of(simulator, account) as pool:
        await pool.send(act(Hold))
        leader, joiner, last = (asyncio.create_task(pool.send(TRANSFER)) for _ in "123")
        await asyncio.sleep(0)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        outcomes = [await joiner, await last]
    assert [it.joined for it in outcomes] == [False, True]
    assert simulator.ledger.dials(address(0)) == 1
    assert simulator.ledger.received == 2


async def test_joiners_of_a_leader_cancelled_in_flight_are_in_doubt(
    simulator: Simulator,
) -> None:
    """Its request rang a phone, and nobody heard the answer."""
    async with pool_of(simulator) as pool:
        with simulator.hold_answers():
            leader, joiner = (asyncio.create_task(pool.send(TRANSFER)) for _ in "12")
            await simulator.wait_for(held=1)
            leader.cancel()
            with pytest.raises(InDoubtError) as caught:
                await joiner
            with pytest.raises(asyncio.CancelledError):
                await leader
    assert caught.value.outcome.joined
    assert caught.value.outcome.reason is Reason.CANCELLED
    assert simulator.ledger.dials(address(0)) == 1


# Outages


OUTAGE: Final = 30.0  # seconds
SENDS: Final = 200  # per second


async def suffer(spacing: float) -> tuple[list[Outcome], int]:
    """Send through an outage: connections refused, then 503s."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def answer(_: Request) -> Answer | NoAnswer:
        if loop.time() - began < OUTAGE / 2:
            return ANSWERS["unreachable"]
        return Answer(503, {}, b"")

    transport = ScriptedHttpClient(answer)
    kinds = itertools.cycle([WarmTransfer, Hold, RunPhlo, Unhold])
    waits = random.Random(1).random  # noqa: S311 -- a seeded test
    async with ScriptedPool(ACCOUNT, transports=[transport], random=waits) as pool:
        sends = []
        for number, kind in enumerate(itertools.islice(kinds, int(OUTAGE / spacing))):
            sends.append(asyncio.create_task(outcome_of(pool.send(act(kind, number)))))
            await asyncio.sleep(spacing)
        outcomes = [await send for send in sends]
    return outcomes, len(transport.requests)


def test_outage_is_not_multiplied() -> None:
    """A Plivo that comes back must not be knocked over by our repeats."""
    outcomes, requests = run_virtually(suffer(1 / SENDS))
    assert len(outcomes) == OUTAGE * SENDS
    # A tenth of the 503s is repeated, and of the refused a hundred in each second.
    assert requests <= 1.1 * len(outcomes) + 100 * OUTAGE / 2
    assert sum(it.attempts for it in outcomes) == requests
    verdicts = {it.verdict for it in outcomes}
    assert verdicts == {"not_sent", "in_doubt"}
    reasons = {getattr(it, "reason", None) for it in outcomes}
    # Whether one action has all of its repeats before the others is chance.
    assert reasons - {Reason.UNREACHABLE} == {Reason.SERVER_ERROR}


def test_repeats_come_back_when_the_outage_is_over() -> None:
    """After a bad minute a lost Unhold must be repeated again."""

    async def main() -> list[int]:
        answers: list[Answer | NoAnswer] = [BUSY] * 2_000
        answers += [*[ACCEPTED] * 20, BUSY, ACCEPTED]
        line = Line(*answers, random=lambda: 0.0)
        async with line.pool as pool:
            for number in range(400):
                await outcome_of(pool.send(act(Unhold, number)))
            while len(line.left) < 2_000:
                await outcome_of(pool.send(TRANSFER, on_duplicate="send"))
            before = [(await pool.send(act(Hold, n))).attempts for n in range(20)]
            after = await pool.send(act(Unhold))
        return [*before, after.attempts]

    assert run_virtually(main()) == [*[1] * 20, 2]


@pytest.mark.parametrize("quota", [None, Quota(500, per=5.0)])
def test_outage_of_two_seconds_uses_nobodys_budget_up(quota: Quota | None) -> None:
    """190 of 200 ended as "no_budget", which says nothing of the outage."""

    async def main() -> list[Outcome]:
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def answer(_request: Request) -> Answer | NoAnswer:
            if 1.0 <= loop.time() - began < 3.0:
                return NoAnswer(left=False, reason=Reason.UNREACHABLE)
            return ACCEPTED

        account = attrs.evolve(ACCOUNT, quota=quota)
        sends = []
        async with ScriptedPool(
            account, transports=[ScriptedHttpClient(answer)], random=lambda: 1.0
        ) as pool:
            for number in range(500):
                transfer = pool.send(act(WarmTransfer, number))
                sends.append(asyncio.create_task(outcome_of(transfer)))
                await asyncio.sleep(0.01)
            return [await send for send in sends]

    outcomes = run_virtually(main())
    assert {it.verdict for it in outcomes} == {"accepted"}


@pytest.mark.parametrize("down", [2.0, 4.0])
async def test_restart_of_the_server_costs_no_transfer(
    stoppable_simulator: Simulator, down: float
) -> None:
    """Of 400 callers, 280 would be told to dial again for a restart of seconds."""
    sends: list[asyncio.Task[Outcome]] = []

    async with pool_of(stoppable_simulator, random=random.random) as pool:

        async def rush(number: int) -> None:
            for _ in range(number):
                transfer = act(WarmTransfer, len(sends))
                sending = outcome_of(pool.send(transfer, send_within=30.0))
                sends.append(asyncio.create_task(sending))
                await asyncio.sleep(0.01)

        await rush(50)
        await asyncio.gather(*sends)  # what is cut off in flight is in doubt
        await stoppable_simulator.stop()
        await rush(int(down * 100))
        await stoppable_simulator.start()
        await rush(50)
        outcomes = await asyncio.gather(*sends)
    assert {it.verdict for it in outcomes} == {"accepted"}
    ledger = stoppable_simulator.ledger
    assert ledger.dials() == ledger.received == len(sends)
    rung = {record.to for record in ledger.requests}
    assert len(rung) == len(sends)


def test_nobody_waits_past_their_time_for_a_turn_in_an_outage() -> None:
    """An agent who may wait for a second would hear of it after ten."""

    async def main() -> tuple[set[str], float]:
        line = Line(NoAnswer(left=False, reason=Reason.UNREACHABLE))
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with line.pool as pool:
            sends = (
                outcome_of(pool.send(act(WarmTransfer, number), send_within=1.0))
                for number in range(1_000)
            )
            outcomes = await asyncio.gather(*sends)
        return {str(getattr(it, "reason", it)) for it in outcomes}, loop.time() - began

    reasons, took = run_virtually(main())
    assert reasons == {"unreachable"}
    assert took <= 1.0


def test_used_up_budget_says_what_used_it_up() -> None:
    """A bare "no_budget" sends whoever reads it to look at the wrong end."""

    async def answer(_request: Request) -> NoAnswer:
        return NoAnswer(left=False, reason=Reason.UNKNOWN, detail="odd")

    async def main() -> list[Outcome]:
        async with ScriptedPool(
            ACCOUNT, transports=[ScriptedHttpClient(answer)]
        ) as pool:
            sends = [outcome_of(pool.send(act(Hold, n))) for n in range(400)]
            return await asyncio.gather(*sends)

    told = [
        it
        for it in run_virtually(main())
        if isinstance(it, NotSent) and it.reason is Reason.NO_BUDGET
    ]
    assert told
    assert {it.error for it in told} == {"unknown: odd"}


def test_doubt_keeps_its_reason_when_the_budget_is_used_up() -> None:
    """Whoever reads "no_budget" takes it that nothing left, and sends it again."""

    async def main() -> Outcome:
        line = Line(BUSY)
        async with line.pool as pool:
            doubt = await outcome_of(pool.send(TRANSFER))
            budget = pool.sender(line.account).context.budget
            while budget.spend(doubt):
                pass
            return await outcome_of(pool.send(act(Hold)))

    outcome = run_virtually(main())
    assert isinstance(outcome, InDoubt)
    assert (outcome.reason, outcome.attempts) == (Reason.SERVER_ERROR, 1)


def test_last_failure_is_told_when_something_unforeseen_ends_the_repeats() -> None:
    """A bare "unknown" hides from its reader that Plivo can't be reached."""

    def broken() -> float:
        raise ZeroDivisionError

    async def main() -> Outcome:
        line = Line(ANSWERS["unreachable"], random=broken)
        async with line.pool as pool:
            return await outcome_of(pool.send(TRANSFER))

    outcome = run_virtually(main())
    assert isinstance(outcome, NotSent)
    assert (outcome.reason, outcome.attempts) == (Reason.UNREACHABLE, 1)


# What never left


@pytest.mark.parametrize("kind", [WarmTransfer, Hold])
def test_stale_connections_cost_neither_time_nor_slots_nor_budget(
    kind: type[Action],
) -> None:
    """Behind a proxy that closes what is idle, 417 of 1,000 were not sent."""
    stale = NoAnswer(left=False, reason=Reason.STALE_CONNECTION)

    async def main() -> tuple[list[Outcome], float]:
        answers = itertools.cycle([stale] * 7 + [ACCEPTED])
        line = Line(*itertools.islice(answers, 8 * 300), quota=Quota())
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with line.pool as pool:
            sends = [outcome_of(pool.send(act(kind, n))) for n in range(300)]
            outcomes = await asyncio.gather(*sends)
        return outcomes, loop.time() - began

    outcomes, took = run_virtually(main())
    assert {it.verdict for it in outcomes} == {"accepted"}
    assert sum(it.attempts for it in outcomes) == 8 * 300
    assert took == pytest.approx(299 * Quota().interval, abs=0.03)


def test_slot_is_not_used_long_after_it_came() -> None:
    """What a stale connection held up would leave in a burst, and draw a 429."""
    stale = NoAnswer(left=False, reason=Reason.STALE_CONNECTION)

    async def main() -> list[float]:
        quota = Quota(2, per=9.95)  # a slot in 10 s
        line = Line(stale, ACCEPTED, takes=3.0, quota=quota)
        began = asyncio.get_running_loop().time()
        async with line.pool as pool:
            await pool.send(TRANSFER, send_within=None)
        return [time - began for _, time in line.left]

    assert run_virtually(main()) == pytest.approx([0.0, 10.0], abs=0.1)


def test_server_that_closes_every_connection_is_given_up() -> None:
    """A repeat for nothing must not be one for ever."""
    stale = NoAnswer(left=False, reason=Reason.STALE_CONNECTION)

    async def answer(_request: Request) -> NoAnswer:
        return stale

    async def main() -> Outcome:
        async with ScriptedPool(
            ACCOUNT, transports=[ScriptedHttpClient(answer)]
        ) as pool:
            return await outcome_of(pool.send(TRANSFER))

    outcome = run_virtually(main())
    assert outcome.verdict == "not_sent"
    assert 100 <= outcome.attempts <= 110


def test_missing_files_are_waited_for_within_send_within() -> None:
    """400 sends at once under `ulimit -n 128` ended as "no_budget" after 0.7 s."""
    missing = NoAnswer(left=False, reason=Reason.OUT_OF_FILES)

    async def main() -> tuple[Outcome, Outcome]:
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def answer(_request: Request) -> Answer | NoAnswer:
            return missing if loop.time() - began < 30.0 else ACCEPTED

        async with ScriptedPool(
            ACCOUNT, transports=[ScriptedHttpClient(answer)]
        ) as pool:
            hurried = asyncio.create_task(outcome_of(pool.send(act(Hold, 1))))
            patient = await outcome_of(pool.send(TRANSFER, send_within=60.0))
            assert pool.sender(ACCOUNT).context.budget.spend(patient)
            return patient, await hurried

    patient, hurried = run_virtually(main())
    assert patient.verdict == "accepted"
    assert 30.0 <= patient.seconds <= 31.0
    assert isinstance(hurried, NotSent)
    assert hurried.reason is Reason.OUT_OF_FILES
    assert 9.0 <= hurried.seconds <= 10.0


def test_single_attempt_is_one_that_had_a_file_and_a_connection() -> None:
    """Whoever retries elsewhere must not lose a transfer to a full table of files."""
    missing = NoAnswer(left=False, reason=Reason.OUT_OF_FILES)

    async def main() -> list[tuple[str, int]]:
        line = Line(
            missing, ACCEPTED, missing, BUSY, BUSY, retry=RetryPolicy(attempts=1)
        )
        async with line.pool as pool:
            outcomes = [await outcome_of(pool.send(act(Hold, n))) for n in range(2)]
        return [(it.verdict, it.attempts) for it in outcomes]

    assert run_virtually(main()) == [("accepted", 2), ("in_doubt", 2)]


def test_permanent_fault_is_tried_once() -> None:
    """A wrong proxy password stays wrong, and four times is four locks."""

    async def answer(_request: Request) -> NoAnswer:
        return NoAnswer(left=False, reason=Reason.MISCONFIGURED)

    async def main() -> Outcome:
        async with ScriptedPool(
            ACCOUNT, transports=[ScriptedHttpClient(answer)]
        ) as pool:
            return await outcome_of(pool.send(TRANSFER))

    outcome = run_virtually(main())
    assert isinstance(outcome, NotSent)
    assert (outcome.reason, outcome.attempts) == (Reason.MISCONFIGURED, 1)


# Accounts don't hurt each other


ILL: Final = Account("MASENDING00000000002", "token", quota=None)
WELL: Final = Account("MASENDING00000000003", "token", quota=None)


def two_accounts(simulator: Simulator, **options: Any) -> SessionPool:  # noqa: ANN401 -- SessionPool's own
    """Return a pool of one account that has trouble, and one that has none."""
    for account in (ILL, WELL):
        simulator.add_account(account.auth_id, account.auth_token)
    return pool_of(simulator, ILL, WELL, connections_per_account=5, **options)


def sends_of(
    pool: SessionPool, account: Account, numbers: Iterable[int]
) -> list["asyncio.Task[Outcome]"]:
    """Begin to send for one account."""
    return [
        asyncio.create_task(outcome_of(pool.send(act(Hold, number), account=account)))
        for number in numbers
    ]


async def test_silent_account_leaves_the_others_alone(simulator: Simulator) -> None:
    """One customer's dead region must not stop the transfers of all."""
    simulator.fault_next(Fault.SILENCE, action="warm_transfer", times=None)
    async with two_accounts(simulator) as pool:
        stuck = [
            asyncio.create_task(pool.send(act(WarmTransfer, n), account=ILL))
            for n in range(20)
        ]
        await simulator.wait_for(requests=5)
        outcomes = await asyncio.gather(*sends_of(pool, WELL, range(100, 150)))
        assert pool.state(ILL).in_flight == 5  # it has no more connections
        assert not any(task.done() for task in stuck)
        assert simulator.ledger.dials() == 5
        # What ends somebody's wait doesn't queue behind the silence either.
        abort = await pool.send(act(AbortTransfer), account=ILL)
        for task in stuck:
            task.cancel()
        await asyncio.wait(stuck)
        assert pool.state(ILL).in_flight == 0
    assert {it.verdict for it in [abort, *outcomes]} == {"accepted"}


async def test_throttled_account_leaves_the_others_alone(simulator: Simulator) -> None:
    """One customer's script must not eat everybody's pace."""
    simulator.answer_next(429, headers={"Retry-After": "8"}, to=address(1))
    async with two_accounts(simulator) as pool:
        (waiting,) = sends_of(pool, ILL, [1])
        await simulator.wait_for(requests=1)
        outcomes = await asyncio.gather(*sends_of(pool, WELL, range(100, 150)))
        assert pool.state(ILL).paused_for > 0.0
        assert pool.state(ILL).waiting[Lane.AWAITED] == 1
        assert (pool.state(WELL).paused_for, pool.state(WELL).pace) == (0.0, 1.0)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
    assert {it.verdict for it in outcomes} == {"accepted"}
    assert simulator.ledger.received == 51


async def test_refused_account_leaves_the_others_alone(simulator: Simulator) -> None:
    """One customer's revoked token is nobody else's trouble."""
    async with two_accounts(simulator) as pool:
        stranger = attrs.evolve(ILL, auth_id="MASENDING00000000009")
        async with pool_of(simulator, stranger, WELL) as mixed:
            ill = await asyncio.gather(*sends_of(mixed, stranger, range(20)))
            well = await asyncio.gather(*sends_of(mixed, WELL, range(100, 120)))
        both = await asyncio.gather(*sends_of(pool, WELL, range(200, 220)))
    assert {(it.verdict, it.status) for it in ill} == {("rejected", 401)}
    assert {it.verdict for it in [*well, *both]} == {"accepted"}


def test_retries_of_one_account_are_not_paid_by_another() -> None:
    """One customer's outage must not cost the others their repeats."""

    async def main() -> tuple[int, int]:
        async def down(_: Request) -> NoAnswer:
            return NoAnswer(left=False, reason=Reason.UNKNOWN)

        answers = iter([BUSY, ACCEPTED])

        async def flaky(_: Request) -> Answer | NoAnswer:
            return next(answers)

        transports = [ScriptedHttpClient(down), ScriptedHttpClient(flaky)]
        async with ScriptedPool(ILL, WELL, transports=transports) as pool:
            ill = await asyncio.gather(*sends_of(pool, ILL, range(1_000)))
            well = await pool.send(act(Hold), account=WELL)
        return sum(it.attempts for it in ill), well.attempts

    assert run_virtually(main()) == (1_592, 2)  # ten seconds of the default quota


def test_connection_comes_before_the_slot() -> None:
    """Slots taken by those who can't leave anyway would slow the account down."""

    async def main() -> tuple[dict[Lane, int], int]:
        line = Line(ACCEPTED, takes=5.0, quota=Quota(), connections_per_account=2)
        async with line.pool as pool:
            sends = [
                asyncio.create_task(outcome_of(pool.send(act(WarmTransfer, number))))
                for number in range(6)
            ]
            await asyncio.sleep(1.0)
            waiting = dict(pool.state().waiting)
            await asyncio.gather(*sends)
        return waiting, len(line.left)

    waiting, left = run_virtually(main())
    assert sum(waiting.values()) == 0
    assert left == 4  # two at 0 and two at 5 seconds; 10 seconds is too late


def test_tenth_of_all_connections_is_left_to_what_ends_a_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An abort needs no permit, but finds no file for its connection."""
    monkeypatch.setattr("aiophlo.protocol.client_set.most_connections", lambda: 20)

    async def main() -> int:
        line = Line(ACCEPTED, takes=5.0)
        async with line.pool as pool:
            sends = [pool.send(act(WarmTransfer, number)) for number in range(20)]
            under_way = asyncio.gather(*sends)
            await asyncio.sleep(1.0)
            in_flight = pool.state().in_flight
            await under_way
        return in_flight

    assert run_virtually(main()) == 18


def test_forecast_counts_whoever_goes_first_and_nobody_else() -> None:
    """A dashboard that leaves some out promises a transfer that will be refused."""

    async def main() -> float:
        quota = Quota(2, per=9.95)  # a slot in 10 s
        line = Line(ACCEPTED, quota=quota, connections_per_account=2)
        async with line.pool as pool:
            await pool.send(act(Hold))
            sender = pool.sender(line.account)
            lanes = [Lane.STREAMED, Lane.AWAITED]  # these two have the connections
            sends = [
                asyncio.create_task(
                    sender.send(act(Hold, number), send_within=None, lane=lane)
                )
                for number, lane in enumerate([*lanes, *lanes], start=1)
            ]
            await asyncio.sleep(0.0)
            forecast = pool.state().next_slot_in
            for send in sends:
                send.cancel()
            await asyncio.wait(sends)
        return forecast

    forecast = run_virtually(main())
    assert forecast == pytest.approx(30.0, abs=0.1)  # behind the two awaited


async def test_not_sent_is_raised_when_nobody_listens(
    stoppable_simulator: Simulator,
) -> None:
    """Plivo can't be reached: nothing rings, and the caller may go elsewhere."""
    pool = pool_of(stoppable_simulator)
    await stoppable_simulator.stop()
    async with pool:
        with pytest.raises(NotSentError, match="unreachable") as caught:
            await pool.send(TRANSFER, send_within=1.0)
    assert caught.value.outcome.attempts > 1
    assert caught.value.outcome.action.phlo_id == PHLO_ID


@pytest.mark.parametrize("kind", [AbortTransfer, WarmTransfer])
def test_streams_that_wait_for_a_connection_hold_up_nobody(kind: type[Action]) -> None:
    """A batch of thousands must not have an agent's own transfer refused."""

    async def main() -> Outcome:
        line = Line(ACCEPTED, takes=0.1, quota=Quota(), connections_per_account=10)
        async with line.pool as pool:
            stream = [
                asyncio.create_task(
                    pool.sender(line.account).send(
                        act(Hold, number), lane=Lane.STREAMED, send_within=None
                    )
                )
                for number in range(1_000)
            ]
            await asyncio.sleep(1.0)
            outcome = await outcome_of(pool.send(act(kind), send_within=1.0))
            for task in stream:
                task.cancel()
            await asyncio.wait(stream)
        return outcome

    outcome = run_virtually(main())
    assert outcome.verdict == "accepted"
    assert outcome.waited < 0.25


def test_what_is_being_noted_is_not_sent_once_it_was_undone() -> None:
    """An abort during a slow commit must not be followed by its transfer."""
    transport = ScriptedHttpClient(lambda _: asyncio.sleep(0, ACCEPTED))
    party: dict[str, Any] = {"phlo_id": PHLO_ID, "node_id": "n"}
    transfer = WarmTransfer(**party, trigger_source=address(1), to=address(2))
    abort = AbortTransfer(**party, member=address(1))

    async def main() -> Outcome:
        async with ScriptedPool(ACCOUNT, transports=[transport]) as pool:
            sender = pool.sender(ACCOUNT)
            delivery = Delivery(
                sender.context,
                transfer,
                None,
                before_leaving=lambda: asyncio.sleep(0.5),
            )
            noting = asyncio.create_task(sender.run(delivery))
            await asyncio.sleep(0.1)
            await pool.send(abort)
            return await noting

    outcome = run_virtually(main())
    assert isinstance(outcome, NotSent)
    assert outcome.reason is Reason.SUPERSEDED
    assert len(transport.requests) == 1


def test_what_is_to_be_done_before_leaving_is_done_once_for_all_requests() -> None:
    """An intent that is written for a repeat is a second row for one customer."""

    async def main() -> tuple[Outcome, int]:
        line = Line(ANSWERS["unreachable"], ANSWERS["unreachable"], ACCEPTED)
        noted = itertools.count()

        async def note() -> None:
            next(noted)

        async with line.pool as pool:
            sender = pool.sender(line.account)
            delivery = Delivery(sender.context, TRANSFER, None, before_leaving=note)
            return await sender.run(delivery), next(noted)

    outcome, noted = run_virtually(main())
    assert (outcome.verdict, outcome.attempts) == ("accepted", 3)
    assert noted == 1


def test_slot_is_told_before_what_is_noted_for_it_and_not_before_it_is_there() -> None:
    """The next row's turn would wait for this one's disk, or come before its slot."""

    async def main() -> list[tuple[str, float]]:
        line = Line(ACCEPTED, calls_per_second=1.0)
        loop = asyncio.get_running_loop()
        began, told = loop.time(), list[tuple[str, float]]()

        def tell(what: str) -> None:
            told.append((what, loop.time() - began))

        async def note() -> None:
            await asyncio.sleep(0.01)
            tell("noted")

        async with line.pool as pool:
            sender = pool.sender(line.account)
            for number in range(2):
                action = act(WarmTransfer, number)
                delivery = Delivery(sender.context, action, None, before_leaving=note)
                delivery.on_slot = lambda: tell("slot")
                await sender.run(delivery)
        return told

    what, at = zip(*run_virtually(main()), strict=True)
    assert what == ("slot", "noted") * 2
    assert at[2] >= 1.0
    assert (at[1] - at[0], at[3] - at[2]) == pytest.approx((0.01, 0.01))


def test_dials_that_a_slow_disk_held_up_cost_slots_of_their_own_pace() -> None:
    """Calls that a disk let go all at once are followed by a pause, or Plivo queues."""

    async def main() -> list[float]:
        line = Line(ACCEPTED, calls_per_second=1.0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        disk = asyncio.Event()

        async def slow() -> None:
            await disk.wait()

        async with line.pool as pool:
            sender = pool.sender(line.account)
            held = [
                asyncio.create_task(
                    sender.run(
                        Delivery(
                            sender.context,
                            act(WarmTransfer, n),
                            None,
                            before_leaving=slow,
                        )
                    )
                )
                for n in range(3)
            ]
            await asyncio.sleep(2.5)
            last = asyncio.create_task(pool.send(act(WarmTransfer, 3)))
            disk.set()
            await asyncio.gather(*held, last)
        return [at - began for _, at in line.left]

    left = run_virtually(main())
    assert left[:3] == pytest.approx([2.5] * 3)
    assert left[3] >= 5.0
