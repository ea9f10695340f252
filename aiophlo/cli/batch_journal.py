"""Opens a batch's journal: the one that was named, or a temporary one."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from aiophlo.cli.exit_codes import UnusableError

if TYPE_CHECKING:
    from rich.console import Console


@attrs.define
class JournalFile:
    """The journal of a batch.

    Attributes:
        path: Of the journal.
        needed: Without it, somebody might be rung again.
    """

    path: Path
    needed: bool = True


@contextlib.contextmanager
def journal_for(path: Path | None, console: "Console") -> Iterator[JournalFile]:
    """Give a journal; a temporary one is removed once it isn't needed any more."""
    file = JournalFile(path or _temporary())
    if path is None:  # whoever is killed can't name it any more
        print_plain(console, f"Journal, until this batch ends: {file.path}")
    try:
        yield file
    except UnusableError:
        file.needed = False  # nothing was sent
        raise
    except BaseException:
        print_plain(console, go_on(file.path))
        raise
    finally:
        if path is None and not file.needed:
            shutil.rmtree(file.path.parent, ignore_errors=True)


def _temporary() -> Path:
    """Return a place for a journal, in a new folder that this user alone may enter."""
    try:
        return Path(tempfile.mkdtemp(prefix="aiophlo-"), "journal.db")
    except OSError as error:
        why = error.strerror or error
        raise UnusableError(
            f"--journal: expected one, since a temporary one can't be made: {why}"
        ) from error


def go_on(journal: Path) -> str:
    """Return what is said of a batch that isn't done."""
    return (
        f"The same command with --journal {journal} goes on; --report in place of the"
        " file shows what is in doubt."
    )


def print_plain(console: "Console", line: str) -> None:
    """Print a line as it is."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
