"""The journal's file as a SQLite database: connecting, transactions, single values."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from aiophlo.errors import JournalError

_PATIENCE = 10.0  # seconds for which another tool may keep the file locked


def connect(
    path: Path, *, mode: str, patience: float = _PATIENCE, immutable: bool = False
) -> sqlite3.Connection:
    """Open a database.

    Args:
        path: An absolute one.
        mode: "ro" or "rw"; neither makes a file.
        patience: Seconds for which another connection's lock is waited for.
        immutable: Take no lock and make no file beside it: enough to look at
            the header of what may not be ours.
    """
    return sqlite3.connect(
        f"{path.as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}",
        uri=True,
        timeout=patience,
        isolation_level=None,  # transactions are begun by hand
        check_same_thread=False,  # a dropped one is closed where it is collected
    )


def connect_temporary() -> sqlite3.Connection:
    """Open a database on disk that is gone once it is closed, however that is."""
    database = sqlite3.connect("", isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA journal_mode = OFF")
    return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block writes, all or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # some errors have rolled it back already
            database.execute("ROLLBACK")
        raise


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise a `JournalError` that names the file for what goes wrong with it."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"journal {path}: {error}") from error


def value_of(database: sqlite3.Connection, query: str, *values: object) -> Any:  # noqa: ANN401 -- SQL's
    """Return the only value that a query gives, or None if it gives no row."""
    row = database.execute(query, values).fetchone()
    return None if row is None else row[0]


def read_setting(database: sqlite3.Connection, name: str) -> Any:  # noqa: ANN401 -- SQL's
    """Return what stands in the table `settings` by a name, or None."""
    return value_of(database, "SELECT value FROM settings WHERE name = ?", name)


def write_setting(database: sqlite3.Connection, name: str, value: str | bytes) -> None:
    """Put a value into the table `settings`, in place of an earlier one."""
    database.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))


def select(names: Iterable[str], rest: str) -> str:
    """Return a query for the columns that fields are named after, in their order."""
    return f"SELECT {', '.join(names)} {rest}"


def fields_of(kind: type[attrs.AttrsInstance]) -> list[str]:
    """Return the names of a class's fields, which those of its columns are, too."""
    return [field.name for field in attrs.fields(kind)]


def is_free_for(database: sqlite3.Connection, statement: str) -> bool:
    """Run a statement that takes a lock; False if another's is in the way."""
    try:
        database.execute(statement)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            return False
        raise
    return True


def is_corrupt(error: sqlite3.Error) -> bool:
    """Say whether pages were missing, or held something else than they should."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT
