"""Pacing: slots come evenly, in order, and never more than the quota allows."""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from statistics import fmean
from typing import Self

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiophlo.model.accounts import Quota
from aiophlo.model.actions import Lane
from aiophlo.model.outcomes import Reason
from aiophlo.sending.rate_limiter import RateLimiter, Ticket
from aiophlo.sending.rate_meter import RateMeter

NOW = 1_000.0
AWAITED = Lane.AWAITED
FULL_RATE = 60.0  # requests per second that Plivo's 300 per 5 seconds allow


class Referee:
    """Plivo's side: a strict moving window, written without a look at the limiter."""

    def __init__(self, limit: int, per: float) -> None:
        self._limit = limit
        self._per = per
        self._admitted: deque[float] = deque()

    def admits(self, now: float) -> bool:
        """Count a request that arrives `now`, unless the window is full."""
        while self._admitted and self._admitted[0] < now - self._per:
            self._admitted.popleft()
        if len(self._admitted) >= self._limit:
            return False
        self._admitted.append(now)
        return True


@attrs.define
class Line:
    """A limiter and its caller: a clock, a late timer, and a list of who is where."""

    limiter: RateLimiter
    lags: Iterator[float] = attrs.field(factory=lambda: itertools.repeat(0.0))
    now: float = NOW
    lag: float = 0.0
    granted: list[tuple[float, Ticket | None]] = attrs.field(factory=list)
    expired: list[tuple[float, Ticket]] = attrs.field(factory=list)
    queues: dict[Lane, list[Ticket]] = attrs.field(
        factory=lambda: {lane: [] for lane in Lane}
    )

    def enter(self, lane: Lane, patience: float) -> Ticket:
        """Let one more come."""
        ticket = self.limiter.enter(self.now, lane, self.now + patience)
        if ticket.refusal is None:
            self.queues[lane].append(ticket)
            for other in self.limiter.superseded(self.now, lane):
                assert other.lane > lane
                assert other.refusal is Reason.EXPIRED
                self.queues[other.lane].remove(other)
                self.expired.append((self.now, other))
        return ticket

    def take(self) -> None:
        """Let one more come who takes a free slot or goes away."""
        waiting = any(self.queues.values())
        if self.limiter.take(self.now):
            assert not waiting
            self.granted.append((self.now, None))

    def leave(self, ticket: Ticket) -> None:
        """Let one go away."""
        self.queues[ticket.lane].remove(ticket)
        self.limiter.leave(ticket)

    def throttled(self, sent: float, retry_after: float | None) -> list[Ticket]:
        """Let a 429 come back."""
        refused = self.limiter.throttled(self.now, sent=sent, retry_after=retry_after)
        for ticket in refused:
            self.queues[ticket.lane].remove(ticket)
        return refused

    def run_until(self, until: float) -> None:
        """Let time pass, and the timer fire, late as it is."""
        while (due := max(self.limiter.due(self.now) + self.lag, self.now)) <= until:
            if due == math.inf:
                return
            self.now = due
            self.lag = next(self.lags)
            self._release()
        self.now = until

    def _release(self) -> None:
        for ticket in self.limiter.release(self.now):
            first = next(queue for queue in self.queues.values() if queue)
            assert first[0] is ticket, "released out of turn"
            del first[0]
            if ticket.refusal is None:
                assert self.now <= ticket.deadline
                self.granted.append((self.now, ticket))
            else:
                # Only what is urgent waits in a pause that outlasts it, to be tried.
                paused = ticket.deadline < self.limiter.meter.paused_until
                assert ticket.refusal is (
                    Reason.THROTTLED if paused else Reason.EXPIRED
                )
                assert not paused or ticket.lane is Lane.URGENT
                self.expired.append((self.now, ticket))

    @property
    def waiting(self) -> list[Ticket]:
        """Everybody who waits, in order."""
        return [ticket for queue in self.queues.values() for ticket in queue]

    @property
    def times(self) -> list[float]:
        """When slots were granted."""
        return [time for time, _ in self.granted]


def worst_window(arrivals: Iterable[float], per: float) -> int:
    """Return the most arrivals that any closed window of `per` seconds holds."""
    window: deque[float] = deque()
    worst = 0
    for time in sorted(arrivals):
        window.append(time)
        while window[0] < time - per:
            window.popleft()
        worst = max(worst, len(window))
    return worst


def queue_of(limiter: RateLimiter, number: int, lane: Lane = AWAITED) -> list[Ticket]:
    """Queue `number` of patient ones."""
    return [limiter.enter(NOW, lane, math.inf) for _ in range(number)]


lanes = st.sampled_from(Lane)
quotas = st.builds(
    Quota,
    st.integers(5, 40),
    per=st.floats(0.5, 5.0),
    burst=st.integers(1, 4),
    jitter=st.floats(0.0, 0.2),
)
waits = st.one_of(st.none(), st.floats(0.0, 3.0))
steps = st.one_of(
    st.tuples(st.just("enter"), lanes, st.sampled_from([0.0, 0.3, 2.0, math.inf])),
    st.tuples(st.just("enter"), lanes, st.just(math.inf)),
    st.tuples(st.just("take")),
    st.tuples(st.just("leave"), st.integers(0, 99)),
    st.tuples(st.just("throttled"), st.integers(0, 99), waits),
    st.tuples(st.just("pass"), st.floats(0.0, 2.0)),
)


def do(line: Line, step: Sequence[object]) -> None:
    """Carry out one of `steps`, and check what must hold at once."""
    match step:
        case ("enter", Lane() as lane, float() as patience):
            line.enter(lane, patience)
        case ("take",):
            line.take()
        case ("leave", int() as which) if line.waiting:
            line.leave(line.waiting[which % len(line.waiting)])
        case ("throttled", int() as which, retry_after) if line.granted:
            sent = line.times[which % len(line.granted)]
            assert retry_after is None or isinstance(retry_after, float)
            throttle(line, sent, retry_after)
        case ("pass", float() as seconds):
            line.run_until(line.now + seconds)
        case _:
            return  # nobody there to leave, or nothing sent that could be refused
    for lane in Lane:
        assert line.limiter.waiting(lane) == len(line.queues[lane])


def throttle(line: Line, sent: float, retry_after: float | None) -> None:
    """Let a 429 come back, and check that it pauses if and only if it is news."""
    limiter = line.limiter
    before = (limiter.meter.paused_until, limiter.meter.pace(line.now))
    refused = line.throttled(sent, retry_after)
    if sent < before[0]:
        assert refused == []
        assert (limiter.meter.paused_until, limiter.meter.pace(line.now)) == before
    else:
        assert limiter.meter.paused_until >= line.now
        assert limiter.meter.pace(line.now) == pytest.approx(max(before[1] * 0.8, 0.05))
        for ticket in refused:  # by the pause itself, or by those before it
            paused = ticket.deadline < limiter.meter.paused_until
            assert ticket.refusal is (Reason.THROTTLED if paused else Reason.EXPIRED)
        assert all(ticket.deadline < math.inf for ticket in refused)


@given(
    quota=quotas,
    script=st.lists(steps, max_size=60),
    lags=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=9),
    ways=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=9),
)
@example(
    quota=Quota(5, per=1.0, burst=1, jitter=0.0),
    script=[  # the last urgent one's try comes too late, since one before it tries
        ("enter", Lane.URGENT, 0.0),
        ("pass", 0.0),
        ("enter", Lane.URGENT, 0.3),
        ("enter", Lane.URGENT, 2.0),
        ("throttled", 0, 3.0),
    ],
    lags=[0.0],
    ways=[0.0],
)
@settings(max_examples=300)
def test_quota_holds_whatever_comes_in_whatever_order(
    quota: Quota, script: list[Sequence[object]], lags: list[float], ways: list[float]
) -> None:
    """A slot too many is a 429, and a transfer that a caller waits for."""
    lateness = (lag * quota.jitter / 2 for lag in itertools.cycle(lags))
    line = Line(RateLimiter(RateMeter.of_quota(quota)), lateness)
    for step in script:
        do(line, step)
    patient = [ticket for ticket in line.waiting if ticket.deadline == math.inf]
    line.run_until(line.now + 1_000.0)
    assert line.waiting == [], "somebody was forgotten"
    got_one = {id(ticket) for _, ticket in line.granted}
    assert all(id(ticket) in got_one for ticket in patient)
    way = itertools.cycle(way * quota.jitter / 2 for way in ways)
    arrivals = [time + next(way) for time in line.times]
    assert worst_window(arrivals, quota.per) <= quota.limit


@given(
    quota=quotas, lags=st.lists(st.floats(0.0, 2.0), min_size=1, max_size=9), idle=waits
)
@settings(deadline=None)
def test_quota_holds_when_the_timer_is_very_late(
    quota: Quota, lags: list[float], idle: float | None
) -> None:
    """A blocked event loop must not let what it missed go out in one burst."""
    line = Line(RateLimiter(RateMeter.of_quota(quota)), itertools.cycle(lags))
    for _ in range(3 * quota.limit):
        line.enter(AWAITED, math.inf)
    line.run_until(NOW + quota.per)
    line.run_until(line.now + (idle or 0.0))
    line.run_until(line.now + 10_000.0)
    assert len(line.granted) == 3 * quota.limit
    arrivals = [
        time + quota.jitter / 2 * (number % 2) for number, time in enumerate(line.times)
    ]
    assert worst_window(arrivals, quota.per) <= quota.limit


@given(quota=quotas, limit=st.integers(1, 6))
def test_tiny_quotas_hold(quota: Quota, limit: int) -> None:
    """An account on a trial has a tiny quota, and the same rights."""
    quota = attrs.evolve(quota, limit=limit, burst=max(min(quota.burst, limit - 1), 1))
    line = Line(RateLimiter(RateMeter.of_quota(quota)))
    for _ in range(5 * limit):
        line.enter(AWAITED, math.inf)
    line.run_until(NOW + 1_000.0)
    assert len(line.granted) == 5 * limit
    # A quota of one leaves no room for the clock's rounding.
    assert worst_window(line.times, quota.per - 1e-6) <= limit


def test_nearly_the_whole_quota_is_used_with_a_timer_a_little_late() -> None:
    """Every percent of the pace lost is a minute's wait in a long batch."""
    late = random.Random(7)  # noqa: S311 -- a seeded test
    line = Line(
        RateLimiter(RateMeter.of_quota(Quota())),
        (late.uniform(0, 1e-3) for _ in iter(int, 1)),
    )
    for _ in range(6_000):
        line.enter(AWAITED, math.inf)
    line.run_until(NOW + 60.0)
    referee = Referee(300, 5.0)
    arrivals = sorted(time + late.uniform(0, 0.025) for time in line.times)
    assert all(referee.admits(time) for time in arrivals)
    assert len(line.granted) >= 0.98 * 60 * FULL_RATE


def test_first_slot_is_free_at_once() -> None:
    """A lone transfer must not wait for a pace that nobody shares."""
    limiter = RateLimiter(RateMeter.of_quota(Quota()))
    assert limiter.take(NOW)
    assert limiter.take(NOW)  # a timer's lateness is room for one more
    assert not limiter.take(NOW)


def test_slots_come_evenly_after_the_first() -> None:
    """A window filled at once meets the server's edge and draws 429s."""
    line = Line(RateLimiter(RateMeter(1.0)))
    for _ in range(4):
        line.enter(AWAITED, math.inf)
    line.run_until(NOW + 10)
    assert line.times == [NOW, NOW + 1, NOW + 2, NOW + 3]


def test_burst_comes_at_once_after_a_lull_and_no_further() -> None:
    """A quota that allows a burst is asked for one, once."""
    line = Line(RateLimiter(RateMeter(1.0, burst=3)))
    for _ in range(5):
        line.enter(AWAITED, math.inf)
    line.run_until(NOW + 10)
    assert line.times == [NOW, NOW, NOW, NOW + 1, NOW + 2]


def test_late_firing_costs_nothing_within_the_lateness() -> None:
    """Timers always fire a little late: paced strictly, that adds up."""
    line = Line(RateLimiter(RateMeter(1.0, lateness=0.5)), itertools.repeat(0.5))
    for _ in range(101):
        line.enter(AWAITED, math.inf)
    line.run_until(NOW + 1_000)
    assert line.times[-1] <= NOW + 100.5


def test_no_quota_means_no_wait() -> None:
    """Who has no quota must not be slowed down."""
    limiter = RateLimiter(RateMeter.of_quota(None))
    assert all(limiter.take(NOW) for _ in range(10_000))


def test_no_quota_pauses_all_the_same() -> None:
    """Whoever draws a 429 without a quota must still give way."""
    limiter = RateLimiter(RateMeter.of_quota(None))
    assert limiter.take(NOW)
    limiter.throttled(NOW, sent=NOW, retry_after=2.0)
    assert not limiter.take(NOW + 1.9)
    assert limiter.take(NOW + 2.0)


def test_lane_is_first_come_first_served() -> None:
    """Nobody's transfer is passed over for a later one."""
    line = Line(RateLimiter(RateMeter(1.0)))
    tickets = [line.enter(AWAITED, math.inf) for _ in range(5)]
    line.run_until(NOW + 10)
    assert [ticket for _, ticket in line.granted] == tickets


def test_more_urgent_lane_goes_first() -> None:
    """An abort behind a batch leaves a customer alone with the music."""
    line = Line(RateLimiter(RateMeter(1.0)))
    looked, streamed, awaited, urgent = (
        line.enter(lane, math.inf) for lane in sorted(Lane, reverse=True)
    )
    line.run_until(NOW + 10)
    assert [ticket for _, ticket in line.granted] == [urgent, awaited, streamed, looked]


def test_free_slot_is_not_taken_past_those_who_wait() -> None:
    """A newcomer must not slip in while the timer is late."""
    limiter = RateLimiter(RateMeter(1.0))
    assert limiter.take(NOW)
    limiter.enter(NOW, Lane.STREAMED, math.inf)
    assert not limiter.take(NOW + 5)


@given(
    quota=quotas,
    lane=lanes,
    ahead=st.lists(lanes, max_size=30),
    taken=st.booleans(),
    offset=st.floats(0.0, 1.0),
)
@settings(deadline=None)
def test_refused_up_front_exactly_when_the_slot_comes_too_late(
    quota: Quota, lane: Lane, ahead: list[Lane], taken: bool, offset: float
) -> None:
    """Refused early, a transfer could have gone; refused late, a caller waited."""

    def line_with_them() -> Line:
        line = Line(RateLimiter(RateMeter.of_quota(quota)))
        while taken and line.limiter.take(NOW):
            pass
        for other in ahead:
            line.enter(other, math.inf)
        line.now += offset * quota.interval * 0.99
        return line

    line = line_with_them()
    ticket = line.enter(lane, math.inf)
    line.run_until(line.now + 1_000)
    slot = next(time for time, other in line.granted if other is ticket)
    later, sooner = line_with_them(), line_with_them()
    assert later.enter(lane, slot - later.now + 1e-6).refusal is None
    if slot > line_with_them().now:
        assert sooner.enter(lane, slot - sooner.now - 1e-6).refusal is Reason.EXPIRED
        assert sooner.limiter.waiting(lane) == ahead.count(lane)


def test_impatient_one_is_told_as_soon_as_its_slot_can_only_be_late() -> None:
    """A timer that fires far too late must not make a caller wait on."""
    line = Line(RateLimiter(RateMeter(1.0)), itertools.repeat(3.0))
    line.enter(AWAITED, math.inf)
    late = line.enter(AWAITED, 1.5)
    last = line.enter(AWAITED, math.inf)
    line.run_until(NOW + 10)
    assert [ticket for _, ticket in line.expired] == [late]
    assert line.granted[-1] == (NOW + 4, last)


def test_one_behind_a_late_firing_is_told_before_its_deadline() -> None:
    """Whoever will get no slot in time can still do something else meanwhile."""
    line = Line(RateLimiter(RateMeter(1.0)), itertools.repeat(3.0))
    line.enter(AWAITED, math.inf)
    line.enter(AWAITED, math.inf)
    hopeless = line.enter(AWAITED, 4.5)
    line.run_until(NOW + 10)
    assert line.times == [NOW, NOW + 4]
    assert line.expired == [(NOW + 4, hopeless)]


def test_superseded_one_is_told_at_once_when_its_slot_now_comes_too_late() -> None:
    """Under steady urgent traffic it would wait for ever without a word."""
    line = Line(RateLimiter(RateMeter(1.0)))
    line.enter(AWAITED, math.inf)
    in_time, hurried, patient = (
        line.enter(lane, patience)
        for lane, patience in (
            (AWAITED, 2.0),
            (Lane.STREAMED, 2.5),
            (Lane.STREAMED, math.inf),
        )
    )
    line.enter(Lane.URGENT, math.inf)
    assert line.expired == [(NOW, hurried)]
    line.run_until(NOW + 10)
    assert [ticket for _, ticket in line.granted[2:]] == [in_time, patient]


def test_newcomer_moves_nobody_ahead_of_it() -> None:
    """A stream's next transfer must not cost a waiting caller the place."""
    line = Line(RateLimiter(RateMeter(1.0)))
    for patience in (0.0, 1.0, 2.0):
        line.enter(AWAITED, patience)
    line.enter(Lane.STREAMED, math.inf)
    line.enter(AWAITED, math.inf)
    line.run_until(NOW + 10)
    assert line.expired == []
    assert len(line.granted) == 5


def test_429_to_a_request_that_was_leaving_as_the_pause_began_is_no_news() -> None:
    """One event counted twice doubles the pause for everybody who waits."""
    limiter = RateLimiter(RateMeter.of_quota(Quota()))
    limiter.throttled(NOW, sent=NOW - 1, retry_after=2.0)
    assert limiter.throttled(NOW + 3, sent=NOW + 1e-4, retry_after=None) == []
    assert limiter.meter.paused_until == NOW + 2
    assert limiter.meter.pace(NOW) == pytest.approx(0.8)


def test_leaving_frees_the_place() -> None:
    """A caller who hangs up must not cost the next one a slot."""
    line = Line(RateLimiter(RateMeter(1.0)))
    first, second, third = (line.enter(AWAITED, math.inf) for _ in range(3))
    line.leave(first)
    line.leave(second)
    assert line.limiter.slot_for(AWAITED, NOW) == NOW + 1
    line.run_until(NOW + 10)
    assert line.granted == [(NOW, third)]


def test_leaving_twice_or_after_the_slot_changes_nothing() -> None:
    """Whoever is cancelled in the last moment must not free somebody else's place."""
    line = Line(RateLimiter(RateMeter(1.0)))
    first, second = (line.enter(AWAITED, math.inf) for _ in range(2))
    line.run_until(NOW + 0.5)
    line.limiter.leave(first)
    line.leave(second)
    line.limiter.leave(second)
    refused = line.enter(AWAITED, 0.1)
    assert refused.refusal is Reason.EXPIRED
    line.limiter.leave(refused)
    assert line.limiter.waiting(AWAITED) == 0
    assert line.limiter.due(line.now) == math.inf


def test_nobody_waiting_means_nothing_due() -> None:
    """A timer that fires for nobody costs every idle service its sleep."""
    assert RateLimiter(RateMeter(1.0)).due(NOW) == math.inf
    assert RateLimiter(RateMeter(1.0)).release(NOW) == []


def test_pause_delays_everybody_and_loses_nobody() -> None:
    """After a 429, the queue stays the queue: no stampede and nobody forgotten."""
    line = Line(RateLimiter(RateMeter(1.0)))
    tickets = [line.enter(AWAITED, math.inf) for _ in range(4)]
    line.run_until(NOW + 0.5)
    assert line.throttled(NOW, 10.0) == []
    line.run_until(NOW + 10.4)
    assert line.times == [NOW]
    line.run_until(NOW + 60)
    assert [ticket for _, ticket in line.granted] == tickets
    gaps = [later - sooner for sooner, later in itertools.pairwise(line.times[1:])]
    assert line.times[1] == NOW + 10.5
    assert min(gaps) >= 1.0


def test_pause_refuses_in_order_those_whose_slot_now_comes_too_late() -> None:
    """They must hear it at once; whoever has the time must keep the place."""
    line = Line(RateLimiter(RateMeter(1.0)))
    line.enter(AWAITED, math.inf)
    line.run_until(NOW)
    tickets = [line.enter(AWAITED, patience) for patience in (5.0, 9.0, 11.5, 13.5)]
    refused = line.throttled(NOW, 10.0)
    assert refused == tickets[:2]
    assert {ticket.refusal for ticket in refused} == {Reason.THROTTLED}
    line.run_until(NOW + 60)
    assert [ticket for _, ticket in line.granted[1:]] == tickets[2:]


def test_late_429s_change_nothing() -> None:
    """A burst of refusals is one event; counted one by one, they stop the account."""
    limiter = RateLimiter(RateMeter.of_quota(Quota()))
    limiter.throttled(NOW + 1, sent=NOW, retry_after=2.0)
    paused_until, pace = limiter.meter.paused_until, limiter.meter.pace(NOW + 1)
    for sent in (NOW, NOW + 0.5, NOW + 0.99):
        assert limiter.throttled(NOW + 2, sent=sent, retry_after=50.0) == []
    assert limiter.meter.paused_until == paused_until == NOW + 3
    assert limiter.meter.pace(NOW + 1) == pace == pytest.approx(0.8)


def test_pauses_grow_up_to_the_period_without_a_retry_after() -> None:
    """Ringing again and again at the same short interval is what bans accounts."""
    limiter = RateLimiter(RateMeter.of_quota(Quota()))
    now, pauses = NOW, []
    for _ in range(8):
        limiter.throttled(now, sent=now)
        pauses.append(limiter.meter.paused_until - now)
        now = limiter.meter.paused_until
    assert pauses == pytest.approx([0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0])


def test_pauses_begin_small_again_once_an_answer_was_no_429() -> None:
    """One bad minute in the morning must not make the evening's pauses long."""
    limiter = RateLimiter(RateMeter.of_quota(Quota()))
    limiter.throttled(NOW, sent=NOW)
    limiter.throttled(NOW + 1, sent=NOW + 1)
    limiter.meter.answered(sent=NOW + 1)  # it left before the pause: no news
    limiter.throttled(NOW + 5, sent=NOW + 5)
    assert limiter.meter.paused_until == NOW + 6
    limiter.meter.answered(sent=NOW + 6)
    limiter.throttled(NOW + 7, sent=NOW + 7)
    assert limiter.meter.paused_until == NOW + 7.25


def test_retry_after_is_believed_up_to_a_minute() -> None:
    """Plivo knows best when it will answer again."""
    line = Line(RateLimiter(RateMeter.of_quota(Quota())))
    ticket = line.enter(AWAITED, math.inf)
    line.throttled(NOW, 60.0)
    assert line.enter(AWAITED, math.inf).refusal is None
    line.run_until(NOW + 59.9)
    assert line.granted == []
    line.run_until(NOW + 60.0)
    assert line.granted[0] == (NOW + 60.0, ticket)


def test_retry_after_above_a_minute_pauses_for_one_and_then_one_tries() -> None:
    """A timestamp in place of seconds must not shut the account for fifty years."""
    line = Line(RateLimiter(RateMeter.of_quota(Quota())))
    tickets = [line.enter(AWAITED, math.inf) for _ in range(3)]
    assert line.throttled(NOW, 1_764_358_230.0) == []
    assert not line.limiter.take(NOW + 59.9)
    line.run_until(NOW + 61.9)
    assert line.granted == [(NOW + 60.0, tickets[0])]
    assert line.limiter.meter.answered(sent=NOW + 60.0)
    line.run_until(NOW + 62.0)
    assert [ticket for _, ticket in line.granted] == tickets


def test_urgent_one_is_tried_as_soon_in_each_pause() -> None:
    """A customer on hold would pay for the tries of a pause that is long over."""
    meter = RateMeter(0.0)
    assert meter.throttled(NOW, sent=NOW, retry_after=9.0)
    for _ in range(4):
        now = meter.next_slot(NOW, Lane.URGENT)
        meter.use(now, Lane.URGENT)
        assert not meter.throttled(now, sent=now)
    later = NOW + 10.0
    assert meter.throttled(later, sent=later, retry_after=9.0)
    assert meter.next_slot(later, Lane.URGENT) == later + 0.25


def test_nobody_has_to_try_once_an_answer_was_no_429() -> None:
    """What a slow disk held up left after the pause, and all others would wait."""
    meter = RateMeter(0.0)
    assert meter.throttled(NOW, sent=NOW, retry_after=90.0)
    assert meter.answered(sent=NOW + 60.0)
    meter.use(NOW + 61.0, AWAITED)
    assert meter.next_slot(NOW + 61.0) == NOW + 61.0


def test_others_go_on_when_the_one_that_tries_never_hears() -> None:
    """A try that is cancelled must not hold up everybody for ever."""
    line = Line(RateLimiter(RateMeter.of_quota(Quota())))
    tickets = [line.enter(AWAITED, math.inf) for _ in range(3)]
    line.throttled(NOW, 90.0)
    line.run_until(NOW + 62.1)
    assert [ticket for _, ticket in line.granted] == tickets
    assert line.granted[1][0] == NOW + 62.0


def test_pace_falls_by_a_fifth_per_pause() -> None:
    """Somebody else uses the account: going on at the same pace draws 429s for ever."""
    limiter = RateLimiter(RateMeter.of_quota(Quota()))
    paces = []
    for _ in range(3):
        limiter.throttled(NOW, sent=NOW, retry_after=0.0)
        paces.append(limiter.meter.pace(NOW))
    assert paces == pytest.approx([0.8, 0.64, 0.512])


def test_lowered_pace_spaces_the_slots() -> None:
    """A lower pace that is only shown on a dashboard helps nobody."""
    line = Line(RateLimiter(RateMeter(0.1)))
    line.throttled(NOW, 0.0)
    for _ in range(2):
        line.enter(AWAITED, math.inf)
    line.run_until(NOW + 1)
    assert line.times[1] - line.times[0] == pytest.approx(0.1 / 0.8)


def test_pace_is_back_within_a_minute_however_far_it_fell() -> None:
    """A bad morning must not cost the whole day's pace."""
    limiter = RateLimiter(RateMeter.of_quota(Quota()))
    for _ in range(50):
        limiter.throttled(NOW, sent=NOW, retry_after=0.0)
    assert limiter.meter.pace(NOW) == pytest.approx(0.05)
    risen = [limiter.meter.pace(NOW + seconds) for seconds in range(0, 61, 5)]
    assert risen == sorted(risen)
    assert risen[-1] == 1.0
    assert limiter.meter.pace(NOW + 3600) == 1.0


def test_closing_refuses_everybody_in_order() -> None:
    """Nobody may be left waiting on a pool that is gone."""
    limiter = RateLimiter(RateMeter(1.0))
    tickets = queue_of(limiter, 3) + queue_of(limiter, 2, Lane.STREAMED)
    assert limiter.close() == tickets
    assert {ticket.refusal for ticket in tickets} == {Reason.CLOSED}
    assert limiter.release(NOW + 100) == []


def test_slot_for_says_when_the_next_ones_slot_comes() -> None:
    """A dashboard that shows a wrong wait is worse than none."""
    limiter = RateLimiter(RateMeter(1.0))
    assert limiter.slot_for(AWAITED, NOW) == NOW
    queue_of(limiter, 2)
    queue_of(limiter, 3, Lane.STREAMED)
    assert limiter.slot_for(Lane.URGENT, NOW) == NOW
    assert limiter.slot_for(AWAITED, NOW) == NOW + 2
    assert limiter.slot_for(Lane.STREAMED, NOW) == NOW + 5
    assert limiter.slot_for(AWAITED, NOW, behind=4) == NOW + 6


# Beside somebody else on the same account


@attrs.define
class SharedAccount:
    """We and a foreign client on one account, on a clock of events.

    Attributes:
        way: Seconds that a request, and its answer, take.
        admitted: When requests of ours were admitted.
        refused: When they were refused.
        foreign: When the other client's were admitted.
    """

    way: float = 0.025
    admitted: list[float] = attrs.field(factory=list)
    refused: list[float] = attrs.field(factory=list)
    foreign: list[float] = attrs.field(factory=list)
    _pacer: RateLimiter = attrs.field(
        factory=lambda: RateLimiter(RateMeter.of_quota(Quota()))
    )
    _referee: Referee = attrs.field(factory=lambda: Referee(300, 5.0))
    _events: list[tuple[float, int, Callable[[float], None]]] = attrs.field(
        factory=list
    )
    _numbers: Iterator[int] = attrs.field(factory=itertools.count)

    def run(self, foreign: Iterable[float], *, until: float) -> Self:
        """Keep 50 of ours in the queue beside the requests in `foreign`."""
        for time in foreign:
            self._at(time, self._foreign_arrives)
        for _ in range(50):
            self._pacer.enter(0.0, AWAITED, math.inf)
        self._at(0.0, self._timer_fires)
        while self._events and self._events[0][0] < until:
            now, _, event = heapq.heappop(self._events)
            event(now)
        return self

    def _at(self, time: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), event))

    def _timer_fires(self, now: float) -> None:
        for _ in self._pacer.release(now):
            self._at(now + self.way, partial(self._ours_arrives, now))
            self._pacer.enter(now, AWAITED, math.inf)
        self._at(max(self._pacer.due(now), now + 0.001), self._timer_fires)

    def _foreign_arrives(self, now: float) -> None:
        if self._referee.admits(now):
            self.foreign.append(now)

    def _ours_arrives(self, sent: float, now: float) -> None:
        admitted = self._referee.admits(now)
        (self.admitted if admitted else self.refused).append(now)
        self._at(now + self.way, partial(self._answer_comes, sent, admitted))

    def _answer_comes(self, sent: float, admitted: bool, now: float) -> None:
        if admitted:
            self._pacer.meter.answered(sent=sent)
        else:
            self._pacer.throttled(now, sent=sent)

    def share_of_what_is_left(self, since: float, until: float) -> float:
        """Return which part of the foreign client's leavings was used."""
        whole = FULL_RATE * (until - since)
        left = whole - count(self.foreign, since, until)
        return count(self.admitted, since, until) / left

    def refused_share(self, since: float, until: float) -> float:
        """Return which part of our requests drew a 429."""
        refused = count(self.refused, since, until)
        return refused / (refused + count(self.admitted, since, until))


def count(times: Iterable[float], since: float, until: float) -> int:
    """Count the times in a span."""
    return sum(since <= time < until for time in times)


def evenly(until: float) -> list[float]:
    """Return 100 requests per 5 s, evenly."""
    return [number * 0.05 for number in range(int(until / 0.05))]


def in_bursts(until: float) -> list[float]:
    """Return 100 requests at once, every 5 s."""
    return [
        burst * 5.0 + number * 0.0005
        for burst in range(int(until / 5))
        for number in range(100)
    ]


def at_random(until: float, seed: int) -> list[float]:
    """Return 100 requests per 5 s on average, each when it likes."""
    chance = random.Random(seed)  # noqa: S311 -- a seeded test
    return sorted(chance.uniform(0, until) for _ in range(int(until * 20)))


OTHERS = {
    "evenly": [evenly(160)],
    "in_bursts": [in_bursts(160)],
    "at_random": [at_random(160, seed) for seed in range(8)],
}


@pytest.mark.parametrize("other", OTHERS)
def test_pace_settles_beside_a_foreign_client(other: str) -> None:
    """Somebody's script on the same account costs us pace, not endless 429s."""
    runs = [SharedAccount().run(foreign, until=160) for foreign in OTHERS[other]]
    assert fmean(run.share_of_what_is_left(40, 160) for run in runs) >= 0.9
    assert max(run.refused_share(40, 160) for run in runs) < 0.02


@pytest.mark.parametrize("other", OTHERS)
def test_full_pace_is_back_once_the_foreign_client_is_gone(other: str) -> None:
    """A script that ran once must not slow down the rest of the day."""
    for foreign in OTHERS[other]:
        gone = [time for time in foreign if time < 100]
        run = SharedAccount().run(gone, until=230)
        assert count(run.admitted, 190, 230) >= 0.98 * FULL_RATE * 40
        assert count(run.refused, 190, 230) == 0


def test_slots_are_skipped_for_what_leaves_late() -> None:
    """A disk that halts for a moment must not make the account draw 429s."""
    quota = Quota(300, per=5.0)
    limiter = RateLimiter(RateMeter.of_quota(quota))
    now, left = 0.0, []
    while now < 12.0:
        if not limiter.take(now):
            now += 0.001
            continue
        halted = 3.0 <= now < 3.5
        left.append(3.5 if halted else now)
        if halted:
            limiter.meter.left(3.5, slot=now)  # all at once, when the disk is back
            now = max(now, 3.0)
    for end in left:
        assert sum(end - quota.per < moment <= end for moment in left) <= quota.limit
    assert len(left) > 0.94 * 12.0 / quota.interval


def test_half_of_the_jitter_is_for_being_late_and_half_for_the_way() -> None:
    """All of it for our own lateness, and the network's would draw 429s."""
    limiter = RateLimiter(RateMeter.of_quota(Quota(300, per=5.0, jitter=0.05)))
    assert limiter.meter.lateness == 0.025
    assert limiter.take(NOW)
    late = NOW + 5 * Quota().interval  # four slots went unused
    assert limiter.take(late)
    assert limiter.take(late)  # the one that it was late for
    assert limiter.slot_for(AWAITED, late) == pytest.approx(
        late - 0.025 + 2 * Quota().interval, abs=1e-6
    )
