"""The journal's file: its schema, its lock, and reading it.

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

A null verdict means that a runner is at work or was killed; the next runner
to open the file makes it `in_doubt`, `interrupted`. `settings` holds the salt.
`handovers` holds the handovers that are open: see `handover.table`.
Version 1 is the first; tables may join these without a new version.
"""

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn, Self

import attrs

from aiophlo.errors import JournalError
from aiophlo.outcomes import Accepted, InDoubt, NotSent, Rejected

_APPLICATION_ID = 0x7068_6C6F  # "phlo"
_VERSION = 1
_SCHEMA = (
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value BLOB NOT NULL)",
    """CREATE TABLE actions (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        digest TEXT NOT NULL,
        kind TEXT NOT NULL,
        address TEXT,
        intended_at REAL NOT NULL,
        settled_at REAL,
        verdict TEXT,
        reason TEXT,
        status INTEGER,
        api_id TEXT,
        error TEXT,
        attempts INTEGER,
        seconds REAL
    )""",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
)
# Of a file that was begun before there were handovers, too.
_HANDOVERS = """
    CREATE TABLE IF NOT EXISTS handovers (
        id TEXT PRIMARY KEY,
        account TEXT NOT NULL,
        phlo_id TEXT NOT NULL,
        node_id TEXT NOT NULL,
        agent TEXT NOT NULL,
        customer TEXT NOT NULL,
        targets TEXT NOT NULL,
        began_at REAL NOT NULL
    )
"""
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
_KNOWN = """
    SELECT key, id, digest, verdict, reason, status, api_id, error, attempts, seconds
    FROM actions
"""
_BY_KEY = _KNOWN + "WHERE key = ?"
_AFTER = _KNOWN + "WHERE id > ? ORDER BY id LIMIT ?"
_RECORDS = """
    SELECT id, key, kind, address, verdict, reason, status, api_id, error, attempts,
        seconds, intended_at, settled_at  -- as JournalRecord has them
    FROM actions WHERE id > ? ORDER BY id LIMIT ?
"""
_REPORT = """
    SELECT verdict, reason, count(*), min(intended_at),
        max(coalesce(settled_at, intended_at))
    FROM actions GROUP BY verdict, reason
"""
_OPEN_HANDOVERS = """
    SELECT id, account, phlo_id, node_id, agent, customer, targets, began_at
    FROM handovers ORDER BY began_at
"""
_VERDICTS = tuple(kind.verdict for kind in (Accepted, Rejected, NotSent, InDoubt))

_PAGE = 1_000  # rows read at a time
_PATIENCE = 10.0  # seconds for which another tool may keep the file locked

KnownRow = tuple[
    str,  # key
    int,  # id
    str,  # digest
    str | None,  # verdict
    str | None,  # reason
    int | None,  # status
    str | None,  # api_id
    str | None,  # error
    int | None,  # attempts
    float | None,  # seconds
]


@attrs.frozen
class JournalRecord:
    """What the journal knows of one key; see the module for the columns.

    Attributes:
        id: Its row.
        key: The caller's key, masked if it could hold a number.
        kind: The action's class.
        address: Whom it dials or is about, masked; None if nobody.
        verdict: One of the four, or None: begun, and no outcome yet.
        reason: Why it was not sent or is in doubt.
        status: HTTP status of the answer that decided.
        api_id: Plivo's id of the request.
        error: What went wrong, masked.
        attempts: How many requests were begun.
        seconds: From asking to knowing.
        intended_at: Unix time of the latest intent.
        settled_at: Unix time of its outcome.
    """

    id: int
    key: str
    kind: str
    address: str | None
    verdict: str | None
    reason: str | None
    status: int | None
    api_id: str | None
    error: str | None
    attempts: int | None
    seconds: float | None
    intended_at: float
    settled_at: float | None


@attrs.frozen(kw_only=True)
class JournalReport:
    """How far a batch has come.

    Attributes:
        verdicts: How many keys have each of the four verdicts.
        reasons: How many keys have each reason that occurs.
        open: How many were begun and have no outcome: in flight while a
            runner is at work, in doubt once it is gone.
        first_at: Unix time of the first intent; None in an empty journal.
        last_at: Unix time of the last thing noted.
    """

    verdicts: Mapping[str, int]
    reasons: Mapping[str, int]
    open: int
    first_at: float | None
    last_at: float | None


class JournalReader:
    """Reads a journal, whether or not a runner has it open, and changes nothing.

    Opening one for reading may leave its empty `-wal` and its `-shm` behind.

    Args:
        path: The journal's file.

    Raises:
        JournalError: There is none, or it can't be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).resolve()
        with _explained(self._path):
            self._database = _open_to_read(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<JournalReader of {str(self._path)!r}>"

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def report(self) -> JournalReport:
        """Count what the journal holds.

        Raises:
            JournalError: It can't be read.
        """
        with _explained(self._path):
            rows = self._database.execute(_REPORT).fetchall()
        verdicts = dict.fromkeys(_VERDICTS, 0)
        reasons: dict[str, int] = {}
        for verdict, reason, count, _, _ in rows:
            if verdict is not None:
                verdicts[verdict] = verdicts.get(verdict, 0) + count
            if reason is not None:
                reasons[reason] = reasons.get(reason, 0) + count
        return JournalReport(
            verdicts=verdicts,
            reasons=reasons,
            open=sum(row[2] for row in rows if row[0] is None),
            first_at=min((row[3] for row in rows), default=None),
            last_at=max((row[4] for row in rows), default=None),
        )

    def outcomes(self) -> Iterator[JournalRecord]:
        """Yield every key's record, in the order of their first intents.

        Pages of rows are read as they are asked for, so memory stays flat
        and a runner's checkpoints are not held up.

        Raises:
            JournalError: It can't be read.
        """
        last = -1
        while rows := self._fetch(_RECORDS, last, _PAGE):
            for row in rows:
                yield JournalRecord(*row)
            last = rows[-1][0]

    def handovers(self) -> list[tuple[Any, ...]]:
        """Return the rows of all open handovers, the oldest first.

        Raises:
            JournalError: They can't be read.
        """
        return self._fetch(_OPEN_HANDOVERS)

    def find(self, key: str) -> KnownRow | None:
        """Return the row of a key as it is kept, if there is one."""
        rows = self._fetch(_BY_KEY, key)
        return rows[0] if rows else None

    def after(self, row: int) -> list[KnownRow]:
        """Return the next page of rows behind the one with id `row`."""
        return self._fetch(_AFTER, row, _PAGE)

    def _fetch(self, query: str, *values: object) -> list[Any]:
        # fetchall() ends the statement, and with it the hold on a snapshot
        # that would hide what is written later.
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            _fail(self._path, error)


def _open_to_read(path: Path) -> sqlite3.Connection:
    with ExitStack() as stack:
        database = stack.enter_context(closing(_connect(path, mode="ro")))
        if _is_journal(database, path):
            stack.pop_all()
            return database
    raise JournalError(f"{path} holds no journal")


@attrs.frozen
class OpenFile:
    """A journal that this process alone may write.

    Attributes:
        database: The connection, for the thread that opened it.
        salt: What its digests are salted with.
        last_row: The highest id in use; 0 if there is none.
    """

    database: sqlite3.Connection
    salt: bytes
    last_row: int


@contextmanager
def open_journal(path: Path, *, max_bytes: int | None) -> Iterator[OpenFile]:
    """Open the journal at `path`, or begin one, and keep others from writing.

    What another runner began and never settled becomes in doubt. The lock
    goes with the process, however it ends.

    Args:
        path: The file, resolved, so that every name of it leads to one lock.
        max_bytes: Size beyond which the database refuses to grow.

    Raises:
        JournalError: Another runner has it, it is no journal or a newer one's,
            or the file can't be opened or written.
    """
    with ExitStack() as stack:
        with _explained(path):
            stack.enter_context(closing(_lock(path)))
            _create_private(path)
            database = stack.enter_context(closing(_connect(path, mode="rw")))
            known = _is_journal(database, path)
            _set_up(database, path, max_bytes)
            if not known:
                _begin(database)
            opened = _take_over(database)
        yield opened


def _lock(path: Path) -> sqlite3.Connection:
    # An exclusive transaction on a database that stays empty: SQLite's own lock
    # works on every platform, within a process as between two, ends with its
    # process, and unlike a lock of `path` itself lets others read.
    lock = Path(f"{path}-lock")
    _create_private(lock)
    connection = _connect(lock, mode="rw", patience=0.0)
    try:
        connection.execute("PRAGMA journal_mode = MEMORY")  # or it leaves a third file
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise JournalError(f"journal {path} is in use by another runner") from error
        raise
    return connection


def _create_private(path: Path) -> None:
    # `-wal` and `-shm` get the mode of the file they belong to. A file that is
    # there is never opened: closing it again would drop this process's locks.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if path.stat().st_size == 0:
            path.chmod(0o600)


def _connect(
    path: Path, *, mode: str, patience: float = _PATIENCE
) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=patience,
        isolation_level=None,  # transactions are begun by hand
        check_same_thread=False,  # a dropped one is closed where it is collected
    )


def _is_journal(database: sqlite3.Connection, path: Path) -> bool:
    """Say whether there is a journal; False if nothing is there at all."""
    mark = _value(database, "PRAGMA application_id")
    version = _value(database, "PRAGMA user_version")
    if mark == _APPLICATION_ID:
        if version > _VERSION:
            raise JournalError(
                f"journal {path} was written by a newer aiophlo: its schema is"
                f" version {version}, this one knows {_VERSION}"
            )
        return True
    if mark or version or _value(database, "SELECT count(*) FROM sqlite_master"):
        raise JournalError(f"{path} is another program's database, not a journal")
    return False


def _set_up(database: sqlite3.Connection, path: Path, max_bytes: int | None) -> None:
    if _value(database, "PRAGMA journal_mode = WAL") != "wal":
        raise JournalError(f"journal {path}: its file system can't hold a WAL")
    # NORMAL may lose the last commits in a power cut: an intent that was
    # acted on would be gone, and its phone would ring again.
    database.execute("PRAGMA synchronous = FULL")
    # What is deleted is a person's address: nothing of it stays in the file.
    database.execute("PRAGMA secure_delete = ON")
    if max_bytes is not None:
        pages = max_bytes // _value(database, "PRAGMA page_size")
        database.execute(f"PRAGMA max_page_count = {pages}")


def _begin(database: sqlite3.Connection) -> None:
    with transaction(database):
        for statement in _SCHEMA:
            database.execute(statement)
        database.execute(
            "INSERT INTO settings VALUES ('salt', ?)", (secrets.token_bytes(32),)
        )


def _take_over(database: sqlite3.Connection) -> OpenFile:
    with transaction(database):
        database.execute(_INTERRUPT, (time.time(),))
        database.execute(_HANDOVERS)
    salt = _value(database, "SELECT value FROM settings WHERE name = 'salt'")
    last = _value(database, "SELECT coalesce(max(id), 0) FROM actions")
    return OpenFile(database, salt, last)


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


def _value(database: sqlite3.Connection, query: str) -> Any:  # noqa: ANN401 -- SQL's
    return database.execute(query).fetchone()[0]


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        _fail(path, error)


def _fail(path: Path, error: Exception) -> NoReturn:
    raise JournalError(f"journal {path}: {error}") from error
