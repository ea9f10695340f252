"""Reading a journal, whether or not a runner has it; for its columns see `file`."""

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, Self

import attrs

from aiophlo.errors import JournalError
from aiophlo.journal.database import (
    connect,
    explained,
    fields_of,
    read_setting,
    select,
    value_of,
)
from aiophlo.journal.keys import row_of
from aiophlo.journal.ownership import is_runner_alive
from aiophlo.journal.private_files import stat_regular
from aiophlo.journal.schema import MASKED_KEY, is_journal
from aiophlo.model.handover_records import OpenHandover
from aiophlo.model.outcomes import VERDICTS

# Whether what has no outcome has a live runner: of a file, all of it or nothing.
_UNDER_WAY: Final = "CASE WHEN verdict IS NULL THEN ? ELSE 0 END"
_REPORT: Final = f"""
    SELECT verdict, reason, count(*) AS number, min(intended_at) AS first_at,
        max(coalesce(settled_at, intended_at)) AS last_at,
        count(*) * {_UNDER_WAY} AS under_way
    FROM actions GROUP BY verdict, reason
"""  # noqa: S608 -- ours

PAGE_SIZE: Final = 1_000  # rows read at a time


class KnownRow(NamedTuple):
    """What decides whether an action is sent again; see the module for the columns."""

    key: str
    id: int
    digest: str
    verdict: str | None
    reason: str | None
    status: int | None
    api_id: str | None
    error: str | None
    attempts: int | None
    seconds: float | None
    intended_at: float


@attrs.frozen
class JournalRecord:
    """What the journal knows of one key; see the module for the columns.

    Attributes:
        id: Its row.
        key: The caller's key, masked if it could hold a number.
        kind: The action's class.
        address: Whom it dials or is about, masked; None if nobody.
        verdict: One of the four, or None: begun, and no outcome yet.
        reason: Why it was not sent or is in doubt; `sighted` if it was accepted since
            a look has shown its call.
        status: HTTP status of the answer that decided.
        api_id: Plivo's id of the request.
        error: What went wrong, masked.
        attempts: How many requests were begun.
        seconds: From asking to knowing.
        intended_at: Unix time of the latest intent.
        settled_at: Unix time of its outcome.
        under_way: It has no outcome yet, and a runner that is alive has it in flight;
            None if it can't be told whether one is.
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
    under_way: bool | None = attrs.field(
        default=False, converter=attrs.converters.optional(bool)
    )


_BY_KEY = select(KnownRow._fields, "FROM actions WHERE key = ?")
_BY_DIGEST = select(
    KnownRow._fields, f"FROM actions WHERE {MASKED_KEY} AND substr(key, -16) = ?"
)
_OF_ROW = select(
    KnownRow._fields, "FROM actions WHERE key >= ? || ':' AND key < ? || ';'"
)
_PAGE = "FROM actions WHERE id > ? ORDER BY id LIMIT ?"
_AFTER = select(KnownRow._fields, _PAGE)
RECORD_FIELDS: Final = [*fields_of(JournalRecord)][:-1]  # the last is no column
_RECORDS = select([*RECORD_FIELDS, f"{_UNDER_WAY} AS under_way"], _PAGE)
_OPEN_HANDOVERS = select(fields_of(OpenHandover), "FROM handovers ORDER BY began_at")


@attrs.frozen(kw_only=True)
class JournalReport:
    """How far a batch has come.

    Attributes:
        verdicts: How many keys have each of the four verdicts.
        reasons: How many keys have each reason that occurs, `sighted` among them.
        open: How many were begun and have no outcome: in flight while their
            runner is at work, in doubt once it is gone.
        under_way: How many of these a runner that is alive has in flight; None if it
            can't be told whether one is, as of a copy of the file.
        first_at: Unix time of the first intent; None in an empty journal.
        last_at: Unix time of the last thing noted.
    """

    verdicts: Mapping[str, int]
    reasons: Mapping[str, int]
    open: int
    under_way: int | None
    first_at: float | None
    last_at: float | None


def report_of(rows: Sequence[Mapping[str, Any]]) -> JournalReport:
    """Return the report that rows make of which each counts keys of one kind."""
    verdicts = Counter(dict.fromkeys(VERDICTS, 0))
    reasons: Counter[str] = Counter()
    for row in rows:
        if row["verdict"] is not None:
            verdicts[row["verdict"]] += row["number"]
        if row["reason"] is not None:
            reasons[row["reason"]] += row["number"]
    under_way = [row["under_way"] for row in rows]
    return JournalReport(
        verdicts=dict(verdicts),
        reasons=dict(reasons),
        open=sum(row["number"] for row in rows if row["verdict"] is None),
        under_way=None if None in under_way else sum(under_way),
        first_at=min((row["first_at"] for row in rows), default=None),
        last_at=max((row["last_at"] for row in rows), default=None),
    )


class JournalView(Protocol):
    """What can be read of a journal, wherever it is kept."""

    def __enter__(self) -> Self:
        """Return it."""

    def __exit__(self, *_: object) -> None:
        """Close it."""

    def close(self) -> None:
        """Let go of it."""

    def report(self) -> JournalReport:
        """Count what the journal holds."""

    def outcomes(self) -> Iterator[JournalRecord]:
        """Yield every key's record, in the order of their first intents."""

    def count(self, *, besides: Sequence[str]) -> int:
        """Return how many keys have another verdict than these, or none."""

    def setting(self, name: str) -> Any:  # noqa: ANN401 -- as it was kept
        """Return what the journal keeps beside its rows by a name, or None."""

    def find(self, key: str, *, masked: bool) -> KnownRow | None:
        """Return the row of a key as it is kept, if there is one."""

    def find_default(self, row: int) -> KnownRow | None:
        """Return the row whose key is the `default_key` of a list's row `row`."""

    def after(self, row: int) -> list[KnownRow]:
        """Return the next page of rows behind the one with id `row`."""


class JournalReader:
    """Reads a journal, whether or not a runner has it open, and changes nothing.

    Opening one for reading may leave its empty `-wal` and its `-shm` behind.

    Args:
        path: The journal's file.

    Raises:
        JournalError: There is none, or it can't be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(os.path.realpath(path))
        with explained(self._path):
            self._database = _open_to_read(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<JournalReader of {str(self._path)!r}>"

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def report(self) -> JournalReport:
        """Count what the journal holds.

        Raises:
            JournalError: It can't be read.
        """
        return report_of(self._named(_REPORT, self._is_runner_alive()))

    def _is_runner_alive(self) -> bool | None:
        # Looked at before the rows: of one that ends meanwhile, they were under way.
        with explained(self._path):
            return is_runner_alive(self._path, self._database)

    def outcomes(self) -> Iterator[JournalRecord]:
        """Yield every key's record, in the order of their first intents.

        Pages of rows are read as they are asked for, so memory stays flat
        and a runner's checkpoints are not held up.

        Raises:
            JournalError: It can't be read.
        """
        last, alive = -1, self._is_runner_alive()
        while rows := self._named(_RECORDS, alive, last, PAGE_SIZE):
            for row in rows:
                yield JournalRecord(**row)
            last = rows[-1]["id"]

    def handovers(self) -> list[OpenHandover]:
        """Return all open handovers, the oldest first.

        Raises:
            JournalError: They can't be read.
        """
        return [OpenHandover(**row) for row in self._named(_OPEN_HANDOVERS)]

    def count(self, *, besides: Sequence[str]) -> int:
        """Return how many keys have another verdict than these, or none.

        Raises:
            JournalError: They can't be read.
        """
        others = " AND ".join(["verdict IS NOT ?"] * len(besides))
        query = f"SELECT count(*) FROM actions WHERE {others}"  # noqa: S608 -- ours
        with explained(self._path):
            return int(value_of(self._database, query, *besides))

    def setting(self, name: str) -> Any:  # noqa: ANN401 -- SQL's
        """Return what the journal keeps beside its rows by a name, or None."""
        with explained(self._path):
            return read_setting(self._database, name)

    def find(self, key: str, *, masked: bool) -> KnownRow | None:
        """Return the row of a key, if there is one.

        Args:
            key: As it is kept.
            masked: It is kept masked: an earlier release may have masked it
                otherwise, but its digest is the same.
        """
        rows = self._known(_BY_KEY, key)
        if masked and not rows:
            rows = self._known(_BY_DIGEST, key[-16:])
        return rows[0] if rows else None

    def find_default(self, row: int) -> KnownRow | None:
        """Return the row whose key is the `default_key` of a list's row `row`."""
        rows = self._known(_OF_ROW, row, row)
        return next((known for known in rows if row_of(known.key) == row), None)

    def after(self, row: int) -> list[KnownRow]:
        """Return the next page of rows behind the one with id `row`."""
        return self._known(_AFTER, row, PAGE_SIZE)

    def _named(self, query: str, *values: object) -> list[Any]:
        cursor = self._database.cursor()
        cursor.row_factory = sqlite3.Row
        with explained(self._path):
            return cursor.execute(query, values).fetchall()

    def _known(self, query: str, *values: object) -> list[KnownRow]:
        # fetchall() ends the statement, and with it the hold on a snapshot
        # that would hide what is written later.
        try:
            rows = self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:  # `explained` costs a third of a look-up
            raise JournalError(f"journal {self._path}: {error}") from error
        return [*map(KnownRow._make, rows)]


def find_journal(path: str | os.PathLike[str]) -> JournalReader | None:
    """Open a journal for reading; None if there is none, or nothing in its file.

    Raises:
        JournalError: It can't be read.
    """
    real = Path(os.path.realpath(path))
    with explained(real):
        found = stat_regular(real)
        if found is None or not found.st_size:
            return None
        with closing(connect(real, mode="ro")) as database:
            if not is_journal(database, real):  # a full disk left no table
                return None
    return JournalReader(real)


def _open_to_read(path: Path) -> sqlite3.Connection:
    stat_regular(path)
    with ExitStack() as stack:
        database = stack.enter_context(closing(connect(path, mode="ro")))
        if is_journal(database, path):
            stack.pop_all()
            return database
    raise JournalError(f"{path} holds no journal")
