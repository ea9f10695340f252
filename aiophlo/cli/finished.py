"""Rows that earlier runs of a batch have finished, found about as fast as read.

Only for a file that hasn't changed and repeats no key: whatever stood in a
line then stands there now, so that no row needs to be checked again.
"""

import re
import sqlite3
from pathlib import Path
from typing import Any

from aiophlo.cli.results import Result
from aiophlo.errors import JournalError
from aiophlo.journal_keys import Digests

_PAGE = 2_000  # rows read at a time
_OF_A_LINE = re.compile(r"([0-9]+):[0-9a-f]{16}")
_KNOWN = """
    SELECT key, verdict, reason, status, api_id, coalesce(attempts, 0),
        round(coalesce(seconds, 0.0), 3), id  -- but for the id, as Result has them
    FROM actions WHERE verdict IN ('accepted', 'rejected', :in_doubt)
"""
_NEXT = _KNOWN + "AND id > :after AND id <= :upto"
_BY_KEY = _KNOWN + "AND key = :key AND id <= :upto"
_BY_LINE = _KNOWN + "AND key >= :line || ':' AND key < :line || ';' AND id <= :upto"
_COUNT = f"SELECT count(*) FROM ({_KNOWN})"  # noqa: S608 -- a constant


class Finished:
    """Finds what an open journal has of rows that need nothing more.

    Args:
        journal: Its path.
        keyless: The file's rows have no keys: they go by their lines.
        include_in_doubt: What is in doubt does need something.

    Raises:
        JournalError: It can't be read.
    """

    def __init__(self, journal: Path, *, keyless: bool, include_in_doubt: bool) -> None:
        self._path = journal
        self._keyless = keyless
        self._in_doubt = None if include_in_doubt else "in_doubt"
        uri = f"{journal.resolve().as_uri()}?mode=ro"
        self._database = sqlite3.connect(uri, uri=True, isolation_level=None)
        salt = self._fetch("SELECT value FROM settings WHERE name = 'salt'")[0][0]
        self._digests = Digests(salt)
        # What this run adds is no concern of its own.
        self._last = self._fetch("SELECT coalesce(max(id), 0) FROM actions")[0][0]
        self._left = self._fetch(_COUNT)[0][0]
        self._page: dict[str | int, Result] = {}
        self._read_to = 0

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def find(self, line: int, key: str) -> Result | None:
        """Return what came of a row in an earlier run, if it is finished.

        Args:
            line: Where the row begins.
            key: Its own.
        """
        if not self._left:
            return None
        found = self._page.pop(line if self._keyless else key, None)
        if found is None:
            found = self._look_up(line, key)
        self._left -= found is not None
        return found

    def _look_up(self, line: int, key: str) -> Result | None:
        # Costs ten times what finding it in the page does: the file's order is
        # about the journal's, so what comes next is read along with it.
        if self._keyless:
            rows = self._fetch(_BY_LINE, line=line, upto=self._last)
        else:
            stored = self._digests.key(key)
            rows = self._fetch(_BY_KEY, key=stored, upto=self._last)
        for *found, row in rows:
            if not self._keyless or self._place(found[0]) == line:
                if row > self._read_to:
                    self._read_on(row)
                return (found[0] if self._keyless else key, *found[1:])
        return None

    def _read_on(self, after: int) -> None:
        if len(self._page) > _PAGE:
            self._page.clear()
        self._read_to = min(after + _PAGE, self._last)
        rows = self._fetch(_NEXT, after=after, upto=self._read_to)
        if self._keyless:
            self._page.update((self._place(row[0]), row[:7]) for row in rows)
        else:
            self._page.update((row[0], row[:7]) for row in rows)

    def _place(self, key: str) -> str | int:
        match = _OF_A_LINE.fullmatch(key)
        return int(match[1]) if match else key

    def _fetch(self, query: str, **values: object) -> list[Any]:
        values["in_doubt"] = self._in_doubt
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise JournalError(f"journal {self._path}: {error}") from error
