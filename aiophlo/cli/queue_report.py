"""`aiophlo enqueue --report`: what waits in the queue, and what came of the rest."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aiophlo.cli.batch_report import fields_of, say_doubts, times_of
from aiophlo.cli.batch_text import counted
from aiophlo.cli.exit_codes import UnusableError
from aiophlo.cli.output import say, say_json
from aiophlo.errors import JournalError
from aiophlo.journal.reader import JournalRecord

if TYPE_CHECKING:
    from aiophlo.postgres import PostgresCoordinator, PostgresJournalReader


def show_queue(coordinator: "PostgresCoordinator", *, as_json: bool) -> None:
    """Show how many wait, and what came of those that ended.

    Args:
        coordinator: Whose queue.
        as_json: Put one JSON object.

    Raises:
        UnusableError: It can't be read.
    """
    from aiophlo.postgres.batch_reader import NoJournalError  # noqa: PLC0415 -- needs the extra

    try:
        with coordinator.read_journal("queue") as reader:
            show = _show_json if as_json else _show
            show(reader)
    except NoJournalError as error:
        raise UnusableError("nothing was ever enqueued there") from error
    except JournalError as error:
        raise UnusableError(str(error)) from error


def _show(reader: "PostgresJournalReader") -> None:
    waiting, in_hand = reader.waiting()
    report = reader.report()
    line = f"{waiting} wait, {in_hand} in hand; ended: {counted(report.verdicts)}."
    say(line, *times_of(report))
    if late := report.reasons.get("expired"):
        say(f"{late} were too late: nothing rang.")
    if not report.verdicts["in_doubt"]:
        return
    say(
        "In doubt, and never sent again, as a phone may have rung: look in Plivo's"
        " logs, or ask the agents."
    )
    say_doubts(_doubts(reader))


def _show_json(reader: "PostgresJournalReader") -> None:
    waiting, in_hand = reader.waiting()
    report = reader.report()
    say_json(
        {
            "waiting": waiting,
            "in_hand": in_hand,
            **report.verdicts,
            "reasons": dict(report.reasons),
            "first_at": report.first_at,
            "last_at": report.last_at,
            "doubts": [fields_of(record) for record in _doubts(reader)],
        }
    )


def _doubts(reader: "PostgresJournalReader") -> Iterator[JournalRecord]:
    """Yield what is in doubt; what has no outcome is in a worker's hands."""
    return (record for record in reader.outcomes() if record.verdict == "in_doubt")
