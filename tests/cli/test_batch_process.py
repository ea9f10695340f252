"""`aiophlo batch` as a process: interrupted, killed in an outage, and its syncs."""

import asyncio
import re
import shutil
import signal
import sqlite3
from asyncio.subprocess import Process
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from aiophlo.cli.exit_codes import Exit
from aiophlo.journal.journal import Journal
from aiophlo.simulator import Simulator
from tests.support.batches import (
    json_lines,
    number,
    read_results,
    start_batch,
    write_rows,
)

pytestmark = pytest.mark.long


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
async def test_first_interrupt_ends_what_is_in_flight(
    name: str, simulator: Simulator, tmp_path: Path
) -> None:
    """Whoever presses Ctrl-C wants to go on later, and no answer thrown away."""
    rows, journal, out = (tmp_path / name for name in ("a.csv", "j.db", "o.csv"))
    write_rows(rows, 60)
    options = (rows, "--journal", journal, "--results", out, "--quota", "none")
    simulator.hold_answers()
    process = await start_batch(simulator, *options, "--concurrency", 10)
    await simulator.wait_for(held=10, within=30)
    process.send_signal(signal.Signals[name])
    await _said(process, "ending what is in flight")
    simulator.release_answers()
    said, errors = await process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert b"10 of 60 rows: 10 accepted" in said
    assert f"--journal {journal}" in errors.decode()
    assert len(read_results(out)) == 10
    process = await start_batch(simulator, *options)
    await process.communicate()
    assert process.returncode == Exit.ACCEPTED
    assert [simulator.ledger.dials(number(n)) for n in range(60)] == [1] * 60
    assert len(read_results(out)) == 60


async def test_second_interrupt_stops_at_once_and_is_safe(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Somebody is in a hurry; those in flight are in doubt then, and known to be."""
    rows, journal = write_rows(tmp_path / "a.csv", 30), tmp_path / "j.db"
    options = (rows, "--journal", journal, "--quota", "none", "--json")
    simulator.hold_answers()
    process = await start_batch(simulator, *options, "--concurrency", 10)
    await simulator.wait_for(held=10, within=30)
    process.send_signal(signal.SIGINT)
    await _said(process, "ending what is in flight")
    process.send_signal(signal.SIGINT)
    said, _ = await asyncio.wait_for(process.communicate(), 8)  # no answer comes
    assert process.returncode == Exit.INTERRUPTED
    summary = json_lines(said.decode())[-1]
    assert (summary["interrupted"], summary["in_doubt"]) == (True, 10)
    simulator.release_answers()
    process = await start_batch(simulator, *options)
    await process.communicate()
    assert process.returncode == Exit.IN_DOUBT
    assert [simulator.ledger.dials(number(n)) for n in range(30)] == [1] * 30


async def test_results_stay_when_the_next_run_is_interrupted(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Yesterday's rows must not vanish because today's run met few of them."""
    rows, journal, out = (tmp_path / name for name in ("a.csv", "j.db", "o.csv"))
    write_rows(rows, 40)
    options = (rows, "--journal", journal, "--results", out, "--quota", "none")
    process = await start_batch(simulator, *options)
    await process.communicate()
    assert process.returncode == Exit.ACCEPTED
    with closing(sqlite3.connect(journal)) as database, database:
        database.execute("UPDATE actions SET verdict = 'not_sent' WHERE id IN (3, 30)")
    first = read_results(out)
    simulator.hold_answers()
    process = await start_batch(simulator, *options, "--concurrency", 1)
    await simulator.wait_for(held=1, within=30)
    process.send_signal(signal.SIGINT)
    await _said(process, "ending what is in flight")
    simulator.release_answers()
    await process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert {key: row[1] for key, row in read_results(out).items()} == {
        key: row[1] for key, row in first.items()
    }


async def _said(process: Process, words: str) -> None:
    assert process.stderr is not None
    while words not in (line := (await process.stderr.readline()).decode()):
        assert line


async def test_every_row_not_sent_is_sent_after_a_kill_in_an_outage(
    unused_tcp_port: int, tmp_path: Path
) -> None:
    """The machine was restarted because the network was down: nobody is forgotten."""
    rows, journal, out = (tmp_path / name for name in ("a.csv", "j.db", "o.csv"))
    write_rows(rows, 300)
    options = (rows, "--journal", journal, "--results", out, "--concurrency", 20)
    first = Simulator(port=unused_tcp_port, quota=None)
    async with first:
        process = await start_batch(first, *options, "--quota", "100/1")
        await first.wait_for(dials=40, within=30)
    # Nobody listens now; what was on its way is in doubt, the rest can't leave.
    while not await asyncio.to_thread(_over, journal, process):  # noqa: ASYNC110 -- its file
        await asyncio.sleep(0.02)
    if process.returncode is None:
        process.kill()
    await process.communicate()
    async with Simulator(port=unused_tcp_port, quota=None) as second:
        process = await start_batch(second, *options, "--quota", "none")
        await process.communicate()
    assert process.returncode in {Exit.ACCEPTED, Exit.IN_DOUBT}
    found = read_results(out)
    assert set(found) == {f"row-{n}" for n in range(300)}
    assert {row[1] for row in found.values()} <= {"accepted", "in_doubt"}
    for n in range(300):
        rang = first.ledger.dials(number(n)) + second.ledger.dials(number(n))
        assert rang == 1 or (rang == 0 and found[f"row-{n}"][1] == "in_doubt")
    assert Counter(row[1] for row in found.values())["accepted"] >= 250


def _over(journal: Path, process: Process) -> bool:
    with Journal.read(journal) as reader:
        report = reader.report()
    return report.verdicts["not_sent"] > 0 or process.returncode is not None


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
async def test_every_commit_is_synced(simulator: Simulator, tmp_path: Path) -> None:
    """An intent that a power cut takes away is a phone that rings twice."""
    rows, trace = write_rows(tmp_path / "a.csv", 25), tmp_path / "trace"
    process = await start_batch(
        simulator,
        *(rows, "--journal", tmp_path / "j.db", "--quota", "none"),
        *("--concurrency", 1),  # so that each write is a commit of its own
        before=["strace", "-f", "-e", "trace=fdatasync,fsync", "-o", str(trace)],
    )
    _, errors = await process.communicate()
    assert process.returncode == Exit.ACCEPTED, errors.decode()
    synced = re.findall(r"fdatasync\(\d+\)? *(?:=|<unfinished)", trace.read_text())
    assert len(synced) >= 2 * 25
