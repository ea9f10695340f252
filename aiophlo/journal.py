"""A batch's memory: what was intended and what came of it, on disk.

An action's intent is on disk before its request leaves, and its outcome before
anybody is told, so a batch that was killed goes on without ringing a phone
twice. Whoever sends asks three things of it per action::

    known = journal.recall(key, action)        # settled before, or a duplicate?
    if known is None:
        await journal.intend(key, action)      # on disk: now the request may leave
        outcome = await journal.settle(key, outcome)

All that is pending when the writing thread looks goes into one transaction.
The file, and how to read it with SQLite's tools: see `journal_file`.
"""

import asyncio
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from aiophlo.actions import Action
from aiophlo.errors import JournalError
from aiophlo.handover.table import HandoverTable
from aiophlo.journal_file import (
    JournalReader,
    JournalRecord,
    JournalReport,
    KnownRow,
)
from aiophlo.journal_keys import Digests, NewKeys, default_key, misused
from aiophlo.journal_rows import is_final, masked_address, outcome_of, settled_values
from aiophlo.journal_writer import JournalWriter
from aiophlo.outcomes import (
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    combine,
)

__all__ = ["Journal", "JournalReader", "JournalRecord", "JournalReport", "default_key"]

_NEAR = 1_000  # rows; a batch that skips fewer is walking through the file


class Journal:
    """What came of each key of a batch, kept through kills and power cuts.

    Use it as `async with Journal(path) as journal:`; leaving the block writes
    what is pending. Once a write has failed, every call raises, so that no
    request leaves unrecorded.

    Args:
        path: Its file, made with mode 0600 if there is none.
        max_bytes: Size beyond which the file refuses to grow, as if the disk
            were full; None leaves it to the disk.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, max_bytes: int | None = None
    ) -> None:
        self._path = Path(path).resolve()
        self._max_bytes = max_bytes
        self._open: _OpenJournal | None = None

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
            JournalError: Another runner has it, it is no journal or a newer
                one's, or it can't be opened.
        """
        if self._open is not None:
            raise JournalError(f"journal {self._path} is open already")
        opened = _OpenJournal(self._path, self._max_bytes)
        await opened.start()
        self._open = opened
        self._abandon = weakref.finalize(self, opened.abandon)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what is pending and let go of the file.

        Raises:
            JournalError: A write has failed, and the block raised nothing.
        """
        opened = self._opened()
        self._open = None
        self._abandon.detach()
        await opened.close()
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
        without an intent gets both.

        Returns:
            When awaited, the outcome as it was noted: `verdict_on()`.

        Raises:
            InvalidInputError: The key was not recalled, or is settled.
            JournalError: It could not be written (raised when awaited), or the
                journal is closed or has failed.
        """
        return self._opened().settle(key, outcome)

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

    def _opened(self) -> "_OpenJournal":
        if self._open is None:
            raise JournalError(f"journal {self._path} is not open")
        return self._open


@attrs.define
class _Claim:
    """A key in hand: recalled, and its outcome not yet on disk."""

    action: Action
    stored: str
    digest: str
    row: int | None = None  # a new key gets its own when it is intended
    earlier: Outcome | None = None  # of a run before this one
    intended: bool = False
    settled: bool = False


class _OpenJournal:
    """A journal between opening and closing.

    It does not know the `Journal`, which can thus be collected, and its thread
    end, while that thread holds on to this.
    """

    def __init__(self, path: Path, max_bytes: int | None) -> None:
        self._path = path
        self._writer = JournalWriter(path, max_bytes, self._forget)
        self._claims: dict[str, _Claim] = {}
        self._asked = bytearray()  # a bit per row: asked for in this run
        self._page: dict[str, KnownRow] = {}  # the rows likely to be asked for next
        self._furthest = 0

    async def start(self) -> None:
        try:
            file = await self._writer.opened
            self.reader = JournalReader(self._path)
        except BaseException:
            self._writer.stop()
            raise
        self.handovers = HandoverTable(self._execute, self.reader.handovers)
        self._digests = Digests(file.salt)
        self._last_row = file.last_row
        self._new = NewKeys() if file.last_row == 0 else None

    async def close(self) -> None:
        self.reader.close()  # first, since the last to close tidies up
        await self._writer.close()

    def abandon(self) -> None:
        self.reader.close()
        self._writer.stop()

    def check(self) -> None:
        self._writer.check()

    def _execute(self, sql: str, values: tuple[object, ...]) -> asyncio.Future[None]:
        self._writer.check()
        return self._writer.execute(sql, values)

    def start_run(self) -> None:
        self._asked = bytearray()
        self._page = {}
        self._furthest = 0

    def digest(self, action: Action) -> str:
        return self._digests.action(action)

    def recall(
        self, key: str, action: Action, *, include_in_doubt: bool = False
    ) -> Outcome | None:
        digest = self._digests.action(action)
        return self._recall(
            key, self._digests.key(key), digest, action, include_in_doubt
        )

    def recall_row(
        self, row: int, action: Action, *, include_in_doubt: bool
    ) -> tuple[str, Outcome | None]:
        digest = self._digests.action(action)
        key = action.key
        if key is None:
            key = stored = default_key(row, digest)
        else:
            stored = self._digests.key(key)
        return key, self._recall(key, stored, digest, action, include_in_doubt)

    def _recall(
        self,
        key: str,
        stored: str,
        digest: str,
        action: Action,
        include_in_doubt: bool,  # noqa: FBT001 -- a name costs a million times
    ) -> Outcome | None:
        self._writer.check()
        claim = self._claims.get(key)
        if claim is not None:
            _compare(key, digest, claim.digest)
            return NotSent(action=action, attempts=0, reason=Reason.DUPLICATE)
        known = self._find(stored)
        if known is None:
            self._claims[key] = _Claim(action, stored, digest)
            return None
        _compare(key, digest, known[2])
        if self._ask(known[1]):
            return NotSent(action=action, attempts=0, reason=Reason.DUPLICATE)
        outcome = outcome_of(known, action)
        if is_final(outcome, include_in_doubt=include_in_doubt):
            return outcome
        self._claims[key] = _Claim(action, stored, digest, known[1], outcome)
        return None

    def verdict_on(self, key: str, outcome: Outcome) -> Outcome:
        claim = self._claims.get(key)
        if claim is None or not isinstance(claim.earlier, InDoubt):
            return outcome
        attempts = claim.earlier.attempts + outcome.attempts
        return combine(claim.earlier, attrs.evolve(outcome, attempts=attempts))

    def release(self, key: str) -> None:
        claim = self._claims.get(key)
        if claim is None or claim.intended:
            raise misused(key, "can't be released: it has an intent, or no claim")
        del self._claims[key]

    def intend(self, key: str, action: Action) -> asyncio.Future[None]:
        self._writer.check()
        if key not in self._claims and self.recall(key, action) is not None:
            raise misused(key, "has an outcome already")
        claim = self._claims[key]
        if claim.intended:
            raise misused(key, "has an intent already")
        if action is not claim.action:
            _compare(key, self._digests.action(action), claim.digest)
        return self._intend(claim)

    def _intend(self, claim: _Claim) -> asyncio.Future[None]:
        if claim.row is None:
            self._last_row = claim.row = self._last_row + 1
            self._ask(claim.row)
        claim.intended = True
        action = claim.action
        return self._writer.intend(
            (
                claim.row,
                claim.stored,
                claim.digest,
                type(action).__name__,
                masked_address(action),
                time.time(),
            )
        )

    def settle(self, key: str, outcome: Outcome) -> asyncio.Future[Outcome]:
        self._writer.check()
        claim = self._claims.get(key)
        if claim is None or claim.settled:
            raise misused(key, "is settled, or was not recalled")
        if not claim.intended:
            self._intend(claim).cancel()  # written all the same, awaited by nobody
        claim.settled = True
        outcome = self.verdict_on(key, outcome)
        values = (time.time(), *settled_values(outcome), claim.row)
        return self._writer.settle(values, outcome, key)

    def _find(self, stored: str) -> KnownRow | None:
        # Single lookups cost four times what walking does, and a batch that
        # goes on asks for a million rows in about the order they have here.
        if self._new is not None and self._new.add(stored):
            return None
        known = self._page.pop(stored, None)
        if known is None:
            known = self.reader.find(stored)
            if known is not None and 0 < known[1] - self._furthest <= _NEAR:
                self._page = {row[0]: row for row in self.reader.after(known[1])}
        if known is not None:
            self._furthest = max(self._furthest, known[1])
        return known

    def _forget(self, key: str) -> None:
        claim = self._claims.pop(key)
        self._page.pop(claim.stored, None)  # read before it was settled

    def _ask(self, row: int) -> bool:
        """Note that a row was asked for; say whether it had been before."""
        byte, bit = row >> 3, 1 << (row & 7)
        if byte >= len(self._asked):
            self._asked.extend(bytes(byte + 1024 - len(self._asked)))
        before = bool(self._asked[byte] & bit)
        self._asked[byte] |= bit
        return before


def _compare(key: str, digest: str, known: str) -> None:
    if digest != known:
        raise misused(key, "stands for two different actions")
