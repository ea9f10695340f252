"""The journal's file: its columns, and opening it to write.

It is a SQLite database in WAL mode that any tool for SQLite can read, with
application id 1885891695 ("phlo") and the schema's version as its
`user_version`. Beside it lie `-wal` and `-shm` while it is open, and `-lock`,
which is empty and stays. One row of `actions` stands for one key:

===========  ====  ===========================================================
column       type  meaning
===========  ====  ===========================================================
id           int   rows in the order in which they were first intended
key          text  the caller's key; one that could hold a number is kept as
                   its masked text, `#` and a salted digest
digest       text  salted SHA-256 of the action, its first 32 hex digits
kind         text  the action's class, such as `WarmTransfer`
address      text  whom it dials or is about, masked; null if nobody
intended_at  real  Unix time of the latest intent, written before sending
settled_at   real  Unix time of its outcome; null while there is none
verdict      text  `accepted`, `rejected`, `not_sent`, `in_doubt`; null while
                   there is none
reason       text  why it was not sent or is in doubt
status       int   HTTP status of the answer that decided
api_id       text  Plivo's id of the request
error        text  what went wrong, masked
attempts     int   how many requests were begun
seconds      real  from asking to knowing
===========  ====  ===========================================================

A null verdict means that a runner is at work or was killed, which a reader tells
by the lock; the next runner to open the file makes it `in_doubt`, `interrupted`.
`settings` holds the salt, and which runner the file belongs to: see
`journal.ownership`. `handovers` holds the handovers that are open: see
`journal.open_handovers`.
Versions, and what brings a file from one to the next: see `journal.schema`.
"""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import attrs

from aiophlo.errors import JournalError
from aiophlo.journal.database import (
    connect,
    explained,
    is_corrupt,
    read_setting,
    transaction,
    value_of,
    write_setting,
)
from aiophlo.journal.ownership import (
    PATIENCE,
    Lock,
    Ownership,
    check_place,
    check_unused,
    claim,
    in_use,
    make_private,
    own,
    read_runner,
    take_lock,
)
from aiophlo.journal.reader import KnownRow
from aiophlo.journal.schema import begin, is_journal, migrate

INTEND = """
    INSERT INTO actions (id, key, digest, kind, address, intended_at)
    VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        intended_at = excluded.intended_at, settled_at = NULL, verdict = NULL,
        reason = NULL, status = NULL, api_id = NULL, error = NULL,
        attempts = NULL, seconds = NULL
"""
SETTLE = """
    UPDATE actions SET settled_at = ?, verdict = ?, reason = ?, status = ?,
        api_id = ?, error = ?, attempts = ?, seconds = ?
    WHERE id = ?
"""
_INTERRUPT = """
    UPDATE actions SET settled_at = ?, verdict = 'in_doubt', reason = 'interrupted',
        attempts = 1
    WHERE verdict IS NULL
"""


def write_beside_runner(
    path: Path, settings: Mapping[str, str], *, settled: Iterable[KnownRow] = ()
) -> None:
    """Write to a journal that this process has open, beside its writing thread.

    Args:
        path: Its file.
        settings: What it keeps beside its rows, by name.
        settled: Rows with outcomes that were not noted when they came.

    Raises:
        JournalError: It can't be written.
    """
    now = time.time()
    real = Path(os.path.realpath(path))
    with explained(path), closing(connect(real, mode="rw")) as database:
        with transaction(database):
            for row in settled:
                known = row.verdict, row.reason, row.status, row.api_id, row.error
                values = now, *known, row.attempts, row.seconds, row.id
                database.execute(SETTLE, values)
            for name, value in settings.items():
                write_setting(database, name, value)
        _put_into_file(database)


def _put_into_file(database: sqlite3.Connection) -> None:
    """Have the settings read from the file itself, not from what lies beside it.

    Who opens it by another way than this folder has to find the mark, too, and the
    mark has to go with the file when that is overwritten.
    """
    database.execute("PRAGMA wal_checkpoint(PASSIVE)")


def real_path(path: str | os.PathLike[str]) -> Path:
    """Return where a file is or is to be, so that all its names lead to one lock.

    Raises:
        OSError: A symbolic link leads to nothing or in a circle: nothing is made
            where somebody else's link points.
    """
    real = Path(os.path.realpath(path))
    if os.path.lexists(path) and not real.exists():
        raise OSError(f"{Path(path).name} is a symbolic link that leads to nothing")
    return real


@attrs.frozen
class OpenFile:
    """A journal that this process alone may write.

    Attributes:
        database: The connection, for the thread that opened it.
        witness: Another, which has no page in memory that it could have read
            before the file was overwritten.
        salt: What its digests are salted with.
        last_row: The highest id in use; 0 if there is none.
        ownership: This runner's hold on it.
    """

    database: sqlite3.Connection
    witness: sqlite3.Connection
    salt: bytes
    last_row: int
    ownership: Ownership

    @contextmanager
    def commit(self) -> Iterator[sqlite3.Connection]:
        """Put on disk what the block writes, if the file is still ours.

        Raises:
            JournalError: It is not, or was deleted, replaced or overwritten: what
                was written doesn't count.
        """
        self.ownership.check_files()
        self.ownership.check_token(self.witness)
        with transaction(self.database):
            self.ownership.check_token(self.database)
            yield self.database
        self.ownership.check_files()


@contextmanager
def open_file(
    path: Path, *, max_bytes: int | None, patience: float = PATIENCE
) -> Iterator[OpenFile]:
    """Open the journal at `path`, or begin one, and keep others from writing.

    What another runner began and never settled becomes in doubt. The lock
    goes with the process, however it ends.

    Args:
        path: The file, absolute.
        max_bytes: Size beyond which the database refuses to grow.
        patience: Seconds for which a lock is waited for.

    Raises:
        JournalInUseError: Another runner has it.
        JournalError: It is no journal or a newer one's, was deleted or replaced
            meanwhile, or can't be opened or written.
    """
    with ExitStack() as stack:
        with explained(path):
            path = real_path(path)
            check_place(path)
            _check_header(path)
            lock = stack.enter_context(closing(take_lock(path, patience=patience)))
            make_private(path)
            found = path.lstat()
            last_runner = _last_runner(path, lock)
            database = stack.enter_context(closing(connect(path, mode="rw")))
            _set_up(database, path, max_bytes)
            witness = stack.enter_context(closing(connect(path, mode="ro")))
            opened = _take_over(database, witness, path, lock, last_runner)
            opened.ownership.check_same(found)
        yield opened


def _check_header(path: Path) -> None:
    """Refuse another program's file before anything is made beside it."""
    if path.exists() and path.stat().st_size:
        with closing(connect(path, mode="ro", immutable=True)) as database:
            try:
                is_journal(database, path)
            except sqlite3.DatabaseError as error:
                # A checkpoint that was cut short: what is missing is in the `-wal`,
                # which isn't read here.
                if not (is_corrupt(error) and Path(f"{path}-wal").exists()):
                    raise


def _last_runner(path: Path, lock: Lock) -> str | None:
    with closing(connect(path, mode="rw", patience=PATIENCE)) as database:
        if not is_journal(database, path):
            return None
        check_unused(path, database, lock)
        return read_runner(database)


def _set_up(database: sqlite3.Connection, path: Path, max_bytes: int | None) -> None:
    if value_of(database, "PRAGMA journal_mode = WAL") != "wal":
        raise JournalError(f"journal {path}: its file system can't hold a WAL")
    # NORMAL may lose the last commits in a power cut: an intent that was
    # acted on would be gone, and its phone would ring again.
    database.execute("PRAGMA synchronous = FULL")
    # What is deleted is a person's address: nothing of it stays in the file.
    database.execute("PRAGMA secure_delete = ON")
    if max_bytes is not None:
        pages = max_bytes // value_of(database, "PRAGMA page_size")
        database.execute(f"PRAGMA max_page_count = {pages}")


def _take_over(
    database: sqlite3.Connection,
    witness: sqlite3.Connection,
    path: Path,
    lock: Lock,
    last_runner: str | None,
) -> OpenFile:
    with transaction(database):
        if is_journal(database, path):
            migrate(database)
        else:
            begin(database)
        if read_runner(database) != last_runner:
            raise in_use(path)  # by one who came in without the lock just now
        mark = claim(database, lock)
        database.execute(_INTERRUPT, (time.time(),))
    _put_into_file(database)
    salt = read_setting(database, "salt")
    last = value_of(database, "SELECT coalesce(max(id), 0) FROM actions")
    return OpenFile(database, witness, salt, last, own(path, mark))
