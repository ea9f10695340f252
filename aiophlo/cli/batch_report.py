"""`aiophlo batch --journal x.db --report`: how far a batch came."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from aiophlo.cli.batch_text import advice, counted
from aiophlo.cli.exit_codes import Exit, UnusableError, exit_of
from aiophlo.cli.fingerprint import read_fingerprint
from aiophlo.cli.journal_places import JournalPlace, SharedPlace, usable_journal
from aiophlo.cli.output import say, say_json
from aiophlo.cli.terminal_text import harmless_id, number_of
from aiophlo.journal.journal import JournalRecord, JournalReport
from aiophlo.journal.reader import JournalView
from aiophlo.model.redaction import mask_id

_SHOWN = 50  # rows in doubt that a person is shown


def show_report(
    journal: JournalPlace | None, file: str | None, *, as_json: bool
) -> Exit:
    """Show what a journal holds, also while a runner has it.

    Args:
        journal: Where it is.
        file: What else was named, which is one thing too many.
        as_json: Put a JSON line for each row in doubt, and one for the whole.

    Raises:
        UnusableError: The journal can't be read.
    """
    if journal is None or file is not None:
        raise UnusableError("--report: expected --journal with it, and no FILE")
    with usable_journal():
        if not journal.exists:
            message = f"--journal: {journal} does not exist"
            raise UnusableError(message, plain=str(journal))
        fingerprint = read_fingerprint(journal)
        with journal.read() as reader:
            report = reader.report()
            rows = None if fingerprint is None else fingerprint.distinct
            show = _show_json if as_json else _show
            show(reader, report, rows, shared=isinstance(journal, SharedPlace))
    found = [verdict for verdict, count in report.verdicts.items() if count]
    return exit_of([*found, *(["in_doubt"] if _left(report) else [])])


def _left(report: JournalReport) -> int:
    """Return how many have no outcome, and no runner that is known to be alive."""
    return report.open - (report.under_way or 0)


def _show(
    reader: JournalView, report: JournalReport, rows: int | None, *, shared: bool
) -> None:
    begun = sum(report.verdicts.values()) + report.open
    say(f"{_of(begun, rows)}: {counted(report.verdicts)}.", *times_of(report))
    for line in _open_told(report):
        say(line)
    if rows is not None and begun < rows:
        say(f"{rows - begun} not begun: the same command sends them.")
    verdicts = dict(report.verdicts)
    verdicts["in_doubt"] = verdicts.get("in_doubt", 0) + _left(report)
    for line in advice(verdicts, report.reasons, shared=shared):
        say(line)
    say_doubts(_in_doubt(reader))


def _open_told(report: JournalReport) -> Iterator[str]:
    """Yield what is said of rows that have no outcome."""
    left = _left(report)
    if report.under_way:
        yield f"{report.under_way} more under way: a runner has them in flight."
    if left and report.under_way is None:
        yield (
            f"{left} more without an outcome: in flight if a runner is at work, which"
            " can't be told as the journal's lock isn't beside it; else in doubt, and"
            " counted so below."
        )
    elif left:
        yield (
            f"{left} more without an outcome, begun by a runner that is gone: in doubt,"
            " and counted so below."
        )


def _show_json(
    reader: JournalView, report: JournalReport, rows: int | None, *, shared: bool
) -> None:
    for record in _in_doubt(reader):
        say_json(fields_of(record))
    verdicts = dict(report.verdicts)
    begun = sum(verdicts.values()) + report.open
    say_json(
        {
            "rows": rows,
            "begun": begun,
            **verdicts,
            "open": report.open,
            "under_way": report.under_way,
            "reasons": dict(report.reasons),
            "first_at": report.first_at,
            "last_at": report.last_at,
            "advice": advice(verdicts, report.reasons, shared=shared),
        }
    )


def _in_doubt(reader: JournalView) -> Iterator[JournalRecord]:
    for record in reader.outcomes():
        if record.verdict in {"in_doubt", None} and not record.under_way:
            yield record


def say_doubts(records: Iterable[JournalRecord]) -> None:
    """Say what a person is told of rows in doubt."""
    for number, record in enumerate(records):
        if number == _SHOWN:
            say("… --json shows all of them.")
            break
        say(f"  {_described(record)}")


def _described(record: JournalRecord) -> str:
    parts = [record.reason or "no outcome", record.status and f"status {record.status}"]
    parts.append(record.api_id and f"api_id {harmless_id(record.api_id)}")
    known = ", ".join(part for part in parts if part)
    address = f" to {record.address}" if record.address else ""
    begun = f"begun {_at(record.intended_at)}"
    return f"{mask_id(record.key)}{address}, {begun}: {known}"


def fields_of(record: JournalRecord) -> dict[str, Any]:
    """Return what a program is told of a row."""
    return {
        "key": mask_id(record.key),
        "address": record.address,
        "verdict": record.verdict,
        "reason": record.reason,
        "status": record.status,
        "api_id": harmless_id(record.api_id),
        "attempts": record.attempts,
        "intended_at": record.intended_at,
        "settled_at": record.settled_at,
    }


def _of(begun: int, rows: int | None) -> str:
    if rows is None:
        return number_of(begun, "row")
    return f"{begun} of {number_of(rows, 'row')} begun"


def times_of(report: JournalReport) -> list[str]:
    """Return when the first was sent, and the last noted."""
    if report.first_at is None or report.last_at is None:
        return []
    return [f"First sent {_at(report.first_at)}, last noted {_at(report.last_at)}."]


def _at(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))
