"""What goes out in one statement."""

import asyncio
import contextlib
import json
from typing import Any, cast

from aiophlo.postgres.connection import Connection
from aiophlo.postgres.operations import Operations
from aiophlo.postgres.server_clock import ServerClock


class Server:
    """A connection that does all that it is asked, and keeps what that was."""

    def __init__(self) -> None:
        self.blocks: list[list[dict[str, Any]]] = []

    async def fetch(self, query: str, operations: str) -> dict[str, Any]:
        """Answer a block."""
        assert query
        block = json.loads(operations)
        self.blocks.append(block)
        return {"begun": 0.0, "ended": 0.0, "answers": [{} for _ in block]}


async def test_only_what_locks_many_rows_goes_alone() -> None:
    """Of a database 20 ms away, 50 holds a second would use all round trips."""
    server = Server()
    operations = Operations(cast("Connection", server), "aiophlo", ServerClock())
    running = asyncio.create_task(operations.run())
    await asyncio.sleep(0)
    for number in range(20):
        operations.tell({"do": "note", "party": number, "ends_dials": number == 9})
    await operations.ask({"do": "seen", "pool": 1})
    assert [len(block) for block in server.blocks] == [9, 1, 11]
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
