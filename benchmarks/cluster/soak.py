"""A soak of processes that are killed, and of their database, held to the ledger."""

import asyncio
import multiprocessing
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

from aiophlo.simulator import Fault, Simulator
from aiophlo.simulator.ledger import Ledger
from benchmarks.cluster import soak_worker
from benchmarks.cluster.rows import Report, zeros
from benchmarks.cluster.soak_worker import Place
from benchmarks.cluster.told import Said, read, without_one_outcome
from benchmarks.soak.run import chances
from tests.support.postgres import Postgres

_CHANCE: Final = 0.004  # of each fault: of six requests, one meets one
_LATENCY: Final = 0.05  # seconds of an answer
_LIFE: Final = 1.0  # seconds from one kill to the next
_ENDING: Final = 60.0  # seconds in which processes end by themselves
_AWAY: Final = 2.0, 5.0  # seconds that a database stays away, at least and at most
_BEFORE: Final = 1.0  # seconds before a crash of which something may be lost
_AFTER: Final = (
    2.0  # seconds after it within which pools know, and say, that it is away
)
_TOLD: Final = 20  # sentences of what disagrees


async def soak(
    postgres: Postgres | None,
    seconds: float,
    *,
    processes: int = 4,
    crashes: int = 0,
) -> Report:
    """Let processes send through faults, and kill one of them each second.

    Args:
        postgres: What they share; None for nothing.
        seconds: How long.
        processes: How many at a time.
        crashes: How often the database is killed and started again meanwhile.
    """
    faults = chances(_CHANCE)
    for fault in (Fault.STATUS_429, Fault.STATUS_429_SECONDS, Fault.STATUS_429_DATE):
        del faults[fault]  # each 429 is ours
    with tempfile.TemporaryDirectory(prefix="aiophlo-soak-") as folder:
        async with Simulator(
            latency=_LATENCY, faults=faults, seed=1, keep_requests=False
        ) as simulator:
            database = postgres.url if postgres else None
            herd = _Herd(simulator.base_url, database, Path(folder), processes)
            crashing = asyncio.create_task(_crash(postgres, seconds, crashes))
            try:
                await herd.live(seconds)
                away = await crashing
                await herd.end()
            finally:
                crashing.cancel()
                herd.kill()
        said = herd.said()
        return _judge(simulator.ledger, said, herd.killed, away)


class _Herd:
    """The processes, of which one is killed now and then, and another one started.

    Attributes:
        killed: How many were.
    """

    def __init__(
        self, base_url: str, database: str | None, folder: Path, processes: int
    ) -> None:
        self.killed = 0
        self._base_url = base_url
        self._database = database
        self._folder = folder
        self._number = 0
        self._chance = random.Random(1)  # noqa: S311 -- whom it hits, no secret
        self._slots = processes
        # Forked from one that has imported everything: it takes a second to.
        self._forking = multiprocessing.get_context("forkserver")
        self._forking.set_forkserver_preload([soak_worker.__name__])
        self._processes: dict[int, ForkServerProcess] = {}

    async def live(self, seconds: float) -> None:
        """Live for so long."""
        for slot in range(self._slots):
            self._start(slot)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            await asyncio.sleep(_LIFE)
            slot = self._chance.randrange(self._slots)
            process = self._processes[slot]
            if process.exitcode is not None:
                raise RuntimeError(f"a process ended with {process.exitcode}")
            process.kill()
            self.killed += 1
            await asyncio.to_thread(process.join)
            self._start(slot)

    def _start(self, slot: int) -> None:
        path = str(self._path(self._number))
        place = Place(self._number, slot, self._slots, path)
        self._processes[slot] = process = self._forking.Process(
            target=soak_worker.main, args=(self._base_url, self._database, place)
        )
        process.start()
        self._number += 1

    async def end(self) -> None:
        """Let those that live end what they have begun."""
        await asyncio.sleep(_LIFE)  # for the youngest one to hear of it
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            await asyncio.to_thread(process.join, _ENDING)
            if process.exitcode != 0:
                raise RuntimeError(f"a process ended with {process.exitcode}")

    def said(self) -> list[Said]:
        """Return what all that ever were have said."""
        paths = [self._path(number) for number in range(self._number)]
        texts = [path.read_text("ascii") for path in paths if path.exists()]
        return [one for text in texts for one in read(text)]

    def _path(self, number: int) -> Path:
        return self._folder / str(number)

    def kill(self) -> None:
        """Kill those that still live."""
        for process in self._processes.values():
            process.kill()
            process.join()


async def _crash(
    postgres: Postgres | None, seconds: float, times: int
) -> list[tuple[float, float]]:
    """Kill the database now and then; return when what it knew may have been lost."""
    chance = random.Random(1)  # noqa: S311 -- moments, no secrets
    away = []
    for _ in range(times):
        assert postgres is not None  # noqa: S101 -- what isn't there can't crash
        await asyncio.sleep(seconds / (times + 1))
        killed_at = time.time()
        await asyncio.to_thread(postgres.kill)
        await asyncio.sleep(chance.uniform(*_AWAY))
        await asyncio.to_thread(postgres.start)
        away.append((killed_at - _BEFORE, killed_at + _AFTER))
    return away


def _judge(
    ledger: Ledger,
    said: Sequence[Said],
    killed: int,
    away: Sequence[tuple[float, float]],
) -> Report:
    excused, unasked = _rung_twice(ledger.rung_twice(), said, away)
    verdicts = Counter(it.verdict for it in said if it.outcomes)
    disagreements = ledger.disagreements(said)
    odd, not_sent = without_one_outcome(said), _rung_though_not_sent(ledger, said)
    row = {
        "actions": len(said),
        **{name: verdicts[name] for name in ("accepted", "rejected")},
        "not sent": verdicts["not_sent"],
        "in doubt": verdicts["in_doubt"],
        "joined": sum(it.joined for it in said),
        "killed": killed,
        "left by them": sum(not it.outcomes for it in said),
        "requests": ledger.received,
        "faults": ledger.struck.total(),
        "429": ledger.refused_429,
        "rung twice": unasked,
        "while away": excused,
        "rang, not sent": not_sent,
        "not one outcome": odd,
        "disagreements": len(disagreements),
    }
    wrong = zeros(
        refused_429=ledger.refused_429,
        rung_twice=unasked,
        rang_though_not_sent=not_sent,
        without_one_outcome=odd,
    )
    return Report([row], [*wrong, *disagreements[:_TOLD]])


def _rung_twice(
    dials: Mapping[str, int],
    said: Iterable[Said],
    away: Sequence[tuple[float, float]],
) -> tuple[int, int]:
    """Count who was rung twice: while the database was away, and otherwise.

    While it is, double clicks are joined within a process alone, as is documented.
    """
    excused = {
        it.to
        for it in said
        if it.to in dials
        if not it.coordinated or any(begin < it.at < end for begin, end in away)
    }
    return len(excused), len(dials.keys() - excused)


def _rung_though_not_sent(ledger: Ledger, said: Iterable[Said]) -> int:
    """Count the phones that rang, and all who dialled them say that none did."""
    verdicts: defaultdict[str, set[str]] = defaultdict(set)
    for it in said:
        verdicts[it.to].add(it.verdict)
    verdicts.pop("", None)  # of what dials nobody
    return sum(
        found == {"not_sent"} and ledger.dials(to) > 0 for to, found in verdicts.items()
    )
