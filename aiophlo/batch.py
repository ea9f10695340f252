"""Many actions: bounded, streaming, each with exactly one outcome."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from types import TracebackType
from typing import NoReturn, Self

import attrs

from aiophlo.actions import Action, Lane
from aiophlo.breakers import Breakers
from aiophlo.errors import InDoubtError, InvalidInputError, JournalError
from aiophlo.journal import Journal, default_key
from aiophlo.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason, Rejected
from aiophlo.sending import Journey, Sender

logger = logging.getLogger("aiophlo")


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
        """Raise if a phone may be ringing that nobody accounts for.

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
    """How a stream goes about its work; see `SessionPool.stream`."""

    concurrency: int
    send_within: float | None
    journal: Journal | None
    include_in_doubt: bool


class _Worker:
    """Takes one action after the other to its outcome.

    Attributes:
        task: Runs it.
        journey: The action it is sending, if any.
        at_rest: It has nothing in hand that stopping it could lose.
    """

    __slots__ = ("at_rest", "journey", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.journey: Journey | None = None
        self.at_rest = True

    def stop(self, *, even_in_flight: bool = False) -> None:
        """Cancel it, unless that would put something in doubt or lose it."""
        waits = self.journey is not None and not self.journey.in_flight
        if self.task is not None and (self.at_rest or waits or even_in_flight):
            self.task.cancel()


class Stream:
    """Outcomes of many actions, as they come; made by `SessionPool.stream`.

    Use it as `async with pool.stream(actions) as outcomes:` and iterate. At
    most `concurrency` actions are in hand: taken, and their outcome not yet
    with you. Leaving the block stops taking, lets what is in flight end, and
    keeps the outcomes you have not seen in `unread`.

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
        self._take = _taker(actions)
        self._claimed = 0  # places of those in hand, and of those being taken
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sender_of = sender_of
        self._options = options
        self._breakers = Breakers()
        self._workers: set[_Worker] = set()
        self._ready: deque[tuple[int, Outcome]] = deque()
        self._room: deque[asyncio.Future[None]] = deque()
        self._reader: asyncio.Future[tuple[int, Outcome] | None] | None = None
        self._exhausted = False  # takes no more
        self._given_up = False  # sends no more either
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        if self._options.journal is not None:
            self._options.journal.start_run()
        self._hire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_up()
        try:
            await self._all_ended()
        except asyncio.CancelledError:
            for worker in self._workers:
                worker.stop(even_in_flight=True)
            await self._all_ended()
            raise
        finally:
            self.unread.extend(outcome for _, outcome in self._ready)
            self._ready.clear()
        if self.unread:
            logger.warning("left a stream with %d outcomes unread", len(self.unread))
        if error is None and self._failure is not None:
            raise self._failure

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return self

    async def __anext__(self) -> Outcome:
        return (await self._next())[1]

    async def numbered(self) -> AsyncIterator[tuple[int, Outcome]]:
        """Yield each outcome with the number of its action, from 0."""
        while True:
            try:
                yield await self._next()
            except StopAsyncIteration:
                return

    async def _next(self) -> tuple[int, Outcome]:
        while not self._ready:
            if not self._workers:
                self._raise_end()
            self._reader = self._running_loop().create_future()
            try:
                found = await self._reader
            except asyncio.CancelledError:
                self._put_back(self._reader)
                raise
            finally:
                self._reader = None
            if found is not None:
                return found
        self._make_room()
        return self._ready.popleft()

    def _raise_end(self) -> NoReturn:
        if self._failure is not None:
            raise self._failure
        self._running_loop()
        raise StopAsyncIteration

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            message = "stream: expected to be read inside `async with`"
            raise InvalidInputError(message, field="stream")
        return self._loop

    def _put_back(self, reader: asyncio.Future[tuple[int, Outcome] | None]) -> None:
        """Keep what was handed to a reader that was cancelled at that moment."""
        found = None if reader.cancelled() or not reader.done() else reader.result()
        if found is not None:
            self._claimed += 1
            self._ready.appendleft(found)

    def _hand_out(self, number: int, outcome: Outcome) -> None:
        self.counts[outcome.verdict] += 1
        if self._reader is not None and not self._reader.done():
            self._make_room()
            self._reader.set_result((number, outcome))
        else:
            self._ready.append((number, outcome))

    def _make_room(self) -> None:
        self._claimed -= 1
        while self._room:
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _hire(self) -> None:
        worker = _Worker()
        self._workers.add(worker)
        worker.task = self._running_loop().create_task(self._work(worker))

    async def _work(self, worker: _Worker) -> None:
        try:
            while (item := await self._next_action()) is not None:
                await self._take_to_outcome(*item, worker)
        except asyncio.CancelledError:
            if not self._given_up:
                raise
        except Exception as error:  # noqa: BLE001 -- raised to the reader
            self._fail(error)
        finally:
            self._workers.discard(worker)
            if not self._workers and self._reader and not self._reader.done():
                self._reader.set_result(None)

    async def _next_action(self) -> tuple[int, Action] | None:
        while self._claimed >= self._options.concurrency and not self._exhausted:
            waiter = self._running_loop().create_future()
            self._room.append(waiter)
            await waiter
        if self._exhausted:
            return None
        self._claimed += 1
        found = False
        try:
            action = await self._take()
            found = True
        except StopAsyncIteration:
            self._exhausted = True
            return None
        except Exception as error:  # noqa: BLE001 -- the user's; raised to its reader
            self._exhausted = True
            self._failure = self._failure or error
            return None
        finally:
            self._claimed -= not found
        self.taken += 1
        return self.taken - 1, action

    async def _take_to_outcome(
        self, number: int, action: Action, worker: _Worker
    ) -> None:
        worker.at_rest = False
        if len(self._workers) < self._options.concurrency and not self._exhausted:
            self._hire()
        try:
            journey = self._journey(action)
        except InvalidInputError as error:
            self._hand_out(number, _invalid(action, error))
        else:
            outcome = await self._outcome_of(number, journey, worker)
            self._hand_out(number, outcome)
            worker.at_rest = True
            await self._breakers.note(journey.sender, outcome)
        worker.at_rest = True

    def _journey(self, action: Action) -> Journey:
        if not isinstance(action, Action):
            got = type(action).__name__
            message = f"actions: expected actions, got {got}"
            raise InvalidInputError(message, field="actions")
        sender = self._sender_of(action)
        return Journey(sender, action, self._options.send_within, lane=Lane.STREAMED)

    async def _outcome_of(
        self, number: int, journey: Journey, worker: _Worker
    ) -> Outcome:
        journal, action = self._options.journal, journey.action
        if journal is None:
            return await self._send(journey, worker)
        key = action.key or default_key(number, journal.digest(action))
        again = self._options.include_in_doubt
        try:
            known = journal.recall(key, action, include_in_doubt=again)
        except InvalidInputError as error:
            return _invalid(action, error)
        if known is not None:
            return known
        return await self._send_and_note(key, journey, worker, journal)

    async def _send_and_note(
        self, key: str, journey: Journey, worker: _Worker, journal: Journal
    ) -> Outcome:
        intended = False

        async def intend() -> None:
            nonlocal intended
            intended = True
            await journal.intend(key, journey.action)

        journey.before_leaving = intend
        try:
            outcome = await self._send(journey, worker)
            if not intended and _was_stopped(outcome):
                journal.release(key)  # the next run finds it new
                return outcome
            return await journal.settle(key, outcome)
        except JournalError as error:
            self._fail(error)
            return journey.cancelled()

    async def _send(self, journey: Journey, worker: _Worker) -> Outcome:
        worker.journey = journey
        try:
            if not await self._breakers.admits(journey.sender, journey.action):
                return journey.not_sent(Reason.STOPPED)
            return await journey.sender.run(journey)
        except asyncio.CancelledError:
            if not self._given_up:
                raise
            return _stopped(journey.cancelled())
        finally:
            worker.journey = None

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
        self._give_up()

    def _give_up(self) -> None:
        """Take no more, and stop what has not left."""
        self._exhausted = True
        self._given_up = True
        for worker in self._workers:
            worker.stop()

    async def _all_ended(self) -> None:
        while self._workers:
            tasks = [worker.task for worker in self._workers if worker.task]
            await asyncio.wait(tasks)


def _taker(
    actions: Iterable[Action] | AsyncIterable[Action],
) -> Callable[[], Awaitable[Action]]:
    """Return what takes one action after the other, for many takers at once."""
    if isinstance(actions, AsyncIterable):
        later, lock = aiter(actions), asyncio.Lock()

        async def take_later() -> Action:
            async with lock:
                return await anext(later)

        return take_later
    if not isinstance(actions, Iterable):
        got = type(actions).__name__
        message = f"actions: expected an iterable of actions, got {got}"
        raise InvalidInputError(message, field="actions")
    now = iter(actions)

    async def take() -> Action:
        for action in now:
            return action
        raise StopAsyncIteration

    return take


def _invalid(action: Action, error: InvalidInputError) -> NotSent:
    return NotSent(action=action, reason=Reason.INVALID, attempts=0, error=str(error))


def _was_stopped(outcome: Outcome) -> bool:
    return isinstance(outcome, NotSent) and outcome.reason in {
        Reason.STOPPED,
        Reason.CLOSED,
    }


def _stopped(outcome: Outcome) -> Outcome:
    if isinstance(outcome, NotSent):
        return attrs.evolve(outcome, reason=Reason.STOPPED)
    return outcome
