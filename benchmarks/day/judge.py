"""Holds what was seen of a day against what is promised."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import attrs

from benchmarks.day.evidence import (
    OUTAGES,
    PLIVO_FAILS,
    Alarm,
    Asked,
    Conversation,
    Evidence,
    Hold,
    Kind,
    overlap,
    within,
)
from benchmarks.harness.figures import quantile

PATIENCE: Final = 60.0  # seconds on hold that nobody asked for, until it is a fault
WAIT: Final = 2.0  # seconds that an awaited transfer may wait, but for one in 100
_AFTER_FOREIGN: Final = 6.0  # seconds that the quota's window remembers strangers
_AFTER_OUTAGE: Final = 10.0  # seconds until all workers are back to their ways
_BESIDE_A_KILL: Final = 5.0  # seconds until a dead worker's connection has ended
_SLACK: Final = 2.0  # seconds that what was sent may take to ring
_SAMPLED: Final = 1.0  # seconds by which holds and alarms may be told apart
_TOLD: Final = 8  # sentences of each line


@attrs.frozen
class Line:
    """One promise, and whether it was kept.

    Attributes:
        promise: What.
        found: What was found, in a word.
        kept: Whether it was kept; None for a figure that nobody promised.
        told: Sentences that say more.
    """

    promise: str
    found: str
    kept: bool | None
    told: tuple[str, ...] = ()


def judge(evidence: Evidence) -> list[Line]:
    """Judge a day."""
    return [line for judging in _JUDGES for line in judging(evidence)]


def _none(promise: str, wrong: Sequence[str], aside: Iterable[str] = ()) -> Line:
    more = len(wrong) - _TOLD
    rest = (f"and {more} more",) if more > 0 else ()
    told = (*wrong[:_TOLD], *rest, *aside)
    return Line(promise, str(len(wrong)), not wrong, told)


def _clock(at: float) -> str:
    return f"{at:.1f} s"


def _rung_twice(evidence: Evidence) -> Iterator[Line]:
    """Judge phones that rang twice; those of which the design says so, aside.

    While the database is away, a double click that lands in two processes is joined
    in neither, as is documented.
    """
    away = [*evidence.away, *evidence.spans(Kind.DATABASE)]
    asked: defaultdict[str, list[Asked]] = defaultdict(list)
    for one in evidence.asked:
        for partner in one.partners:
            asked[partner].append(one)
    rung: defaultdict[str, list[float]] = defaultdict(list)
    for dial in evidence.dials:
        rung[dial.to].append(dial.at)
    wrong, excused = [], 0
    for to, times in rung.items():
        if len(times) < 2:  # noqa: PLR2004 -- twice
            continue
        clicks = [one for one in asked[to] if one.verdict != "not_sent"]
        if _clicked_twice(clicks) and within(clicks[0].at, away, _AFTER_OUTAGE):
            excused += 1
            continue
        answers = ", ".join(one.verdict or "no answer" for one in clicks)
        when = " and ".join(map(_clock, times))
        wrong.append(f"…{to[-4:]} at {when}: {answers or 'campaign'}")
    yield _none("phones rung twice unasked", wrong)
    yield Line(
        "rung twice by a double click while the database was away (documented: each"
        " process then joins its own clicks only)",
        str(excused),
        None,
    )


def _clicked_twice(clicks: Sequence[Asked]) -> bool:
    """Say whether they are the requests of one double click."""
    return len(clicks) > 1 and len({one.click for one in clicks}) == 1


def _rang_not_sent(evidence: Evidence) -> Iterator[Line]:
    """Judge phones that rang though no request admits that it may have rung them."""
    may_have: defaultdict[str, list[Asked]] = defaultdict(list)
    for one in evidence.asked:
        if one.verdict not in {"not_sent", "rejected"}:
            for partner in one.partners:
                may_have[partner].append(one)
    rows = {row.to: row.verdict for row in evidence.campaign}
    wrong = []
    for dial in evidence.dials:
        if dial.to in rows:
            if rows[dial.to] in {"not_sent", "rejected"}:
                wrong.append(f"campaign, {rows[dial.to]}, rang at {_clock(dial.at)}")
        elif not any(
            one.at - _SLACK <= dial.at <= one.until + _SLACK
            for one in may_have[dial.to]
        ):
            wrong.append(f"…{dial.to[-4:]} rang at {_clock(dial.at)}")
    yield _none("phones that rang and were called not sent", wrong)


def _unwell(evidence: Evidence) -> Iterator[Line]:
    """Judge customers on hold whom nobody is told of."""
    calls = {one.number: one for one in evidence.conversations}
    wrong, longest = [], 0.0
    for hold, begin in unasked(evidence):
        longest = max(longest, hold.until - begin)
        if hold.until - begin <= PATIENCE:
            continue
        call = calls.get(hold.call)
        if call and any(_is_about(alarm, call) for alarm in evidence.alarms):
            continue
        agent = call.agent[-2:] if call else "?"
        wrong.append(
            f"agent …{agent}, call {hold.call}: on hold from {_clock(hold.since)} to"
            f" {_clock(hold.until)}"
        )
    aside = f"longest on hold after the last request had ended: {longest:.1f} s"
    yield _none("customers on hold without an alarm", wrong, [aside])


def unasked(evidence: Evidence) -> Iterator[tuple[Hold, float]]:
    """Yield who was on hold, and since when with no request under way for them."""
    asked: defaultdict[int, list[Asked]] = defaultdict(list)
    for one in evidence.asked:
        asked[one.call].append(one)
    for hold in evidence.holds:
        yield hold, _unasked_since(hold, asked[hold.call])


def _unasked_since(hold: Hold, asked: Iterable[Asked]) -> float:
    ends = [one.until for one in asked if one.at <= hold.until]
    return min(max([hold.since, *ends]), hold.until)


def _is_about(alarm: Alarm, call: Conversation) -> bool:
    """Say whether an alarm is about a call: an agent is in one at a time."""
    return (
        alarm.agent == call.agent[-2:]
        and call.begin - _SAMPLED <= alarm.began_at <= call.end + _SAMPLED
    )


def _alarms(evidence: Evidence) -> Iterator[Line]:
    """Judge alarms about customers who were well."""
    holds: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for hold in evidence.holds:
        holds[hold.call].append((hold.since - _SAMPLED, hold.until + _SAMPLED))
    wrong, true, unclear = [], 0, 0
    fails = evidence.spans(*PLIVO_FAILS)
    for alarm in evidence.alarms:
        calls = [one for one in evidence.conversations if _is_about(alarm, one)]
        if any(within(alarm.at, holds[call.number]) for call in calls):
            true += 1
        elif overlap(alarm.began_at, alarm.at, fails, _AFTER_OUTAGE):
            unclear += 1
        else:
            cause = (
                "taken over from a dead process"
                if alarm.handover in evidence.taken_over
                else "not taken over"
            )
            wrong.append(
                f"agent …{alarm.agent} at {_clock(alarm.at)}, handover begun at"
                f" {_clock(alarm.began_at)}: {cause}"
            )
    yield _none("false alarms", wrong, [f"true alarms: {true}"])
    yield Line(
        "alarms about customers who were well, while Plivo gave no clear answer:"
        " nobody could know",
        str(unclear),
        None,
    )


def _refused(evidence: Evidence) -> Iterator[Line]:
    """Judge 429s that no stranger explains."""
    foreign = evidence.spans(Kind.FOREIGN)
    wrong = [
        f"at {_clock(at)}"
        for at in evidence.refusals
        if not within(at, foreign, _AFTER_FOREIGN)
    ]
    beside = len(evidence.refusals) - len(wrong)
    aside = (
        f"of ours beside foreign traffic: {beside};"
        f" of the strangers': {evidence.foreign_refusals}"
    )
    yield _none("429s but beside foreign traffic", wrong, [aside])


def _answered(evidence: Evidence) -> Iterator[Line]:
    """Judge requests without a verdict; those whose worker was killed, aside.

    A dead process says nothing: its caller's connection ends, which says that the
    action is in doubt.
    """
    kills = [mark for mark in evidence.marks if mark.kind is Kind.KILL]
    wrong, lost = [], 0
    for one in evidence.asked:
        if one.verdict:
            continue
        if one.status is None and any(
            kill.host == one.host
            and kill.begin - _SAMPLED <= one.until <= kill.end + _BESIDE_A_KILL
            for kill in kills
        ):
            lost += 1
            continue
        wrong.append(
            f"{one.what} at {_clock(one.at)}, host {one.host}:"
            f" {one.status or 'no answer'} {one.error}"
        )
    verdicts = Counter(one.verdict for one in evidence.asked if one.verdict)
    aside = ", ".join(f"{count} {name}" for name, count in verdicts.most_common())
    yield _none("requests to the service without a verdict", wrong, [aside])
    yield Line("requests lost with the worker that was killed", str(lost), None)


def _waits(evidence: Evidence) -> Iterator[Line]:
    """Judge how long awaited transfers wait for their slot, outside the outages."""
    outages = [*evidence.spans(*OUTAGES), *evidence.away]
    waited = [
        (at - seconds, at, seconds)
        for at, seconds in evidence.waited
        if not overlap(at - seconds, at, outages, _AFTER_OUTAGE)
    ]
    waits = sorted(seconds for _, _, seconds in waited)
    foreign = evidence.spans(Kind.FOREIGN)
    beside = sorted(
        seconds
        for begin, end, seconds in waited
        if overlap(begin, end, foreign, _AFTER_FOREIGN)
    )
    whole = sorted(
        one.seconds
        for one in evidence.asked
        if one.what == "transfers"
        and one.verdict == "accepted"
        and not overlap(one.at, one.until, outages, _AFTER_OUTAGE)
    )
    promise = f"p99 of an awaited transfer's wait below {WAIT:g} s, outside outages"
    if not waits or not whole:
        yield Line(promise, "none was sent", kept=False)
        return
    found = quantile(waits, 0.99)
    told = (
        f"{len(waits):,} transfers: {_quantiles(waits)}, longest {waits[-1]:.2f} s",
        *(f"of these, beside strangers: {_quantiles(beside)}" for _ in beside[:1]),
        f"from click to answer: {_quantiles(whole)}",
        f"p99 of how late this machine made the day's own clock: {evidence.lag:.2f} s",
    )
    yield Line(promise, f"{found:.3f} s", found < WAIT, told)


def _quantiles(ascending: Sequence[float]) -> str:
    half, most = quantile(ascending, 0.5), quantile(ascending, 0.99)
    return f"p50 {half:.2f} s, p99 {most:.2f} s"


def _came_off(evidence: Evidence) -> Iterator[Line]:
    """Tell how often agents got what they wanted, in the end."""
    for what in ("transfers", "handovers"):
        wanted = {one.call for one in evidence.asked if one.what == what}
        got = {
            one.call
            for one in evidence.asked
            if one.what == what and one.verdict == "accepted"
        }
        if wanted:
            share = f"{len(got) / len(wanted):.1%}"
            yield Line(f"of {len(wanted):,} calls, {what} that came off", share, None)


def _campaign(evidence: Evidence) -> Iterator[Line]:
    """Judge rows of the campaign that have no outcome."""
    wrong = [f"…{row.to[-4:]}" for row in evidence.campaign if not row.verdict]
    verdicts = Counter(row.verdict for row in evidence.campaign if row.verdict)
    aside = ", ".join(f"{count:,} {name}" for name, count in verdicts.most_common())
    yield _none("rows of the campaign without an outcome", wrong, [aside])


def _faults(evidence: Evidence) -> Iterator[Line]:
    """Judge what is logged as the library's own fault."""
    yield _none("faults and tracebacks logged", evidence.faults)


_JUDGES: Final[tuple[Callable[[Evidence], Iterator[Line]], ...]] = (
    _rung_twice,
    _rang_not_sent,
    _unwell,
    _alarms,
    _refused,
    _answered,
    _waits,
    _came_off,
    _campaign,
    _faults,
)
