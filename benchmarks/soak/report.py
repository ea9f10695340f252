"""What came of a soak, as text."""

from collections.abc import Iterable, Sequence
from typing import Final

from aiophlo.model.outcomes import VERDICTS
from aiophlo.simulator import Fault
from benchmarks.soak.actions import KINDS
from benchmarks.soak.judge import NO_FAULT
from benchmarks.soak.result import Options, Result

WORDS: Final = {
    "call": "add",
    "warm_transfer": "warm",
    "cold_transfer": "cold",
    "run_phlo": "run",
    "resume_call": "resume",
    "voicemail_drop": "drop",
    "abort_transfer": "abort",
    "hangup": "hangup",
    "hold": "hold",
    "unhold": "unhold",
    "mute": "mute",
    "unmute": "unmute",
    "bridge_mute": "b.mute",
    "bridge_unmute": "b.unmt",
    "bridge_leave": "b.leave",
    "get_phlo": "phlo",
    "get_node": "node",
}
_ENOUGH: Final = 6.0  # strikes expected of the rarest pair, for none to be missing


def gaps(options: Options, result: Result) -> list[str]:
    """Give the pairs of fault and action that should have met, and didn't.

    A run so short that some of them meet by luck alone has none.
    """
    rarest = min((chance for chance in options.faults.values() if chance), default=0)
    if options.actions * rarest / len(KINDS) < _ENOUGH:
        return []
    struck = result.findings.struck
    return [
        f"{fault} never struck {word}"
        for fault, chance in options.faults.items()
        for word in WORDS
        if chance and not struck[fault, word]
    ]


def write(options: Options, result: Result) -> str:
    """Write the tables and the summary."""
    found = result.findings
    parts = [
        "Actions by the fault that struck a request of theirs, and verdict",
        _table(_verdict_rows(result)),
        "Requests by the fault that struck them, and action",
        _table(_coverage_rows(result)),
        _table([reason, f"{n:,}"] for reason, n in sorted(result.reasons.items())),
        _table(_summary(options, result)),
        *found.sentences,
        *gaps(options, result),
        *(f"{name} escaped {times} times" for name, times in result.escaped.items()),
    ]
    return "\n\n".join(parts)


def _verdict_rows(result: Result) -> Iterable[Sequence[str]]:
    verdicts = result.findings.verdicts
    yield ["fault", *VERDICTS]
    for fault in (NO_FAULT, *Fault):
        yield [fault, *(f"{verdicts[fault, verdict]:,}" for verdict in VERDICTS)]


def _coverage_rows(result: Result) -> Iterable[Sequence[str]]:
    struck = result.findings.struck
    yield ["fault", *WORDS.values()]
    for fault in Fault:
        yield [fault, *(str(struck[fault, word]) for word in WORDS)]


def _summary(options: Options, result: Result) -> Iterable[Sequence[str]]:
    found = result.findings
    yield "actions", f"{options.actions:,}"
    yield "seed", str(options.seed)
    yield "requests", f"{found.requests:,}"
    yield "dials", f"{found.dials:,}"
    yield "faults", f"{found.struck.total():,}"
    met = sum(bool(found.struck[fault, word]) for fault in Fault for word in WORDS)
    yield "fault x action met", f"{met} of {len(Fault) * len(WORDS)}"
    yield "fewest strikes of a pair", str(_fewest(result))
    yield "seconds", f"{result.seconds:,.0f}"
    yield "actions per second", f"{options.actions / result.seconds:,.0f}"
    yield "peak memory of the pool, MiB", f"{result.peak_memory:,.0f}"
    yield "actions without exactly one outcome", f"{result.without_outcome:,}"
    yield "phones rung twice", f"{found.rung_twice:,}"
    yield "disagreements", f"{found.disagreements:,}"


def _fewest(result: Result) -> int:
    struck = result.findings.struck
    return min(struck[fault, word] for fault in Fault for word in WORDS)


def _table(rows: Iterable[Sequence[str]]) -> str:
    cells = list(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
