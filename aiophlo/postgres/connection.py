"""One connection to Postgres, whose every statement ends within a second.

psycopg asks a server that is silent to cancel, and waits for that: so a statement runs
as a task of its own, and when its time is over its socket is shut down under it.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import psycopg
from psycopg.rows import TupleRow

from aiophlo.model.redaction import mask_text

PATIENCE: Final = 1.0  # seconds for a statement
_CONNECTING: Final = 2.0  # seconds to get a connection
_T = TypeVar("_T")


class AwayError(Exception):
    """The database can't be reached, or doesn't do what it is asked."""


def said(error: Exception) -> str:
    """Return what a driver or server says is wrong, in a line, without numbers."""
    lines = str(error).strip().splitlines()
    return mask_text(f"{type(error).__name__}: {lines[0] if lines else 'no details'}")


class Connection:
    """One connection, which is open or has to be opened anew.

    Args:
        url: Where the server is, with or without what libpq takes from the
            environment (`PGPASSWORD`, `PGSSLMODE`, …).
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._psycopg: psycopg.AsyncConnection[TupleRow] | None = None

    async def open(self) -> psycopg.AsyncConnection[TupleRow]:
        """Connect.

        Raises:
            AwayError: No connection in its time.
        """
        await self.close()
        connecting = psycopg.AsyncConnection.connect(
            self._url,
            autocommit=True,
            prepare_threshold=None,  # a pooler in transaction mode knows none
            application_name="aiophlo",
            connect_timeout=2,
            tcp_user_timeout=3000,
        )
        task = asyncio.ensure_future(connecting)
        try:
            await asyncio.wait({task}, timeout=_CONNECTING)
        finally:
            if not task.done():
                task.cancel()
                task.add_done_callback(_close_late)
        if not task.done():
            raise AwayError("no connection within 2 s")
        self._psycopg = await _away(task)
        return self._psycopg

    async def fetch(self, query: str, *parameters: object) -> Any:  # noqa: ANN401 -- of the query
        """Run a query, and return the first value of its first row; None for none.

        Raises:
            AwayError: It didn't end in its time, or failed. The connection is closed.
        """
        if self._psycopg is None:
            raise AwayError("not connected")
        task = asyncio.ensure_future(_fetch(self._psycopg, query, parameters))
        try:
            await asyncio.wait({task}, timeout=PATIENCE)
        except asyncio.CancelledError:
            await self._cut(task)
            raise
        if not task.done():
            await self._cut(task)
            raise AwayError("no answer within 1 s")
        try:
            return await _away(task)
        except AwayError:
            await self.close()
            raise

    async def close(self) -> None:
        """Close it, if it is open."""
        connection, self._psycopg = self._psycopg, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    async def _cut(self, task: asyncio.Future[Any]) -> None:
        """Shut the socket down under what waits for it."""
        assert self._psycopg is not None  # noqa: S101 -- `task` uses it
        with contextlib.suppress(OSError, psycopg.Error):
            duplicate = socket.socket(fileno=os.dup(self._psycopg.fileno()))
            with duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)
        task.add_done_callback(_retrieve)
        await asyncio.wait({task}, timeout=PATIENCE)
        await self.close()


async def _fetch(
    connection: psycopg.AsyncConnection[TupleRow],
    query: str,
    parameters: tuple[object, ...],
) -> Any:  # noqa: ANN401 -- of the query
    cursor = await connection.execute(query.encode(), parameters or None)
    row = await cursor.fetchone() if cursor.description else None
    return None if row is None else row[0]


async def _away(task: "asyncio.Future[_T]") -> _T:
    try:
        return await task
    except (psycopg.Error, OSError) as error:
        raise AwayError(said(error)) from error


def _retrieve(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _close_late(task: "asyncio.Future[psycopg.AsyncConnection[TupleRow]]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().pgconn.finish()


def unawaited(work: Coroutine[Any, Any, object], tasks: set[asyncio.Task[Any]]) -> None:
    """Begin a task that nobody awaits; `tasks` keeps it until it ends."""
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
