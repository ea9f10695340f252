"""Sends what is in the queue, until it is told to stop."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from typing import Final, Self

import attrs

from aiophlo.batch.stream import Stream
from aiophlo.errors import InvalidInputError, JournalError, VerdictError
from aiophlo.logs import logger
from aiophlo.model.accounts import Account
from aiophlo.model.actions import Action, GetPhlo, Lane
from aiophlo.model.outcomes import NotSent, Outcome, Reason, Rejected
from aiophlo.model.redaction import mask_id, mask_text
from aiophlo.model.validation import check_count, check_seconds, check_type
from aiophlo.pool import SessionPool
from aiophlo.postgres.callbacks import Callbacks
from aiophlo.postgres.connection import wait_for_event
from aiophlo.postgres.queue_client import QueueClient
from aiophlo.postgres.queue_journal import QueueJournal, goes_back
from aiophlo.postgres.queued_actions import queue_of
from aiophlo.shielding import finish

_POLL: Final = 1.0  # seconds: notices can get lost
_STOPS: Final = 20  # in a row; then the account answers nobody
_PAUSE: Final = 5.0, 60.0  # seconds until it is asked: at first, and at most
_ASK_WITHIN: Final = 10.0
_AGAIN: Final = 1.0  # seconds until the database is tried again
_TENDS: Final = 3  # in a lease
_CALL_EVERY: Final = 5.0  # seconds, where nothing ends: what others left is called back
_COMPANY: Final = 0.1  # seconds in which more may end
_TOLD_EVERY: Final = 60.0  # seconds, of what goes back into the queue
# Why it does, where another warning or nobody's fault says so.
_TOLD: Final = frozenset({Reason.CLOSED, Reason.STOPPED})


@attrs.frozen
class _Lane:
    """One of an account's queues.

    Attributes:
        account: Whose.
        queue: Its name.
        lane: Where its actions wait for their slots.
        most: Actions in hand at most.
    """

    account: Account
    queue: str
    lane: Lane
    most: int


class Worker:
    """Sends what is in the queue for the accounts of a pool.

    ::

        async with SessionPool(account, coordinator=coordinator) as pool:
            worker = Worker(pool)
            loop.add_signal_handler(signal.SIGTERM, worker.stop)
            await worker.run()

    Each account has its own share of what is in hand, so that one's backlog doesn't
    hold up another's. An action whose request may have left is never sent again: if its
    worker dies then, it is in doubt. One that hasn't left is sent by another worker,
    once this one wasn't heard of for the coordinator's `lease`.

    Args:
        pool: Open, with a `PostgresCoordinator`.
        concurrency: Actions in hand at most, for each account; a quarter of them is for
            those with a priority above 0.
        keep_days: Days for which it is known what came of a key.
        stop_within: Seconds that what has left has to end, once it is told to stop;
            then it is left in doubt.

    Raises:
        InvalidInputError: An argument can't be right.

    Attributes:
        ended: Outcomes so far, by verdict, but for what goes back into the queue.
        left_in_doubt: What had left hadn't ended within `stop_within`.
    """

    def __init__(
        self,
        pool: SessionPool,
        *,
        concurrency: int = 200,
        keep_days: float = 30.0,
        stop_within: float = 30.0,
    ) -> None:
        check_type(pool, SessionPool, "pool")
        coordinator: object = pool.coordinator
        if not isinstance(coordinator, QueueClient):
            message = "pool: expected one with a PostgresCoordinator"
            raise InvalidInputError(message, field="pool")
        self._pool = pool
        self._coordinator = coordinator
        self._keep_days = check_seconds(keep_days, "keep_days")
        self._stop_within = check_seconds(stop_within, "stop_within")
        most = max(check_count(concurrency, "concurrency"), 2)
        first = max(most // 4, 1)
        self._lanes = [
            _Lane(account, queue_of(account.auth_id, priority), lane, share)
            for account in pool.accounts
            for priority, lane, share in (
                (1, Lane.AWAITED, first),
                (0, Lane.STREAMED, most - first),
            )
        ]
        self.ended = dict.fromkeys(("accepted", "rejected", "not_sent", "in_doubt"), 0)
        self.left_in_doubt = False
        self._stopped = asyncio.Event()
        self._news = asyncio.Event()  # something has ended
        self._bells: set[asyncio.Event] = set()
        self._empty: set[str] = set()  # queues of which nothing waits or is in hand
        self._serving: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._told_at = -math.inf  # that something went back

    @property
    def idle(self) -> bool:
        """Whether nothing is in hand, and nothing waits that may be sent by now."""
        return len(self._empty) == len(self._lanes)

    async def __aenter__(self) -> Self:
        """Begin to work, beside what the block does."""
        self._task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop, and wait for what has left."""
        self.stop()
        if self._task is not None:
            await self._task

    def stop(self) -> None:
        """Take nothing new, and end; told twice, leave in doubt what has left."""
        if self._stopped.is_set():
            for task in self._serving:
                task.cancel()
        self._stopped.set()

    async def run(self) -> None:
        """Work until it is told to stop.

        While the database is away nothing is sent; it goes on once it is back.

        Raises:
            MigrationError: The queue's tables aren't there.
            InvalidInputError: The pool isn't open.
        """
        self._coordinator.on_queued(self._ring)
        while not self._stopped.is_set():
            try:
                async with self._coordinator.queue_journal(
                    keep_days=self._keep_days, serves=True
                ) as journal:
                    await self._work(journal)
            except JournalError as error:
                logger.warning("the queue can't be worked on at present (%s)", error)
                await wait_for_event(self._stopped, _AGAIN)

    async def _work(self, journal: QueueJournal) -> None:
        """Serve all lanes until told to stop, or one fails."""
        callbacks = Callbacks(journal, self._coordinator.sign)
        beside = [
            asyncio.create_task(self._tend(journal)),
            asyncio.create_task(self._call_back(callbacks)),
        ]
        self._serving = {
            asyncio.create_task(self._serve(journal, lane)) for lane in self._lanes
        }
        try:
            await self._until_served(journal, beside)
        finally:
            await finish(_end_beside(beside, callbacks))

    async def _until_served(
        self, journal: QueueJournal, beside: list[asyncio.Task[None]]
    ) -> None:
        stopping = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait(
                {stopping, *self._serving, *beside},
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            stopping.cancel()
            journal.leaving = True
            serving = self._serving
            for task in serving:
                task.cancel()
            _, late = await asyncio.wait(serving, timeout=self._stop_within)
            for task in late:
                task.cancel()
            self.left_in_doubt = bool(late)
            await asyncio.wait(serving)
            self._serving = set()
            for lane in self._lanes:
                with contextlib.suppress(JournalError):  # then its lease runs out
                    await journal.give_back_rest(lane.queue)
        for task in (*serving, *beside):
            if task.done() and not task.cancelled():
                task.result()

    async def _tend(self, journal: QueueJournal) -> None:
        while True:
            await journal.tend()
            await asyncio.sleep(self._coordinator.lease / _TENDS)

    async def _call_back(self, callbacks: Callbacks) -> None:
        while True:
            self._news.clear()
            await callbacks.call()
            await wait_for_event(self._news, _CALL_EVERY)
            await asyncio.sleep(_COMPANY)

    async def _serve(self, journal: QueueJournal, lane: _Lane) -> None:
        """Send what is in one queue; where its account answers nobody, wait."""
        pause, most = _PAUSE
        while True:
            before = sum(self.ended.values())
            stream = self._pool.stream(
                self._take(journal, lane),
                concurrency=lane.most,
                send_within=journal.left,
                lane=lane.lane,
                journal=journal,
                on_duplicate="send",  # a key that is new means it
                account=lane.account,
            )
            last = await self._read(stream, journal, lane)
            await journal.give_back_rest(lane.queue)
            if sum(self.ended.values()) > before:
                pause = _PAUSE[0]
            while last is not None and (how := await self._ask(last, lane)):
                logger.warning(
                    "account %s %s: asking again in %.0f s",
                    mask_id(lane.account.auth_id),
                    how,
                    pause,
                )
                await asyncio.sleep(pause)
                pause = min(pause * 2, most)
            await asyncio.sleep(pause)

    async def _read(
        self, stream: Stream, journal: QueueJournal, lane: _Lane
    ) -> Action | None:
        """Read until the account answers nobody; return what was asked last."""
        unanswered = 0
        stream.tells_unread = False
        try:
            async with stream as outcomes:
                async for outcome in outcomes:
                    unanswered = unanswered + 1 if _is_stopped(outcome) else 0
                    alone = unanswered > 0 and journal.in_hand(lane.queue) == 0
                    self._count(outcome)
                    if unanswered >= _STOPS or alone:
                        return outcome.action
        finally:
            for outcome in stream.unread:
                self._count(outcome)
        return None

    async def _ask(self, action: Action, lane: _Lane) -> str | None:
        """Ask for the PHLO, which rings no phone; say what is wrong with the account.

        Returns:
            What its requests come to; None if they are answered.
        """
        question = GetPhlo(phlo_id=action.phlo_id)
        try:
            await self._pool.send(
                question, account=lane.account, send_within=_ASK_WITHIN
            )
        except VerdictError as error:
            outcome = error.outcome
            if not isinstance(outcome, Rejected):
                return "answers nobody"
            if goes_back(outcome):
                return f"refuses its credentials (status {outcome.status})"
        return None

    async def _take(self, journal: QueueJournal, lane: _Lane) -> AsyncIterator[Action]:
        bell = asyncio.Event()
        self._bells.add(bell)
        try:
            while True:
                room = lane.most - journal.in_hand(lane.queue)
                if room <= 0:
                    await journal.room()
                    continue
                bell.clear()
                found = await journal.fetch(lane.queue, room)
                self._note_found(lane.queue, journal)
                for action in found:
                    yield action
                if not found:
                    await wait_for_event(bell, _POLL)
        finally:
            self._bells.discard(bell)

    def _note_found(self, queue: str, journal: QueueJournal) -> None:
        if journal.in_hand(queue):
            self._empty.discard(queue)
        else:
            self._empty.add(queue)

    def _ring(self) -> None:
        for bell in self._bells:
            bell.set()

    def _count(self, outcome: Outcome) -> None:
        if not goes_back(outcome):
            self.ended[outcome.verdict] += 1
            self._news.set()
        elif isinstance(outcome, NotSent) and outcome.reason not in _TOLD:
            self._tell_back(outcome)

    def _tell_back(self, outcome: NotSent) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told_at < _TOLD_EVERY:
            return
        self._told_at = now
        why = mask_text(outcome.error or "")
        logger.warning(
            "what can't be sent goes back into the queue, to be sent later (%s)",
            f"{outcome.reason}: {why}" if why else outcome.reason,
        )


def _is_stopped(outcome: Outcome) -> bool:
    if isinstance(outcome, NotSent):
        return outcome.reason is Reason.STOPPED
    return goes_back(outcome)  # the credentials are refused


async def _end_beside(beside: list[asyncio.Task[None]], callbacks: Callbacks) -> None:
    for task in beside:
        task.cancel()
    await asyncio.wait(beside)
    await callbacks.close()
