"""The timeline, as SVG."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from html import escape
from typing import Final

import attrs

from benchmarks.day.evidence import OUTAGES, Evidence, Kind, Mark
from benchmarks.day.judge import PATIENCE, unasked
from benchmarks.day.timetable import clock_of, minutes_of, seconds_of

_WIDTH, _LEFT, _RIGHT, _TOP = 1140.0, 128.0, 16.0, 34.0
_LANE, _GAP, _CHART = 26.0, 6.0, 120.0
_QUOTA: Final = 60.0  # requests a second
_LONGEST: Final = 128.0  # seconds at the top of the chart of waits
_SHOWN_HOLD: Final = 5.0  # seconds from which a hold is drawn
_KILLS: Final = frozenset({Kind.KILL, Kind.CAMPAIGN_KILL})
_COLOURS: Final = {
    "accepted": "good",
    "not_sent": "quiet",
    "in_doubt": "warn",
    "rung": "ours",
    "rejected": "warn",
}
_LOOKS: Final = {
    Kind.AGENTS: ("quiet", "agents take calls"),
    Kind.CAMPAIGN: ("ours", "the campaign is worked"),
    Kind.DEPLOY: ("ours", "a version is rolled out"),
    Kind.KILL: ("bad", "a worker is killed"),
    Kind.CAMPAIGN_KILL: ("bad", "a worker of the campaign is killed"),
    Kind.DATABASE: ("bad", "the database is down"),
    Kind.FAILING: ("warn", "Plivo answers 502"),
    Kind.SILENT: ("bad", "Plivo answers nothing"),
    Kind.FOREIGN: ("strange", "strangers use the account"),
}


@attrs.define
class _Sheet:
    """What is drawn so far, and where the next lane goes."""

    evidence: Evidence
    seconds: float
    y: float = _TOP
    parts: list[str] = attrs.field(factory=list)

    def x(self, at: float) -> float:
        """Return where a moment is."""
        share = min(max(at / self.seconds, 0.0), 1.0)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def add(self, part: str) -> None:
        self.parts.append(part)

    def name(self, text: str, y: float) -> None:
        self.add(f'<text class="name" x="12" y="{y:.1f}">{escape(text)}</text>')

    def bar(self, begin: float, end: float, y: float, look: str, title: str) -> None:
        """Draw what lasts."""
        left, right = self.x(begin), self.x(end)
        self.add(
            f'<rect class="{look}" x="{left:.1f}" y="{y:.1f}" rx="2"'
            f' width="{max(right - left, 2.0):.1f}" height="{_LANE - 10:.1f}">'
            f"<title>{escape(title)}</title></rect>"
        )

    def when(self, begin: float, end: float) -> str:
        minutes = self.evidence.minutes
        return f"{clock_of(begin, minutes)}, {begin:.1f} s to {end:.1f} s"


def timeline(evidence: Evidence) -> str:
    """Draw a day from left to right."""
    ends = [mark.end for mark in evidence.marks]
    sheet = _Sheet(evidence, max([evidence.minutes * 60.0, *ends, 1.0]))
    for name, is_in in _lanes(evidence):
        _draw_lane(sheet, name, [mark for mark in evidence.marks if is_in(mark)])
    _draw_customers(sheet)
    _draw_rate(sheet)
    _draw_waits(sheet)
    height = sheet.y + 8
    return (
        f'<svg viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="img"'
        ' aria-label="Timeline of the day">'
        f"{''.join(_grid(sheet, height))}{''.join(sheet.parts)}</svg>"
    )


def _lanes(evidence: Evidence) -> Iterator[tuple[str, Callable[[Mark], bool]]]:
    yield "agents", lambda mark: mark.kind is Kind.AGENTS
    yield "campaign", lambda mark: mark.kind in {Kind.CAMPAIGN, Kind.CAMPAIGN_KILL}
    for host in evidence.hosts:
        yield f"host {host}", _of_host(host)
    yield "database", lambda mark: mark.kind is Kind.DATABASE
    yield "Plivo", lambda mark: mark.kind in {Kind.FAILING, Kind.SILENT}
    yield "strangers", lambda mark: mark.kind is Kind.FOREIGN


def _of_host(host: str) -> Callable[[Mark], bool]:
    return lambda mark: mark.host == host and mark.kind is not Kind.CAMPAIGN_KILL


def _grid(sheet: _Sheet, height: float) -> Iterator[str]:
    """Yield the hours, and what all charts have behind them."""
    minutes = sheet.evidence.minutes
    for hour in range(minutes_of("09:00"), minutes_of("17:00") + 1, 60):
        clock = f"{hour // 60:02}:00"
        x = sheet.x(seconds_of(clock, minutes))
        foot = height - 8
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="24" y2="{foot}"/>'
        yield f'<text x="{x:.1f}" y="17" text-anchor="middle">{clock}</text>'
    for begin, end in sheet.evidence.spans(*OUTAGES):
        left, right = sheet.x(begin), sheet.x(end)
        yield (
            f'<rect class="outage" x="{left:.1f}" width="{max(right - left, 1):.1f}"'
            f' y="24" height="{height - 32}"/>'
        )


def _draw_lane(sheet: _Sheet, name: str, marks: list[Mark]) -> None:
    y = sheet.y
    sheet.name(name, y + 17)
    sheet.add(
        f'<rect class="lane" x="{_LEFT}" y="{y + 4}" height="{_LANE - 8}" rx="3"'
        f' width="{_WIDTH - _LEFT - _RIGHT}"/>'
    )
    for mark in sorted(marks, key=lambda mark: mark.kind in _KILLS):
        look, text = _LOOKS[mark.kind]
        if mark.kind in _KILLS:
            _cross(sheet, mark.begin, y + _LANE / 2, f"{text} at {mark.begin:.1f} s")
        else:
            title = f"{text}: {sheet.when(mark.begin, mark.end)}"
            sheet.bar(mark.begin, mark.end, y + 5, look, title)
    sheet.y += _LANE + _GAP


def _cross(sheet: _Sheet, at: float, y: float, title: str) -> None:
    x = sheet.x(at)
    sheet.add(
        f'<path class="bad cross" d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10">'
        f"<title>{escape(title)}</title></path>"
    )


def _draw_customers(sheet: _Sheet) -> None:
    """Draw the longer holds, the alarms and the 429s."""
    y = sheet.y
    sheet.name("on hold, unasked", y + 17)
    for hold, since in unasked(sheet.evidence):
        seconds = hold.until - since
        if seconds >= _SHOWN_HOLD:
            look = "bad" if seconds > PATIENCE else "warn"
            title = f"call {hold.call}: on hold for {seconds:.1f} s, with no request"
            sheet.bar(since, hold.until, y + 5, look, title)
    sheet.y += _LANE + _GAP
    y = sheet.y
    sheet.name("alarms, 429s", y + 17)
    for alarm in sheet.evidence.alarms:
        x = sheet.x(alarm.at)
        sheet.add(
            f'<path class="bad" d="M{x:.1f} {y + 4:.1f}l6 12h-12z">'
            f"<title>alarm about agent …{escape(alarm.agent)} at {alarm.at:.1f} s"
            "</title></path>"
        )
    for at in sheet.evidence.refusals:
        x = sheet.x(at)
        sheet.add(
            f'<rect class="strange" x="{x:.1f}" y="{y + 16:.1f}" width="1.5"'
            f' height="7"><title>429 at {at:.1f} s</title></rect>'
        )
    sheet.y += _LANE + _GAP + 8


def _draw_rate(sheet: _Sheet) -> None:
    """Draw how many requests a second Plivo had of ours."""
    wide = max(math.ceil(sheet.seconds / 400.0), 1)
    counts = Counter(int(at // wide) for at in sheet.evidence.requests)
    foot, top = sheet.y + _CHART, max([_QUOTA, *(n / wide for n in counts.values())])
    points = " ".join(
        f"{sheet.x((slot + 0.5) * wide):.1f},"
        f"{foot - counts[slot] / wide / top * (_CHART - 16):.1f}"
        for slot in range(int(sheet.seconds // wide) + 1)
    )
    left, right = sheet.x(0.0), sheet.x(sheet.seconds)
    quota = foot - _QUOTA / top * (_CHART - 16)
    sheet.name("requests", sheet.y + 20)
    sheet.add(f'<text x="12" y="{sheet.y + 36:.1f}">of ours to Plivo</text>')
    sheet.add(
        f'<polygon class="area" points="{left},{foot} {points} {right},{foot}"/>'
        f'<polyline class="line" points="{points}"/>'
        f'<line class="quota" x1="{left}" x2="{right}" y1="{quota}" y2="{quota}"/>'
        f'<text x="{left - 6}" y="{quota + 4}" text-anchor="end">60 /s</text>'
        f'<text x="{left - 6}" y="{foot}" text-anchor="end">0</text>'
    )
    sheet.y = foot + 18


def _draw_waits(sheet: _Sheet) -> None:
    """Draw a dot for each answer to an agent: how long it took, and what it said."""
    foot = sheet.y + _CHART
    reach = _CHART - 16

    def height(seconds: float) -> float:
        share = math.log2(1 + seconds * 8) / math.log2(1 + _LONGEST * 8)
        return foot - min(share, 1.0) * reach

    sheet.name("answers", sheet.y + 20)
    sheet.add(f'<text x="12" y="{sheet.y + 36:.1f}">to agents, s</text>')
    for tick in (0.5, 2, 10, 30, 120):
        y = height(tick)
        sheet.add(
            f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}"'
            f' y2="{y:.1f}"/><text x="{_LEFT - 6}" y="{y + 4:.1f}"'
            f' text-anchor="end">{tick:g}</text>'
        )
    for one in sheet.evidence.asked:
        look = _COLOURS.get(one.verdict, "bad")
        said = one.verdict or f"no answer ({one.error})"
        sheet.add(
            f'<circle class="{look}" stroke="none" r="2" cx="{sheet.x(one.until):.1f}"'
            f' cy="{height(one.seconds):.1f}"><title>{escape(one.what)},'
            f" {escape(said)}, {one.seconds:.1f} s</title></circle>"
        )
    sheet.y = foot + 16
    x = _LEFT
    for word, look in [*_COLOURS.items(), ("no answer", "bad")]:
        sheet.add(f'<circle class="{look}" r="4" cx="{x}" cy="{sheet.y + 4:.1f}"/>')
        sheet.add(f'<text x="{x + 9}" y="{sheet.y + 8:.1f}">{escape(word)}</text>')
        x += 92
    sheet.y += 20
