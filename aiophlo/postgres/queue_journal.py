"""The memory of a queue, for one who sends: a batch's, whose rows are handed out.

What has an intent is never handed out again. What is proved not to have left goes back
into the queue, unless it has ended for good.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal

import attrs

from aiophlo.journal.keys import compare, misused
from aiophlo.journal.shared import Claimed, Held, SharedRow
from aiophlo.logs import logger
from aiophlo.model.actions import Action
from aiophlo.model.invalid_input import InvalidInputError
from aiophlo.model.outcomes import (
    CREDENTIALS_REFUSED,
    NotSent,
    Outcome,
    Reason,
    Rejected,
)
from aiophlo.model.redaction import mask_id
from aiophlo.postgres.batch_journal import (
    ClaimedKey,
    PostgresJournal,
    outcome_once,
)
from aiophlo.postgres.batch_link import Answer
from aiophlo.postgres.migrate import MigrationError
from aiophlo.postgres.queued_actions import KEEP, QUEUE, unpacked

# Not sent for good; what isn't is sent later, as long as there is time.
_ENDED: Final = frozenset(
    {Reason.EXPIRED, Reason.SUPERSEDED, Reason.INVALID, Reason.DUPLICATE}
)
_LATER: Final = 2.0  # seconds
_MUCH_LATER: Final = 30.0  # seconds, where the account or node answers nobody
_MOST: Final = 50  # handed out at once
MISSING: Final = (
    "postgres: the queue's tables aren't there: with pip install 'aiophlo[queue]', run"
    " `aiophlo postgres migrate`"
)


@attrs.frozen
class _Item:
    """What was handed out."""

    action: Action
    queue: str
    until: float  # by the event loop's clock


def goes_back(outcome: Outcome) -> bool:
    """Say whether what came of a queued action is that it is sent later.

    A refusal of the credentials is about the worker, and no phone rings.
    """
    match outcome:
        case NotSent(reason=reason):
            return reason not in _ENDED
        case Rejected(status=status):
            return status in CREDENTIALS_REFUSED
    return False


class QueueJournal(PostgresJournal):
    """What came of each key, for one who sends: a worker, or a task of another's queue.

    Args:
        url: Where the database is.
        schema: Of the tables.
        lease: Seconds after which others end a runner that isn't heard of.
        keep_days: Days for which outcomes are kept.
        serves: It takes from the queue.
        clock: Goes on while the machine sleeps.

    Attributes:
        leaving: What hasn't left may be handed out again at once.
    """

    _of: Literal["batch", "queue"] = "queue"

    def __init__(
        self,
        url: str,
        schema: str,
        *,
        lease: float,
        keep_days: float,
        serves: bool,
        **options: Any,  # noqa: ANN401 -- PostgresJournal's own
    ) -> None:
        super().__init__(url, schema, QUEUE, lease=lease, keep_days=1.0, **options)
        self._keep = KEEP
        self._keep_rows = keep_days * 86_400.0
        self._serves = serves
        self._worker: int | None = None
        self._items: dict[str, _Item] = {}  # handed out, and not ended
        self._fresh: dict[str, list[str]] = {}  # of these by queue, not yet taken
        self._in_hand: Counter[str] = Counter()
        self._room = asyncio.Event()
        self.leaving = False

    def _details(self) -> dict[str, object]:
        return {"serves": self._serves}

    def _begun(self, answer: Answer) -> None:
        if "missing" in answer:
            raise MigrationError(MISSING)
        self._worker = answer["worker"]

    async def __aexit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        """Write what is pending, and give back what was claimed, as a batch's does.

        Raises:
            JournalError: A write has failed, and the block raised nothing.
        """
        if self._worker is not None and not self.failed:
            operation = {"do": "leave", "worker": self._worker}
            _unawaited = self._opened().ask(operation)
        await super().__aexit__(kind, error, trace)

    @property
    def failed(self) -> bool:
        """Whether nothing can be noted any more."""
        return self._link is None or self._link.failed

    def in_hand(self, queue: str) -> int:
        """Return how many of a queue are in hand."""
        return self._in_hand[queue]

    async def fetch(self, queue: str, most: int) -> list[Action]:
        """Take actions from a queue; whoever is cancelled meanwhile loses none.

        Raises:
            JournalError: It can't be done.
        """
        asked = self._opened().ask(
            {
                "do": "fetch",
                "queue": queue,
                "most": min(most, _MOST),
                "token": secrets.randbits(62),
                "worker": self._worker,
            }
        )
        asked.add_done_callback(lambda _: self._hear(queue, asked))
        await asyncio.wait({asked})  # which goes on if this is cancelled
        asked.result()
        fresh = self._fresh.pop(queue, [])
        return [self._items[key].action for key in fresh]

    def _hear(self, queue: str, asked: "asyncio.Future[Any]") -> None:
        if asked.cancelled() or asked.exception() is not None:
            return
        now = asyncio.get_running_loop().time()
        for values in asked.result():
            left, key = values.pop("left"), values["key"]
            try:
                action = unpacked(values)
            except (LookupError, TypeError, InvalidInputError):
                logger.warning("a newer worker has to send %r", mask_id(key))
                _unawaited = self._give_back(self._digests.number(key), later=True)
                continue
            self._items[key] = _Item(action, queue, now + left)
            self._in_hand[queue] += 1
            self._fresh.setdefault(queue, []).append(key)

    async def room(self) -> None:
        """Wait until something that was in hand isn't any more."""
        self._room.clear()
        await self._room.wait()

    def left(self, action: Action) -> float | None:
        """Return the seconds that an action still has to leave."""
        item = self._items.get(action.key or "")
        if item is None:
            return None
        return max(item.until - asyncio.get_running_loop().time(), 0.001)

    async def claim(
        self, rows: Sequence[SharedRow], *, include_in_doubt: bool
    ) -> list[Claimed]:
        """Claim rows, as `PostgresJournal.claim`: what was handed out is claimed."""
        if not self._serves:
            return await super().claim(rows, include_in_doubt=include_in_doubt)
        self._guard.check()
        for row in rows:
            claim = ClaimedKey(row.action, row.name, row.digest, None)
            self._claims[row.key] = claim
        return [None] * len(rows)

    def _repeats(self, name: int) -> bool:
        del name
        return False  # it was handed out, or asked for by a task that runs again

    def _judge(self, row: SharedRow, answer: Answer | None) -> Claimed:
        if row.key in self._claims:  # another task of this process has it
            compare(row.key, row.digest, self._claims[row.key].digest)
            return Held.ELSEWHERE
        return super()._judge(row, answer)

    def settle(self, key: str, outcome: Outcome) -> asyncio.Future[Outcome]:
        """Note what came of a claimed key, as `PostgresJournal.settle`.

        What did not leave is given back, unless it has ended for good.
        """
        claim = self._claims.get(key)
        if claim is None or claim.settled or not self._is_unsent(outcome):
            told = super().settle(key, outcome)
            told.add_done_callback(lambda _: self._forget(key))
            return told
        claim.settled = True
        reason = getattr(outcome, "reason", None)
        later = reason is Reason.STOPPED or isinstance(outcome, Rejected)
        given = self._give_back(claim.name, later=later)

        def over(_: BaseException | None) -> None:  # else its lease gives it back
            self._claims.pop(key, None)
            self._forget(key)

        return outcome_once(given, outcome, over)

    def _is_unsent(self, outcome: Outcome) -> bool:
        return goes_back(outcome) if self._serves else isinstance(outcome, NotSent)

    def release(self, key: str) -> None:
        """Give back a key that is not to be sent, as `PostgresJournal.release`."""
        if not self._serves:
            super().release(key)
            return
        claim = self._claims.get(key)
        if claim is None or claim.intended:
            raise misused(key, "can't be released: it has an intent, or no claim")
        del self._claims[key]
        self._forget(key)
        _unawaited = self._give_back(claim.name, later=True)

    async def give_back_rest(self, queue: str) -> None:
        """Give back what was handed out from a queue, and nobody has begun."""
        keys = [
            key
            for key, item in self._items.items()
            if item.queue == queue and key not in self._claims
        ]
        names = [self._digests.number(key) for key in keys]
        self._fresh.pop(queue, None)
        for key in keys:
            self._forget(key)
        given = [self._give_back(name, later=False) for name in names]
        await asyncio.gather(*given)

    def _give_back(self, name: int, *, later: bool) -> "asyncio.Future[Any]":
        wait = _MUCH_LATER if later else _LATER
        return self._opened().give_back(name, 0.0 if self.leaving else wait)

    def _forget(self, key: str) -> None:
        item = self._items.pop(key, None)
        if item is not None:
            self._in_hand[item.queue] -= 1
            self._room.set()

    async def tend(self) -> None:
        """Look after what others left in the queue, and what is too late.

        Raises:
            JournalError: It can't be done.
        """
        operation = {"do": "tend", "keep": self._keep_rows, "worker": self._worker}
        await self._opened().ask(operation)

    async def forget(self) -> None:
        """Forget what was sent once without the queue, if it is long ago.

        Raises:
            JournalError: It can't be done.
        """
        await self._opened().ask({"do": "forget", "keep": self._keep_rows})

    async def callbacks(self, most: int) -> list[dict[str, Any]]:
        """Return whom to tell of outcomes; they are this runner's for two minutes.

        Raises:
            JournalError: It can't be done.
        """
        operation = {"do": "callbacks", "most": most}
        found: list[dict[str, Any]] = await self._opened().ask(operation)
        return found

    async def called(self, name: str) -> None:
        """Note that one was told, or is not told any more.

        Raises:
            JournalError: It can't be done.
        """
        await self._opened().ask({"do": "called", "name": name})
