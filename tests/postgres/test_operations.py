"""What goes out in one statement, and when."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from aiophlo.coordination import AwayError
from aiophlo.postgres.connection import Connection, Ended, Value
from aiophlo.postgres.operations import Operations
from aiophlo.postgres.server_clock import ServerClock


class Server:
    """A connection that does all that it is asked, and keeps what that was."""

    def __init__(self) -> None:
        self.blocks: list[list[dict[str, Any]]] = []
        self.lost: asyncio.Future[Exception] = asyncio.Future()
        self.is_silent = False

    def begin(self, query: bytes, parameters: Sequence[Value], ended: Ended) -> None:
        """Answer a block."""
        assert query
        block = json.loads(parameters[0] or b"")
        self.blocks.append(block)
        answers = {"begun": 0.0, "ended": 0.0, "answers": [{} for _ in block]}
        answer = json.dumps(answers).encode()
        if not self.is_silent:
            asyncio.get_running_loop().call_soon(ended, answer, None)

    def asked(self) -> list[list[str]]:
        """Return what was asked for in each block, by name."""
        return [[operation["do"] for operation in block] for block in self.blocks]


@pytest.fixture
async def server() -> Server:
    """Give a server."""
    return Server()


@pytest.fixture
async def operations(server: Server) -> AsyncIterator[Operations]:
    """Give the operations that are asked of the server."""
    operations = Operations(cast("Connection", server), "aiophlo", ServerClock())
    running = asyncio.create_task(operations.run())
    await asyncio.sleep(0)
    yield operations
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError, ValueError):
        await running


async def test_only_what_locks_many_rows_goes_alone(
    server: Server, operations: Operations
) -> None:
    """Of a database 20 ms away, 50 holds a second would use all round trips."""
    for number in range(20):
        operations.tell({"do": "note", "party": number, "ends_dials": number == 9})
    await operations.ask({"do": "seen", "pool": 1})
    assert [len(block) for block in server.blocks] == [9, 1, 11]


async def test_slot_is_booked_with_the_abort_that_needs_it(
    server: Server, operations: Operations
) -> None:
    """The customer would wait for two round trips."""
    operations.tell({"do": "note", "party": 1, "ends_dials": True})
    await operations.ask({"do": "book", "rate": "MA"})
    assert server.asked() == [["note", "book"]]


async def test_rates_are_locked_after_dials_and_both_in_order(
    server: Server, operations: Operations
) -> None:
    """Pools would wait for each other, or for a dial with a rate that all need."""
    operations.tell({"do": "book", "rate": "MB"})
    operations.tell({"do": "dial", "key": 5})
    operations.tell({"do": "book", "rate": "MA"})
    await operations.ask({"do": "finish", "key": -5})
    (block,) = server.blocks
    assert [it.get("key", it.get("rate")) for it in block] == [-5, 5, "MA", "MB"]


async def test_what_nobody_waits_for_goes_with_what_is_waited_for(
    server: Server, operations: Operations
) -> None:
    """Each statement costs as much as ten operations."""
    finished = operations.ask({"do": "finish", "key": 1}, within=30.0)
    operations.tell({"do": "left", "key": 1})
    await operations.ask({"do": "dial", "key": 2})
    assert server.asked() == [["finish", "left", "dial"]]
    assert finished.done()


async def test_what_nobody_waits_for_goes_by_itself_in_the_end(
    server: Server, operations: Operations
) -> None:
    """An idle pool's dial would stand for one under way until the next."""
    await operations.ask({"do": "finish", "key": 1}, within=0.001)
    assert server.asked() == [["finish"]]


async def test_what_is_asked_fails_once_the_connection_is_lost(
    server: Server, operations: Operations
) -> None:
    """Whoever waits would wait for ever."""
    server.is_silent = True
    asked = operations.ask({"do": "dial", "key": 1})
    server.lost.set_result(ValueError("a fault of ours"))
    with pytest.raises(AwayError):
        await asked
    with pytest.raises(AwayError):
        await operations.ask({"do": "dial", "key": 2})


async def test_answers_are_heard_though_one_of_them_makes_a_fault(
    operations: Operations, caplog: pytest.LogCaptureFixture
) -> None:
    """A dial whose answer went with it would never leave."""

    def fail(_: object) -> None:
        raise LookupError("a fault of ours")

    dial = operations.ask({"do": "dial", "key": 1})
    operations.call({"do": "book", "rate": "MA"}, fail)  # answered first
    assert await dial == {}
    assert "a fault of ours" in caplog.text


async def test_answer_is_heard_in_the_turn_in_which_it_comes(
    operations: Operations,
) -> None:
    """A dial that is registered would wait for a slot that is here already."""
    heard: list[object] = []
    dial = operations.ask({"do": "dial", "key": 1})
    dial.add_done_callback(lambda _: heard.append("dial"))
    operations.call({"do": "book", "rate": "MA"}, heard.append)
    operations.call({"do": "finish", "key": 2}, heard.append)
    await dial
    assert heard == [{}, {}, "dial"]
