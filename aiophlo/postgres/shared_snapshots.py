"""What pools tell each other's wallboards, once a second while one is watched.

Over a connection of its own, which is open only then: a page must not delay a booking,
and what fails here harms nothing else.
"""

import asyncio
import importlib
import json
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final

from aiophlo.coordination import AwayError
from aiophlo.logs import logger
from aiophlo.pool import SessionPool
from aiophlo.postgres.connection import Connection, wait_for_event
from aiophlo.postgres.validation import check_namespace, check_url

Part = Mapping[str, Any]
EVERY: Final = 1.0  # seconds
_WATCHED_FOR: Final = 5.0  # seconds after it was last said that a wallboard is watched
_READ: Final = """
    WITH said AS (SELECT pg_notify($1, '[["watched"]]')),
        gone AS (DELETE FROM {schema}.snapshots WHERE at < now() - interval '60 s')
    SELECT coalesce(jsonb_agg(jsonb_build_array(
            extract(epoch FROM clock_timestamp() - s.at), s.part)), '[]')
    FROM said LEFT JOIN {schema}.snapshots s
        ON s.pool <> $2::bigint AND s.at > now() - interval '15 s'
    WHERE s.pool IS NOT NULL"""
_WRITE: Final = """
    WITH written AS (
        INSERT INTO {schema}.snapshots VALUES ($1::bigint, clock_timestamp(), $2::jsonb)
        ON CONFLICT (pool) DO UPDATE SET at = excluded.at, part = excluded.part
        RETURNING pool)
    SELECT CASE WHEN $4 <> '' THEN pg_notify($3, $4) END FROM written"""


class SharedSnapshots:
    """A pool's part in the wallboards of all pools.

    Args:
        url: Where the database is.
        schema: Of the tables; notices go by its name.

    Attributes:
        number: The pool's, once it is open.
    """

    def __init__(self, url: str, schema: str) -> None:
        self._database = _Database(url, schema)
        self.number = 0
        self._pool: weakref.ref[object] | None = None
        self._part: Callable[[], Part] | None = None
        self._on_alarm: Callable[[], None] | None = None
        self._watched_until = 0.0
        self._telling: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._alarmed = False

    def attach(self, pool: object) -> None:
        """Hear whose part it is; it counts from when a wallboard is first watched."""
        self._pool = weakref.ref(pool)

    def exhibit(self, part: Callable[[], Part], on_alarm: Callable[[], None]) -> None:
        """Tell this from now on.

        Args:
            part: Gives what the pool does, masked.
            on_alarm: Called when another pool has an alarm.
        """
        self._part = part
        self._on_alarm = on_alarm

    def hear(self, kind: str, details: Sequence[object]) -> None:
        """Hear that a wallboard is watched, or that another pool has an alarm."""
        if kind == "watched":
            loop = asyncio.get_running_loop()
            self._watched_until = loop.time() + _WATCHED_FOR
            if self._telling is None or self._telling.done():
                self._telling = loop.create_task(self._tell())
        elif self._on_alarm is not None and self.number not in details:
            self._on_alarm()

    def hurry(self) -> None:
        """Tell of an alarm at once, if a wallboard is watched."""
        self._alarmed = True
        self._wake.set()

    async def others(self) -> list[dict[str, Any]]:
        """Return what other pools told lately, each with its `age` in seconds.

        Raises:
            AwayError: The database can't be reached.
        """
        return await self._database.read(self.number)

    async def close(self) -> None:
        """Tell nothing any more."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait({self._telling})
        self._database.close()

    async def _tell(self) -> None:
        """Tell once a second, for as long as somebody watches."""
        try:
            await self._begin_to_count()
            time = asyncio.get_running_loop().time
            while time() < self._watched_until and self._part is not None:
                alarmed, self._alarmed = self._alarmed, False
                await self._database.write(self.number, self._part(), alarm=alarmed)
                await wait_for_event(self._wake, EVERY)
                self._wake.clear()
        except AwayError as error:  # told anew when it is watched again
            logger.debug("wallboards elsewhere aren't told: %s", error)
        except Exception as error:  # noqa: BLE001 -- a page, and no more
            logger.failure("wallboards elsewhere aren't told", error=error)
        finally:
            self._database.close()

    async def _begin_to_count(self) -> None:
        """Have a pool counted that has no wallboard of its own."""
        pool = None if self._pool is None else self._pool()
        if self._part is None and isinstance(pool, SessionPool):
            # In a thread: it loads a web server, for which the loop would stand still.
            await asyncio.to_thread(importlib.import_module, "aiophlo.wallboard")
            from aiophlo.wallboard.board import Wallboard  # noqa: PLC0415 -- see above

            Wallboard(pool)  # which calls `exhibit`


class _Database:
    """The table of snapshots, by a connection that opens when it is needed."""

    def __init__(self, url: str, schema: str) -> None:
        self._url = url
        self._schema = schema
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()  # one statement at a time

    async def read(self, number: int) -> list[dict[str, Any]]:
        """Return what pools but this one told, and say that somebody watches."""
        text = await self._fetch(_READ, self._schema, number)
        return [{**part, "age": age} for age, part in json.loads(text or "[]")]

    async def write(self, number: int, part: Part, *, alarm: bool) -> None:
        """Tell what this pool does."""
        told = json.dumps(part, separators=(",", ":"))
        notice = json.dumps([["shown", number]]) if alarm else ""
        await self._fetch(_WRITE, number, told, self._schema, notice)

    async def _fetch(self, query: str, *values: object) -> str | None:
        async with self._lock:
            connection = self._connection = self._connection or Connection(self._url)
            try:
                if not connection.is_open:
                    await connection.open()
                named = query.format(schema=f'"{self._schema}"')
                return await connection.fetch(named, *values)
            except BaseException:
                self.close()
                raise
            finally:
                if self._connection is not connection:  # closed, perhaps as it opened
                    connection.close()

    def close(self) -> None:
        """Close the connection; the next statement opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


async def watch_snapshots(
    url: str, *, namespace: str = "aiophlo"
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yield, once a second, what all pools that share a database tell wallboards.

    Args:
        url: Where the database is.
        namespace: Name of the schema.

    Raises:
        AwayError: It can't be reached, or has no such schema.
        InvalidInputError: An argument can't be right.
    """
    database = _Database(check_url(url, "url"), check_namespace(namespace))
    try:
        while True:
            yield await database.read(0)
            await asyncio.sleep(EVERY)
    finally:
        database.close()
