"""What a pool asks of the database: in blocks, in order, over one connection.

What is asked while a statement is under way goes out with the next one.
"""

import asyncio
import json
from collections import deque
from typing import Any, Final

from aiophlo.postgres.connection import AwayError, Connection
from aiophlo.postgres.server_clock import ServerClock

Operation = dict[str, Any]
Answer = dict[str, Any]
_MOST: Final = 200  # in one statement
_PENDING: Final = 10_000  # while the database is away nothing piles up


class Operations:
    """Asks for operations, and returns what comes of each.

    Args:
        connection: Where they are asked for.
        schema: Of the tables; notices to all pools go by its name.
        clock: Learns from each round trip.

    Attributes:
        open: Whether the database is asked, and nothing fails at once.
    """

    def __init__(
        self,
        connection: Connection,
        schema: str,
        clock: ServerClock,
    ) -> None:
        self._connection = connection
        self._query = f"SELECT {schema}.work(%s::jsonb, '{schema}')"
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._pending: deque[tuple[Operation, asyncio.Future[Answer] | None]] = deque()
        self._wake = asyncio.Event()
        self.open = False

    def ask(self, operation: Operation) -> asyncio.Future[Answer]:
        """Ask for an operation; its answer comes by itself.

        The future ends with `AwayError` where the database can't be reached.
        """
        future: asyncio.Future[Answer] = self._loop.create_future()
        if self.open:
            self._pending.append((operation, future))
            self._wake.set()
        else:
            future.set_exception(AwayError("not connected"))
            future.exception()  # whoever awaits it is told all the same
        return future

    def tell(self, operation: Operation) -> bool:
        """Ask for an operation whose answer nobody needs; False if it is dropped."""
        if not self.open or len(self._pending) >= _PENDING:
            return False
        self._pending.append((operation, None))
        self._wake.set()
        return True

    async def run(self) -> None:
        """Work until the connection is lost.

        Raises:
            AwayError: It is.
        """
        self.open = True
        block: list[tuple[Operation, asyncio.Future[Answer] | None]] = []
        try:
            while True:
                await self._wake.wait()
                block = self._block()
                if not self._pending:
                    self._wake.clear()
                await self._do(block)
                block = []
        finally:
            self.open = False
            self._abandon([*block, *self._pending])
            self._pending.clear()
            self._wake.clear()

    async def _do(
        self, block: list[tuple[Operation, asyncio.Future[Answer] | None]]
    ) -> None:
        sent = self._loop.time()
        operations = json.dumps([operation for operation, _ in block])
        result = await self._connection.fetch(self._query, operations)
        self._clock.note(sent, self._loop.time(), result["begun"], result["ended"])
        for (_, future), answer in zip(block, result["answers"], strict=True):
            if future is not None and not future.done():
                future.set_result(answer)

    def _block(self) -> list[tuple[Operation, asyncio.Future[Answer] | None]]:
        """Take what goes out next, in the order in which all pools lock rows.

        An operation that locks many rows goes alone.
        """
        pending = self._pending
        block = [pending.popleft()]
        if _locks_many(block[0][0]):
            return block
        while pending and len(block) < _MOST and not _locks_many(pending[0][0]):
            block.append(pending.popleft())
        block.sort(
            key=lambda item: (item[0].get("rate", "\x7f"), item[0].get("key", 0))
        )
        return block

    def _abandon(
        self, items: list[tuple[Operation, asyncio.Future[Answer] | None]]
    ) -> None:
        for _, future in items:
            if future is not None and not future.done():
                future.set_exception(AwayError("the connection was lost"))
                future.exception()


def _locks_many(operation: Operation) -> bool:
    return bool(operation.get("ends_dials"))
