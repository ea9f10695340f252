"""The figures in words: what the pages show, and the whole report."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aiophlo import Quota
from benchmarks.harness.budgets import (
    BASE_LENGTH,
    EXCHANGE,
    UVLOOP,
    VERDICT,
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
_BUSY = 0.05  # of the processor; what others use beyond it is told


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
    cost, rung = (
        f"![{text}](../benchmarks/results/{name}.svg)" for name, text in PICTURES
    )
    return "\n\n".join(
        [
            cost,
            _client_table(questions),
            _budget_table(questions),
            _layers_table(questions),
            _connections_table(questions["connections"]),
            rung,
            _duplicates_table(questions["duplicates"]),
            _growth_table(questions["growth"]["rows"]),
            _measured_on(report),
        ]
    )


def whole_report(report: Report) -> str:
    """Write everything that was measured."""
    questions = report["questions"]
    parts = [
        "# What was measured",
        _measured_on(report),
        _run_table(questions),
        _budget_table(questions),
    ]
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
    questions: Mapping[str, Any] = report["questions"]
    alike: dict[str, list[str]] = {}
    for name, found in questions.items():
        alike.setdefault(_surroundings(found["run"]), []).append(name)
    places = [
        f"{', '.join(names)}: {where}." if len(alike) > 1 else f"{where}."
        for where, names in alike.items()
    ]
    how = "Median (lowest to highest) of all rounds; ratios are paired, round by round"
    quick = "; quick" if report["quick"] else ""
    return "\n\n".join([f"{how}{quick}.{_others(questions)}", *places])


def _surroundings(run: Mapping[str, Any]) -> str:
    """Say on what something was measured."""
    on = run["machine"]
    packages = ", ".join(f"{name} {v}" for name, v in run["versions"].items())
    return (
        f"{on['processor']}, {on['cores']} cores, {on['memory_gib']} GiB, "
        f"{on['system']}, Python {on['python']}, {run['finished'][:10]}; {packages}"
    )


def _others(questions: Mapping[str, Any]) -> str:
    """Say what others used of the machine meanwhile."""
    used = {name: found["run"]["others"] for name, found in questions.items()}
    noted = [share for share in used.values() if share is not None]
    if not noted or max(noted) <= _BUSY:
        return ""
    return (
        f" The machine was not quiet: meanwhile, others used {min(noted):.0%} to "
        f"{max(noted):.0%} of its processor."
    )


def _run_table(questions: Mapping[str, Any]) -> str:
    return table(
        ("question", "finished", "took s", "of the processor, others used"),
        (
            (
                name,
                found["run"]["finished"],
                found["run"]["took_seconds"] or "not noted",
                _share(found["run"]["others"]),
            )
            for name, found in questions.items()
        ),
    )


def _share(used: float | None) -> str:
    return "not noted" if used is None else f"{used:.0%}"


def _budget_table(questions: Mapping[str, Any]) -> str:
    return table(
        (
            "budget",
            "at most (≤) or least (≥)",
            "measured",
            "in each round",
            "in instructions",
            "holds",
        ),
        (
            (
                budget.promise,
                f"{'≥' if budget.least else '≤'} {budget.show(budget.bound)}",
                budget.show(budget.measured),
                ", ".join(budget.show(it) for it in budget.rounds),
                budget.show(budget.instructions) if budget.instructions else "",
                "yes" if budget.holds else f"**no**, by {budget.missed_by}",
            )
            for budget in budgets(questions)
        ),
    )


def _client_table(questions: Mapping[str, Any]) -> str:
    """Write what tells clients apart on any machine: ratios and instructions."""
    there = [questions[name]["rows"] for name in ("cpu", "tls")]
    clients = [it for it in names(there[0]) if not it.endswith(UVLOOP)]

    def times(rows: list[Row], client: str) -> str:
        if client not in names(rows):
            return ""
        return f"{ratio(rows, client, yardstick_of(client), 'cpu_us').median:.2f}"

    return table(
        (
            "CPU per transfer, times the hand-tuned client",
            "HTTP",
            "TLS",
            "HTTP, uvloop",
            "TLS, uvloop",
            "instructions, HTTP",
            "TLS",
        ),
        (
            (
                client,
                *(times(rows, client) for rows in there),
                *(times(rows, f"{client}{UVLOOP}") for rows in there),
                *(_instructions(rows, client) for rows in there),
            )
            for client in clients
        ),
    )


_LAYERS = (  # what has it, what hasn't, and what it adds
    ("raw asyncio protocol", None, "asyncio, and JSON both ways"),
    (EXCHANGE, None, "aiophlo's exchange: aiohttp's connector and parser included"),
    (VERDICT, EXCHANGE, "the action, its JSON, its verdict"),
    ("aiophlo", VERDICT, "limits, slots, deduplication, whom it tells"),
    ("aiophlo, observed", "aiophlo", "one observer"),
    ("aiophlo, streamed", "aiophlo", "a stream: its turn and what stops it"),
)


def _layers_table(questions: Mapping[str, Any]) -> str:
    """Write what a transfer's instructions consist of."""
    there = [_counts(questions[name]["rows"]) for name in ("cpu", "tls")]

    def shown(counts: Mapping[str, float], layer: str, below: str | None) -> list[str]:
        if not {layer, below or layer, YARDSTICK} <= counts.keys():
            return ["", ""]
        adds = counts[layer] - (counts[below] if below else 0.0)
        return [f"{adds:,.0f}", f"{adds / counts[YARDSTICK]:.2f}"]

    return table(
        (
            "of a transfer, in instructions",
            "HTTP",
            "times the yardstick",
            "TLS",
            "times the yardstick",
        ),
        (
            (adds, *(it for counts in there for it in shown(counts, layer, below)))
            for layer, below, adds in _LAYERS
        ),
    )


def _counts(rows: Sequence[Row]) -> dict[str, float]:
    """Return the instructions of each client that were counted."""
    return {row["client"]: row["instructions"] for row in rows if "instructions" in row}


def _instructions(rows: Sequence[Row], client: str) -> str:
    count = _counts(rows).get(client)
    return f"{count:,.0f}" if count else ""


def _cpu_table(found: Mapping[str, Any]) -> str:
    rows, left_out = found["rows"], found["left_out"]
    alone = [
        ("transfers/s", "per_second"),
        ("p50 ms", "p50_ms"),
        ("p99 ms", "p99_ms"),
    ]
    alone = [one for one in alone if one[1] in rows[0]]
    shown = table(
        (
            "client, 100 in flight",
            "times",
            "that of",
            "instructions",
            "CPU µs per transfer",
            *(head for head, _ in alone),
            "memory MiB",
        ),
        (
            (
                client,
                _spread(ratio(rows, client, yardstick_of(client), "cpu_us"), "{:.2f}"),
                yardstick_of(client),
                _instructions(rows, client),
                _spread(spread(rows, client, "cpu_us"), "{:,.0f}"),
                *(f"{spread(rows, client, it).median:,.0f}" for _, it in alone),
                f"{spread(rows, client, 'peak_mib').high:.0f}",
            )
            for client in names(rows)
        ),
    )
    reasons = (f"{client} was left out: {why}." for client, why in left_out.items())
    return "\n\n".join([shown, *reasons])


def _connections_table(found: Mapping[str, Any]) -> str:
    rows, few = found["rows"], found["few"]
    sizes = [it for it in dict.fromkeys(row["in_flight"] for row in rows) if it > few]
    resident = {(row["client"], row["in_flight"]): row["resident_mib"] for row in rows}

    def each(client: str, size: int) -> str:
        grown = resident[client, size] - resident[client, few]
        return f"{grown * 1024 / (size - few):.0f}"

    return table(
        (
            "KiB per open connection, with its transfer",
            *(f"of {size:,}" for size in sizes),
            f"MiB of all {sizes[-1]:,}",
        ),
        (
            (
                client,
                *(each(client, size) for size in sizes),
                f"{resident[client, sizes[-1]]:,.0f}",
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
                f"{spread(rows, client, 'per_second').median:,.0f}",
                f"{spread(rows, client, 'p99_ms').median:,.0f}",
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
        _cpu_table,
    ),
    "tls": ("(h) The same over TLS", _cpu_table),
    "in_flight": ("(b) Thousands in flight, on warm connections", _in_flight_table),
    "memory": ("(c) Memory", _memory_table),
    "pacing": ("(d) Pacing against a strict moving window", _pacing_table),
    "duplicates": ("(e) Phones rung twice", _duplicates_table),
    "importing": ("(f) Importing", _importing_table),
    "growth": (
        "(g) Cost as the work grows",
        lambda found: _growth_table(found["rows"]),
    ),
    "connections": ("(i) Memory of open connections", _connections_table),
}
