"""Reads a batch's journal in Postgres, from any machine; its queries block."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Self

import psycopg
from psycopg.rows import dict_row

from aiophlo.errors import JournalError
from aiophlo.journal.keys import Digests, number_at_end, row_of
from aiophlo.journal.reader import (
    PAGE_SIZE,
    RECORD_FIELDS,
    JournalRecord,
    JournalReport,
    KnownRow,
    report_of,
)
from aiophlo.postgres.connection import said

_BEGUN: Final = (
    "FROM {schema}.batch_rows WHERE batch + 0 = %s AND intended_at IS NOT NULL"
)
_PAGE: Final = f"{_BEGUN} AND id > %s ORDER BY id LIMIT %s"
# As long as `end_lost_runners` takes its runner for alive.
_UNDER_WAY: Final = """(verdict IS NULL AND EXISTS (
    SELECT FROM {schema}.batch_runners r WHERE r.id = runner
        AND greatest(r.until,
            extract(epoch FROM pg_postmaster_start_time())::float8 + r.lease)
            >= extract(epoch FROM clock_timestamp())::float8 - r.lease * 2 / 15))
"""
_REPORT: Final = f"""
    SELECT verdict, reason, count(*) AS number, min(intended_at) AS first_at,
        max(coalesce(settled_at, intended_at)) AS last_at,
        count(*) FILTER (WHERE {_UNDER_WAY}) AS under_way
    {_BEGUN} GROUP BY verdict, reason
"""
_RECORDS: Final = (
    f"SELECT {', '.join(RECORD_FIELDS)}, {_UNDER_WAY} AS under_way {_PAGE}"
)
_FIELDS: Final = ", ".join(KnownRow._fields)
_KNOWN: Final = f"SELECT {_FIELDS} {_BEGUN}"
_AFTER: Final = f"SELECT {_FIELDS} {_PAGE}"
_SETTLE: Final = """
    UPDATE {schema}.batch_rows SET verdict = %s, reason = %s, status = %s, api_id = %s,
        error = %s, attempts = %s, seconds = %s
    WHERE batch + 0 = %s AND id = %s AND verdict = 'in_doubt' AND reason = 'interrupted'
        AND runner IS NULL
"""
_NO_SCHEMA: Final = psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName


class NoJournalError(JournalError):
    """There is none of that name."""


class JournalQueries:
    """Queries about one journal, over a connection of their own.

    Args:
        url: Where the database is.
        schema: Of the tables.
        name: The journal's; there may be none.

    Raises:
        JournalError: It can't be connected to.
    """

    def __init__(self, url: str, schema: str, name: str) -> None:
        self._name = name
        self._schema = f'"{schema}"'
        with self._explained():
            self._database = psycopg.connect(
                url,
                autocommit=True,
                connect_timeout=5,
                prepare_threshold=None,
                application_name="aiophlo",
                client_encoding="utf8",
                row_factory=dict_row,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._name!r}>"

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def _rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        with self._explained():
            return self._database.execute(self._sql(query), values).fetchall()

    def _sql(self, query: str) -> bytes:
        return query.replace("{schema}", self._schema).encode()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except _NO_SCHEMA as error:
            raise JournalError(
                f"journal {self._name}: its tables aren't there: run `aiophlo postgres"
                " migrate`"
            ) from error
        except (psycopg.Error, OSError) as error:
            raise JournalError(f"journal {self._name}: {said(error)}") from error


class PostgresJournalReader(JournalQueries):
    """Reads a batch's memory, as `JournalReader` reads a file.

    Args:
        url: Where the database is.
        schema: Of the tables.
        name: The journal's.

    Raises:
        JournalError: There is none, or it can't be read.
    """

    def __init__(self, url: str, schema: str, name: str) -> None:
        super().__init__(url, schema, name)
        with contextlib.ExitStack() as stack:
            stack.callback(self._database.close)
            self._batch, salt = self._identity()
            stack.pop_all()
        self._salt = bytes.fromhex(salt)
        self._digests = Digests(self._salt)

    def _identity(self) -> tuple[int, str]:
        rows = self._rows(
            "SELECT id, salt FROM {schema}.batches WHERE name = %s", self._name
        )
        if not rows:
            raise NoJournalError(f"journal {self._name}: there is none of that name")
        return rows[0]["id"], rows[0]["salt"]

    def report(self) -> JournalReport:
        """Count what the journal holds.

        Raises:
            JournalError: It can't be read.
        """
        return report_of(self._rows(_REPORT, self._batch))

    def waiting(self) -> tuple[int, int]:
        """Count what hasn't ended: of the queue what waits, and is in workers' hands.

        Raises:
            JournalError: It can't be read.
        """
        query = (
            "SELECT count(*) FILTER (WHERE runner IS NULL) AS waiting,"
            " count(*) FILTER (WHERE runner IS NOT NULL) AS in_hand"
            " FROM {schema}.queued WHERE ended_at IS NULL"
        )
        (row,) = self._rows(query)
        return row["waiting"], row["in_hand"]

    def outcomes(self) -> Iterator[JournalRecord]:
        """Yield every key's record, in about the order of their first intents.

        Raises:
            JournalError: It can't be read.
        """
        last = -1
        while rows := self._rows(_RECORDS, self._batch, last, PAGE_SIZE):
            for row in rows:
                yield JournalRecord(**row)
            last = rows[-1]["id"]

    def count(self, *, besides: Sequence[str]) -> int:
        """Return how many keys have another verdict than these, or none.

        Raises:
            JournalError: They can't be read.
        """
        query = (
            f"SELECT count(*) AS number {_BEGUN} AND"
            " (verdict IS NULL OR verdict <> ALL(%s))"
        )
        return int(self._rows(query, self._batch, list(besides))[0]["number"])

    def setting(self, name: str) -> Any:  # noqa: ANN401 -- as it was kept
        """Return what the journal keeps beside its rows by a name, or None.

        Raises:
            JournalError: It can't be read.
        """
        if name == "salt":
            return self._salt
        query = "SELECT settings->>%s AS value FROM {schema}.batches WHERE id = %s"
        rows = self._rows(query, name, self._batch)
        return rows[0]["value"] if rows else None

    def find(self, key: str, *, masked: bool) -> KnownRow | None:
        """Return the row of a key as it is kept, if there is one.

        Raises:
            JournalError: It can't be read.
        """
        name = number_at_end(key) if masked else self._digests.number(key)
        rows = self._known(f"{_KNOWN} AND name = %s", name)
        return rows[0] if rows else None

    def find_default(self, row: int) -> KnownRow | None:
        """Return the row whose key is the `default_key` of a list's row `row`.

        Raises:
            JournalError: It can't be read.
        """
        rows = self._known(f"{_KNOWN} AND key LIKE %s", f"{row}:%")
        return next((known for known in rows if row_of(known.key) == row), None)

    def after(self, row: int) -> list[KnownRow]:
        """Return the next page of rows behind the one with id `row`.

        Raises:
            JournalError: They can't be read.
        """
        return self._known(_AFTER, row, PAGE_SIZE)

    def write(
        self, settings: Mapping[str, str], *, settled: Iterable[KnownRow] = ()
    ) -> None:
        """Keep settings, and outcomes that were not noted when they came.

        Raises:
            JournalError: They can't be written.
        """
        with self._explained(), self._database.transaction():
            for row in settled:
                known = row.verdict, row.reason, row.status, row.api_id, row.error
                values = *known, row.attempts, row.seconds, self._batch, row.id
                self._database.execute(self._sql(_SETTLE), values)
            self._database.execute(
                self._sql(
                    "UPDATE {schema}.batches SET settings = settings || %s::jsonb"
                    " WHERE id = %s"
                ),
                (json.dumps(dict(settings)), self._batch),
            )

    def _known(self, query: str, *values: object) -> list[KnownRow]:
        return [KnownRow(**row) for row in self._rows(query, self._batch, *values)]
