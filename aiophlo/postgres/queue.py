"""Puts actions in a queue, and says what came of them."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import attrs

from aiophlo.coordination import AwayError
from aiophlo.errors import InvalidInputError, PhloError
from aiophlo.journal.keys import Digests
from aiophlo.journal.rows import masked_address, outcome_in
from aiophlo.model.actions import Action
from aiophlo.model.invalid_input import refuse
from aiophlo.model.outcomes import Outcome
from aiophlo.model.redaction import mask_id
from aiophlo.model.validation import check_seconds
from aiophlo.postgres.batch_journal import storable
from aiophlo.postgres.connection import Connection, wait_for_event
from aiophlo.postgres.migrate import MigrationError, check_version
from aiophlo.postgres.queue_journal import MISSING
from aiophlo.postgres.queued_actions import (
    HIGHEST,
    KEEP,
    check_queueable,
    new_key,
    packed,
    queue_of,
)
from aiophlo.protocol.validation import check_callback_url

DAY: Final = 86_400.0  # seconds that an action has, unless it says when it is too late
_BLOCK: Final = 250  # actions in a transaction, which has to end within a second
_TRIES: Final = 20  # of a block that isn't answered
_AGAIN: Final = 0.5  # seconds to the next try
_LOOK_EVERY: Final = 1.0  # seconds: notices can get lost


class QueueError(PhloError):
    """The queue can't be reached: what was to be enqueued may be in it, or not.

    Enqueueing again under the same key does no harm.
    """


@attrs.frozen(kw_only=True)
class EnqueueReport:
    """What became of many actions that were to be enqueued.

    Attributes:
        new: How many are in the queue now.
        known: How many were in it before, under the same key, or have ended.
        refused: Keys that stand for another action already.
    """

    new: int = 0
    known: int = 0
    refused: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Terms:
    """On what terms actions are enqueued.

    Attributes:
        account: `auth_id` of whose they are.
        send_by: Unix time after which sending is worthless; None for within a day.
        priority: Higher ones go first; those above 0 before all others.
        callback_url: What is told of the outcome.
    """

    account: str
    send_by: float | None
    priority: int
    callback_url: str | None


def check_terms(
    account: str,
    by: datetime | float | None,
    priority: int,
    callback_url: str | None,
) -> Terms:
    """Return terms that can be kept.

    Raises:
        InvalidInputError: They can't.
    """
    if isinstance(by, datetime):
        if by.tzinfo is None:
            refuse("by", "a time with a time zone, such as datetime.now(UTC) + …")
        by = by.timestamp()
    if by is not None:
        by = check_seconds(by, "by")
    if type(priority) is not int or abs(priority) > HIGHEST:
        refuse("priority", f"a whole number from -{HIGHEST} to {HIGHEST}")
    if callback_url is not None:
        check_callback_url(callback_url)
    return Terms(
        account=account, send_by=by, priority=priority, callback_url=callback_url
    )


class Queue:
    """One who enqueues, over a connection of its own; made by the coordinator.

    Args:
        url: Where the database is.
        schema: Of the tables.
    """

    def __init__(self, url: str, schema: str) -> None:
        self._connection = Connection(url)
        self._schema = schema
        self._digests: Digests | None = None
        self._turn = asyncio.Lock()
        self._waiting: dict[int, asyncio.Event] = {}  # by name

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    async def enqueue(self, action: Action, terms: Terms) -> str:
        """Put one action in the queue, unless it is in it; return its key.

        Raises:
            InvalidInputError: Its key stands for another one.
            QueueError: It can't be reached.
        """
        report, key = EnqueueReport(), action.key or new_key()
        keyed = attrs.evolve(action, key=key)
        report = await self.enqueue_many([keyed], terms)
        if report.refused:
            message = f"key {mask_id(key)!r} stands for another action already"
            raise InvalidInputError(message, field="key")
        return key

    async def enqueue_many(
        self, actions: Iterable[Action] | AsyncIterable[Action], terms: Terms
    ) -> EnqueueReport:
        """Put many actions in the queue, in blocks; what is in it stays as it is.

        Raises:
            InvalidInputError: One of them can't be enqueued. Those before it may be.
            QueueError: The queue can't be reached. Some of them may be in it.
        """
        report = EnqueueReport()
        block: dict[int, tuple[str, dict[str, Any]]] = {}
        async for action in _each(actions):
            key, row = await self._row(action, terms)
            if row["name"] in block or len(block) >= _BLOCK:
                report = await self._enqueue(block, report)
                block = {}
            block[row["name"]] = key, row
        return await self._enqueue(block, report) if block else report

    async def _row(self, action: Action, terms: Terms) -> tuple[str, dict[str, Any]]:
        check_queueable(action)
        digests = self._digests or await self._open()
        if action.key is None:
            action = attrs.evolve(action, key=new_key())
        key = action.key or ""
        row: dict[str, Any] = {
            "name": digests.number(key),
            "key": storable(digests.key(key)),
            "digest": digests.action(action),
            "account": terms.account,
            "queue": queue_of(terms.account, terms.priority),
            "priority": terms.priority,
            "phlo_id": action.phlo_id,
            "kind": type(action).__name__,
            "address": masked_address(action),
            "action": packed(action),
            "send_by": terms.send_by,
            "send_within": DAY,
        }
        if terms.callback_url is not None:
            row["callback"] = {"url": terms.callback_url, "key": key}
        return key, row

    async def _enqueue(
        self, block: Mapping[int, tuple[str, dict[str, Any]]], report: EnqueueReport
    ) -> EnqueueReport:
        rows = [row for _, row in block.values()]
        found = await self._ask("enqueue", {"rows": rows})
        refused = [
            key
            for (key, _), how in zip(block.values(), found, strict=True)
            if how == "other"
        ]
        return EnqueueReport(
            new=report.new + found.count("new"),
            known=report.known + found.count("known"),
            refused=(*report.refused, *refused),
        )

    async def outcome(
        self, key: str, *, wait: float | None, heard: bool
    ) -> Outcome | None:
        """Return what came of a key; None if nothing has, or not within `wait`.

        Args:
            key: Which.
            wait: Seconds to wait for it; None for as long as it takes.
            heard: Notices are.

        Raises:
            InvalidInputError: The key is unknown.
            QueueError: The queue can't be reached.
        """
        digests = self._digests or await self._open()
        name, loop = digests.number(key), asyncio.get_running_loop()
        until = None if wait is None else loop.time() + wait
        ended = self._waiting.setdefault(name, asyncio.Event())
        try:
            while True:
                asked = {"name": name, "awaited": heard and wait != 0.0}
                outcome = _outcome_of(key, await self._ask("outcome_of", asked))
                left = None if until is None else until - loop.time()
                if outcome is not None or (left is not None and left <= 0.0):
                    return outcome
                pause = _LOOK_EVERY if left is None else min(left, _LOOK_EVERY)
                await wait_for_event(ended, pause)
                ended.clear()
        finally:
            self._waiting.pop(name, None)

    def hear(self, name: int) -> None:
        """Hear that an action has ended."""
        ended = self._waiting.get(name)
        if ended is not None:
            ended.set()

    async def _open(self) -> Digests:
        answer = await self._ask(
            "open_queue", {"salt": secrets.token_hex(32), "keep": KEEP}
        )
        if "missing" in answer:
            raise MigrationError(MISSING)
        self._digests = Digests(bytes.fromhex(answer["salt"]))
        return self._digests

    async def _ask(self, function: str, asked: Mapping[str, object]) -> Any:  # noqa: ANN401 -- JSON
        """Ask again and again, for some seconds: each question may be repeated."""
        query = f'SELECT "{self._schema}".{function}($1::jsonb)'
        text = json.dumps(asked)
        async with self._turn:
            for turn in range(_TRIES):
                try:
                    if not self._connection.is_open:
                        await self._connection.open()
                        await check_version(self._connection, self._schema)
                    return json.loads(
                        await self._connection.fetch(query, text) or "null"
                    )
                except AwayError as error:
                    if turn == _TRIES - 1:
                        raise QueueError(f"queue: its database is away: {error}") from (
                            error
                        )
                await asyncio.sleep(_AGAIN)
        raise AssertionError  # the last turn returns or raises


def _outcome_of(key: str, found: Mapping[str, Any] | None) -> Outcome | None:
    if found is None:
        message = f"key {mask_id(key)!r} was never enqueued, or it is long ago"
        raise InvalidInputError(message, field="key")
    if not found:
        return None
    # Whom it was about isn't kept.
    action = Action(phlo_id=found["phlo_id"], key=key)
    return outcome_in(found, action)


async def _each(
    actions: Iterable[Action] | AsyncIterable[Action],
) -> AsyncIterator[Action]:
    if isinstance(actions, AsyncIterable):
        async for action in actions:
            yield action
        return
    for action in actions:
        yield action
