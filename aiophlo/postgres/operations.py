"""A pool's operations on the database: in blocks, in order, over one connection.

What is asked in one turn of the event loop goes out in one statement, and so does what
is asked while a statement is under way. What nobody waits for waits for company.
"""

import asyncio
import functools
import json
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from aiophlo.coordination import AwayError
from aiophlo.logs import logger
from aiophlo.postgres.connection import Connection, Value
from aiophlo.postgres.server_clock import ServerClock

Operation = dict[str, Any]
Answer = dict[str, Any]
Answered = Callable[[Answer | None], object]
Item = tuple[Operation, Answered | None]
_encode: Final = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode
_MOST: Final = 200  # in one statement
_PENDING: Final = 10_000  # while the database is away nothing piles up
_COMPANY: Final = 0.005  # seconds that what nobody waits for waits for more


class Operations:
    """Asks for operations, and returns what comes of each.

    Args:
        connection: Where they are asked for.
        schema: Of the tables; notices to all pools go by its name.
        clock: Learns from each round trip.

    Attributes:
        open: Whether the database is asked, and nothing fails at once.
        closed_at: Loop time at which that ended last.
    """

    def __init__(
        self,
        connection: Connection,
        schema: str,
        clock: ServerClock,
    ) -> None:
        self._connection = connection
        self._query = f"SELECT \"{schema}\".work($1::jsonb, '{schema}')".encode()
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._rates: deque[Item] = deque()  # all others may go before these
        self._others: deque[Item] = deque()
        self._under_way: list[Item] = []
        self._due = math.inf  # loop time by which the next statement goes out
        self._timer: asyncio.Handle | None = None
        self.open = False
        self.closed_at = -math.inf

    def ask(
        self, operation: Operation, *, within: float = 0.0
    ) -> asyncio.Future[Answer]:
        """Ask for an operation; its answer comes by itself.

        The future ends with `AwayError` where the database can't be reached.

        Args:
            operation: What is asked.
            within: Seconds that it may wait for others to go with it.
        """
        future: asyncio.Future[Answer] = self._loop.create_future()
        self.call(operation, functools.partial(_settle, future), within=within)
        return future

    def call(
        self, operation: Operation, answered: Answered, *, within: float = 0.0
    ) -> None:
        """Ask for an operation whose answer is heard at once, not a turn later.

        Args:
            operation: What is asked.
            answered: Called with the answer; with None where the database can't be
                reached.
            within: Seconds that it may wait for others to go with it.
        """
        if self.open:
            self._put(operation, answered, within)
        else:
            answered(None)

    def tell(self, operation: Operation) -> bool:
        """Ask for an operation whose answer nobody needs; False if it is dropped."""
        pending = len(self._rates) + len(self._others)
        if not self.open or pending >= _PENDING:
            return False
        self._put(operation, None, _COMPANY)
        return True

    async def run(self) -> None:
        """Work until the connection is lost.

        Raises:
            Exception: Why it is.
        """
        lost = self._connection.lost
        self.open = True
        try:
            await asyncio.wait({lost})
            raise lost.result()
        finally:
            self.open = False
            self.closed_at = self._loop.time()
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._due = None, math.inf
            for items in (self._under_way, self._others, self._rates):
                abandoned = list(items)
                items.clear()
                self._answer((item, None) for item in abandoned)

    def _put(
        self, operation: Operation, answered: Answered | None, within: float
    ) -> None:
        items = self._rates if "rate" in operation else self._others
        items.append((operation, answered))
        due = self._loop.time() + within if within else -math.inf
        if due < self._due:
            self._due = due
            if not self._under_way:
                self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._due == -math.inf:
            self._timer = self._loop.call_soon(self._send)
        else:
            self._timer = self._loop.call_at(self._due, self._send)

    def _send(self) -> None:
        self._timer = None
        self._under_way = block = self._block()
        self._due = -math.inf if self._rates or self._others else math.inf
        operations = _encode([operation for operation, _ in block]).encode()
        came = functools.partial(self._came, self._loop.time())
        self._connection.begin(self._query, (operations,), came)

    def _came(self, sent: float, value: Value, error: Exception | None) -> None:
        if error is not None:
            return  # `run` is told, too
        result = json.loads(value or b"")
        self._clock.note(sent, self._loop.time(), result["begun"], result["ended"])
        block, self._under_way = self._under_way, []
        answers = reversed(result["answers"])
        # Slots first: who learns that it may be sent has its own.
        self._answer(zip(reversed(block), answers, strict=True))
        if self._due < math.inf:
            self._set_timer()  # in the next turn, so that who was answered asks first

    def _answer(self, answers: Iterable[tuple[Item, Answer | None]]) -> None:
        for (_, answered), answer in answers:
            if answered is None:
                continue
            try:
                answered(answer)
            except Exception as error:  # noqa: BLE001 -- the others have to hear, too
                logger.failure("an answer of the database was lost", error=error)

    def _block(self) -> list[Item]:
        """Take what goes out next, in the order in which all pools lock rows.

        That is the keys of dials, and then, for the shortest time, rates. An operation
        that locks the keys of many dials goes with rates alone.
        """
        others = self._others
        if others and _locks_many(others[0][0]):
            block = [others.popleft()]
        else:
            block = []
            while others and len(block) < _MOST and not _locks_many(others[0][0]):
                block.append(others.popleft())
            block.sort(key=lambda item: item[0].get("key", 0))
        rates = [self._rates.popleft() for _ in range(min(len(self._rates), _MOST))]
        rates.sort(key=lambda item: item[0]["rate"])
        return block + rates


def _settle(future: asyncio.Future[Answer], answer: Answer | None) -> None:
    if future.done():
        return
    if answer is not None:
        future.set_result(answer)
        return
    future.set_exception(AwayError("not connected"))
    future.exception()  # whoever awaits it is told all the same


def _locks_many(operation: Operation) -> bool:
    return bool(operation.get("ends_dials"))
