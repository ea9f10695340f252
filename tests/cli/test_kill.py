"""A batch that is killed at any moment rings nobody twice and forgets nobody.

`aiophlo batch` runs as a process of its own against a simulator in another, is
killed again and again, and the simulator's ledger is asked what rang.
AIOPHLO_LONG=1 makes it longer.
"""

import asyncio
import json
import os
import random
import sqlite3
import sys
import time
import urllib.request
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

import attrs
import pytest

from aiophlo.cli.exit_codes import Exit
from aiophlo.errors import JournalError
from aiophlo.journal.journal import Journal
from tests.support.batches import IDS, number, read_results, write_rows

pytestmark = pytest.mark.long

LONG = os.environ.get("AIOPHLO_LONG") == "1"
ROWS = 8_000 if LONG else 2_000  # more than can be sent before the last kill
KILLS = 14 if LONG else 4
IN_FLIGHT_AT = 11 if LONG else 3  # kills with requests in flight, at least
LATENCY = 0.2
PER_SECOND = 400
CONCURRENCY = 100
LONGEST_LIFE = 0.8  # seconds from the first request of a run to its kill
GROUP = 30  # intents in one commit at most: it may last 75 ms
STALL = 0.05  # seconds for which another program holds up the journal
SEED = 20_261_123


@attrs.define
class Witness:
    """The simulator's process."""

    process: Process
    environment: dict[str, str]

    @property
    def ledger_url(self) -> str:
        """Where its ledger is."""
        base = self.environment["AIOPHLO_BASE_URL"].removesuffix("/v1")
        return f"{base}/_simulator/ledger"

    async def ledger(self) -> dict[str, list[dict[str, str]]]:
        """Return what was asked and what rang."""

        def get() -> bytes:
            with urllib.request.urlopen(self.ledger_url) as answer:  # noqa: S310 -- ours
                data: bytes = answer.read()
                return data

        ledger: dict[str, list[dict[str, str]]] = json.loads(
            await asyncio.to_thread(get)
        )
        return ledger


@pytest.fixture
async def witness() -> AsyncIterator[Witness]:
    """Run a simulator in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiophlo", "simulate", "--latency", str(LATENCY)),
        *("--quota", "none", "--until-stdin-closes"),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines = [(await process.stdout.readline()).decode().strip() for _ in range(3)]
    environment = {**os.environ, "AIOPHLO_BASE_URL": lines[0]}
    for line in lines[1:]:
        name, _, value = line.partition("=")
        environment[name] = value
    yield Witness(process, environment)
    process.stdin.close()
    await process.communicate()


async def pause(seconds: float) -> None:
    """Let other processes run that long, by a clock that doesn't pass over stalls."""
    await asyncio.to_thread(time.sleep, seconds)


@attrs.define
class Trial:
    """One batch, and what is known of it while it is killed and resumed."""

    witness: Witness
    folder: Path
    random: random.Random
    unfinished: list[set[str]] = attrs.field(factory=list)  # keys, kill by kill

    @property
    def journal(self) -> Path:
        """Its journal."""
        return self.folder / "journal.db"

    @property
    def results(self) -> Path:
        """Its results."""
        return self.folder / "results.csv"

    async def start(self, *pace: str) -> Process:
        """Start it, or let it go on."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aiophlo", "batch", str(self.folder / "rows.csv")),
            *(*IDS, "--journal", str(self.journal), "--results", str(self.results)),
            *pace,
            env=self.witness.environment,
            stdout=DEVNULL,
            stderr=PIPE,
        )

    async def kill(self) -> None:
        """Run it for a while, then kill it, half the time on a slow disk."""
        # What the last run left open is settled, as in doubt, before anything is sent.
        before = self.settled() + sum(map(len, self.unfinished[-1:]))
        process = await self.start(
            *("--quota", f"{PER_SECOND}/1", "--concurrency", str(CONCURRENCY))
        )
        try:
            while self.settled() <= before and process.returncode is None:  # noqa: ASYNC110 -- its file
                await asyncio.sleep(0.01)
            await pause(self.random.random() * LONGEST_LIFE)
            with self.held_up() if self.random.random() < 0.5 else nullcontext():
                await pause(STALL)
                process.kill()  # once: a second one could take the exit code away
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            raise
        finally:
            await process.communicate()
        assert process.returncode == -9
        self.unfinished.append(self.begun())
        if self.results.exists():
            read_results(self.results)

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """Hold the journal's write lock, as a slow disk holds up its commits."""
        with closing(
            sqlite3.connect(self.journal, isolation_level=None, timeout=10.0)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            yield

    def settled(self) -> int:
        """Return how many outcomes are on disk."""
        try:
            with Journal.read(self.journal) as reader:
                return sum(reader.report().verdicts.values())
        except JournalError:  # it is only just being begun
            return 0

    def begun(self) -> set[str]:
        """Return the keys that have an intent on disk and no outcome."""
        with Journal.read(self.journal) as reader:
            return {record.key for record in reader.outcomes() if not record.verdict}


async def test_every_row_has_one_outcome_when_its_batch_is_killed(
    witness: Witness, tmp_path: Path
) -> None:
    """Whoever restarts a job after a crash must not ring a thousand phones again."""
    write_rows(tmp_path / "rows.csv", ROWS)
    trial = Trial(witness, tmp_path, random.Random(SEED))  # noqa: S311 -- no secret
    for _ in range(KILLS):
        await trial.kill()
    last = await trial.start("--quota", "none", "--concurrency", "500")
    _, said = await last.communicate()
    assert last.returncode in {Exit.ACCEPTED, Exit.IN_DOUBT}, said.decode()

    ledger = await witness.ledger()
    rang = Counter(dial["to"] for dial in ledger["dials"])
    assert [to for to, times in rang.items() if times > 1] == []

    results = read_results(trial.results)
    verdicts = {key: row[1] for key, row in results.items()}
    assert set(verdicts) == {f"row-{n}" for n in range(ROWS)}
    assert set(verdicts.values()) <= {"accepted", "in_doubt"}
    for n in range(ROWS):
        if verdicts[f"row-{n}"] == "accepted":
            assert rang[number(n)] == 1

    left = [{k for k in keys if rang[number(_row(k))]} for keys in trial.unfinished]
    doubtful = {key for key, verdict in verdicts.items() if verdict == "in_doubt"}
    assert doubtful == set().union(*trial.unfinished)
    assert sum(bool(keys) for keys in left) >= IN_FLIGHT_AT
    for keys, gone in zip(trial.unfinished, left, strict=True):
        assert len(keys - gone) <= GROUP


def _row(key: str) -> int:
    return int(key.removeprefix("row-"))
