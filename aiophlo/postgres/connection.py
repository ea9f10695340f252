"""One connection to Postgres, whose every statement ends within a second.

psycopg connects; then libpq is driven by the event loop itself, which takes a third of
the time that a psycopg cursor takes. What is silent for a second is closed: nothing
here waits for a server, nor asks it to cancel.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn
from psycopg.rows import TupleRow

from aiophlo.coordination import AwayError
from aiophlo.model.redaction import mask_text

PATIENCE: Final = 1.0  # seconds for a statement
_CONNECTING: Final = 2.0  # seconds to get a connection
_GOOD: Final = ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK

Value = bytes | None  # the first of a statement's first row
Ended = Callable[[Value, Exception | None], None]


def said(error: Exception) -> str:
    """Return what a driver or server says is wrong, in a line, without numbers."""
    lines = str(error).strip().splitlines()
    return mask_text(f"{type(error).__name__}: {lines[0] if lines else 'no details'}")


class Connection:
    """One connection, which is open or has to be opened anew.

    Args:
        url: Where the server is, with or without what libpq takes from the
            environment (`PGPASSWORD`, `PGSSLMODE`, …).
        notified: Called with each notice's payload.

    Attributes:
        lost: Ends with why it was closed, once it is.
    """

    def __init__(
        self, url: str, notified: Callable[[str], None] = lambda _: None
    ) -> None:
        self._url = url
        self._notified = notified
        self._loop = asyncio.get_running_loop()
        self._psycopg: psycopg.AsyncConnection[TupleRow] | None = None
        self._pgconn: PGconn | None = None
        self._socket = -1
        self._is_writing = False  # what the socket didn't take
        self._ended: Ended | None = None  # of the statement under way
        self._value: Value = None
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.lost: asyncio.Future[Exception] = self._loop.create_future()

    @property
    def is_open(self) -> bool:
        """Whether it can be asked something."""
        return self._pgconn is not None

    async def open(self) -> None:
        """Connect.

        Raises:
            AwayError: No connection in its time.
        """
        self.close()
        task = asyncio.ensure_future(_connect(self._url))
        done: set[asyncio.Future[psycopg.AsyncConnection[TupleRow]]] = set()
        try:
            done, _ = await asyncio.wait({task}, timeout=_CONNECTING)
        finally:
            if not done:  # it may have succeeded by now, or succeed all the same
                task.cancel()
                task.add_done_callback(_close_late)
        if not done:
            raise AwayError("no connection within 2 s")
        try:
            self._psycopg = task.result()
        except (psycopg.Error, OSError) as error:
            raise AwayError(said(error)) from error
        self._pgconn = pgconn = self._psycopg.pgconn
        pgconn.nonblocking = 1
        self._socket = pgconn.socket
        self.lost = self._loop.create_future()
        self._loop.add_reader(self._socket, self._readable)

    def begin(self, query: bytes, parameters: Sequence[Value], ended: Ended) -> None:
        """Begin a statement; none may be under way.

        Args:
            query: With `$1`, `$2`, … for the parameters.
            parameters: As text.
            ended: Called with the first value of its first row, or with an error. What
                it raises closes the connection.
        """
        pgconn = self._pgconn
        if pgconn is None:
            ended(None, self.lost.result() if self.lost.done() else AwayError("closed"))
            return
        assert self._ended is None  # noqa: S101 -- who uses it waits for the last one
        self._ended, self._value = ended, None
        self._due = self._loop.time() + PATIENCE
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._watch)
        try:
            pgconn.send_query_params(query, parameters)
        except psycopg.Error as error:
            self._lose(AwayError(said(error)))
        else:
            self._flush()

    async def fetch(self, query: str, *parameters: object) -> str | None:
        """Run a query, and return the first value of its first row; None for none.

        Raises:
            AwayError: It didn't end in its time, or failed. The connection is closed.
        """
        came: asyncio.Future[str | None] = self._loop.create_future()

        def ended(value: Value, error: Exception | None) -> None:
            if came.done():  # cancelled
                return
            if error is None:
                came.set_result(None if value is None else value.decode())
            else:
                came.set_exception(error)

        self.begin(query.encode(), [str(it).encode() for it in parameters], ended)
        try:
            return await came
        except asyncio.CancelledError:
            self.close()  # nobody takes what would still come
            raise

    def close(self) -> None:
        """Close it, if it is open."""
        self._lose(AwayError("closed"))

    def _readable(self) -> None:
        pgconn = self._pgconn
        assert pgconn is not None  # noqa: S101 -- its socket is read
        try:
            pgconn.consume_input()
            self._take(pgconn)
            while self._pgconn is not None and (notice := pgconn.notifies()):
                self._notified(notice.extra.decode())
        except (psycopg.Error, OSError) as error:
            self._lose(AwayError(said(error)))
        except Exception as error:  # noqa: BLE001 -- who waits for `lost` is told
            self._lose(error)

    def _take(self, pgconn: PGconn) -> None:
        """Take what has come of the statement under way; end it if that was all."""
        while self._ended is not None and not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                ended, self._ended = self._ended, None
                ended(self._value, None)
            elif result.status not in _GOOD:
                raise psycopg.errors.error_from_result(result)
            elif result.ntuples:
                self._value = result.get_value(0, 0)

    def _flush(self) -> None:
        """Send what the socket takes; the rest once it takes more."""
        pgconn = self._pgconn
        assert pgconn is not None  # noqa: S101 -- a statement is under way
        try:
            is_left = pgconn.flush()
        except psycopg.Error as error:
            self._lose(AwayError(said(error)))
            return
        if is_left:
            self._loop.add_writer(self._socket, self._flush)
        elif self._is_writing:
            self._loop.remove_writer(self._socket)
        self._is_writing = bool(is_left)

    def _watch(self) -> None:
        """Close it if its statement has had its time; one timer serves many."""
        self._timer = None
        if self._ended is None:
            return
        if self._loop.time() >= self._due:
            self._lose(AwayError("no answer within 1 s"))
        else:
            self._timer = self._loop.call_at(self._due, self._watch)

    def _lose(self, error: Exception) -> None:
        pgconn, self._pgconn = self._pgconn, None
        if pgconn is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._is_writing = False
        _finish(pgconn)
        if not self.lost.done():
            self.lost.set_result(error)
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(None, error)


async def _connect(url: str) -> psycopg.AsyncConnection[TupleRow]:
    return await psycopg.AsyncConnection.connect(
        url,
        autocommit=True,
        application_name="aiophlo",
        client_encoding="utf8",
        connect_timeout=2,
        tcp_user_timeout=3000,
    )


def shut(pgconn: PGconn) -> None:
    """Shut its socket down, so that nothing waits for it any more."""
    with contextlib.suppress(OSError, psycopg.Error):
        duplicate = socket.socket(fileno=os.dup(pgconn.socket))
        with duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)


def _finish(pgconn: PGconn) -> None:
    shut(pgconn)  # or a farewell could be waited for
    pgconn.finish()


def _close_late(task: "asyncio.Future[psycopg.AsyncConnection[TupleRow]]") -> None:
    if not task.cancelled() and task.exception() is None:
        _finish(task.result().pgconn)


async def wait_for_event(event: asyncio.Event, seconds: float) -> bool:
    """Wait until an event is set, for so long at most; say whether it is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def unawaited(work: Coroutine[Any, Any, object], tasks: set[asyncio.Task[Any]]) -> None:
    """Begin a task that nobody awaits; `tasks` keeps it until it ends."""
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
