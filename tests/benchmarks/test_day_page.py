"""The page of a day shows what was judged, and needs nobody else."""

import re
from xml.etree import ElementTree as ET

from benchmarks.day import page
from benchmarks.day.drawing import timeline
from benchmarks.day.evidence import Alarm, Asked, Evidence, Hold, Kind, Mark
from benchmarks.day.judge import Line, judge
from benchmarks.day.timetable import TIMETABLE, clock_of, scaled, seconds_of

DAY = Evidence(
    minutes=20.0,
    seed=7,
    hosts=["a", "b"],
    notes=["one <host>"],
    marks=[Mark(kind, 100.0, 160.0, "a") for kind in Kind],
    asked=[
        Asked(
            at=1.0,
            until=2.0,
            what="transfers",
            click=1,
            call=1,
            agent="+14152000001",
            partners=("+14170000001",),
            host="a",
            status=500,
            error="<b>",
        )
    ],
    requests=[1.0, 2.0, 1100.0],
    refusals=[120.0],
    holds=[Hold(1, 100.0, 300.0)],
    alarms=[Alarm(300.0, "01", 100.0)],
)


def test_page_tells_of_each_promise() -> None:
    """Who looks at it must see what was broken, and by how much."""
    lines = [
        Line("nobody & nothing", "3", kept=False, told=("it <was>",)),
        Line("all", "0", kept=True),
    ]
    drawn = page.draw(DAY, lines)
    assert "1 of 2 promises broken" in drawn
    assert "nobody &amp; nothing" in drawn
    assert "it &lt;was&gt;" in drawn
    assert "<b>" not in drawn
    assert "one &lt;host&gt;" in drawn


def test_page_needs_no_other_host() -> None:
    """It is kept, mailed and opened where there is no network."""
    drawn = page.draw(DAY, judge(DAY))
    assert not re.search(r"(?:src|href|url\(|@import|https?:)", drawn)


def test_timeline_is_sound_and_shows_every_event() -> None:
    """What isn't drawn isn't looked for."""
    svg = timeline(DAY)
    titles = [one.text or "" for one in ET.fromstring(svg).iter("title")]  # noqa: S314 -- ours
    for text in (
        *("agents take calls", "the campaign is worked", "a version is rolled out"),
        *("a worker is killed", "the database is down", "Plivo answers 502"),
        *("Plivo answers nothing", "strangers use", "on hold for", "alarm about"),
        *("429 at", "no answer"),
    ):
        assert any(text in title for title in titles), text


def test_day_without_anything_can_be_drawn() -> None:
    """A day that failed at once still has its page."""
    assert "promises broken" in page.draw(Evidence(), judge(Evidence()))


def test_timetable_keeps_its_order_at_any_length() -> None:
    """A short day has the same events as a long one."""
    long, short = scaled(TIMETABLE, 20.0), scaled(TIMETABLE, 3.0)
    assert {one.deed for one in long} == {one.deed for one in short}
    assert [one.begin for one in long] == sorted(one.begin for one in long)
    assert max(one.begin for one in short) < 180.0


def test_clock_and_seconds_agree() -> None:
    """The axis has to say when something was."""
    assert seconds_of("09:24", 20.0) == 60.0
    assert clock_of(60.0, 20.0) == "09:24"
    assert clock_of(seconds_of("17:00", 3.0), 3.0) == "17:00"
