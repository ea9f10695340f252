"""Enqueueing, and what came of it: the coordinator's methods for that."""

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs

from aiophlo.errors import InvalidInputError, PhloError
from aiophlo.model.accounts import Account, parse_auth_id
from aiophlo.model.actions import Action, Lane
from aiophlo.model.invalid_input import refuse
from aiophlo.model.outcomes import NotSent, Outcome, Reason
from aiophlo.model.validation import check_seconds, check_send_within, check_type
from aiophlo.postgres.queue import EnqueueReport, Queue, check_terms
from aiophlo.postgres.queue_journal import QueueJournal
from aiophlo.postgres.queued_actions import check_queueable

if TYPE_CHECKING:
    from aiophlo.pool import SessionPool


class QueueClient:
    """What a coordinator does with the queue, whether or not it is open.

    Args:
        url: Where the database is.
        schema: Of the tables.
        lease: Seconds after which others take over.
        secret: Signs callbacks.

    Attributes:
        coordinated: Whether notices are heard.
    """

    def __init__(
        self, url: str, schema: str, *, lease: float, secret: str | None
    ) -> None:
        self._url = url
        self._schema = schema
        self._lease = lease
        self._secret = secret
        self.coordinated = False
        self._opened = self._closing = False
        self._accounts: Collection[Account] = ()
        self._queue: Queue | None = None  # kept while this is open
        self._once: QueueJournal | None = None  # the same
        self._opening_once = asyncio.Lock()
        self._when_queued: list[Callable[[], None]] = []

    async def enqueue(
        self,
        action: Action,
        *,
        by: datetime | float | None = None,
        key: str | None = None,
        priority: int = 0,
        callback_url: str | None = None,
        account: Account | str | None = None,
    ) -> str:
        """Put an action in the queue, for whichever worker comes first to send it.

        It is committed when this returns. The same action under the same key is
        enqueued once, however often this is called, and whatever came of it.

        Args:
            action: A `WarmTransfer`, `ColdTransfer`, `AddUser` or `RunPhlo`. It is kept
                in the clear until it has ended.
            by: When sending it becomes worthless, with a time zone or as Unix time:
                what hasn't left by then ends not sent, `expired`. None for within a
                day.
            key: What it is known by, else its own; None for a new one.
            priority: Higher ones go first; those above 0 don't queue behind others.
            callback_url: Gets a POST with what came of it, at least once.
            account: Whose, or its `auth_id`; may be left out where the coordinator
                serves a pool with one account.

        Returns:
            Its key, for `outcome`.

        Raises:
            InvalidInputError: An argument can't be right, or the key stands for another
                action.
            QueueError: The database can't be reached. It may be enqueued: doing it
                again under the same key does no harm.
            MigrationError: The queue's tables aren't there.
        """
        check_queueable(action)
        if key is not None:
            action = attrs.evolve(action, key=key)
        terms = check_terms(self._whose(account), by, priority, callback_url)
        async with self._enqueuing() as queue:
            return await queue.enqueue(action, terms)

    async def enqueue_many(
        self,
        actions: Iterable[Action] | AsyncIterable[Action],
        *,
        by: datetime | float | None = None,
        priority: int = 0,
        callback_url: str | None = None,
        account: Account | str | None = None,
    ) -> EnqueueReport:
        """Put many actions in the queue, each under its own `key`, in blocks.

        Args:
            actions: Any iterable or async iterable. One without a key gets a new one.
            by: As for `enqueue`.
            priority: As for `enqueue`.
            callback_url: As for `enqueue`.
            account: As for `enqueue`.

        Returns:
            The number of new ones, and the keys that stand for another action already,
            of which nothing was enqueued.

        Raises:
            InvalidInputError: As for `enqueue`. Those before it may be enqueued.
            QueueError: As for `enqueue`.
            MigrationError: As for `enqueue`.
        """
        terms = check_terms(self._whose(account), by, priority, callback_url)
        async with self._enqueuing() as queue:
            return await queue.enqueue_many(actions, terms)

    async def outcome(self, key: str, *, wait: float | None = 0.0) -> Outcome | None:
        """Return what came of an action that was enqueued.

        Args:
            key: What it is known by.
            wait: Seconds to wait for it; None for as long as it takes.

        Returns:
            Its outcome, whose action has nothing but its `phlo_id` and key, as whom it
            was about isn't kept; None while there is none.

        Raises:
            InvalidInputError: The key is unknown, or it ended so long ago that it was
                forgotten.
            QueueError: The database can't be reached.
            MigrationError: The queue's tables aren't there.
        """
        check_type(key, str, "key")
        if wait not in (None, 0, 0.0):
            check_seconds(wait, "wait")
        async with self._enqueuing() as queue:
            return await queue.outcome(key, wait=wait, heard=self.coordinated)

    async def send_once(
        self,
        pool: "SessionPool",
        action: Action,
        *,
        key: str,
        account: Account | str | None = None,
        send_within: float | None = 10.0,
    ) -> Outcome:
        """Send an action that is sent at most once, however often this is called.

        For tasks of another queue (Celery, Temporal, DBOS), which may run twice: the
        second one gets the first one's outcome; in doubt, if that one's process died
        meanwhile; and waits where it is at work still. What was not sent is sent by the
        next call.

        Args:
            pool: Sends it; open.
            action: What is asked.
            key: What it is known by, such as the task's id.
            account: As for `SessionPool.send`.
            send_within: As for `SessionPool.send`.

        Returns:
            What came of it, whatever the verdict.

        Raises:
            InvalidInputError: An argument can't be right, or the key stands for another
                action.
            JournalError: The database can't be reached: what had not left was not sent;
                what had is in doubt for the next call.
            MigrationError: The schema isn't there.
        """
        check_send_within(send_within)
        keyed = attrs.evolve(check_type(action, Action, "action"), key=key)
        async with self._sending_once() as journal:
            stream = pool.stream(
                [keyed],
                journal=journal,
                send_within=send_within,
                lane=Lane.AWAITED,
                on_duplicate="send",
                account=account,
            )
            async with stream as outcomes:
                outcome = await anext(outcomes)
        if isinstance(outcome, NotSent) and outcome.reason is Reason.INVALID:
            raise InvalidInputError(outcome.error or "key", field="key")
        return outcome

    @property
    def lease(self) -> float:
        """Seconds after which others take over from a pool that isn't heard of."""
        return self._lease

    def queue_journal(self, *, keep_days: float, serves: bool) -> QueueJournal:
        """Return the queue's memory, for a worker."""
        return QueueJournal(
            self._url,
            self._schema,
            lease=self._lease,
            keep_days=keep_days,
            serves=serves,
        )

    def on_queued(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever something was enqueued, while notices are heard."""
        self._when_queued.append(wake)

    def sign(self, body: bytes) -> str | None:
        """Return a signature of a callback with the secret; None without one."""
        if self._secret is None:
            return None
        digest = hmac.new(self._secret.encode(), body, hashlib.sha256)
        return f"sha256={digest.hexdigest()}"

    def _whose(self, account: Account | str | None) -> str:
        if isinstance(account, Account):
            return account.auth_id
        if account is not None:
            return parse_auth_id(account, field="account")
        if len(self._accounts) != 1:
            refuse("account", "an account, as the coordinator doesn't serve one alone")
        return next(iter(self._accounts)).auth_id

    @contextlib.asynccontextmanager
    async def _enqueuing(self) -> AsyncIterator[Queue]:
        kept = self._opened and not self._closing
        queue = (self._queue if kept else None) or Queue(self._url, self._schema)
        if kept:
            self._queue = queue
        try:
            yield queue
        finally:
            if self._closing or not kept:  # closed meanwhile, it has opened again
                queue.close()

    @contextlib.asynccontextmanager
    async def _sending_once(self) -> AsyncIterator[QueueJournal]:
        if self._opened and not self._closing:
            try:
                yield await self._kept_journal()
            finally:
                if self._closing:
                    await self._close_once()  # it may have been opened since
            return
        async with self.queue_journal(keep_days=30.0, serves=False) as journal:
            await journal.forget()
            yield journal

    async def _kept_journal(self) -> QueueJournal:
        async with self._opening_once:
            if self._once is not None and self._once.failed:
                await self._close_once()
            if self._once is None:
                journal = self.queue_journal(keep_days=30.0, serves=False)
                self._once = await journal.__aenter__()
                await journal.forget()
            return self._once

    async def _close_once(self) -> None:
        journal, self._once = self._once, None
        if journal is not None:
            with contextlib.suppress(PhloError):
                await journal.__aexit__(None, None, None)

    async def _close_queue(self) -> None:
        if self._queue is not None:
            self._queue.close()
        await self._close_once()

    def _hear_queue(self, kind: str, details: Sequence[Any]) -> None:
        if kind == "queued":
            for wake in self._when_queued:
                wake()
        elif self._queue is not None:
            self._queue.hear(int(details[0]))
