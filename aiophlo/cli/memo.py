"""What a journal remembers of the file its batch was read from.

It stands among the journal's settings. A file that hasn't changed needs no
second check, and its finished rows can be told by their place alone.
"""

import contextlib
import json
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import attrs

from aiophlo.cli.rows import Defaults
from aiophlo.cli.source import Source
from aiophlo.cli.survey import Survey
from aiophlo.errors import JournalError

_NAME = "batch"
_PATIENCE = 10.0  # seconds for which another tool may keep the file locked


@attrs.frozen
class Memo:
    """The file as it was when the batch last began.

    Attributes:
        salt: Of the digest, so that nobody finds a number by trying all.
        size: Of the file, in bytes.
        digest: Of the file and the options that shape its rows.
        survey: What it held.
    """

    salt: str
    size: int
    digest: str
    survey: Survey

    def is_of(self, source: Source, defaults: Defaults) -> bool:
        """Say whether this is about the file as it is now."""
        return source.size == self.size and self.begins(source, defaults)

    def begins(self, source: Source, defaults: Defaults) -> bool:
        """Say whether the file is unchanged, or has grown at its end."""
        return _digest(source, defaults, self.salt, self.size) == self.digest


def memo_of(source: Source, defaults: Defaults, found: Survey) -> Memo:
    """Return what to remember of a file that was surveyed just now."""
    salt = secrets.token_hex(16)
    size = source.size
    return Memo(salt, size, _digest(source, defaults, salt, size), found)


def _digest(source: Source, defaults: Defaults, salt: str, size: int) -> str:
    options = json.dumps([salt, *attrs.astuple(defaults)])
    return source.digest(options.encode(), size)


def read_memo(journal: Path) -> Memo | None:
    """Return what a journal remembers, or None: it is new, or no command's.

    Raises:
        JournalError: It can't be read.
    """
    if not journal.exists() or journal.stat().st_size == 0:
        return None
    with _database(journal, "ro") as database:
        row = database.execute(
            "SELECT value FROM settings WHERE name = ?", (_NAME,)
        ).fetchone()
    if row is None:
        return None
    values = json.loads(row[0])
    return Memo(survey=Survey(**values.pop("survey")), **values)


def settled_in(journal: Path) -> int:
    """Return how many transfers a journal has that will not be sent again.

    Raises:
        JournalError: It can't be read.
    """
    if not journal.exists() or journal.stat().st_size == 0:
        return 0
    with _database(journal, "ro") as database:
        query = "SELECT count(*) FROM actions WHERE verdict IS NOT 'not_sent'"
        return int(database.execute(query).fetchone()[0])


def write_memo(journal: Path, memo: Memo) -> None:
    """Remember; the journal has to be open, so that no other runner writes.

    Raises:
        JournalError: It can't be written.
    """
    with _database(journal, "rw") as database:
        database.execute(
            "INSERT OR REPLACE INTO settings VALUES (?, ?)",
            (_NAME, json.dumps(attrs.asdict(memo))),
        )


@contextlib.contextmanager
def _database(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    try:
        with contextlib.closing(
            sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={mode}",
                uri=True,
                timeout=_PATIENCE,
                isolation_level=None,
            )
        ) as database:
            yield database
    except sqlite3.Error as error:
        raise JournalError(f"journal {path}: {error}") from error
