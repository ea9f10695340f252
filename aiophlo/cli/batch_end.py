"""What is said when a batch has ended."""

from typing import TYPE_CHECKING

from aiophlo.cli.batch_journal import go_on, print_plain, see_doubts
from aiophlo.cli.batch_run import Order, RunEnd
from aiophlo.cli.batch_text import advice, counted
from aiophlo.cli.journal_places import SharedPlace
from aiophlo.cli.output import output_failure, say, say_json
from aiophlo.cli.terminal_text import number_of
from aiophlo.model.outcomes import VERDICTS

if TYPE_CHECKING:
    from rich.console import Console


def tell_end(order: Order, ending: RunEnd, console: "Console") -> bool:
    """Say what came of it, and what to do next; return whether that was written."""
    totals = ending.totals
    lines = []
    if ending.failure is not None:
        lines.append(f"aiophlo: stopped: {ending.failure}")
    if ending.open:
        lines.append(
            f"{number_of(ending.open, 'request')} may have left without their outcome"
            " being noted: the journal has them in doubt."
        )
    further = []
    if ending.unfinished:
        tell = go_on if ending.leaves_rows else see_doubts
        further.append(tell(order.journal))
    summary = (
        f"{totals.rows} of {number_of(order.rows, 'row')}: {counted(totals.verdicts)}."
    )
    written = True
    if not order.options.as_json:
        written = say(summary)
        reasons = {reason: count for (_, reason), count in totals.reasons.items()}
        shared = isinstance(order.journal, SharedPlace)
        lines += advice(totals.verdicts, reasons, shared=shared)
    for line in [*lines, *further]:
        print_plain(console, line)
    if order.options.as_json:  # last: who reads it may be gone by now
        written = say_json(_summary(order, ending))
    if not written:
        why = f"aiophlo: standard output can't be written: {output_failure()}"
        for line in (why, summary, *([] if further else [go_on(order.journal)])):
            print_plain(console, line)
    return written


def _summary(order: Order, ending: RunEnd) -> dict[str, object]:
    verdicts = ending.totals.verdicts
    return {
        "rows": order.rows,
        **{verdict: verdicts[verdict] for verdict in VERDICTS},
        "refused_429": ending.totals.refused_429,
        "interrupted": ending.interrupted,
        "failure": ending.failure,
        "journal": str(order.journal) if ending.unfinished else None,
    }
