"""Retrying: what may be sent again, when, how often, and at whose expense."""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiophlo.errors import InvalidInputError
from aiophlo.model.accounts import Quota
from aiophlo.model.actions import (
    AbortTransfer,
    Action,
    AddUser,
    BridgeLeave,
    BridgeMute,
    BridgeUnmute,
    ColdTransfer,
    GetNode,
    GetPhlo,
    Hangup,
    Hold,
    Mute,
    ResumeCall,
    RunPhlo,
    Unhold,
    Unmute,
    VoicemailDrop,
    WarmTransfer,
)
from aiophlo.model.outcomes import (
    Accepted,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    Rejected,
    combine,
)
from aiophlo.sending.retry import RetryBudget, RetryPolicy, send_again

NODE: dict[str, Any] = {"phlo_id": "p", "node_id": "n"}
DIAL = NODE | {"trigger_source": "+14155550100", "to": "+14155550199"}
MEMBER = NODE | {"member": "+14155550100"}

# How an action in doubt may be repeated, written down from what it does.
ALWAYS, IN_TIME_AND_ALONE, NEVER = "always", "in time and alone", "never"
REPEATS: dict[Action, str] = {
    GetPhlo(phlo_id="p"): ALWAYS,  # asks, and changes nothing
    GetNode(**NODE): ALWAYS,
    Hold(**MEMBER): IN_TIME_AND_ALONE,  # twice is once, unless undone meanwhile
    Unhold(**MEMBER): IN_TIME_AND_ALONE,
    Mute(**MEMBER): IN_TIME_AND_ALONE,
    Unmute(**MEMBER): IN_TIME_AND_ALONE,
    BridgeMute(**MEMBER): IN_TIME_AND_ALONE,
    BridgeUnmute(**MEMBER): IN_TIME_AND_ALONE,
    BridgeLeave(**MEMBER): IN_TIME_AND_ALONE,
    Hangup(**MEMBER): IN_TIME_AND_ALONE,
    AbortTransfer(**MEMBER): IN_TIME_AND_ALONE,
    WarmTransfer(**DIAL): NEVER,  # rings a second phone
    ColdTransfer(**DIAL): NEVER,
    AddUser(**DIAL): NEVER,
    RunPhlo(phlo_id="p"): NEVER,
    VoicemailDrop(**MEMBER): NEVER,  # leaves the recording twice
    ResumeCall(**MEMBER): NEVER,  # not known what a second one does
}
FINAL = {"closed", "expired", "no_budget", "stopped", "duplicate"}
NOT_SENT_REASONS = [Reason.UNREACHABLE, Reason.THROTTLED, *map(Reason, sorted(FINAL))]
IN_DOUBT_REASONS = [
    Reason.SILENT,
    Reason.DISCONNECTED,
    Reason.SERVER_ERROR,
    Reason.UNREADABLE,
    Reason.REDIRECTED,
    Reason.CANCELLED,
    Reason.UNKNOWN,
]
TRANSFER = WarmTransfer(**DIAL)
HOLD = Hold(**MEMBER)
POLICY = RetryPolicy()


def outcomes_of(action: Action) -> list[Outcome]:
    """Return one outcome of every kind."""
    return [
        Accepted(action=action),
        Rejected(action=action, status=400),
        *(NotSent(action=action, reason=reason) for reason in NOT_SENT_REASONS),
        *(InDoubt(action=action, reason=reason) for reason in IN_DOUBT_REASONS),
    ]


def expected(
    outcome: Outcome, *, since_sent: float, alone: bool, repeat_dials: bool
) -> bool:
    """Return what the promise says: never ring twice by accident."""
    if outcome.verdict in {"accepted", "rejected"}:
        return False
    if isinstance(outcome, NotSent):
        return outcome.reason.value not in FINAL
    rule = REPEATS[outcome.action]
    if rule == IN_TIME_AND_ALONE:
        return alone and since_sent <= 5.0
    return rule == ALWAYS or repeat_dials


@pytest.mark.parametrize("action", REPEATS, ids=lambda action: type(action).__name__)
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("since_sent", [0.0, 5.0, 5.001, 3600.0])
@pytest.mark.parametrize("repeat_dials", [False, True])
def test_sent_again_only_where_that_harms_nobody(
    action: Action, alone: bool, since_sent: float, repeat_dials: bool
) -> None:
    """One wrong cell of this table is a second phone ringing, or an undone hold."""
    policy = RetryPolicy(repeat_dials=repeat_dials)
    for outcome in outcomes_of(action):
        assert policy.may_send_again(
            outcome, since_sent=since_sent, alone=alone
        ) is expected(
            outcome, since_sent=since_sent, alone=alone, repeat_dials=repeat_dials
        ), outcome


def test_table_knows_every_action() -> None:
    """A new action without a line here may ring phones twice unseen."""

    def concrete(base: type[Action]) -> set[type[Action]]:
        kinds = base.__subclasses__()
        own = {base} if base.verb or not kinds else set()
        return own.union(*map(concrete, kinds))

    ours = {kind for kind in concrete(Action) if kind.__module__ == Action.__module__}
    assert {type(action) for action in REPEATS} == ours


def test_time_to_repeat_is_a_setting() -> None:
    """A service that issues holds in quick succession wants less."""
    policy = RetryPolicy(repeat_within=1.0)
    outcome = InDoubt(action=HOLD, reason=Reason.SILENT)
    assert policy.may_send_again(outcome, since_sent=1.0)
    assert not policy.may_send_again(outcome, since_sent=1.1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempts", 0),
        ("attempts", True),
        ("attempts", 2.0),
        ("first_wait", -0.1),
        ("first_wait", float("nan")),
        ("longest_wait", float("inf")),
        ("longest_wait", "5"),
        ("repeat_within", True),
        ("repeat_dials", 1),
        ("repeat_dials", None),
    ],
)
def test_nonsense_is_refused_by_name(field: str, value: object) -> None:
    """A policy that means something else rings phones twice."""
    settings: dict[str, Any] = {field: value}
    with pytest.raises(InvalidInputError, match=field) as refusal:
        RetryPolicy(**settings)
    assert refusal.value.field == field


# When


@given(
    attempts=st.integers(1, 2_000),
    chance=st.floats(0.0, 1.0, exclude_max=True),
    first=st.floats(0.0, 10.0),
    longest=st.floats(0.0, 10.0),
)
def test_wait_stays_within_its_bounds(
    attempts: int, chance: float, first: float, longest: float
) -> None:
    """A wait out of bounds is a caller on hold, or a server hammered."""
    policy = RetryPolicy(first_wait=first, longest_wait=longest)
    outcome = InDoubt(action=HOLD, reason=Reason.SILENT, attempts=attempts)
    wait = policy.wait(outcome, lambda: chance)
    assert 0.0 <= wait <= longest
    if attempts <= 20:  # beyond, the doubling may end anywhere
        bound = min(first * 2 ** (attempts - 1), longest)
        assert wait == pytest.approx(bound * chance)


def test_wait_doubles_from_failure_to_failure() -> None:
    """A server in trouble needs more room each time."""
    waits = [
        POLICY.wait(
            InDoubt(action=HOLD, reason=Reason.SILENT, attempts=attempts),
            lambda: 0.5,
        )
        for attempts in range(1, 8)
    ]
    assert waits == [0.125, 0.25, 0.5, 1.0, 2.0, 2.5, 2.5]


@pytest.mark.parametrize(("first", "longest"), [(0.25, 5.0), (0.0, 0.0)])
def test_host_that_is_down_is_not_asked_without_a_pause(
    first: float, longest: float
) -> None:
    """What isn't counted would spin until the deadline."""
    policy = RetryPolicy(first_wait=first, longest_wait=longest)
    for attempts in range(1, 9):
        failed = NotSent(action=HOLD, reason=Reason.UNREACHABLE, attempts=attempts)
        waits = [policy.wait(failed, lambda: 0.0), policy.wait(failed, lambda: 1.0)]
        bound = max(min(first * 2 ** (attempts - 1), longest), 0.1)
        assert waits == [bound / 2, bound]


def test_repeats_in_an_outage_take_turns() -> None:
    """Ten thousand that wait would knock over the server that comes back."""
    budget = RetryBudget()
    waits = [budget.wait_in_outage(5.0, 0.1) for _ in range(100)]
    assert waits[:11] == [0.1] * 11
    assert waits[50] == pytest.approx(0.5)
    assert budget.wait_in_outage(6.5, 0.2) == 0.2
    assert all(budget.spend(FAILED) for _ in range(100))


def test_outage_begins_anew_once_the_host_has_answered() -> None:
    """A batch that stopped for two short ones would leave thousands uncalled."""
    budget = RetryBudget()
    for now in (0.0, 20.0):
        budget.wait_in_outage(now, 0.1)
    assert not budget.is_down_for_long(29.9)
    assert budget.is_down_for_long(30.0)
    budget.settled()
    budget.wait_in_outage(40.0, 0.1)
    assert not budget.is_down_for_long(69.9)
    assert budget.is_down_for_long(70.0)


@pytest.mark.parametrize("reason", [Reason.THROTTLED, Reason.STALE_CONNECTION])
def test_next_slot_is_the_wait_after_what_says_nothing_of_the_host(
    reason: Reason,
) -> None:
    """Who waits for the slot and then once more is superseded by newcomers."""
    outcome = NotSent(action=HOLD, reason=reason, attempts=3)
    assert POLICY.wait(outcome, lambda: 0.9) == 0.0


# At whose expense

FAILED = NotSent(action=HOLD, reason=Reason.UNREACHABLE)


@pytest.mark.parametrize(
    ("quota", "retries"),
    [
        (None, 592),
        (Quota(), 592),
        (Quota(500, per=5.0), 988),
        (Quota(10, per=5.0), 100),
    ],
)
def test_budget_is_ten_seconds_of_the_quota_and_never_less_than_a_hundred(
    quota: Quota | None, retries: int
) -> None:
    """With less, two bad seconds cost transfers; with more, they are multiplied."""
    budget = RetryBudget.of_quota(quota)
    assert sum(budget.spend(FAILED) for _ in range(2_000)) == retries


def test_budget_ends_and_fills_again() -> None:
    """Retries of a whole call centre would multiply an outage by four."""
    budget = RetryBudget(capacity=2.0, refill=0.5)
    assert [budget.spend(FAILED) for _ in range(4)] == [True, True, False, False]
    budget.settled()
    assert not budget.spend(FAILED)
    budget.settled()
    assert budget.spend(FAILED)
    assert not budget.spend(FAILED)


def test_budget_never_grows_above_its_capacity() -> None:
    """A quiet year must not save up a storm of retries."""
    budget = RetryBudget(capacity=3.0, refill=1.0)
    for _ in range(100):
        budget.settled()
    assert [budget.spend(FAILED) for _ in range(4)] == [True, True, True, False]


def test_budget_is_not_overfilled_by_the_last_refill() -> None:
    """An outage would begin with more retries than were promised."""
    budget, failure = (
        RetryBudget(capacity=1.0, refill=0.75),
        NotSent(action=Hold(**MEMBER), attempts=1, reason=Reason.UNREACHABLE),
    )
    assert budget.spend(failure)
    for _ in range(2):
        budget.settled()  # 1.5, but for the capacity
    assert budget.spend(failure)
    budget.settled()
    assert not budget.spend(failure)


def test_file_is_waited_for_before_the_next_request() -> None:
    """A machine that is out of files would spin until the deadline."""
    action = next(iter(REPEATS))
    outcome = NotSent(action=action, attempts=1, reason=Reason.OUT_OF_FILES)
    assert RetryPolicy().wait(outcome, lambda: 0.0) == 0.1
    assert RetryPolicy().wait(outcome, lambda: 1.0) == 0.5


def test_superseded_action_is_not_sent_after_all() -> None:
    """A Hold that came too late would put a customer back on hold."""
    outcome = NotSent(action=Hold(**MEMBER), attempts=1, reason=Reason.SUPERSEDED)
    assert not RetryPolicy().may_send_again(outcome, since_sent=0.0)


def test_budget_is_not_spent_on_429s() -> None:
    """The pause bounds those; charged, they would leave nothing for a real fault."""
    budget = RetryBudget(capacity=1.0)
    throttled = NotSent(action=HOLD, reason=Reason.THROTTLED)
    assert all(budget.spend(throttled) for _ in range(10))
    assert budget.spend(FAILED)
    assert budget.spend(throttled)
    assert not budget.spend(FAILED)


def test_budget_adds_a_tenth_to_the_load_in_the_long_run() -> None:
    """In a full outage, at most every tenth action may be sent a second time."""
    budget = RetryBudget()
    used_up = sum(budget.spend(FAILED) for _ in range(1_000))
    assert used_up == 100
    retried = 0
    for _ in range(1_000):
        budget.settled()
        retried += budget.spend(FAILED)
    assert 98 <= retried <= 100


# The attempts themselves


class Attempts:
    """An action's attempts, each with its scripted result, over a fake clock.

    Attributes:
        made: How many were made, the first included.
        waits: What was slept between them.
        sleeping: Set once the first of these began.
        asked: What `spend_for_retry` was asked.
    """

    def __init__(self, results: Iterable[Outcome], policy: RetryPolicy) -> None:
        self._results = iter(results)
        self._policy = policy
        self.verdict: Outcome | None = None
        self.made = 0
        self.waits: list[float] = []
        self.sleeping = asyncio.Event()
        self.asked: list[tuple[str, float]] = []

    async def attempt(self) -> Outcome:
        """Make the next one."""
        self.made += 1
        result = attrs.evolve(next(self._results), attempts=self.made)
        self.verdict = combine(self.verdict, result)
        return self.verdict

    async def run(
        self, spend_for_retry: Callable[[Outcome, float], bool] | None = None
    ) -> Outcome:
        """Make the first, then as many as may follow."""

        def within_policy(outcome: Outcome, wait: float) -> bool:
            self.asked.append((outcome.verdict, wait))
            if spend_for_retry is not None:
                return spend_for_retry(outcome, wait)
            return self._policy.may_send_again(outcome, since_sent=sum(self.waits))

        return await send_again(
            await self.attempt(),
            self.attempt,
            policy=self._policy,
            spend_for_retry=within_policy,
            random=lambda: 0.5,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.sleeping.set()
        await asyncio.sleep(0)


def unreachable(action: Action = TRANSFER) -> NotSent:
    """Return an attempt that found nobody."""
    return NotSent(action=action, reason=Reason.UNREACHABLE)


async def test_attempts_end_at_their_number() -> None:
    """Endless tries hide an outage from the one who waits."""
    attempts = Attempts(itertools.repeat(unreachable()), POLICY)
    outcome = await attempts.run()
    assert isinstance(outcome, NotSent)
    assert attempts.made == outcome.attempts == 4
    assert attempts.waits == [0.1875, 0.375, 0.75]


async def test_single_attempt_is_just_one() -> None:
    """Whoever does the retrying elsewhere must get exactly one request."""
    attempts = Attempts(itertools.repeat(unreachable()), RetryPolicy(attempts=1))
    await attempts.run()
    assert attempts.made == 1
    assert attempts.waits == []


async def test_wait_is_known_before_it_begins() -> None:
    """A wait beyond `send_within` must not even begin."""
    attempts = Attempts(itertools.repeat(unreachable()), POLICY)
    outcome = await attempts.run(lambda _, wait: wait < 0.2)
    assert isinstance(outcome, NotSent)
    assert attempts.asked == [("not_sent", 0.1875), ("not_sent", 0.375)]
    assert attempts.waits == [0.1875]
    assert attempts.made == 2


@pytest.mark.parametrize(
    "end", [Accepted(action=TRANSFER), Rejected(action=TRANSFER, status=400)]
)
async def test_answer_is_never_asked_for_again(end: Outcome) -> None:
    """A second transfer after a yes is a second phone, whoever says it may go on."""
    attempts = Attempts([unreachable(), end, end, end], POLICY)
    outcome = await attempts.run(lambda _outcome, _wait: True)
    assert outcome.verdict == end.verdict
    assert attempts.made == 2


async def test_operations_at_once_do_not_disturb_each_other() -> None:
    """Shared retry state repeats what had succeeded: a second phone rings."""
    one = Attempts([unreachable(), Accepted(action=TRANSFER)], POLICY)
    other = Attempts([unreachable()] * 3 + [Accepted(action=TRANSFER)], POLICY)
    ends = await asyncio.gather(*(each.run() for each in (one, other)))
    assert [end.verdict for end in ends] == ["accepted", "accepted"]
    assert (one.made, other.made) == (2, 4)


async def test_cancellation_ends_the_attempts() -> None:
    """Who goes away must not leave a transfer that is sent behind the back."""
    attempts = Attempts(itertools.repeat(unreachable()), POLICY)
    task = asyncio.create_task(attempts.run())
    await attempts.sleeping.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert attempts.made == 1


async def test_attempt_that_raises_is_not_repeated() -> None:
    """A bug, or a journal that can't be written, must not send more."""

    async def broken() -> Outcome:
        calls.append(1)
        raise OSError("disk full")

    calls: list[int] = []
    with pytest.raises(OSError, match="disk full"):
        await send_again(
            unreachable(),
            broken,
            policy=POLICY,
            spend_for_retry=lambda _outcome, _wait: True,
            random=lambda: 0.0,
            sleep=asyncio.sleep,
        )
    assert calls == [1]


# Every pair and triple of what attempts may come to, for every action

KINDS: dict[str, Callable[[Action], Outcome]] = {
    "accepted": lambda action: Accepted(action=action, status=201),
    "rejected": lambda action: Rejected(action=action, status=404),
    "unreachable": lambda action: NotSent(action=action, reason=Reason.UNREACHABLE),
    "throttled": lambda action: NotSent(action=action, reason=Reason.THROTTLED),
    "closed": lambda action: NotSent(action=action, reason=Reason.CLOSED),
    "silent": lambda action: InDoubt(action=action, reason=Reason.SILENT),
    "server_error": lambda action: InDoubt(action=action, reason=Reason.SERVER_ERROR),
}
VERDICTS = {
    "accepted": "accepted",
    "rejected": "rejected",
    "unreachable": "not_sent",
    "throttled": "not_sent",
    "closed": "not_sent",
    "silent": "in_doubt",
    "server_error": "in_doubt",
}


def what_is_known(action: Action, kinds: Iterable[str]) -> tuple[str, int]:
    """Return the verdict, and how many attempts it takes, from the promise alone.

    Accepted wins; once in doubt, nothing but that makes it better; and what
    is in doubt is tried again only where a second time harms nobody.
    """
    in_doubt = False
    made = 0
    for kind in kinds:
        made += 1
        verdict = VERDICTS[kind]
        in_doubt = in_doubt or verdict == "in_doubt"
        if verdict == "accepted":
            return "accepted", made
        if not in_doubt and kind in {"rejected", "closed"}:
            return verdict, made
        if in_doubt and REPEATS[action] == NEVER:
            break
    return ("in_doubt" if in_doubt else "not_sent"), made


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("action", REPEATS, ids=lambda action: type(action).__name__)
async def test_attempts_add_up_to_what_is_known(action: Action, number: int) -> None:
    """Told 'not sent' while a phone rings, an agent rings it again."""
    policy = RetryPolicy(attempts=number, first_wait=0.1)
    for kinds in itertools.product(KINDS, repeat=number):
        attempts = Attempts((KINDS[kind](action) for kind in kinds), policy)
        outcome = await attempts.run()
        seen = (outcome.verdict, attempts.made)
        assert seen == what_is_known(action, kinds), kinds
        assert outcome.attempts == attempts.made
