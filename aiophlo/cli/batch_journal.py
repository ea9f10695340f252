"""Opens a batch's journal: the one that was named, or a temporary one."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from aiophlo.cli.exit_codes import UnusableError
from aiophlo.cli.journal_places import FilePlace, JournalPlace

if TYPE_CHECKING:
    from rich.console import Console


@attrs.define
class BatchMemory:
    """The journal of a batch.

    Attributes:
        place: Where it is.
        needed: Without it, somebody might be rung again.
    """

    place: JournalPlace
    needed: bool = True


@contextlib.contextmanager
def journal_for(
    place: JournalPlace | None, console: "Console"
) -> Iterator[BatchMemory]:
    """Give a journal; a temporary one is removed once it isn't needed any more."""
    temporary = _temporary() if place is None else None
    if temporary is not None:  # whoever is killed can't name it any more
        print_plain(console, f"Journal, until this batch ends: {temporary}")
        place = FilePlace(temporary)
    assert place is not None  # noqa: S101 -- one or the other
    file = BatchMemory(place)
    try:
        yield file
    except UnusableError:
        file.needed = False  # nothing was sent
        raise
    except BaseException:
        print_plain(console, go_on(file.place))
        raise
    finally:
        if temporary is not None and not file.needed:
            shutil.rmtree(temporary.parent, ignore_errors=True)


def _temporary() -> Path:
    """Return a place for a journal, in a new folder that this user alone may enter."""
    try:
        return Path(tempfile.mkdtemp(prefix="aiophlo-"), "journal.db")
    except OSError as error:
        why = error.strerror or error
        raise UnusableError(
            f"--journal: expected one, since a temporary one can't be made: {why}"
        ) from error


def go_on(journal: JournalPlace) -> str:
    """Return what is said of a batch that isn't done."""
    return (
        f"The same command with --journal {journal} goes on; --report in place of the"
        " file shows what is in doubt."
    )


def see_doubts(journal: JournalPlace) -> str:
    """Return what is said of a batch that has nothing left but doubts."""
    return (
        f"The same command with --journal {journal} sends nothing more; --report in"
        " place of the file shows what is in doubt."
    )


def print_plain(console: "Console", line: str) -> None:
    """Print a line as it is."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
