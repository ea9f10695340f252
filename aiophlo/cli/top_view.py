"""A wallboard's snapshot as text for a terminal. Pure but for rich."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.segment import Segment, Segments
from rich.style import Style
from rich.table import Table
from rich.text import Text

STALE_AFTER: Final = 2.5  # seconds without a snapshot; one comes every second
_BARS: Final = "▁▂▃▄▅▆▇█"
_CELLS: Final = 40  # of the drawing: three slices each
_VERDICTS: Final = {
    "accepted": "accepted",
    "rejected": "rejected",
    "not_sent": "not sent",
    "in_doubt": "in doubt",
}
_SHOWN: Final = 8


def render(
    view: Mapping[str, Any] | None, age: float, source: str, why: str | None = None
) -> RenderableType:
    """Return what `aiophlo top` shows.

    Args:
        view: A snapshot; None before the first one.
        age: Seconds since it came.
        source: Where it comes from.
        why: Why nothing comes, if it is known.
    """
    because = f": {_printable(why)}" if why else ""
    if view is None:
        return _band(f"No data from {source} yet{because}", "bold white on red")
    view = _printable(view)
    parts: list[RenderableType] = [_head(view, age, source, because)]
    parts += [_trouble(one, age) for one in view["troubles"]]
    if not view["troubles"] and age > STALE_AFTER:
        parts.append(Text("Nothing known was wrong.", "dim"))
    elif not view["troubles"]:
        parts.append(Text("Nothing known is wrong.", "green"))
    parts += [_account(one) for one in view["accounts"]]
    parts += _handovers(view, age)
    parts += _doubts(view, age)
    return Group(*parts)


def fit(shown: RenderableType, console: Console) -> RenderableType:
    """Cut what a terminal has no room for, at the bottom, and say how much that is."""
    lines = console.render_lines(shown, pad=False)
    room = console.height
    if not console.is_terminal or len(lines) <= room:
        return shown
    kept = lines[: room - 1]
    more = f"{len(lines) - len(kept)} more lines: make the terminal higher"
    segments = [one for line in kept for one in (*line, Segment.line())]
    return Segments([*segments, Segment(more, Style.parse("bold yellow"))])


def _printable(told: Any) -> Any:  # noqa: ANN401 -- whatever JSON holds
    """Leave out what would steer the terminal: names come from other machines."""
    match told:
        case str():
            return "".join(filter(str.isprintable, told))
        case list():
            return [_printable(one) for one in told]
        case dict():
            return {_printable(name): _printable(one) for name, one in told.items()}
    return told


def _head(
    view: Mapping[str, Any], age: float, source: str, because: str
) -> RenderableType:
    if age > STALE_AFTER:
        return _band(
            f"OLD DATA: nothing has come from {source} for {age:.0f} s{because}",
            "bold white on red",
        )
    names = ", ".join(str(one["name"]) for one in view["processes"])
    return Text.assemble(("Live ", "bold green"), f"{source}: {names}")


def _band(text: str, style: str) -> RenderableType:
    return Text(f" {text} ", style)


def _trouble(one: Mapping[str, Any], age: float) -> RenderableType:
    alarm = one["level"] == "alarm"
    text = Text(one["what"], "bold")
    if "age" in one:
        text.append(f" — for {duration(one['age'] + age)}")
    text.append(f"\n{one['todo']}", "not bold")
    for name, seconds in one.get("last", {}).items():
        ago = "never" if seconds is None else f"{duration(seconds + age)} ago"
        text.append(f"\n{name}: {ago}", "not bold")
    return Panel(
        text,
        title="ALARM" if alarm else "warning",
        title_align="left",
        style="white on red" if alarm else "yellow",
        border_style="bold red" if alarm else "yellow",
    )


def _account(one: Mapping[str, Any]) -> RenderableType:
    limit, seconds = one["limit"], one["slice_seconds"]
    rate = one["requests"][-2] / seconds  # the last slice that is over
    granted = "no quota" if limit is None else f"of {limit:.1f}"
    title = Text.assemble(
        (f"{one['account']}  ", "bold"), (f"{rate:.1f}", "bold cyan"), f" {granted}/s  "
    )
    if one["paused_for"] > 0:
        title.append(f"paused {one['paused_for']:.0f} s", "bold red")
    elif limit is not None and one["pace"] < limit * 0.995:
        title.append(f"slowed to {one['pace']:.1f}/s", "yellow")
    top = None if limit is None else limit * seconds
    rows = (_counts(one), _states(one), _times(one))
    return Panel(
        Group(Text(_bars(one["requests"], top), "cyan"), *map(Text("  ").join, rows)),
        title=title,
        title_align="left",
    )


def _counts(one: Mapping[str, Any]) -> Iterator[Text]:
    yield Text("10 min:", "dim")
    for verdict, name in _VERDICTS.items():
        number = one["verdicts"][verdict]
        yield _cell(name, str(number), bad=verdict == "in_doubt" and number > 0)
    refused = sum(one["refused"])
    yield _cell("429s", str(refused), bad=refused > 0)
    yield _cell("requests", str(sum(one["requests"])))
    yield _cell("double clicks", str(one["joined"]))


def _states(one: Mapping[str, Any]) -> Iterator[Text]:
    yield Text("now:", "dim")
    yield _cell("in flight", str(one["in_flight"]))
    for lane, number in one["waiting"].items():
        yield _cell(f"waiting, {lane}", str(number))


def _times(one: Mapping[str, Any]) -> Iterator[Text]:
    yield Text("times:", "dim")
    for name in ("wait", "answer"):
        for share, seconds in one[name].items():
            yield _cell(f"{name} {share}", _seconds(seconds))


def _cell(name: str, value: str, *, bad: bool = False) -> Text:
    style = "bold red" if bad else "bold"
    return Text.assemble((f"{name} ", "dim"), (value, style))


def _bars(requests: Sequence[int], top: float | None) -> str:
    """Draw a row of slices; a full bar is the quota, or the highest without one."""
    each = len(requests) // _CELLS
    cells = [
        max(requests[start : start + each]) for start in range(0, len(requests), each)
    ]
    highest = max(top or 0, *cells, 1)
    return "".join(
        " " if not cell else _BARS[min(int(cell / highest * 8), 7)] for cell in cells
    )


def _handovers(view: Mapping[str, Any], age: float) -> list[RenderableType]:
    if not view["handovers"]:
        return []
    phases = "  ".join(
        f"{phase.replace('_', ' ')} {told['number']}"
        for phase, told in view["phases"].items()
    )
    names = ("agent", "customer", "partner", "id")
    rows = [
        (
            one["phase"].replace("_", " "),
            duration(one["phase_age"] + age),
            duration(one["age"] + age),
            *(one.get(name, "") for name in names),
        )
        for one in view["handovers"][:_SHOWN]
    ]
    heads = ("phase", "in it", "in all", "agent", "customer", "partner", "handover")
    table = _table(f"Handovers: {phases}", heads, rows)
    number = sum(told["number"] for told in view["phases"].values())
    return [table, *_more(max(number, len(view["handovers"])))]


def _doubts(view: Mapping[str, Any], age: float) -> list[RenderableType]:
    if not view["in_doubt"]:
        return []
    names = ("action", "who", "reason", "account")
    held = {one["id"] for one in view["on_hold"]}
    first = sorted(view["in_doubt"], key=lambda one: one["handover"] not in held)
    rows = [
        (duration(one["age"] + age), *(one[name] for name in names))
        for one in first[:_SHOWN]
    ]
    title = "In doubt: done or not; a dial may have rung"
    table = _table(title, ("ago", "action", "whom", "why", "account"), rows)
    number = sum(account["verdicts"]["in_doubt"] for account in view["accounts"])
    return [table, *_more(max(number, len(view["in_doubt"])))]


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table; in plain strings, rich would take `[…]` for its markup."""
    table = Table(
        *heads, title=Text(title), title_justify="left", box=SIMPLE_HEAD, expand=True
    )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _more(number: int) -> Iterator[Text]:
    """Say how many of so many a table has no row for."""
    if number > _SHOWN:
        yield Text(f"  and {number - _SHOWN} more", "dim")


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"  # noqa: RUF001 -- none
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"  # noqa: PLR2004 -- a second


def duration(seconds: float) -> str:
    """Return an age as the page has it, such as 59 s or 1:02 min."""
    whole = max(int(seconds), 0)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02} min"  # noqa: PLR2004 -- a minute
