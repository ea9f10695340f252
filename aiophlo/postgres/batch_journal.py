"""A batch's memory in Postgres, as `journal.shared.ClaimingJournal`.

Several runners may have one open. Each claims rows, a page at a time, under its lease:
while it is heard of, no other one touches them. An intent is committed before its
request leaves, and only by who has the row claimed; the lease is looked at once more in
the moment of leaving. Whoever wasn't heard of for a lease is ended by another runner:
what it had claimed alone goes back, what has an intent is in doubt, and all that it
still wants to write is refused.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, Self

import attrs

from aiophlo.coordination import AwayError
from aiophlo.errors import JournalError
from aiophlo.instrumentation import Observers, check_observers
from aiophlo.journal.keys import Digests, compare, default_key, misused
from aiophlo.journal.number_set import NumberSet
from aiophlo.journal.reader import JournalRecord, JournalReport
from aiophlo.journal.rows import (
    SETTLED,
    masked_address,
    outcome_after,
    outcome_in,
    settled_values,
)
from aiophlo.journal.shared import Claimed, Held, SharedRow
from aiophlo.loop_guard import LoopGuard
from aiophlo.model.actions import Action
from aiophlo.model.invalid_input import InvalidInputError
from aiophlo.model.outcomes import NotSent, Outcome, Reason
from aiophlo.observed_events import Observer
from aiophlo.postgres.batch_link import Answer, BatchLink
from aiophlo.postgres.batch_reader import PostgresJournalReader
from aiophlo.postgres.connection import Connection
from aiophlo.postgres.migrate import MigrationError, check_version
from aiophlo.postgres.shared_handovers import boot_clock
from aiophlo.shielding import finish

_PATIENCE: Final = 60.0  # seconds for which the database may be away
_DAY: Final = 86_400.0


@attrs.define(eq=False)
class ClaimedKey:
    """A key in hand: claimed, and its outcome not yet committed.

    Attributes:
        action: What it stands for.
        name: Its 64 bits.
        digest: The action's.
        earlier: What an earlier run left of it.
        intended: Its request may have left.
        settled: Its outcome is about to be committed.
    """

    action: Action
    name: int
    digest: str
    earlier: Outcome | None
    intended: bool = False
    settled: bool = False


class PostgresJournal:
    """What came of each key of a batch, for several runners on many machines.

    Made by `PostgresCoordinator.journal`, and used as
    `async with coordinator.journal("nightly") as journal:`; leaving the block writes
    what is pending, and gives back what was only claimed. It goes into
    `SessionPool.stream` as a `Journal` does. Each stream yields one outcome for each of
    its actions, whichever runner sent it: it waits for what another one has in hand,
    and takes that over if the other one dies.

    It serves the event loop and process that it was opened in.
    """

    _of: Literal["batch", "queue"] = "batch"

    def __init__(
        self,
        url: str,
        schema: str,
        name: str,
        *,
        lease: float,
        keep_days: float,
        observers: Iterable[Observer] = (),
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self._url = url
        self._schema = schema
        self._name = name
        self._lease = lease
        self._keep = keep_days * _DAY
        self._observers = Observers(check_observers(observers))
        self._clock = clock
        self._link: BatchLink | None = None
        self._claims: dict[str, ClaimedKey] = {}

    def __repr__(self) -> str:
        state = "closed" if self._link is None else "open"
        return f"<PostgresJournal {self._name!r} {state}>"

    async def __aenter__(self) -> Self:
        """Begin to work on the batch.

        Raises:
            MigrationError: The schema isn't there, or of an older version.
            JournalError: The database can't be reached, or the journal is open.
        """
        if self._link is not None:
            raise JournalError(f"journal {self._name} is open already")
        self._guard = LoopGuard("journal")
        connection = Connection(self._url)
        link = BatchLink(
            connection,
            self._schema,
            self._name,
            secrets.randbits(62),
            lease=self._lease,
            patience=_PATIENCE,
            clock=self._clock,
            observers=self._observers,
            of=self._of,
        )
        try:
            await connection.open()
            await check_version(connection, self._schema)
            salt = secrets.token_hex(32)
            details = {"name": self._name, "salt": salt, "keep": self._keep}
            batch = await link.begin({**details, **self._details()})
        except AwayError as error:
            raise JournalError(f"journal {self._name}: {error}") from error
        finally:
            if not link.until:
                connection.close()
        try:
            self._begun(batch)
        except MigrationError:
            await finish(link.close())
            raise
        self._digests = Digests(bytes.fromhex(batch["salt"]))
        self._claims = {}
        self._link = link
        self.start_run()
        return self

    def _details(self) -> dict[str, object]:
        """Return what else the database is told when it begins."""
        return {}

    def _begun(self, answer: Answer) -> None:
        """Hear what the database says then."""

    async def __aexit__(
        self, _kind: object, error: BaseException | None, _trace: object
    ) -> None:
        """Write what is pending, and give back what was claimed.

        Raises:
            JournalError: A write has failed, and the block raised nothing.
        """
        link = self._opened()
        self._guard.check()
        self._link = None
        try:
            link.check()
        except JournalError:
            if error is None:
                raise
        finally:
            await finish(link.close())

    @property
    def open(self) -> int:
        """How many requests may have left without their outcome being noted."""
        return sum(claim.intended for claim in self._claims.values())

    def digest(self, action: Action) -> str:
        """Return the action's salted digest: the same in every run of this batch.

        Raises:
            JournalError: The journal is closed.
        """
        self._opened()
        return self._digests.action(action)

    def start_run(self) -> None:
        """Begin a list: what was asked for before it is no duplicate in it."""
        self._opened()
        self._guard.check()
        self._asked = NumberSet()

    def row(self, number: int, action: Action) -> SharedRow:
        """Return what a row is known by; asked once for each.

        Raises:
            InvalidInputError: Its key isn't text that UTF-8 can hold.
        """
        digest = self._digests.action(action)
        key = action.key
        if key is None:
            key = stored = default_key(number, digest)
        else:
            stored = self._digests.key(key)
        name = self._digests.number(key)
        repeated = self._repeats(name)
        return SharedRow(number, action, key, stored, name, digest, repeated)

    def _repeats(self, name: int) -> bool:
        """Say whether a key was asked for before, in this run."""
        return not self._asked.add(name)

    async def claim(
        self, rows: Sequence[SharedRow], *, include_in_doubt: bool
    ) -> list[Claimed]:
        """Claim rows for this runner, all at once.

        Returns:
            Of each, None if it is claimed: it may be sent; what is known of it; or
            that another runner has it.

        Raises:
            JournalError: They can't be claimed.
        """
        self._guard.check()
        asked = [
            {
                "name": row.name,
                "key": storable(row.stored),
                "digest": row.digest,
                "kind": type(row.action).__name__,
                "address": masked_address(row.action),
            }
            for row in rows
        ]
        answers = await self._opened().claim(asked, in_doubt=include_in_doubt)
        return [
            self._claimed(row, answer)
            for row, answer in zip(rows, answers, strict=True)
        ]

    def _claimed(self, row: SharedRow, answer: Answer | None) -> Claimed:
        try:
            return self._judge(row, answer)
        except InvalidInputError as error:
            if answer is not None and answer["held"] == "own":
                self._opened().release(row.name)
            return _refused(row.action, Reason.INVALID, str(error))

    def _judge(self, row: SharedRow, answer: Answer | None) -> Claimed:
        claim = self._claims.get(row.key)
        if claim is not None:
            compare(row.key, row.digest, claim.digest)
            return _refused(row.action, Reason.DUPLICATE)
        if answer is not None and "digest" in answer:
            compare(row.key, row.digest, answer["digest"])
        held = answer["held"] if answer is not None else "own"
        if row.repeated and held is None:
            return _refused(row.action, Reason.DUPLICATE)
        if held == "other":
            return Held.ELSEWHERE
        earlier = None
        if answer is not None:
            if answer["verdict"] is None:  # an intent whose runner waits for an answer
                return Held.ELSEWHERE
            earlier = outcome_in(answer, row.action)
        if held is None:
            return earlier
        self._claims[row.key] = ClaimedKey(row.action, row.name, row.digest, earlier)
        return None

    def may_leave(self) -> bool:
        """Say whether a request may leave now: this runner is taken for alive."""
        link = self._link
        return link is not None and self._clock() < link.until

    def verdict_on(self, key: str, outcome: Outcome) -> Outcome:
        """Return what `outcome` of a claimed key comes to, as `settle()` notes it."""
        claim = self._claims.get(key)
        return outcome if claim is None else outcome_after(claim.earlier, outcome)

    def release(self, key: str) -> None:
        """Give back a key that is not to be sent; nothing is noted.

        Raises:
            InvalidInputError: It has an intent, or no claim.
            JournalError: The journal is closed.
        """
        claim = self._claims.get(key)
        if claim is None or claim.intended:
            raise misused(key, "can't be released: it has an intent, or no claim")
        del self._claims[key]
        self._opened().release(claim.name)

    def intend(self, key: str, action: Action) -> asyncio.Future[None]:
        """Note that a request is about to leave; await it before sending.

        Raises:
            InvalidInputError: The key isn't claimed, has an intent already, or stands
                for another action.
            JournalError: It could not be written (raised when awaited), or the
                journal is closed or has failed: send nothing.
        """
        self._guard.check()
        claim = self._claims.get(key)
        if claim is None or claim.intended:
            raise misused(key, "has an intent already, or no claim")
        if action is not claim.action:
            compare(key, self._digests.action(action), claim.digest)
        future = self._opened().intend(claim.name)
        claim.intended = True
        return future

    def settle(self, key: str, outcome: Outcome) -> asyncio.Future[Outcome]:
        """Note what came of a claimed key; await it before telling anybody.

        It is under way once called. While the database is away it waits; what is
        known when the journal is closed is tried once more.

        Returns:
            When awaited, the outcome as it was noted: `verdict_on()`.

        Raises:
            InvalidInputError: The key is not claimed, or is settled.
            JournalError: It could not be written (raised when awaited), or the
                journal is closed.
        """
        claim = self._claims.get(key)
        if claim is None or claim.settled:
            raise misused(key, "is settled, or was not claimed")
        return self._settle(key, claim, self.verdict_on(key, outcome))

    def earlier(self, key: str) -> Outcome | None:
        """Return what an earlier run has left of a claimed key; None if it is new."""
        claim = self._claims.get(key)
        return None if claim is None else claim.earlier

    def resolve(self, key: str, outcome: Outcome) -> asyncio.Future[Outcome]:
        """Note what has become known of a claimed key that was left in doubt.

        Nothing was sent for it: the time of its intent stays. Ends the claim.

        Raises:
            InvalidInputError: The key was not claimed in doubt, or has an intent.
            JournalError: It could not be written (raised when awaited), or the
                journal is closed.
        """
        claim = self._claims.get(key)
        if claim is None or claim.intended or claim.settled or claim.earlier is None:
            raise misused(key, "has no outcome of an earlier run in hand")
        return self._settle(key, claim, outcome)

    def _settle(
        self, key: str, claim: ClaimedKey, outcome: Outcome
    ) -> asyncio.Future[Outcome]:
        self._guard.check()
        link = self._opened()
        claim.settled = True
        values = {
            field: storable(value) if isinstance(value, str) else value
            for field, value in zip(SETTLED, settled_values(outcome), strict=True)
        }
        written = link.settle({"name": claim.name, **values})

        def over(error: BaseException | None) -> None:
            if error is None:
                self._claims.pop(key, None)

        return outcome_once(written, outcome, over)

    def read(self) -> PostgresJournalReader:
        """Open it for reading, over a connection of its own; this waits for the server.

        Raises:
            JournalError: It can't be read.
        """
        return PostgresJournalReader(self._url, self._schema, self._name)

    def report(self) -> JournalReport:
        """Count what is committed, by whichever runner; this waits for the server.

        Raises:
            JournalError: It can't be read.
        """
        with self.read() as reader:
            return reader.report()

    def outcomes(self) -> Iterator[JournalRecord]:
        """Yield what is committed, key by key; this waits for the server.

        Raises:
            JournalError: It can't be read.
        """
        with contextlib.closing(self.read()) as reader:
            yield from reader.outcomes()

    def _opened(self) -> BatchLink:
        if self._link is None:
            raise JournalError(f"journal {self._name} is not open")
        return self._link


def storable(text: str) -> str:
    """Return a text without what Postgres can't hold."""
    return text.replace("\0", "\ufffd")


def _refused(action: Action, reason: Reason, error: str | None = None) -> NotSent:
    return NotSent(action=action, reason=reason, attempts=0, error=error)


def outcome_once(
    written: asyncio.Future[Any],
    outcome: Outcome,
    over: Callable[[BaseException | None], None],
) -> asyncio.Future[Outcome]:
    """Return what is done with an outcome once it is written; nobody has to wait.

    Args:
        written: Done once it is.
        outcome: What came of an action.
        over: Called before, with the error if it could not be written.
    """
    told: asyncio.Future[Outcome] = written.get_loop().create_future()

    def tell(written: asyncio.Future[Any]) -> None:
        if written.cancelled():
            return
        error = written.exception()
        over(error)
        if told.done():
            return
        if error is None:
            told.set_result(outcome)
        else:
            told.set_exception(error)
            told.exception()  # nobody has to

    written.add_done_callback(tell)
    return told
