"""What all runs of a list of rows have: restarts of the database, and one judgement."""

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

from aiophlo import JournalRecord
from aiophlo.simulator import Ledger, Simulator
from tests.support.postgres import Postgres

LONGEST: Final = 3_600.0  # seconds
ZERO: Final = ("rung twice", "lost", "accepted, not rung", "rung, but called not sent")
BY_KILLS: Final = "of these by a kill"


@contextlib.contextmanager
def no_garbage_collected() -> Iterator[None]:
    """Collect no garbage in this process, whose simulator judges by the clock.

    Of the records of 100,000 rows that takes half a second. What has come meanwhile is
    read all at once, and more is counted in one period than was sent in it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def restarts(
    postgres: Postgres, simulator: Simulator, rows: int
) -> AsyncIterator[None]:
    """Kill the database after a third of the rows, and stop it after another."""
    for part, end in ((1 / 3, postgres.kill), (2 / 3, postgres.stop)):
        least = rows * part

        def dialled(ledger: Ledger, least: float = least) -> bool:
            return ledger.dialled_total >= least

        await simulator.wait_for(dialled, within=LONGEST)
        await asyncio.to_thread(end)
        await asyncio.to_thread(postgres.start)
        yield


def judged(
    records: Iterable[JournalRecord], ledger: Ledger, rows: int
) -> dict[str, int]:
    """Hold what a journal says of `row-0`, `row-1`, … against who was rung."""
    records = list(records)
    settled = {one.key: one.verdict for one in records}
    reasons = Counter(one.reason for one in records if one.verdict == "in_doubt")
    verdicts = Counter(settled.values())
    rung = {int(dial.to[5:]) for dial in ledger.dialled}
    may_ring = {"accepted", "in_doubt"}
    return {
        "accepted": verdicts["accepted"],
        "in doubt": verdicts["in_doubt"],
        BY_KILLS: reasons["interrupted"],
        "rung twice": len(ledger.rung_twice()),
        "lost": sum(settled.get(f"row-{number}") is None for number in range(rows)),
        "accepted, not rung": sum(
            verdict == "accepted" and int(key[4:]) not in rung
            for key, verdict in settled.items()
        ),
        "rung, but called not sent": sum(
            settled.get(f"row-{number}") not in may_ring for number in rung
        ),
        "429": ledger.refused_429,
    }
