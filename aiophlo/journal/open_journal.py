"""An open journal: its claims on keys, so that no key is acted on twice."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import attrs

from aiophlo.instrumentation import Observers
from aiophlo.journal.keys import Digests, NewKeys, compare, default_key, misused
from aiophlo.journal.open_handovers import HandoverTable
from aiophlo.journal.read_ahead import ReadAhead
from aiophlo.journal.reader import JournalReader, KnownRow
from aiophlo.journal.rows import (
    is_final,
    masked_address,
    outcome_after,
    outcome_of,
    settled_values,
)
from aiophlo.journal.writer import JournalWriter
from aiophlo.loop_guard import LoopGuard
from aiophlo.model.actions import Action
from aiophlo.model.outcomes import NotSent, Outcome, Reason
from aiophlo.shielding import finish


@attrs.define
class _ClaimedKey:
    """A key in hand: recalled, and its outcome not yet on disk."""

    action: Action
    stored: str
    digest: str
    row: int | None = None  # a new key gets its own when it is intended
    earlier: Outcome | None = None  # of a run before this one
    intended: bool = False
    settled: bool = False


class OpenJournal:
    """A journal between opening and closing.

    It does not know the `Journal`, which can thus be collected, and its thread
    end, while that thread holds on to this.
    """

    def __init__(self, path: Path, max_bytes: int | None, observers: Observers) -> None:
        self.guard = LoopGuard("journal")
        self._path = path
        self._writer = JournalWriter(path, max_bytes, self._forget, observers)
        self._claims: dict[str, _ClaimedKey] = {}
        self._asked = bytearray()  # a bit per row: asked for in this run

    async def start(self) -> None:
        """Open the file and what reads it."""
        try:
            file = await self._writer.opened
            self.reader = JournalReader(self._path)
        except BaseException:
            await finish(self._writer.close())  # or the next one finds it locked
            raise
        self._ahead = ReadAhead(self.reader)
        self.handovers = HandoverTable(self._execute, self.reader.handovers)
        self._digests = Digests(file.salt)
        self._last_row = file.last_row
        self._new = NewKeys() if file.last_row == 0 else None

    async def close(self) -> None:
        """Write what is pending, and close the file."""
        self.reader.close()  # first, since the last to close tidies up
        await self._writer.close()

    def abandon(self) -> None:
        """Close the file once what is pending is written, without waiting for it."""
        self.reader.close()
        self._writer.stop()

    def check(self) -> None:
        """Raise if a write has failed."""
        self._writer.check()

    def _execute(self, sql: str, values: Mapping[str, object]) -> asyncio.Future[None]:
        self.guard.check()
        self._writer.check()
        return self._writer.execute(sql, values)

    def start_run(self) -> None:
        """Do what `Journal.start_run` says."""
        self.guard.check()
        self._asked = bytearray()
        self._ahead.start_over()

    def digest(self, action: Action) -> str:
        """Do what `Journal.digest` says."""
        return self._digests.action(action)

    def recall(
        self, key: str, action: Action, *, include_in_doubt: bool = False
    ) -> Outcome | None:
        """Do what `Journal.recall` says."""
        digest = self._digests.action(action)
        return self._recall(
            key, self._digests.key(key), digest, action, include_in_doubt
        )

    def recall_row(
        self, row: int, action: Action, *, include_in_doubt: bool
    ) -> tuple[str, Outcome | None]:
        """Do what `Journal.recall_row` says."""
        digest = self._digests.action(action)
        key = action.key
        if key is None:
            key = stored = default_key(row, digest)
        else:
            stored = self._digests.key(key)
        return key, self._recall(key, stored, digest, action, include_in_doubt)

    def find_row(self, row: int, action: Action) -> tuple[str | None, float] | None:
        """Do what `Journal.find_row` says."""
        digest = self._digests.action(action)
        key = default_key(row, digest) if action.key is None else action.key
        stored = self._digests.key(key)
        known = self.reader.find(stored, masked=stored != key)
        if known is None:
            return None
        compare(key, digest, known.digest)
        return known.verdict, known.intended_at

    def earlier(self, key: str) -> Outcome | None:
        """Do what `Journal.earlier` says."""
        claim = self._claims.get(key)
        return None if claim is None else claim.earlier

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
            compare(key, digest, claim.digest)
            return NotSent(action=action, attempts=0, reason=Reason.DUPLICATE)
        known = self._find(stored, masked=stored != key)
        if known is None:
            self._claims[key] = _ClaimedKey(action, stored, digest)
            return None
        compare(key, digest, known.digest)
        if self._ask(known.id):
            return NotSent(action=action, attempts=0, reason=Reason.DUPLICATE)
        outcome = outcome_of(known, action)
        if is_final(outcome, include_in_doubt=include_in_doubt):
            return outcome
        self._claims[key] = _ClaimedKey(action, stored, digest, known.id, outcome)
        return None

    def verdict_on(self, key: str, outcome: Outcome) -> Outcome:
        """Do what `Journal.verdict_on` says."""
        claim = self._claims.get(key)
        return outcome if claim is None else outcome_after(claim.earlier, outcome)

    def release(self, key: str) -> None:
        """Do what `Journal.release` says."""
        claim = self._claims.get(key)
        if claim is None or claim.intended:
            raise misused(key, "can't be released: it has an intent, or no claim")
        del self._claims[key]

    def intend(self, key: str, action: Action) -> asyncio.Future[None]:
        """Do what `Journal.intend` says."""
        self.guard.check()
        self._writer.check()
        if key not in self._claims and self.recall(key, action) is not None:
            raise misused(key, "has an outcome already")
        claim = self._claims[key]
        if claim.intended:
            raise misused(key, "has an intent already")
        if action is not claim.action:
            compare(key, self._digests.action(action), claim.digest)
        return self._intend(claim)

    def _intend(self, claim: _ClaimedKey) -> asyncio.Future[None]:
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
        """Do what `Journal.settle` says."""
        self.guard.check()
        claim = self._claims.get(key)
        if claim is None or claim.settled:
            raise misused(key, "is settled, or was not recalled")
        if not claim.intended:
            self._writer.check()
            self._intend(claim).cancel()  # written all the same, awaited by nobody
        claim.settled = True
        outcome = self.verdict_on(key, outcome)
        values = (time.time(), *settled_values(outcome), claim.row)
        return self._writer.settle(values, outcome, key)

    def resolve(self, key: str, outcome: Outcome) -> asyncio.Future[Outcome]:
        """Do what `Journal.resolve` says."""
        self.guard.check()
        self._writer.check()
        claim = self._claims.get(key)
        if claim is None or claim.intended or claim.settled or claim.row is None:
            raise misused(key, "has no outcome of an earlier run in hand")
        claim.settled = True
        values = (time.time(), *settled_values(outcome), claim.row)
        return self._writer.settle(values, outcome, key)

    def _find(self, stored: str, *, masked: bool) -> KnownRow | None:
        if self._new is not None and self._new.add(stored):
            return None
        return self._ahead.find(stored, masked=masked)

    def _forget(self, key: str) -> None:
        claim = self._claims.pop(key)
        self._ahead.pop(claim.stored)  # read before it was settled

    def _ask(self, row: int) -> bool:
        """Note that a row was asked for; say whether it had been before."""
        byte, bit = row >> 3, 1 << (row & 7)
        if byte >= len(self._asked):
            self._asked.extend(bytes(byte + 1024 - len(self._asked)))
        before = bool(self._asked[byte] & bit)
        self._asked[byte] |= bit
        return before
