"""Finds what comes twice in a list, on disk: SQLite sorts more than memory holds.

Its database is a temporary one that SQLite removes by itself, and holds hashes.
"""

import sqlite3
from collections.abc import Iterator

from aiophlo.journal.database import connect_temporary

_GROUP = 1_000  # rows written at a time
_SHARING_A_KEY = """
    SELECT line, first, content = first_content AS same FROM (
        SELECT key, line, content,
            first_value(line) OVER same_key AS first,
            first_value(content) OVER same_key AS first_content
        FROM keys WHERE key IN
            (SELECT key FROM keys GROUP BY key HAVING count(*) > 1)
        WINDOW same_key AS (PARTITION BY key ORDER BY line)
    )
    WHERE line > first ORDER BY line
"""
_DROP_CONFLICTS = f"""
    DELETE FROM keys WHERE line IN
        (SELECT line FROM ({_SHARING_A_KEY}) WHERE NOT same)
"""  # noqa: S608 -- no value is put into it
_SHARING_CONTENT = """
    SELECT line, first, key IS NULL OR nth = 1 AS new FROM (
        SELECT key, line,
            first_value(line) OVER same AS first,
            first_value(key) OVER same AS first_key,
            row_number() OVER (PARTITION BY content, key ORDER BY line) AS nth
        FROM keys WHERE content IN
            (SELECT content FROM keys GROUP BY content HAVING count(*) > 1)
        WINDOW same AS (PARTITION BY content ORDER BY line)
    )
    WHERE line > first AND (key IS NULL OR key IS NOT first_key) ORDER BY line
"""


class RepeatedRows:
    """Rows by their keys and by what they ask for, in memory that doesn't grow."""

    def __init__(self) -> None:
        self._database = connect_temporary()
        # A null key is a row that has none, and equals no other.
        self._database.execute(
            "CREATE TABLE keys (key INTEGER, content INTEGER, line INTEGER PRIMARY KEY)"
        )
        self._database.execute("BEGIN")
        self._pending: list[tuple[int | None, int, int]] = []

    def close(self) -> None:
        """Close the database, which deletes its file."""
        self._database.close()

    def add(self, key: str, content: int, line: int) -> None:
        """Take note of a row.

        Args:
            key: Its own; empty if it has none.
            content: Hash of what it asks for.
            line: Where it begins, from 1.
        """
        self._pending.append((hash(key) if key else None, content, line))
        if len(self._pending) == _GROUP:
            self._write()

    def sharing_a_key(self) -> Iterator[sqlite3.Row]:
        """Yield the `line` of each row with an earlier one's key, and the `first` one.

        Yields:
            Rows with whether both ask for the `same`, too.
        """
        return self._rows(_SHARING_A_KEY)

    def drop_conflicts(self) -> None:
        """Forget rows whose key stands for something else in an earlier row."""
        self._write()
        self._database.execute(_DROP_CONFLICTS)

    def sharing_content(self) -> Iterator[sqlite3.Row]:
        """Yield the `line` of each row that asks for what the `first` one does.

        Rows with the first one's key as well are left out: they are one row, told
        twice.

        Yields:
            Rows in their order, with whether each is `new`: no repeat of another one
            that was yielded.
        """
        return self._rows(_SHARING_CONTENT)

    def _rows(self, query: str) -> Iterator[sqlite3.Row]:
        self._write()
        cursor = self._database.cursor()
        cursor.row_factory = sqlite3.Row
        return cursor.execute(query)

    def _write(self) -> None:
        self._database.executemany("INSERT INTO keys VALUES (?, ?, ?)", self._pending)
        self._pending.clear()
