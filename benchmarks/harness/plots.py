"""The figures as pictures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.budgets import (
    BASE_LENGTH,
    MIB_IN_MB,
    STREAM_MB,
    UVLOOP,
    YARDSTICK,
    times_the_base,
)
from benchmarks.harness.figures import names, ratio
from benchmarks.harness.report import Report, digest

_OURS, _THEIRS = "#0f766e", "#94a3b8"
_STYLE: dict[Any, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10.0,
    "svg.fonttype": "none",  # text stays text: smaller, and it can be read aloud
    "svg.hashsalt": "aiophlo",  # the same figures make the same file
}
Questions = Mapping[str, Any]


def draw(report: Report, folder: Path) -> None:
    """Draw what these answers tell of, one SVG each."""
    questions = report["questions"]
    with mpl.rc_context(_STYLE):
        for name, (plot, needed) in _PLOTS.items():
            if not needed <= questions.keys():
                continue
            figure = Figure(figsize=(8.0, 4.2), layout="constrained")
            plot(questions, figure.subplots())
            figure.savefig(
                folder / f"{name}.svg",
                metadata={"Date": None, "Description": digest(report)},
            )


def _bars(
    axes: Axes, labels: Sequence[str], values: Sequence[float], form: str
) -> None:
    colours = [_OURS if label.startswith("aiophlo") else _THEIRS for label in labels]
    bars = axes.barh(labels, values, color=colours)
    axes.bar_label(bars, [form.format(value) for value in values], padding=3)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)


def _cpu(questions: Questions, axes: Axes) -> None:
    http, tls = (
        {
            client: ratio(rows, client, YARDSTICK, "cpu_us").median
            for client in names(rows)
            if not client.endswith(UVLOOP)
        }
        for rows in (questions["cpu"]["rows"], questions["tls"]["rows"])
    )
    ordered = sorted(http, key=http.__getitem__)
    for found, label, shift, alpha in (
        (http, "HTTP", -0.2, 1.0),
        (tls, "TLS", 0.2, 0.55),
    ):
        values = [found[client] for client in ordered]
        places = [place + shift for place in range(len(ordered))]
        bars = axes.barh(places, values, 0.4, alpha=alpha, label=label)
        for bar, client in zip(bars, ordered, strict=True):
            bar.set_color(_OURS if client.startswith("aiophlo") else _THEIRS)
        axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, size=7.0)
    axes.set_yticks(range(len(ordered)), ordered)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.axvline(1.0, color="#475569", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel(f"CPU per transfer, times {YARDSTICK}'s (logarithmic)")
    in_flight = questions["cpu"]["in_flight"]
    title = f"CPU per transfer, {in_flight} in flight: HTTP, and paler TLS"
    axes.set_title(title, loc="left")


def _duplicates(questions: Questions, axes: Axes) -> None:
    found = questions["duplicates"]
    labels = [row["client"] for row in found["rows"]]
    _bars(axes, labels, [row["rung_twice"] for row in found["rows"]], "{:,}")
    faulty = sum(found["faults"].values())
    axes.set_xlabel(f"phones rung twice, of {found['transfers']:,}")
    axes.set_title(f"The same faults on {faulty:.1%} of requests", loc="left")


def _memory(questions: Questions, axes: Axes) -> None:
    rows = questions["memory"]["rows"]
    longest = max(rows, key=lambda row: row["transfers"])
    done, resident = zip(*longest["samples"], strict=True)
    axes.plot(done, resident, color=_OURS)
    axes.axhline(STREAM_MB / MIB_IN_MB, color=_THEIRS, linestyle="--")
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("transfers streamed")
    axes.set_ylabel("resident memory, MiB")
    axes.set_title("Memory of one stream; dashed: its budget", loc="left")


def _pacing(questions: Questions, axes: Axes) -> None:
    refused: dict[str, float] = {}
    for row in sorted(questions["pacing"]["rows"], key=lambda row: row["jitter"]):
        if row["client"] != "no pacing":
            label = f"{row['client']}, {row['jitter'] * 1e3:.0f} ms"
            refused[label] = max(refused.get(label, 0), row["refused"])
    _bars(axes, list(refused), list(refused.values()), "{:,}")
    axes.set_xlabel("requests refused with 429, in the worst round")
    axes.set_title("Pacing against a strict window, by lateness of arrival", loc="left")


def _growth(questions: Questions, axes: Axes) -> None:
    rows = questions["growth"]["rows"]
    for way, label, colour in (
        ("streamed", "streamed", _OURS),
        ("awaited", "awaited at once", _THEIRS),
    ):
        lengths = sorted({row["queued"] for row in rows if row["way"] == way})
        costs = [times_the_base(rows, way, queued).median for queued in lengths]
        axes.plot(lengths, costs, "o-", color=colour, label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("transfers queued (logarithmic)")
    axes.set_ylabel(f"CPU each, times that with {BASE_LENGTH:,}")
    axes.set_title("Cost as the work grows", loc="left")
    axes.legend(frameon=False)


_PLOTS: dict[str, tuple[Callable[[Questions, Axes], None], set[str]]] = {
    "cpu": (_cpu, {"cpu", "tls"}),
    "duplicates": (_duplicates, {"duplicates"}),
    "memory": (_memory, {"memory"}),
    "pacing": (_pacing, {"pacing"}),
    "growth": (_growth, {"growth"}),
}
