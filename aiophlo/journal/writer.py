"""The journal's writing thread: many writes, one transaction, one sync."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from aiophlo.errors import JournalError
from aiophlo.instrumentation import Observers
from aiophlo.journal.file import INTEND, SETTLE, OpenFile, open_file
from aiophlo.model.outcomes import Outcome

_GROUP = 1_000  # writes per transaction, and fewer than twice as many at most


@attrs.define
class _Intent:
    values: Sequence[object]
    future: asyncio.Future[None]


@attrs.define(eq=False)
class _Settlement:
    values: Sequence[object]
    future: asyncio.Future[Outcome]
    outcome: Outcome
    key: str


@attrs.define
class _Statement:
    sql: str
    values: Mapping[str, object]
    future: asyncio.Future[None]


_Write: TypeAlias = _Intent | _Settlement | _Statement


class JournalWriter:
    """Owns a journal's file, in a thread of its own, until it is stopped.

    All methods are for the loop it was made on. The thread is a daemon: a
    program that ends without closing its journal loses what nobody awaited.

    Args:
        path: The file, resolved.
        max_bytes: Size beyond which the file refuses to grow.
        settled: Called on the loop with each key whose outcome is on disk.
        observers: Who is told of each transaction.

    Attributes:
        opened: Done once the file is open; fails with a `JournalError`.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int | None,
        settled: Callable[[str], None],
        observers: Observers = Observers(),  # noqa: B008 -- tells nobody
    ) -> None:
        self._path = path
        self._observers = observers
        self._max_bytes = max_bytes
        self._settled = settled
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[list[_Write] | None]
        self._pending: list[_Write] = []  # of this step of the loop
        self._queue = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._stopping = False  # the thread's own, as the next one is
        self._unwritten: list[_Settlement] = []  # refused, and tried again
        self.opened: asyncio.Future[OpenFile] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._run, name="aiophlo-journal", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Raise if a write has failed.

        Raises:
            JournalError: One has; its cause is chained.
        """
        if self._failure is not None:
            raise self._error(self._failure)

    def intend(self, values: Sequence[object]) -> asyncio.Future[None]:
        """Write an intent; done when it is on disk."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._put(_Intent(values, future))
        return future

    def settle(
        self, values: Sequence[object], outcome: Outcome, key: str
    ) -> asyncio.Future[Outcome]:
        """Write an outcome; done, with `outcome`, when it is on disk."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._put(_Settlement(values, future, outcome, key))
        return future

    def execute(self, sql: str, values: Mapping[str, object]) -> asyncio.Future[None]:
        """Run a statement on another table; done when its effect is on disk."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._put(_Statement(sql, values, future))
        return future

    def _put(self, write: _Write) -> None:
        """Pass a write on with all others of this step: each wakes the thread."""
        if not self._pending:
            self._loop.call_soon(self._pass_on)
        self._pending.append(write)
        if len(self._pending) == _GROUP:
            self._pass_on()

    def _pass_on(self) -> None:
        if self._pending:
            self._queue.put(self._pending)
            self._pending = []

    def stop(self) -> None:
        """Let the thread end once it has written what is pending."""
        self._pass_on()
        self._queue.put(None)

    async def close(self) -> None:
        """Stop, and wait until everything is written and the file is closed."""
        self.stop()
        await self._closed
        self._thread.join()  # which had nothing left to do but to end

    def _run(self) -> None:
        try:
            with open_file(self._path, max_bytes=self._max_bytes) as file:
                self._tell(_resolve, self.opened, file)
                while not self._stopping:
                    self._write(file)
        except Exception as error:  # noqa: BLE001 -- who opens or closes it waits
            self._failure = self._failure or error
            self._tell(_refuse, self.opened, error)
        self._tell(_resolve, self._closed, None)

    def _write(self, file: OpenFile) -> None:
        group = self._next_group()
        if self._failure is None:
            began = time.monotonic()
            try:
                _commit(file, group)
            except Exception as error:  # noqa: BLE001 -- nobody who waits may hang
                self._failure = error
            seconds, writes = time.monotonic() - began, len(group)
            if self._observers.listening:
                failed = self._failure is not None
                self._tell(self._tell_commit, seconds, writes, failed)
            if self._failure is None:
                self._tell(self._finish, group, None)
                return
        outcomes = [write for write in group if isinstance(write, _Settlement)]
        others = [write for write in group if not isinstance(write, _Settlement)]
        self._tell(self._finish, others, self._failure)
        self._write_outcomes(file, outcomes)

    def _write_outcomes(self, file: OpenFile, outcomes: Sequence[_Settlement]) -> None:
        """Note what came of requests that had left before writing failed.

        The disk may have room again by the next outcome, or when closing: what
        is known then must not come back in doubt.
        """
        self._unwritten += outcomes
        try:
            written = _commit_outcomes(file, self._unwritten)
        except Exception:  # noqa: BLE001 -- the first failure is the one to tell
            self._tell(self._finish, outcomes, self._failure)
            return
        known = set(written)
        others = [write for write in self._unwritten if write not in known]
        self._unwritten = []
        self._tell(self._finish, written, None)
        self._tell(self._finish, others, self._failure)

    def _next_group(self) -> list[_Write]:
        group: list[_Write] = []
        writes = self._queue.get()
        with suppress(queue.Empty):
            while writes is not None:
                group += writes
                if len(group) >= _GROUP:
                    return group
                writes = self._queue.get_nowait()
            self._stopping = True
        return group

    def _tell(self, callback: Callable[..., None], *values: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(callback, *values)

    def _tell_commit(self, seconds: float, writes: int, failed: bool) -> None:  # noqa: FBT001 -- a callback's
        from aiophlo.observed_events import JournalCommitted  # noqa: PLC0415 -- for most, for nothing

        self._observers.tell(JournalCommitted(seconds, writes, failed))

    def _finish(self, group: Sequence[_Write], failure: Exception | None) -> None:
        for write in group:
            if failure is not None:
                _refuse(write.future, self._error(failure))
            elif isinstance(write, _Settlement):
                self._settled(write.key)
                _resolve(write.future, write.outcome)
            else:
                _resolve(write.future, None)

    def _error(self, failure: Exception) -> JournalError:
        if isinstance(failure, JournalError):  # which names the file already
            error = type(failure)(str(failure))
        else:
            error = JournalError(f"journal {self._path} can't be written: {failure}")
        error.__cause__ = failure
        return error


def _commit(file: OpenFile, group: Sequence[_Write]) -> None:
    # Intents first: a key settled without one has it in the same group or an
    # earlier one, and isn't intended again before its outcome is on disk.
    intents = [write.values for write in group if isinstance(write, _Intent)]
    outcomes = [write.values for write in group if isinstance(write, _Settlement)]
    with file.commit() as database:
        database.executemany(INTEND, intents)
        database.executemany(SETTLE, outcomes)
        for write in group:
            if isinstance(write, _Statement):
                database.execute(write.sql, write.values)


def _commit_outcomes(
    file: OpenFile, outcomes: Sequence[_Settlement]
) -> list[_Settlement]:
    """Write what has its intent on disk; return that. The rest never left."""
    if not outcomes:
        return []
    with file.commit() as database:
        return [
            write
            for write in outcomes
            if database.execute(SETTLE, write.values).rowcount
        ]


def _resolve(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():  # whoever waited may have been cancelled
        future.set_result(value)


def _refuse(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody has to: closing the journal raises as well
