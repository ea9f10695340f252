"""Streams: sends many actions with bounded concurrency, and yields their outcomes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from typing import TYPE_CHECKING, Self, TypeVar, cast

import attrs

from aiophlo.batch.circuit_breaker import CircuitBreakers
from aiophlo.batch.item import Item
from aiophlo.batch.seen_dials import SeenDials
from aiophlo.batch.shared_rows import ClaimedRow, SharedRows
from aiophlo.batch.unseen import Unseen
from aiophlo.batch.workers import Workers
from aiophlo.errors import InDoubtError, InvalidInputError, JournalError
from aiophlo.journal.shared import ClaimingJournal, SharedJournal
from aiophlo.logs import let_end, logger
from aiophlo.model.actions import Action, DialAction, Lane
from aiophlo.model.invalid_input import refuse
from aiophlo.model.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason, Rejected
from aiophlo.model.validation import check_send_within, check_type
from aiophlo.sending.delivery import Delivery
from aiophlo.sending.sender import Sender
from aiophlo.shielding import RepeatedCancels

if TYPE_CHECKING:
    from aiophlo.journal.journal import Journal

_T = TypeVar("_T")

# Taken in one step of the event loop: more would hold up whoever is awaited, and be
# more objects at once than the garbage collector lets pass, 7 % of a transfer.
_AT_ONCE = 16


@attrs.frozen
class BatchReport:
    """What came of a list of actions.

    Attributes:
        outcomes: One per action, in the order of the actions.
    """

    outcomes: tuple[Outcome, ...]

    @property
    def accepted(self) -> int:
        """How many were accepted."""
        return self._count(Accepted)

    @property
    def rejected(self) -> int:
        """How many were rejected."""
        return self._count(Rejected)

    @property
    def not_sent(self) -> int:
        """How many were not sent."""
        return self._count(NotSent)

    @property
    def in_doubt(self) -> int:
        """How many are in doubt."""
        return self._count(InDoubt)

    def raise_if_in_doubt(self) -> None:
        """Raise if an action is in doubt: a phone may be ringing.

        Raises:
            InDoubtError: One or more are in doubt; it carries the first.
        """
        doubts = [o for o in self.outcomes if isinstance(o, InDoubt)]
        if doubts:
            message = f"{len(doubts)} of {len(self.outcomes)} actions are in doubt"
            raise InDoubtError(message, outcome=doubts[0])

    def _count(self, kind: type[Outcome]) -> int:
        return sum(isinstance(outcome, kind) for outcome in self.outcomes)


@attrs.frozen(kw_only=True)
class StreamOptions:
    """The options of a stream; see `SessionPool.stream`."""

    concurrency: int
    send_within: float | Callable[[Action], float | None] | None
    journal: Journal | SharedJournal | None
    include_in_doubt: bool
    send_repeats: bool
    check_loop: Callable[[], None]
    unseen: Unseen | None = None
    lane: Lane = Lane.STREAMED


class Stream:
    """Outcomes of many actions, as they come; made by `SessionPool.stream`.

    Use it as `async with pool.stream(actions) as outcomes:` and iterate. At
    most `concurrency` actions are in hand: taken, and their outcome not yet
    with you. Leaving the block stops taking, lets what is in flight end, and
    keeps the outcomes you have not seen in `unread`. Cancelled once more
    while it waits for those in flight, it leaves them in doubt; that anyio
    repeats the cancel of a scope doesn't count.

    Attributes:
        taken: Actions taken so far.
        counts: Outcomes so far, by verdict.
        unread: Outcomes that came after you had left the block.
    """

    def __init__(
        self,
        actions: Iterable[Action] | AsyncIterable[Action],
        sender_of: Callable[[Action], Sender],
        options: StreamOptions,
    ) -> None:
        self.taken = 0
        self.counts: Counter[str] = Counter()
        self.unread: list[Outcome] = []
        self.tells_unread = True  # with a warning; an owner that reads them needs none
        self._take = _taker(actions)
        self._own_journal: Journal | None = None
        self._shared_journal: ClaimingJournal | None = None
        if isinstance(options.journal, ClaimingJournal):
            self._shared_journal = options.journal
        else:
            self._own_journal = cast("Journal | None", options.journal)
        self._sender_of = sender_of
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._feeder: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None  # what the feeder waits for
        self._in_hand = 0  # taken, and their outcome not yet read
        self._workers = Workers()
        self._turns: dict[str, asyncio.Lock] = {}
        self._breakers = CircuitBreakers()
        self._seen = SeenDials()
        self._ready: deque[tuple[int, Outcome]] = deque()
        self._readers: set[asyncio.Future[None]] = set()
        self._exhausted = False  # takes no more
        self._given_up = False  # sends no more either
        self._failure: BaseException | None = None  # not yet told

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise InvalidInputError("stream: expected to be entered once")
        self._options.check_loop()
        if self._options.journal is not None:
            self._options.journal.start_run()
        self._loop = asyncio.get_running_loop()
        self._feeder = self._loop.create_task(self._feeding())
        self._feeder.add_done_callback(self._on_fed)
        return self

    async def __aexit__(
        self, _kind: object, error: BaseException | None, _trace: object
    ) -> None:
        self._options.check_loop()
        self._give_up()
        cancelled = await self._until_ended(error)
        self.unread.extend(outcome for _, outcome in self._ready)
        self._in_hand -= len(self._ready)
        self._ready.clear()
        if self.unread and self.tells_unread:
            logger.warning("left a stream with outcomes unread: %d", len(self.unread))
        if cancelled is not None:
            raise cancelled
        if error is None:
            self._raise_failure()
        self._failure = None  # which refers to this stream through its traceback

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return self

    async def __anext__(self) -> Outcome:
        return (await self._next())[1]

    def numbered(self) -> AsyncIterator[tuple[int, Outcome]]:
        """Yield each outcome with the number of its action, from 0."""
        return _Numbered(self._next)

    async def _next(self) -> tuple[int, Outcome]:
        if self._loop is None:
            raise InvalidInputError("stream: expected to be read inside `async with`")
        while not self._ready:
            self._options.check_loop()  # a forked child would wait for its parent's
            if self._exhausted and not self._in_hand:
                self._raise_failure()
                raise StopAsyncIteration
            await self._news(self._loop)
        self._in_hand -= 1
        if self._room is not None:
            _wake(self._room)
        return self._ready.popleft()

    async def _news(self, loop: asyncio.AbstractEventLoop) -> None:
        reader = loop.create_future()
        self._readers.add(reader)
        try:
            await reader
        finally:
            self._readers.discard(reader)

    def _hand_out(self, number: int, outcome: Outcome) -> None:
        self.counts[outcome.verdict] += 1
        self._ready.append((number, outcome))
        if self._readers:
            self._wake_readers()

    def _wake_readers(self) -> None:
        for reader in self._readers:
            _wake(reader)
        self._readers.clear()  # once is enough, however many outcomes there are

    def _raise_failure(self) -> None:
        error, self._failure = self._failure, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame

    async def _feeding(self) -> None:
        if self._shared_journal is None:
            await self._feed(self._take, self._begin)
            return
        rows = SharedRows(
            self._take,
            self._shared_journal,
            include_in_doubt=self._options.include_in_doubt,
            is_repeat=self._is_repeat,
        )
        try:
            await self._feed(rows.take, self._begin_claimed)
        finally:
            await rows.close()

    async def _feed(
        self, take: Callable[[], Awaitable[_T]], begin: Callable[[_T], None]
    ) -> None:
        """Take one action after the other, while there are any and there is room."""
        with contextlib.suppress(StopAsyncIteration):
            while not self._exhausted:
                if self._in_hand < self._options.concurrency:
                    begin(await take())
                    if self.taken % _AT_ONCE == 0:
                        await asyncio.sleep(0)
                else:
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room

    def _on_fed(self, feeder: asyncio.Task[None]) -> None:
        """Let the readers know that no more is taken, whatever the reason."""
        error: BaseException | None
        error = asyncio.CancelledError() if feeder.cancelled() else feeder.exception()
        if error is not None:
            self._note_failure(error)
        self._exhausted = True
        self._wake_readers()

    def _begin(self, action: Action) -> None:
        """Begin an action: send it, unless its outcome is known."""
        self._begin_item(self.taken, action, None)

    def _begin_claimed(self, claimed: ClaimedRow) -> None:
        """Begin a row of a shared journal."""
        self._begin_item(claimed.row.number, claimed.row.action, claimed)

    def _begin_item(
        self, number: int, action: Action, claimed: ClaimedRow | None
    ) -> None:
        self.taken += 1
        self._in_hand += 1
        try:
            if claimed is None:
                outcome = self._recall_or_send(number, action)
            else:
                outcome = claimed.known or self._send_claimed(
                    claimed.row.key, number, action, repeat=claimed.row.equal
                )
        except JournalError as error:
            self._fail(error)
            outcome = _refused(action, Reason.STOPPED)
        except Exception as error:  # noqa: BLE001 -- one bad action never sinks the rest
            outcome = _refused(action, Reason.INVALID, error)
        except BaseException:  # it ends the batch, but no row lacks its outcome
            self._hand_out(number, _refused(action, Reason.STOPPED))
            raise
        if outcome is not None:
            self._hand_out(number, outcome)

    def _recall_or_send(self, number: int, action: Action) -> Outcome | None:
        if not isinstance(action, Action):
            check_type(action, Action, "actions")  # which says what is wrong
        journal = self._own_journal
        if journal is None:
            if self._is_repeat(action):
                return _refused(action, Reason.DUPLICATE)
            self._send("", number, action)
            return None
        again = self._options.include_in_doubt
        key, known = journal.recall_row(number, action, include_in_doubt=again)
        repeat = self._is_repeat(action)
        if known is not None:
            return known
        return self._send_claimed(key, number, action, repeat=repeat)

    def _send_claimed(
        self, key: str, number: int, action: Action, *, repeat: bool
    ) -> Outcome | None:
        journal = self._options.journal
        assert journal is not None  # noqa: S101 -- it claimed the key
        if repeat:
            outcome = _refused(action, Reason.DUPLICATE)
            noted = journal.verdict_on(key, outcome)  # it may have rung last time
            journal.release(key)
            return noted
        try:
            self._send(key, number, action)
        except BaseException:
            journal.release(key)
            raise
        return None

    def _is_repeat(self, action: Action) -> bool:
        """Say whether an equal dial came before, unless these are to be sent."""
        if self._options.send_repeats or not isinstance(action, DialAction):
            return False
        return not self._seen.add(action)

    def _send(self, key: str, number: int, action: Action) -> None:
        options = self._options
        sender = self._sender_of(action)
        within = options.send_within
        if callable(within):
            within = check_send_within(within(action))
        delivery = Delivery(sender.context, action, within, lane=options.lane)
        if self._shared_journal is not None:
            delivery.may_leave = self._shared_journal.may_leave
        doubt = None
        if options.unseen is not None and options.journal is not None:
            earlier = options.journal.earlier(key)
            doubt = earlier if isinstance(earlier, InDoubt) else None
        item = Item(number, sender, delivery, key, options.journal, doubt=doubt)
        self._workers.start(item, self._run_item, self._on_item_lost)

    async def _run_item(self, item: Item) -> None:
        outcome = await self._outcome_of(item)
        self._hand_out(item.number, outcome)
        if not item.kept:
            self._breakers.note(item.sender, outcome)

    def _on_item_lost(self, item: Item) -> None:
        """End an item whose task was cancelled before it began."""
        self._fail(asyncio.CancelledError())
        self._hand_out(item.number, item.never_begun())

    async def _outcome_of(self, item: Item) -> Outcome:
        try:
            outcome = await self._sent(item)
        except GeneratorExit:  # the loop is gone, and whoever read with it
            raise
        except BaseException as error:  # noqa: BLE001 -- it is told
            let_end(error)
            self._fail(error)
            outcome = item.failed()
        try:
            return await item.note(outcome)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 -- it is told
            self._fail(error)
            return item.unnoted(outcome)

    async def _sent(self, item: Item) -> Outcome:
        if self._given_up:
            return item.stopped()
        unseen = self._options.unseen
        if unseen is not None and (known := await item.look(unseen)) is not None:
            return known
        auth_id = item.sender.account.auth_id
        turn = self._turns.get(auth_id)
        if turn is None:
            turn = self._turns[auth_id] = asyncio.Lock()
        return await item.send(turn, self._breakers)

    def _fail(self, error: BaseException) -> None:
        self._note_failure(error)
        self._give_up()

    def _note_failure(self, error: BaseException) -> None:
        """Keep the first error for the reader, unless we caused it by stopping."""
        stopped = self._given_up and isinstance(error, asyncio.CancelledError)
        if self._failure is None and not stopped:
            self._failure = error

    def _give_up(self) -> None:
        """Take no more, and stop what has not left."""
        if self._given_up:
            return
        self._exhausted = self._given_up = True
        self._workers.dismiss()
        self._stop_all()

    def _stop_all(self, *, even_in_flight: bool = False) -> None:
        if self._feeder is not None:
            self._feeder.cancel()
        self._workers.stop(even_in_flight=even_in_flight)

    async def _until_ended(
        self, error: BaseException | None
    ) -> asyncio.CancelledError | None:
        """Wait for every task; return the cancel that this met, if one did."""
        cancelled = None
        repeats = RepeatedCancels(error)
        while tasks := self._tasks():
            try:
                await asyncio.wait(tasks)
            except asyncio.CancelledError as cancel:
                if not repeats.include(cancel):
                    cancelled = cancel
                    self._stop_all(even_in_flight=True)
        return cancelled

    def _tasks(self) -> list[asyncio.Task[None]]:
        tasks = self._workers.tasks()
        if self._feeder is not None and not self._feeder.done():
            tasks.append(self._feeder)
        return tasks


class _Numbered(AsyncIterator[tuple[int, Outcome]]):
    def __init__(self, read: Callable[[], Awaitable[tuple[int, Outcome]]]) -> None:
        self._read = read

    def __anext__(self) -> Awaitable[tuple[int, Outcome]]:
        return self._read()


def _taker(
    actions: Iterable[Action] | AsyncIterable[Action],
) -> Callable[[], Awaitable[Action]]:
    """Return a coroutine function that takes the next action."""
    if isinstance(actions, AsyncIterable):
        return aiter(actions).__anext__
    if not isinstance(actions, Iterable):
        refuse("actions", "an iterable of actions", actions)
    now = iter(actions)

    async def take() -> Action:
        for action in now:
            return action
        raise StopAsyncIteration

    return take


def _refused(action: Action, reason: Reason, error: Exception | None = None) -> NotSent:
    text = None if error is None else str(error)
    return NotSent(action=action, reason=reason, attempts=0, error=text)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
