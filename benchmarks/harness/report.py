"""The figures in words: what the pages show, and the whole report."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aiophlo import Quota
from benchmarks.harness.budgets import (
    BASE_LENGTH,
    YARDSTICK,
    budgets,
    times_the_base,
    yardstick_of,
)
from benchmarks.harness.figures import Row, Spread, names, ratio, spread

Report = dict[str, Any]
PICTURES = (
    ("cpu", "CPU per transfer, by client"),
    ("duplicates", "Phones rung twice under the same faults, by client"),
)
_SHOWN_CLIENTS = (
    "raw asyncio protocol",
    YARDSTICK,
    "aiophlo",
    "aiophlo, with journal",
    f"{YARDSTICK}, uvloop",
    "aiophlo, uvloop",
    "natural aiohttp",
    "twilio async",
    "httpx",
    "plivo-python, POST only",
    "plivo-python, documented",
)


def digest(report: Report) -> str:
    """Return what tells this report from any other; each plot bears it."""
    text = json.dumps(report, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def readme_section(report: Report) -> str:
    """Write what the README shows: three figures."""
    questions = report["questions"]
    return "\n".join(
        f"- {line}."
        for line in (
            _rung_twice(questions["duplicates"]),
            _quota_used(questions["pacing"]["rows"]),
            _memory_of_a_stream(questions["memory"]["rows"]),
        )
    )


def _rung_twice(found: Mapping[str, Any]) -> str:
    rung = {row["client"]: row["rung_twice"] for row in found["rows"]}
    others = [f"{client} {n:,}" for client, n in rung.items() if client != "aiophlo"]
    return (
        f"Phones rung twice in {found['transfers']:,} transfers under faults: "
        f"**{rung['aiophlo']:,}**" + (f" ({', '.join(others)})" if others else "")
    )


def _quota_used(rows: list[Row]) -> str:
    at_default = [row for row in rows if row["jitter"] == Quota(300).jitter]
    used = spread(at_default, "aiophlo", "use").low
    refused = spread(at_default, "aiophlo", "refused").high
    return (
        f"Quota used in the worst round, with arrivals up to "
        f"{Quota(300).jitter * 1e3:.0f} ms late: **{used:.1%}**, "
        f"with {refused:.0f} requests refused"
    )


def _memory_of_a_stream(rows: list[Row]) -> str:
    streams = [row for row in rows if row["client"] == "stream"]
    longest = max(streams, key=lambda row: row["transfers"])
    return (
        f"Most memory of a process that streams {longest['transfers']:,} transfers: "
        f"**{longest['peak_mib']:.1f} MiB**"
    )


def docs_section(report: Report) -> str:
    """Write what the documentation shows: two plots, tables, and the budgets."""
    questions = report["questions"]
    rows = [r for r in questions["cpu"]["rows"] if r["client"] in _SHOWN_CLIENTS]
    pictures = [
        f"![{text}](../benchmarks/results/{name}.svg)" for name, text in PICTURES
    ]
    return "\n\n".join(
        [
            *pictures,
            _cpu_table(rows),
            _duplicates_table(questions["duplicates"]),
            _growth_table(questions["growth"]["rows"]),
            _budget_table(questions),
            _measured_on(report),
        ]
    )


def whole_report(report: Report) -> str:
    """Write everything that was measured."""
    questions = report["questions"]
    parts = ["# What was measured", _measured_on(report), _budget_table(questions)]
    for name, (title, table) in _TABLES.items():
        if name in questions:
            parts += [f"## {title}", table(questions[name])]
    return "\n\n".join(parts) + "\n"


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Write a Markdown table; all but the first column to the right."""
    heads = list(heads)
    rule = ["---", *("---:" for _ in heads[1:])]
    lines = [heads, rule, *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(found: Spread, form: str) -> str:
    median, low, high = (form.format(n) for n in (found.median, found.low, found.high))
    return median if low == high else f"{median} ({low} to {high})"


def _measured_on(report: Report) -> str:
    on = report["machine"]
    load = report["load_average_before"]
    packages = ", ".join(f"{name} {v}" for name, v in report["versions"].items())
    return (
        f"Median (lowest to highest) of all rounds; ratios are paired, round by round. "
        f"{on['processor']}, {on['cores']} cores, {on['memory_gib']} GiB, "
        f"{on['system']}, Python {on['python']}; {packages}. "
        f"Finished {report['finished']} after {report['took_seconds']} s"
        f"{', quick' if report['quick'] else ''}; load before: {load}."
    )


def _budget_table(questions: Mapping[str, Any]) -> str:
    return table(
        ("budget", "at most (≤) or least (≥)", "measured", "holds"),
        (
            (
                budget.promise,
                f"{'≥' if budget.least else '≤'} {budget.show(budget.bound)}",
                budget.show(budget.measured),
                "yes" if budget.holds else f"**no**, by {budget.missed_by}",
            )
            for budget in budgets(questions)
        ),
    )


def _cpu_table(rows: list[Row]) -> str:
    return table(
        (
            "client, 100 in flight",
            "CPU µs per transfer",
            "times",
            "that of",
            "transfers/s",
            "p50 ms",
            "p99 ms",
            "memory MiB",
        ),
        (
            (
                client,
                _spread(spread(rows, client, "cpu_us"), "{:,.0f}"),
                _spread(ratio(rows, client, yardstick_of(client), "cpu_us"), "{:.2f}"),
                yardstick_of(client),
                _spread(spread(rows, client, "per_second"), "{:,.0f}"),
                _spread(spread(rows, client, "p50_ms"), "{:,.0f}"),
                _spread(spread(rows, client, "p99_ms"), "{:,.0f}"),
                f"{spread(rows, client, 'peak_mib').high:.0f}",
            )
            for client in names(rows)
        ),
    )


def _in_flight_table(found: Mapping[str, Any]) -> str:
    lines: list[tuple[str, ...]] = []
    for size in dict.fromkeys(row["in_flight"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["in_flight"] == size]
        lines += (
            (
                f"{client}, {size:,} in flight",
                _spread(spread(rows, client, "cpu_us"), "{:,.0f}"),
                _spread(ratio(rows, client, YARDSTICK, "cpu_us"), "{:.2f}"),
                _spread(spread(rows, client, "per_second"), "{:,.0f}"),
                _spread(spread(rows, client, "p99_ms"), "{:,.0f}"),
                f"{spread(rows, client, 'peak_mib').high:.0f}",
            )
            for client in names(rows)
        )
    heads = ("client", "CPU µs", "times", "transfers/s", "p99 ms", "memory MiB")
    return table(heads, lines)


def _memory_table(found: Mapping[str, Any]) -> str:
    return table(
        ("way", "transfers", "before MiB", "most MiB", "KiB each"),
        (
            (
                row["client"],
                f"{row['transfers']:,}",
                f"{row['before_mib']:.1f}",
                f"{row['peak_mib']:.1f}",
                f"{_kib_each(row):.2f}",
            )
            for row in found["rows"]
        ),
    )


def _kib_each(row: Row) -> float:
    grown: float = row["peak_mib"] - row["before_mib"]
    return grown * 1024 / int(row["transfers"])


def _pacing_table(found: Mapping[str, Any]) -> str:
    lines: list[tuple[str, ...]] = []
    for jitter in sorted({row["jitter"] for row in found["rows"]}):
        rows = [row for row in found["rows"] if row["jitter"] == jitter]
        lines += (
            (
                client,
                f"{jitter * 1e3:.0f} ms",
                _spread(spread(rows, client, "use"), "{:.1%}"),
                _spread(spread(rows, client, "refused"), "{:,.0f}"),
            )
            for client in names(rows)
        )
    return table(("client", "arrivals late by up to", "quota used", "refused"), lines)


def _duplicates_table(found: Mapping[str, Any]) -> str:
    return table(
        (
            f"{found['transfers']:,} transfers under faults",
            "rung twice",
            "told the opposite",
            "accepted",
            "in doubt, and said so",
            "not sent or failed",
            "requests",
        ),
        (
            (
                row["client"],
                f"{row['rung_twice']:,}",
                f"{row['told_wrong']:,}",
                f"{row['told']['accepted']:,}",
                f"{row['told']['in_doubt']:,}",
                f"{row['told']['not_sent'] + row['told']['failed']:,}",
                f"{row['requests']:,}",
            )
            for row in found["rows"]
        ),
    )


def _importing_table(found: Mapping[str, Any]) -> str:
    rows = found["rows"]
    return table(
        ("import", "CPU ms", "times aiohttp", "wall ms", "memory MiB"),
        (
            (
                name,
                _spread(spread(rows, name, "cpu_ms"), "{:.0f}"),
                _spread(ratio(rows, name, "aiohttp", "cpu_ms"), "{:.2f}"),
                _spread(spread(rows, name, "wall_ms"), "{:.0f}"),
                f"{spread(rows, name, 'resident_mib').median:.1f}",
            )
            for name in names(rows)
        ),
    )


def _growth_table(rows: Sequence[Row]) -> str:
    queues = dict.fromkeys((row["way"], row["queued"]) for row in rows)
    return table(
        ("queued", "CPU µs per transfer", f"times {BASE_LENGTH:,}"),
        (
            (
                f"{way}, {queued:,}",
                _spread(spread(rows, f"{way}, {queued:,}", "cpu_us"), "{:,.0f}"),
                _spread(times_the_base(rows, way, queued), "{:.2f}"),
            )
            for way, queued in queues
        ),
    )


_TABLES: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "cpu": (
        "(a) CPU per transfer at 100 in flight",
        lambda found: _cpu_table(found["rows"]),
    ),
    "in_flight": ("(b) Thousands in flight, on warm connections", _in_flight_table),
    "memory": ("(c) Memory", _memory_table),
    "pacing": ("(d) Pacing against a strict moving window", _pacing_table),
    "duplicates": ("(e) Phones rung twice", _duplicates_table),
    "importing": ("(f) Importing", _importing_table),
    "growth": (
        "(g) Cost as the work grows",
        lambda found: _growth_table(found["rows"]),
    ),
}
