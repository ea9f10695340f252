"""The judge of a day finds nothing wrong with a good one, and each fault with a bad."""

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from benchmarks.day.evidence import (
    Alarm,
    Asked,
    Conversation,
    Dial,
    Evidence,
    Hold,
    Kind,
    Mark,
    Row,
)
from benchmarks.day.judge import PATIENCE, Line, judge

AGENT, PARTNER = "+14152000007", "+14170000001"
ROW = "+14180000001"
CLICK = Asked(
    at=10.0,
    until=10.2,
    what="transfers",
    click=1,
    call=1,
    agent=AGENT,
    partners=(PARTNER,),
    host="a",
    status=200,
)
NOT_SENT = attrs.evolve(CLICK, status=503, error="NotSentError")
IN_DOUBT = attrs.evolve(CLICK, status=504, error="InDoubtError")
NO_ANSWER = attrs.evolve(CLICK, status=None, error="ServerDisconnectedError")
SECOND = attrs.evolve(CLICK, at=10.1, until=10.3, host="b")
ANOTHER = attrs.evolve(
    CLICK, at=500.0, until=500.2, click=9, call=9, partners=("+14170000008",)
)
ALARM = Alarm(at=30.0, agent="07", began_at=10.1)


def good() -> Evidence:
    """Make up a day on which one transfer and one row came off."""
    return Evidence(
        minutes=20.0,
        hosts=["a", "b"],
        marks=[Mark(Kind.AGENTS, 0.0, 1200.0)],
        asked=[CLICK, ANOTHER],
        dials=[Dial(10.1, PARTNER), Dial(50.0, ROW), Dial(500.1, ANOTHER.partners[0])],
        requests=[10.1, 50.0, 500.1],
        conversations=[Conversation(1, AGENT, 8.0, 100.0)],
        holds=[Hold(1, 10.1, 12.0)],
        waited=[(10.2, 0.01), (500.2, 0.01)],
        campaign=[Row(ROW, "accepted")],
    )


def rings_again(day: Evidence) -> None:
    """Ring the partner a second time."""
    day.dials.append(Dial(10.3, PARTNER))


def row_rings_again(day: Evidence) -> None:
    """Ring a row's phone a second time."""
    day.dials.append(Dial(51.0, ROW))


def two_clicks_ring(day: Evidence) -> None:
    """Ring for both of a double click, with the database there."""
    day.asked.append(SECOND)
    rings_again(day)


def later_click_rings_while_away(day: Evidence) -> None:
    """Ring for an earlier click, and for one of its own while the database is away."""
    day.marks.append(Mark(Kind.DATABASE, 9.0, 12.0))
    day.asked = [CLICK, attrs.evolve(SECOND, click=2), ANOTHER]
    rings_again(day)


def not_sent_rings(day: Evidence) -> None:
    """Ring, and say that it wasn't sent."""
    day.asked = [NOT_SENT, ANOTHER]


def rings_before_it_may(day: Evidence) -> None:
    """Ring for a click that was called not sent, before the next one."""
    day.asked = [NOT_SENT, attrs.evolve(CLICK, at=20.0, until=20.1, click=2), ANOTHER]


def row_not_sent_rings(day: Evidence) -> None:
    """Ring a row's phone, and say that it wasn't sent."""
    day.campaign = [Row(ROW, "not_sent")]


def stays_on_hold(day: Evidence) -> None:
    """Leave the customer on hold after everything has ended."""
    day.holds = [Hold(1, 10.1, 12.0 + PATIENCE)]


def stays_on_hold_with_anothers_alarm(day: Evidence) -> None:
    """Leave the customer on hold, and raise the alarm about another agent's."""
    stays_on_hold(day)
    day.conversations.append(Conversation(2, "+14152000008", 8.0, 100.0))
    day.holds.append(Hold(2, 10.0, 40.0))
    day.alarms.append(attrs.evolve(ALARM, agent="08"))


def alarm_of_one_who_talks(day: Evidence) -> None:
    """Raise the alarm about a customer who is well."""
    day.alarms.append(ALARM)


def alarm_after_a_take_over(day: Evidence) -> None:
    """Raise it about a dead worker's customer who is well: it is false all the same."""
    day.taken_over["h"] = 29.0
    day.alarms.append(attrs.evolve(ALARM, handover="h"))


def refused_alone(day: Evidence) -> None:
    """Draw a 429 with no stranger about."""
    day.refusals.append(40.0)


def refused_before_strangers(day: Evidence) -> None:
    """Draw a 429 before the strangers come."""
    day.marks.append(Mark(Kind.FOREIGN, 41.0, 60.0))
    day.refusals.append(40.0)


def no_answer(day: Evidence) -> None:
    """Answer nothing."""
    day.asked = [NO_ANSWER, ANOTHER]


def no_answer_beside_anothers_kill(day: Evidence) -> None:
    """Answer nothing while a worker of the other host is killed."""
    day.marks.append(Mark(Kind.KILL, 10.1, 10.1, "b"))
    day.asked = [NO_ANSWER, ANOTHER]


def answer_of_no_verdict(day: Evidence) -> None:
    """Answer 500 with whatever."""
    day.asked = [attrs.evolve(CLICK, status=500, error="no JSON"), ANOTHER]


def waits_long(day: Evidence) -> None:
    """Let transfers wait."""
    day.waited += [(20.0, 2.5)]


def nothing_is_measured(day: Evidence) -> None:
    """Send no transfer at all."""
    day.waited.clear()


def row_is_lost(day: Evidence) -> None:
    """Leave a row without an outcome."""
    day.campaign.append(Row("+14180000002", ""))


def fault_is_logged(day: Evidence) -> None:
    """Log a fault of the library's."""
    day.faults.append("sending failed")


FAULTS: dict[Callable[[Evidence], None], str] = {
    rings_again: "phones rung twice unasked",
    row_rings_again: "phones rung twice unasked",
    two_clicks_ring: "phones rung twice unasked",
    later_click_rings_while_away: "phones rung twice unasked",
    not_sent_rings: "phones that rang and were called not sent",
    rings_before_it_may: "phones that rang and were called not sent",
    row_not_sent_rings: "phones that rang and were called not sent",
    stays_on_hold: "customers on hold without an alarm",
    stays_on_hold_with_anothers_alarm: "customers on hold without an alarm",
    alarm_of_one_who_talks: "false alarms",
    alarm_after_a_take_over: "false alarms",
    refused_alone: "429s but beside foreign traffic",
    refused_before_strangers: "429s but beside foreign traffic",
    no_answer: "requests to the service without a verdict",
    no_answer_beside_anothers_kill: "requests to the service without a verdict",
    answer_of_no_verdict: "requests to the service without a verdict",
    waits_long: "p99 of an awaited transfer's wait below 2 s, outside outages",
    nothing_is_measured: (
        "p99 of an awaited transfer's wait below 2 s, outside outages"
    ),
    row_is_lost: "rows of the campaign without an outcome",
    fault_is_logged: "faults and tracebacks logged",
}


def double_click_while_away(day: Evidence) -> None:
    """Ring for both of a double click while the database is away."""
    day.marks.append(Mark(Kind.DATABASE, 9.0, 12.0))
    two_clicks_ring(day)


def double_click_while_workers_are_away(day: Evidence) -> None:
    """Ring for both while a worker says that the database is away."""
    day.away.append((9.0, 12.0))
    two_clicks_ring(day)


def doubt_rings(day: Evidence) -> None:
    """Ring for a click that is in doubt."""
    day.asked = [IN_DOUBT, ANOTHER]


def not_sent_and_clicked_again(day: Evidence) -> None:
    """Ring for the click after one that was called not sent."""
    earlier = attrs.evolve(NOT_SENT, at=3.0, until=3.1, click=0)
    day.asked = [earlier, CLICK, ANOTHER]


def alarm_of_one_on_hold(day: Evidence) -> None:
    """Leave a customer on hold, and raise the alarm."""
    stays_on_hold(day)
    day.alarms.append(ALARM)


def alarm_while_plivo_is_silent(day: Evidence) -> None:
    """Raise the alarm though all is well, as Plivo doesn't answer."""
    day.marks.append(Mark(Kind.SILENT, 15.0, 25.0))
    day.alarms.append(ALARM)


def refused_beside_strangers(day: Evidence) -> None:
    """Draw a 429 while strangers use the account."""
    day.marks.append(Mark(Kind.FOREIGN, 30.0, 38.0))
    day.refusals.append(40.0)


def lost_with_its_worker(day: Evidence) -> None:
    """Answer nothing, as the worker was killed."""
    day.marks.append(Mark(Kind.KILL, 10.1, 10.1, "a"))
    day.asked.append(attrs.evolve(NO_ANSWER, partners=("+14170000009",)))


def waits_in_an_outage(day: Evidence) -> None:
    """Let a transfer wait while the database is away."""
    day.away.append((300.0, 310.0))
    day.waited.append((312.0, 5.0))


def waits_on_hold_while_asked(day: Evidence) -> None:
    """Keep the customer on hold for as long as the handover takes."""
    day.asked.append(
        attrs.evolve(CLICK, what="handovers", until=90.0, partners=("+14170000009",))
    )
    day.holds = [Hold(1, 10.1, 95.0)]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_fault_breaks_its_promise_alone(fault: Callable[[Evidence], None]) -> None:
    """A judge that can't find it would let it pass in every day to come."""
    day = good()
    fault(day)
    assert broken(judge(day)) == [FAULTS[fault]]


@pytest.mark.parametrize(
    "happening",
    [
        lambda _: None,
        double_click_while_away,
        double_click_while_workers_are_away,
        doubt_rings,
        not_sent_and_clicked_again,
        alarm_of_one_on_hold,
        alarm_while_plivo_is_silent,
        refused_beside_strangers,
        lost_with_its_worker,
        waits_in_an_outage,
        waits_on_hold_while_asked,
    ],
    ids=lambda happening: happening.__name__,
)
def test_nothing_is_wrong_in_a_good_day(
    happening: Callable[[Evidence], None],
) -> None:
    """A judge that cries at what is promised isn't heeded when it matters."""
    day = good()
    happening(day)
    assert not broken(judge(day)), judge(day)


@pytest.mark.parametrize(
    ("happening", "figure"),
    [
        (double_click_while_away, "rung twice by a double click while"),
        (alarm_while_plivo_is_silent, "alarms about customers who were well, while"),
        (lost_with_its_worker, "requests lost with the worker"),
    ],
)
def test_what_is_excused_is_counted(
    happening: Callable[[Evidence], None], figure: str
) -> None:
    """What the design can't prevent is told to the reader, and not hidden."""
    day = good()
    happening(day)
    [line] = [line for line in judge(day) if line.promise.startswith(figure)]
    assert (line.found, line.kept) == ("1", None)


def test_day_that_was_kept_is_judged_as_it_was(tmp_path: Path) -> None:
    """A rule that was mended is tried on the days that were."""
    day = good()
    two_clicks_ring(day)
    day.away.append((1.0, 2.0))
    day.write(tmp_path / "day.json")
    assert Evidence.read(tmp_path / "day.json") == day
    assert judge(Evidence.read(tmp_path / "day.json")) == judge(day)


def broken(lines: list[Line]) -> list[str]:
    """Give the promises that were broken."""
    return [line.promise for line in lines if line.kept is False]


def test_waits_beside_strangers_are_told_apart() -> None:
    """They have a cause of their own, and hide what else is slow."""
    day = good()
    day.marks.append(Mark(Kind.FOREIGN, 300.0, 310.0))
    day.waited += [(305.0, 0.25), (320.0, 0.5)]
    told = [line for judged in judge(day) for line in judged.told]
    assert "of these, beside strangers: p50 0.25 s, p99 0.25 s" in told
    assert not any(
        "beside strangers: p" in it for line in judge(good()) for it in line.told
    )
