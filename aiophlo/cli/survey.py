"""The first of a batch's two readings: what can't be used, before anything is sent."""

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator

import attrs

from aiophlo.cli.rows import (
    Defaults,
    Fields,
    Row,
    Unusable,
    action_of,
    own_key,
    rows_of,
)
from aiophlo.cli.source import Source
from aiophlo.errors import InvalidInputError

_PLAIN_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_GROUP = 1_000
_MOST_KINDS = 10_000  # agents, roles and nodes whose check is remembered


@attrs.frozen
class Survey:
    """What a file holds.

    Attributes:
        rows: Rows that can be sent.
        unusable: Rows that can't.
        repeated: Rows with the key of an earlier one.
        keyless: Rows with no key of their own, of those that can be sent.
    """

    rows: int
    unusable: int
    repeated: int
    keyless: int


def survey(
    source: Source, defaults: Defaults, tell: Callable[[Unusable], None]
) -> Survey:
    """Check every row, in memory that doesn't grow with their number.

    Args:
        source: What is read.
        defaults: What options say about every row.
        tell: Called with each row that can't be sent.

    Raises:
        UnusableError: Its header is missing, or has the wrong columns.
    """
    with contextlib.closing(_Keys()) as keys:
        surveyor = _Surveyor(defaults, tell, keys)
        for row in rows_of(source):
            surveyor.look(row)
        repeated = conflicts = 0
        for conflict in keys.repeated():
            repeated += 1
            if conflict is not None:
                conflicts += 1
                tell(conflict)
        return Survey(
            rows=surveyor.rows - conflicts,
            unusable=surveyor.unusable + conflicts,
            repeated=repeated,
            keyless=surveyor.keyless,
        )


class _Surveyor:
    def __init__(
        self, defaults: Defaults, tell: Callable[[Unusable], None], keys: "_Keys"
    ) -> None:
        self.rows = 0
        self.keyless = 0
        self.unusable = 0
        self._defaults = defaults
        self._tell = tell
        self._keys = keys
        self._sound: dict[tuple[str, ...], int] = {}  # all but `to` and key, checked

    def look(self, row: Row | Unusable) -> None:
        if isinstance(row, Unusable):
            self._refuse(row)
            return
        line, fields = row
        key = fields[5]
        kind = self._sound.get(fields[1:5])
        if (
            kind is not None
            and _PLAIN_NUMBER.fullmatch(fields[0])
            and key.isascii()
            and key.isprintable()
        ):
            self._accept(line, key.strip(), (fields[0], kind))
        else:
            self._look_closely(line, fields)

    def _look_closely(self, line: int, fields: Fields) -> None:
        key = own_key(fields)
        try:
            action = action_of(fields, self._defaults, key or None)
        except InvalidInputError as error:
            self._refuse(Unusable(line, str(error), key))
            return
        kind = hash(
            (action.trigger_source, action.role, action.phlo_id, action.node_id)
        )
        if len(self._sound) >= _MOST_KINDS:
            self._sound.clear()
        self._sound[fields[1:5]] = kind
        self._accept(line, key, (action.to, kind))

    def _accept(self, line: int, key: str, content: tuple[str, int]) -> None:
        self.rows += 1
        if key:
            self._keys.add(key, hash(content), line)
        else:
            self.keyless += 1

    def _refuse(self, row: Unusable) -> None:
        self.unusable += 1
        self._tell(row)


class _Keys:
    """Finds keys that come twice, on disk: SQLite sorts more than memory holds.

    It is a temporary database that SQLite removes by itself, and holds hashes.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        for statement in (
            "PRAGMA synchronous = OFF",
            "PRAGMA journal_mode = OFF",
            "CREATE TABLE keys (key INTEGER, content INTEGER, line INTEGER)",
            "BEGIN",
        ):
            self._database.execute(statement)
        self._pending: list[tuple[int, int, int]] = []

    def add(self, key: str, content: int, line: int) -> None:
        self._pending.append((hash(key), content, line))
        if len(self._pending) == _GROUP:
            self._write()

    def repeated(self) -> Iterator[Unusable | None]:
        """Yield, for each row that repeats a key, a conflict, or None if there is none.

        A row is held against the first with its key.
        """
        self._write()
        found = self._database.execute(
            """
            SELECT key, content, line FROM keys WHERE key IN
                (SELECT key FROM keys GROUP BY key HAVING count(*) > 1)
            ORDER BY key, line
            """
        )
        first: tuple[int, int, int] | None = None
        for row in found:
            if first is None or row[0] != first[0]:
                first = row
            elif row[1] == first[1]:
                yield None
            else:
                reason = f"key: stands for another transfer in line {first[2]}"
                yield Unusable(row[2], reason)

    def close(self) -> None:
        self._database.close()

    def _write(self) -> None:
        self._database.executemany("INSERT INTO keys VALUES (?, ?, ?)", self._pending)
        self._pending.clear()
