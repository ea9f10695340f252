"""The lists that were sent under other journals, as sketches; its queries block."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from aiophlo.postgres.batch_reader import JournalQueries

_LOCK: Final = 0x6C697374  # of all sketches: "list"


class SentLists(JournalQueries):
    """Tells a journal's list from those of others, also before there is the journal."""

    def secret(self) -> bytes:
        """Return what all sketches are salted with.

        Raises:
            JournalError: It can't be read.
        """
        rows = self._rows("SELECT secret FROM {schema}.batch_secret")
        return str(rows[0]["secret"]).encode()

    @property
    def has_own(self) -> bool:
        """Whether the journal's list was compared with others when it began."""
        query = "SELECT FROM {schema}.batches WHERE name = %s AND sketch IS NOT NULL"
        return bool(self._rows(query, self._name))

    @contextlib.contextmanager
    def others(self, since: float) -> Iterator[dict[str, list[int]]]:
        """Give the sketches of other journals, by name, while nobody adds one.

        Args:
            since: Seconds ago, at most, that they were last worked on.

        Raises:
            JournalError: They can't be read.
        """
        with self._explained(), self._database.transaction():
            self._rows("SELECT pg_advisory_xact_lock(%s)", _LOCK)
            rows = self._rows(
                "SELECT name, sketch FROM {schema}.batches WHERE name <> %s"
                " AND sketch IS NOT NULL"
                " AND last_at > extract(epoch FROM clock_timestamp()) - %s",
                self._name,
                since,
            )
            yield {row["name"]: row["sketch"] for row in rows}

    def keep(self, sketch: Sequence[int]) -> None:
        """Keep the sketch of the journal's list, for others to be compared with.

        Raises:
            JournalError: It can't be written.
        """
        with self._explained():
            self._database.execute(
                self._sql("UPDATE {schema}.batches SET sketch = %s WHERE name = %s"),
                (list(sketch), self._name),
            )
