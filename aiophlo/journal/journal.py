"""The journal: intents and outcomes of a batch on disk (a write-ahead log).

An action's intent is on disk before its request leaves, and its outcome before
it is told, so a batch that was killed goes on without ringing a phone twice. The
sender calls it three times per action::

    known = journal.recall(key, action)        # settled before, or a duplicate?
    if known is None:
        await journal.intend(key, action)      # on disk: now the request may leave
        outcome = await journal.settle(key, outcome)

All that is pending when the writing thread looks goes into one transaction.
The file, and how to read it with SQLite's tools: see `journal.file`.
"""

import asyncio
import os
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from aiophlo.errors import JournalError
from aiophlo.instrumentation import Observers, check_observers
from aiophlo.journal.keys import default_key
from aiophlo.journal.open_handovers import HandoverTable
from aiophlo.journal.open_journal import OpenJournal
from aiophlo.journal.reader import (
    JournalReader,
    JournalRecord,
    JournalReport,
)
from aiophlo.model.actions import Action
from aiophlo.model.outcomes import Outcome
from aiophlo.observed_events import Observer
from aiophlo.shielding import finish

__all__ = ["Journal", "JournalReader", "JournalRecord", "JournalReport", "default_key"]


class Journal:
    """What came of each key of a batch, kept through kills and power cuts.

    Use it as `async with Journal(path) as journal:`; leaving the block writes
    what is pending. Once a write has failed, every call raises, so that no
    request leaves unrecorded; so it does once the file was deleted or replaced,
    or another runner has taken it.

    It serves the event loop and process that it was opened in: elsewhere what
    would write to it raises `InvalidInputError`.

    Args:
        path: Its file, made with mode 0600 if there is none.
        max_bytes: Size beyond which the file refuses to grow, as if the disk
            were full; None leaves it to the disk.
        observers: Plain callables, such as the pool's, told of every transaction with
            a `JournalCommitted`. What one raises is logged once.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        observers: Iterable[Observer] = (),
    ) -> None:
        self._path = Path(path).absolute()
        self._max_bytes = max_bytes
        self._observers = Observers(check_observers(observers))
        self._open: OpenJournal | None = None

    @staticmethod
    def read(path: str | os.PathLike[str]) -> JournalReader:
        """Open a journal for reading, whether or not a runner has it.

        Raises:
            JournalError: There is none, or it can't be read.
        """
        return JournalReader(path)

    async def __aenter__(self) -> Self:
        """Open the file and lock it.

        Raises:
            JournalInUseError: Another runner has it.
            JournalError: It is no journal or a newer one's, belongs to somebody
                else, or can't be opened.
        """
        if self._open is not None:
            raise JournalError(f"journal {self._path} is open already")
        opened = OpenJournal(self._path, self._max_bytes, self._observers)
        await opened.start()
        self._open = opened
        self._abandon = weakref.finalize(self, opened.abandon)
        return self

    async def __aexit__(
        self, _kind: object, error: BaseException | None, _trace: object
    ) -> None:
        """Write what is pending, and close the file.

        Raises:
            JournalError: A write has failed, and the block raised nothing.
        """
        opened = self._opened()
        opened.guard.check()
        self._open = None
        self._abandon.detach()
        try:
            await finish(opened.close())
        finally:
            if error is None:
                opened.check()

    def __repr__(self) -> str:
        state = "closed" if self._open is None else "open"
        return f"<Journal {str(self._path)!r} {state}>"

    def digest(self, action: Action) -> str:
        """Return the action's salted digest: the same in every run of this file.

        Raises:
            JournalError: The journal is closed.
        """
        return self._opened().digest(action)

    def start_run(self) -> None:
        """Begin a batch: what was asked for before it is no duplicate in it.

        Raises:
            JournalError: The journal is closed.
        """
        self._opened().start_run()

    def recall(
        self, key: str, action: Action, *, include_in_doubt: bool = False
    ) -> Outcome | None:
        """Return what is known of a key, or None: the action may be sent.

        None claims the key: asked for again in this run it is a duplicate.
        Every claim ends with `settle()` or `release()`.

        Args:
            key: The user's, or `default_key()`.
            action: What it stands for; the outcome bears it.
            include_in_doubt: Send again what is in doubt, at the risk that a
                phone rings twice.

        Returns:
            `Accepted`, `Rejected` or `InDoubt` from an earlier run,
            `NotSent(duplicate)`, or None for what is new or was not sent.

        Raises:
            InvalidInputError: The key stands for another action already, or
                isn't text that UTF-8 can hold.
            JournalError: The journal is closed, has failed or can't be read.
        """
        return self._opened().recall(key, action, include_in_doubt=include_in_doubt)

    def recall_row(
        self, row: int, action: Action, *, include_in_doubt: bool = False
    ) -> tuple[str, Outcome | None]:
        """Do as `recall` does, for an action whose user may have given no key.

        Args:
            row: Where it stands in its list or file.
            action: As for `recall`.
            include_in_doubt: As for `recall`.

        Returns:
            The action's own key or its `default_key()`, and what is known.

        Raises:
            InvalidInputError: As for `recall`.
            JournalError: As for `recall`.
        """
        opened = self._opened()
        return opened.recall_row(row, action, include_in_doubt=include_in_doubt)

    def verdict_on(self, key: str, outcome: Outcome) -> Outcome:
        """Return what `outcome` of a claimed key comes to, as `settle()` notes it.

        What an earlier run left in doubt stays so unless it is accepted now.

        Raises:
            JournalError: The journal is closed.
        """
        return self._opened().verdict_on(key, outcome)

    def release(self, key: str) -> None:
        """End the claim on a key that is not to be sent; nothing is noted.

        Raises:
            InvalidInputError: It has an intent, which has to be settled.
            JournalError: The journal is closed.
        """
        self._opened().release(key)

    def intend(self, key: str, action: Action) -> asyncio.Future[None]:
        """Note that a request is about to leave; await it before sending.

        If that is cancelled, the intent is noted all the same: settle it as
        not sent, or the next run finds it in doubt.

        Raises:
            InvalidInputError: The key has an intent or an outcome already, or
                stands for another action.
            JournalError: It could not be written (raised when awaited), or the
                journal is closed or has failed: send nothing.
        """
        return self._opened().intend(key, action)

    def settle(self, key: str, outcome: Outcome) -> asyncio.Future[Outcome]:
        """Note what came of a claimed key; await it before telling anybody.

        It is under way once called, so a cancelled task may settle too. A key
        without an intent gets both. Where writing has failed, as on a full disk,
        what has its intent on disk is still tried, and again when closing: what
        is known of a call must not come back in doubt.

        Returns:
            When awaited, the outcome as it was noted: `verdict_on()`.

        Raises:
            InvalidInputError: The key was not recalled, or is settled.
            JournalError: It could not be written (raised when awaited), or the
                journal is closed or has failed.
        """
        return self._opened().settle(key, outcome)

    def find_row(self, row: int, action: Action) -> tuple[str | None, float] | None:
        """Return what is known of an action, by `recall_row`'s key; claims nothing.

        Returns:
            Its verdict, if it has one, and Unix time of its intent; None if it is new.

        Raises:
            InvalidInputError: As for `recall`.
            JournalError: As for `recall`.
        """
        return self._opened().find_row(row, action)

    def earlier(self, key: str) -> Outcome | None:
        """Return what an earlier run has left of a claimed key; None if it is new.

        Raises:
            JournalError: The journal is closed.
        """
        return self._opened().earlier(key)

    def resolve(self, key: str, outcome: Outcome) -> asyncio.Future[Outcome]:
        """Note what has become known of a claimed key that was left in doubt.

        Nothing was sent for it: the time of its intent stays. Ends the claim.

        Returns:
            When awaited, the outcome.

        Raises:
            InvalidInputError: The key was not recalled in doubt, or has an intent.
            JournalError: It could not be written (raised when awaited), or the
                journal is closed or has failed.
        """
        return self._opened().resolve(key, outcome)

    def report(self) -> JournalReport:
        """Count what is on disk.

        Raises:
            JournalError: The journal is closed or can't be read.
        """
        return self._opened().reader.report()

    def outcomes(self) -> Iterator[JournalRecord]:
        """Yield what is on disk, key by key.

        Raises:
            JournalError: The journal is closed or can't be read.
        """
        return self._opened().reader.outcomes()

    @property
    def handovers(self) -> HandoverTable:
        """The handovers that are open.

        Raises:
            JournalError: The journal is closed.
        """
        return self._opened().handovers

    def _opened(self) -> "OpenJournal":
        if self._open is None:
            raise JournalError(f"journal {self._path} is not open")
        return self._open
