"""Ownership: one runner writes a journal's file, and the file is the one it opened.

Three checks ensure that, each of which catches what the others can't:

- A lock on a file beside it, `-lock`, which SQLite holds and which ends with its
  process. It can't be held twice, unless that file is removed meanwhile.
- The row `runner` in `settings`: a token, and which lock file was held. Who finds
  that another one was held comes in only if nothing has the journal open, as
  SQLite knows by the journal's own lock. The token is read in every commit, so
  that a runner who was passed over all the same stops.
- The identity (device and inode) of the file, its `-wal` and its `-shm`, looked at
  around every commit: what was deleted or replaced is written to by nobody else.

What is overwritten in place keeps its identity, and SQLite goes on with the pages
that it holds in memory. So the token is also read by a connection that drops its
pages whenever the journal was written to, as after each of our commits.
"""

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

import attrs

from aiophlo.errors import JournalError, JournalInUseError
from aiophlo.journal.database import (
    connect,
    is_free_for,
    read_setting,
    write_setting,
)
from aiophlo.journal.private_files import create_private, stat_own, stat_regular

# Seconds in which a thread or process that has ended lets go of its lock.
PATIENCE = 0.2
_PARTS = ("", "-wal", "-shm")
_RUNNER = "runner"
_REMEDY = (
    "wait until that one has ended, or end it; what is to run beside it needs a"
    " journal of its own"
)


def in_use(path: Path) -> JournalInUseError:
    """Return the error for a journal that another runner has."""
    return JournalInUseError(f"journal {path} is in use by another runner: {_REMEDY}")


def check_place(path: Path) -> None:
    """Refuse what can't be a journal of this user's, touching nothing.

    Raises:
        OSError: There is something else than a regular file of one's own.
    """
    found = stat_own(path)
    if found is not None and found.st_nlink > 1:
        # SQLite would give each name a `-wal` of its own, and lose what is in one.
        raise OSError(
            f"{path.name} has a second name (a hard link): remove one of the two"
        )
    for part in _PARTS[1:]:
        stat_regular(_beside(path, part), follow=False)


def make_private(path: Path) -> None:
    """Make an empty file with mode 0600, or give one that is there this mode.

    `-wal` and `-shm` get the mode of the file they belong to. A file that holds
    something is never opened here: closing it would drop SQLite's locks on it.

    Raises:
        OSError: It can't be made, or is none of ours.
    """
    try:
        os.close(create_private(path))
    except FileExistsError:
        found = stat_own(path)
        if found is not None and not found.st_size and found.st_mode & 0o077:
            path.chmod(0o600)


@attrs.frozen
class Lock:
    """The lock on the file beside a journal.

    Attributes:
        connection: Holds it until it is closed.
        identity: Which file it is; a new one of that name is another.
    """

    connection: sqlite3.Connection
    identity: str

    def close(self) -> None:
        """Release the lock."""
        self.connection.close()


def take_lock(path: Path, *, patience: float = PATIENCE) -> Lock:
    """Lock the file beside the journal at `path`.

    Raises:
        JournalInUseError: Another runner has it.
    """
    # An exclusive transaction on a database that stays empty: SQLite's own lock
    # works on every platform, within a process as between two, ends with its
    # process, and unlike a lock of `path` itself lets others read.
    lock = _beside(path, "-lock")
    make_private(lock)
    connection = connect(lock, mode="rw", patience=patience)
    try:
        # Without the first it leaves a third file.
        statements = ("PRAGMA journal_mode = MEMORY", "BEGIN EXCLUSIVE")
        is_ours = all(is_free_for(connection, one) for one in statements)
        identity = _lock_identity(lock)
    except BaseException:
        connection.close()
        raise
    if not is_ours:
        connection.close()
        raise in_use(path)
    return Lock(connection, identity)


def _lock_identity(lock: Path) -> str:
    found = lock.lstat()  # its time tells it from a later one with its number
    return f"{found.st_dev}:{found.st_ino}:{found.st_ctime_ns}"


def is_runner_alive(path: Path, database: sqlite3.Connection) -> bool | None:
    """Say whether the last runner of a journal still has it; None if it can't be told.

    It can't without the lock that this runner took: of a copy of the journal, or
    where the lock was removed.

    Args:
        path: The journal's.
        database: It, opened for reading.
    """
    mark, lock = read_runner(database), _beside(path, "-lock")
    try:
        if mark is None or not mark.endswith(f" {_lock_identity(lock)}"):
            return None
        # Holds the lock no longer than a look takes: who wants it waits for longer.
        with closing(connect(lock, mode="ro", patience=0.0)) as connection:
            return not is_free_for(connection, "SELECT 1 FROM sqlite_master")
    except (OSError, sqlite3.Error):
        return None


def read_runner(database: sqlite3.Connection) -> str | None:
    """Return the mark of the last runner; None if there was none."""
    mark = read_setting(database, _RUNNER)
    return mark if isinstance(mark, str) else None


def check_unused(path: Path, database: sqlite3.Connection, lock: Lock) -> None:
    """Refuse a journal that is open somewhere though its lock could be had.

    Args:
        path: The journal's.
        database: It, opened for nothing else; not to be used afterwards.
        lock: What its runner has to have held as well.

    Raises:
        JournalInUseError: Its lock file was removed, and it is open elsewhere.
    """
    mark = read_runner(database)
    if mark is None or mark.endswith(f" {lock.identity}"):
        return
    # Needs the file for itself: refused while anything else has it open.
    if not is_free_for(database, "PRAGMA journal_mode = DELETE"):
        raise JournalInUseError(
            f"journal {path}: its lock, {path.name}-lock, was removed or replaced,"
            " and a program still has the journal open, perhaps another runner:"
            f" end what has it open, then try again, and never remove the lock"
        )


@attrs.frozen
class Ownership:
    """The ownership of a journal's file by one runner.

    Attributes:
        path: The file.
        mark: What stands in its row `runner`.
        identities: Device and inode of it and of what lies beside it.
    """

    path: Path
    mark: str
    identities: list[tuple[int, int] | None]

    def check_token(self, database: sqlite3.Connection) -> None:
        """Raise unless the file still belongs to this runner.

        Args:
            database: In the transaction that is to be committed.

        Raises:
            JournalInUseError: Another runner has taken it, or it was overwritten.
        """
        if read_runner(database) != self.mark:
            raise JournalInUseError(
                f"journal {self.path} was taken over by another runner, or"
                " overwritten, while this one was using it: this one sends no more;"
                " end one of the two before the list is run again"
            )

    def check_same(self, found: os.stat_result) -> None:
        """Raise if the file was replaced while it was being opened.

        Args:
            found: What lay there before.
        """
        if self.identities[0] != (found.st_dev, found.st_ino):
            raise JournalError(f"journal {self.path} was replaced while it was opened")

    def check_files(self) -> None:
        """Raise unless what was opened is what lies there now.

        Raises:
            JournalError: A file was deleted, moved or replaced.
        """
        found = _identities(self.path)
        if found == self.identities:
            return
        pairs = zip(_PARTS, self.identities, found, strict=True)
        part, now = next((part, now) for part, was, now in pairs if was != now)
        raise JournalError(
            f"journal {self.path}: {self.path.name}{part} was"
            f" {'deleted or moved' if now is None else 'replaced'} while this run"
            " was using it, and no more is sent. Put it back, or go by the results,"
            " before the list is run again: a new journal knows of no call, and all"
            " would be called a second time"
        )


def claim(database: sqlite3.Connection, lock: Lock) -> str:
    """Write a new mark of this runner's, in a transaction of the caller's."""
    mark = f"{secrets.token_hex(16)} {lock.identity}"
    write_setting(database, _RUNNER, mark)
    return mark


def own(path: Path, mark: str) -> Ownership:
    """Return the ownership of a file that has just been opened and marked."""
    return Ownership(path, mark, _identities(path))


def _identities(path: Path) -> list[tuple[int, int] | None]:
    # A tuple that grows breaks if another thread looks at all objects, as profilers do.
    return [_identity(f"{path}{part}") for part in _PARTS]


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _beside(path: Path, part: str) -> Path:
    return Path(f"{path}{part}")
