"""What one runner asks of a batch's memory: in blocks, each a transaction.

What is asked while a block is under way goes with the next one, so that many writes
share a commit. A block whose answer was lost is asked again: each operation does
nothing where it has been done.
"""

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

import attrs

from aiophlo.coordination import AwayError
from aiophlo.errors import JournalError
from aiophlo.instrumentation import Observers
from aiophlo.logs import logger
from aiophlo.postgres.connection import Connection

_MOST: Final = 500  # intents in a block, outcomes, and what is given back
_LEAST: Final = 10  # of these, where more were not answered in time
_EACH: Final = 100  # of these go for each question of a queue, which is about many
_AGAIN: Final = 0.3  # seconds to the next try to connect
_BEATS: Final = 3  # signs of life in a lease
_CLOSING: Final = 10.0  # seconds for what is still to be noted

Answer = Mapping[str, Any]
_Future = asyncio.Future[Any]
_T = TypeVar("_T")


@attrs.define
class _Block:
    """What goes out in one transaction.

    Attributes:
        intents: By name, what is about to leave.
        outcomes: By name, the row's values.
        releases: Names.
        returns: By name, what goes back into a queue: in how many seconds it may be
            handed out again.
        asks: What else is asked, in its order.
        claims: Rows to claim, with whether those in doubt are; None for none.
        futures: Done once the block is, each with its part of the answer.
    """

    intents: dict[int, _Future] = attrs.field(factory=dict)
    outcomes: dict[int, tuple[Mapping[str, object], _Future]] = attrs.field(
        factory=dict
    )
    releases: list[int] = attrs.field(factory=list)
    returns: dict[int, tuple[float, _Future]] = attrs.field(factory=dict)
    asks: list[tuple[Mapping[str, object], _Future]] = attrs.field(factory=list)
    claims: tuple[Sequence[Mapping[str, object]], bool, _Future] | None = None

    @property
    def writes(self) -> int:
        """How many rows it writes, but for claims."""
        return len(self.intents) + len(self.outcomes) + len(self.releases)

    def __bool__(self) -> bool:
        return bool(self.writes or self.claims or self.asks or self.returns)

    def as_json(self) -> dict[str, object]:
        """Return it as the database takes it."""
        asked: dict[str, object] = {}
        if self.outcomes:
            asked["outcomes"] = [values for values, _ in self.outcomes.values()]
        if self.releases:
            asked["releases"] = self.releases
        if self.intents:
            asked["intents"] = [*self.intents]
        if self.claims is not None:
            asked["claims"], asked["in_doubt"], _ = self.claims
        if self.asks or self.returns:
            asked["asks"] = [operation for operation, _ in self.asks] + self._returned()
        return asked

    def _returned(self) -> list[Mapping[str, object]]:
        """Return what gives back together all that may go again at the same time."""
        names: dict[float, list[int]] = {}
        for name, (wait, _) in self.returns.items():
            names.setdefault(wait, []).append(name)
        return [
            {"do": "give_back", "names": those, "wait": wait}
            for wait, those in names.items()
        ]

    def futures(self) -> list[_Future]:
        """Return all that wait for it."""
        waiting = [*self.intents.values()]
        waiting += [future for _, future in self.outcomes.values()]
        waiting += [future for _, future in self.returns.values()]
        waiting += [future for _, future in self.asks]
        return waiting if self.claims is None else [*waiting, self.claims[2]]


class BatchLink:
    """A runner's connection to its batch, while it works.

    Args:
        connection: Its own.
        schema: Of the tables.
        name: What errors call the journal.
        runner: Its number.
        lease: Seconds for which it is taken for alive, unless it is heard of.
        patience: Seconds for which the database may be away.
        clock: Goes on while the machine sleeps.
        observers: Who is told of each transaction.
        of: What is worked on: a batch, or the queue.

    Attributes:
        until: When the lease is over, by `clock`.
    """

    def __init__(
        self,
        connection: Connection,
        schema: str,
        name: str,
        runner: int,
        *,
        lease: float,
        patience: float,
        clock: Callable[[], float],
        observers: Observers,
        of: Literal["batch", "queue"] = "batch",
    ) -> None:
        self._connection = connection
        self._begin = f'SELECT "{schema}".begin_{of}($1::jsonb)'
        self._work = f'SELECT "{schema}".work_on_{of}($1::jsonb)'
        self._name = name
        self._runner = runner
        self._lease = lease
        self._patience = patience
        self._clock = clock
        self._observers = observers
        self._loop = asyncio.get_running_loop()
        self._next = _Block()
        self._most = _MOST
        self._wake = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._beat_due = self._closing = self._gone = False
        self._away_since: float | None = None
        # Others may have been cut off as well, and need a moment to say that they live.
        self._may_end_others_at = -math.inf
        self._failure: str | None = None
        self._task: asyncio.Task[None] | None = None
        self.until = 0.0

    async def begin(self, details: Mapping[str, object]) -> Answer:
        """Begin to work on the batch.

        Raises:
            AwayError: The database can't be reached.
        """
        asked_at = self._clock()
        asked = {**details, "runner": self._runner, "lease": self._lease}
        answer: Answer = json.loads(
            await self._connection.fetch(self._begin, json.dumps(asked)) or "{}"
        )
        self.until = asked_at + self._lease
        self._task = self._loop.create_task(self._run())
        return answer

    @property
    def failed(self) -> bool:
        """Whether nothing can be noted any more."""
        return self._failure is not None

    def check(self) -> None:
        """Raise if nothing can be noted any more.

        Raises:
            JournalError: Says why.
        """
        if self._failure is not None:
            raise JournalError(self._failure)

    def intend(self, name: int) -> _Future:
        """Note an intent; done when it is committed."""
        self.check()
        self._next.intents[name] = future = self._asked()
        return future

    def settle(self, values: Mapping[str, Any]) -> _Future:
        """Note an outcome; done when it is committed.

        One that comes after a failure is noted if that is possible still.
        """
        future = self._asked()
        if not self._gone:
            self._next.outcomes[values["name"]] = values, future
        if self._failure is not None:
            _refuse(future, JournalError(self._failure))
        return future

    def release(self, name: int) -> None:
        """Give a claim back."""
        self._next.releases.append(name)
        self._wake.set()

    def give_back(self, name: int, wait: float) -> _Future:
        """Give back what did not leave; done when it is committed.

        Args:
            name: What.
            wait: Seconds until a queue may hand it out again.
        """
        self.check()
        future = self._asked()
        self._next.returns[name] = wait, future
        return future

    def ask(self, operation: Mapping[str, object]) -> _Future:
        """Ask for what only a queue does; done when it is committed."""
        self.check()
        future = self._asked()
        self._next.asks.append((operation, future))
        return future

    async def claim(
        self, rows: Sequence[Mapping[str, object]], *, in_doubt: bool
    ) -> list[Answer | None]:
        """Claim rows.

        Raises:
            JournalError: They can't be claimed.
        """
        async with self._claiming:
            self.check()
            future = self._asked()
            self._next.claims = rows, in_doubt, future
            answers: list[Answer | None] = await future
            return answers

    async def close(self) -> None:
        """Note what is pending, and give all claims back."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_CLOSING)
            self._task.cancel()
            await asyncio.wait({self._task})
        self._connection.close()
        self._fail("it was closed before all was noted")

    def _asked(self) -> _Future:
        """Return what is done once the next block is, which is about to be asked."""
        self._wake.set()
        return self._loop.create_future()

    async def _run(self) -> None:
        beat = self._loop.call_later(self._lease / _BEATS, self._beat)
        try:
            while not self._gone:
                if not (self._next or self._beat_due or self._closing):
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                bye = self._closing and not self._next
                if await self._exchange(bye=bye) and bye:
                    return
                if self._beat_due:
                    self._beat_due = False
                    beat = self._loop.call_later(self._lease / _BEATS, self._beat)
        except Exception as error:  # noqa: BLE001 -- nobody who waits may hang
            logger.failure("a shared journal failed", error=error)
            self._gone = True
            self._fail(f"of a fault: {type(error).__name__}")
        finally:
            beat.cancel()

    def _beat(self) -> None:
        self._beat_due = True
        self._wake.set()

    async def _exchange(self, *, bye: bool) -> bool:
        """Ask for what is next; False if the database is away."""
        block = self._take()
        asked = {"runner": self._runner, **block.as_json()}
        calm = self._away_since is None and self._clock() >= self._may_end_others_at
        if self._beat_due and calm:
            asked["beat"] = True
        if bye:
            asked["bye"] = True
        began, asked_at = self._loop.time(), self._clock()
        try:
            answer = await self._ask(asked)
        except AwayError as error:
            self._put_back(block)
            self._most = max(self._most // 2, _LEAST)  # it may have been too much
            self._note_away(error)
            await asyncio.sleep(_AGAIN)
            return False
        if self._away_since is not None:
            logger.info("the database of batch %s is back", self._name)
            self._away_since = None
            self._may_end_others_at = self._clock() + self._lease
        if "gone" in answer:
            self._gone = True
            self._put_back(block)
            self._fail(
                "this runner wasn't heard of in time: another one has taken over, and"
                " what it had in flight is in doubt"
            )
            return False
        self.until = asked_at + self._lease
        self._most = min(self._most * 2, _MOST)
        if block.writes and self._observers.listening:
            self._tell_commit(self._loop.time() - began, block.writes)
        self._finish(block, answer)
        return True

    async def _ask(self, asked: Mapping[str, object]) -> Answer:
        if not self._connection.is_open:
            await self._connection.open()
        text = await self._connection.fetch(self._work, json.dumps(asked))
        answer: Answer = json.loads(text or "{}")
        return answer

    def _take(self) -> _Block:
        block, self._next = self._next, _Block()
        _move_rest(block.intents, self._next.intents, self._most)
        _move_rest(block.outcomes, self._next.outcomes, self._most)
        _move_rest(block.returns, self._next.returns, self._most)
        asks = max(self._most // _EACH, 1)
        block.asks, self._next.asks = block.asks[:asks], block.asks[asks:]
        return block

    def _put_back(self, block: _Block) -> None:
        later = self._next
        self._next = _Block(
            {**block.intents, **later.intents},
            {**block.outcomes, **later.outcomes},
            block.releases + later.releases,
            {**block.returns, **later.returns},
            block.asks + later.asks,
            block.claims or later.claims,
        )

    def _note_away(self, error: AwayError) -> None:
        now = self._clock()
        if self._away_since is None:
            self._away_since = now
            logger.warning(
                "the database of batch %s is away (%s): nothing new is sent",
                self._name,
                error,
            )
        elif now - self._away_since > self._patience and self._failure is None:
            self._fail(f"its database is away: {error}")

    def _fail(self, why: str) -> None:
        """Refuse waiting and later intents; outcomes are retried until it is closed."""
        if self._failure is None:
            self._failure = f"journal {self._name}: {why}"
        block, self._next = self._next, _Block()
        if not self._gone:
            self._next.outcomes = block.outcomes
        for future in block.futures():
            _refuse(future, JournalError(self._failure))

    def _finish(self, block: _Block, answer: Answer) -> None:
        for _, future in block.outcomes.values():
            _resolve(future, None)
        intended = set(answer.get("intended", ()))
        for name, future in block.intents.items():
            if name in intended:
                _resolve(future, None)
            else:
                what = f"journal {self._name}: a row is another runner's"
                _refuse(future, JournalError(what))
        for _, future in block.returns.values():
            _resolve(future, None)
        answers = answer.get("asked", ())[: len(block.asks)]
        for (_, future), found in zip(block.asks, answers, strict=True):
            _resolve(future, found)
        if block.claims is not None:
            _resolve(block.claims[2], answer["claims"] or [])

    def _tell_commit(self, seconds: float, writes: int) -> None:
        from aiophlo.observed_events import JournalCommitted  # noqa: PLC0415 -- for most, for nothing

        self._observers.tell(JournalCommitted(seconds, writes))


def _move_rest(block: dict[int, _T], later: dict[int, _T], most: int) -> None:
    while len(block) > most:
        name, item = block.popitem()
        later[name] = item


def _resolve(future: _Future, value: object) -> None:
    if not future.done():  # whoever waited may have been cancelled
        future.set_result(value)


def _refuse(future: _Future, error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody has to: the next call raises as well
