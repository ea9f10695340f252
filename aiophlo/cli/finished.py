"""Rows that earlier runs of a batch have finished, found about as fast as read.

Only for a file that hasn't changed and repeats no key: whatever stood in a
line then stands there now, so that no row needs to be checked again.
"""

import re
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

from aiophlo.cli.rows import Row, own_key
from aiophlo.errors import JournalError
from aiophlo.journal_keys import Digests

_PAGE = 2_000  # rows read at a time
_OF_A_LINE = re.compile(r"([0-9]+):[0-9a-f]{16}")
_COLUMNS = "id, key, verdict, reason, status, api_id, attempts, seconds"
_AFTER = f"SELECT {_COLUMNS} FROM actions WHERE id > ? ORDER BY id LIMIT {_PAGE}"  # noqa: S608 -- constants
_BY_KEY = f"SELECT {_COLUMNS} FROM actions WHERE key = ?"  # noqa: S608 -- constants
_BY_LINE = f"SELECT {_COLUMNS} FROM actions WHERE key >= ? AND key < ?"  # noqa: S608 -- constants


class Known(NamedTuple):
    """What the journal has of a row."""

    id: int
    key: str
    verdict: str | None
    reason: str | None
    status: int | None
    api_id: str | None
    attempts: int | None
    seconds: float | None


class Finished:
    """Finds what an open journal has of a file's rows, asked for in their order.

    Args:
        journal: Its path.
        keyless: The file's rows have no keys: they go by their lines.

    Raises:
        JournalError: It can't be read.
    """

    def __init__(self, journal: Path, *, keyless: bool) -> None:
        self._path = journal
        self._keyless = keyless
        uri = f"{journal.resolve().as_uri()}?mode=ro"
        self._database = sqlite3.connect(uri, uri=True, isolation_level=None)
        salt = self._fetch("SELECT value FROM settings WHERE name = 'salt'")[0][0]
        self._digests = Digests(salt)
        # What this run adds is no concern of its own.
        self._left, self._last = self._fetch(
            "SELECT count(*), coalesce(max(id), 0) FROM actions"
        )[0]
        self._page: dict[str | int, Known] = {}
        self._read_to = 0

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def find(self, row: Row) -> Known | None:
        """Return what earlier runs have noted of a row, if anything."""
        if not self._left:
            return None
        place = row.line if self._keyless else self._digests.key(own_key(row))
        known = self._page.pop(place, None) or self._look_up(place)
        self._left -= known is not None
        return known

    def _look_up(self, place: str | int) -> Known | None:
        # Costs ten times what finding it in the page does: the file's order is
        # about the journal's, so what comes next is read along with it.
        if isinstance(place, int):
            rows = self._fetch(_BY_LINE, f"{place}:", f"{place};")
        else:
            rows = self._fetch(_BY_KEY, place)
        for known in map(Known._make, rows):
            if known.id <= self._last and self._place(known) == place:
                if known.id > self._read_to:
                    self._read_on(known.id)
                return known
        return None

    def _read_on(self, after: int) -> None:
        if len(self._page) > _PAGE:
            self._page.clear()
        for known in map(Known._make, self._fetch(_AFTER, after)):
            self._page[self._place(known)] = known
            self._read_to = known.id

    def _place(self, known: Known) -> str | int:
        match = _OF_A_LINE.fullmatch(known.key) if self._keyless else None
        return int(match[1]) if match else known.key

    def _fetch(self, query: str, *values: object) -> list[Any]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise JournalError(f"journal {self._path}: {error}") from error
