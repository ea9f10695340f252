"""What a runner asks of a batch's memory while the database comes and goes."""

import asyncio
import itertools
import json
from typing import Any, cast

from aiophlo.coordination import AwayError
from aiophlo.instrumentation import Observers
from aiophlo.postgres.batch_link import BatchLink
from aiophlo.postgres.connection import Connection


class Database:
    """Stands for a connection: notes what is asked, and fails when it is told to."""

    is_open = True

    def __init__(self) -> None:
        self.asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.away = 0

    async def fetch(self, query: str, asked: str) -> str:
        """Answer as the database does, or fail."""
        if self.away:
            self.away -= 1
            raise AwayError("cut off")
        if "work_on_batch" in query:
            self.asked.put_nowait(json.loads(asked))
        values = json.loads(asked)
        answers = [None for _ in values.get("asks", ())]
        return json.dumps({"intended": values.get("intents", []), "asked": answers})

    def close(self) -> None:
        """Do nothing."""


async def link_to(database: Database, clock: list[float]) -> BatchLink:
    """Return what has begun to work."""
    link = BatchLink(
        cast("Connection", database),
        *("schema", "nightly", 1),
        lease=15.0,
        patience=60.0,
        clock=lambda: clock[0],
        observers=Observers(()),
    )
    await link.begin({})
    return link


async def test_others_get_time_to_come_back_after_an_outage() -> None:
    """Whoever comes back first must not put in doubt what all others have in flight."""
    database, clock = Database(), [0.0]
    link = await link_to(database, clock)
    told = []
    for away in (0, 1, 0, 0):
        database.away = away
        link._beat()  # noqa: SLF001 -- as its timer does
        told.append("beat" in await database.asked.get())
        clock[0] += 8.0
    assert told == [True, False, False, True]
    await link.close()


async def test_what_was_asked_in_vain_is_asked_again() -> None:
    """An outage loses no intent and no outcome."""
    database = Database()
    link = await link_to(database, [0.0])
    database.away = 2
    first, second = link.intend(7), link.settle({"name": 8, "verdict": "accepted"})
    await asyncio.gather(first, second)
    asked = await database.asked.get()
    assert asked["intents"] == [7]
    assert asked["outcomes"] == [{"name": 8, "verdict": "accepted"}]
    await link.close()
    assert (await database.asked.get())["bye"] is True


async def test_what_many_give_back_goes_together_and_in_blocks() -> None:
    """A worker that stops would ask for more than is answered in time, for ever."""
    database = Database()
    link = await link_to(database, [0.0])
    given = [link.give_back(name, 0.0) for name in range(1_200)]
    later = link.give_back(1_200, 2.0)
    await asyncio.gather(*given, later)
    blocks = [(await database.asked.get())["asks"] for _ in range(3)]
    names = [[name for ask in block for name in ask["names"]] for block in blocks]
    assert [len(block) for block in names] == [500, 500, 201]
    assert sorted(itertools.chain(*names)) == [*range(1_201)]
    waits = [(ask["wait"], len(ask["names"])) for block in blocks for ask in block]
    assert len(waits) == 4
    assert (2.0, 1) in waits
    await link.close()


async def test_block_that_is_not_answered_in_time_is_halved() -> None:
    """What takes the database too long once takes it too long again."""
    database = Database()
    link = await link_to(database, [0.0])
    database.away = 2
    notes = [link.intend(name) for name in range(1_000)]
    asks = [link.ask({"do": "fetch", "most": 50}) for _ in range(3)]
    await asyncio.gather(*notes, *asks)
    found = [await database.asked.get() for _ in range(3)]
    assert [len(block["intents"]) for block in found] == [125, 250, 500]
    assert [len(block.get("asks", ())) for block in found] == [1, 2, 0]
    await link.close()
