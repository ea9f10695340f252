"""`aiophlo batch --resolve` settles what is in doubt, says how many, sends nothing."""

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aiophlo import Journal
from aiophlo.cli import main
from aiophlo.cli.exit_codes import Exit
from aiophlo.simulator import Fault, Habit, Listing, Reaction, Simulator
from tests.support.batches import IDS, number, read_results, write_rows

LONG_AGO = 20_000.0  # seconds; by then every call is over, and listed


@pytest.fixture(autouse=True)
def environment(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the command at the simulator, as the environment can."""
    monkeypatch.setenv("PLIVO_AUTH_ID", simulator.auth_id)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", simulator.auth_token)
    monkeypatch.setenv("AIOPHLO_BASE_URL", simulator.base_url)


async def run(*arguments: object) -> int:
    """Run the command beside the simulator."""
    command = ["batch", *map(str, arguments), *IDS, "--quota", "none"]
    return await asyncio.to_thread(main, command)


@pytest.fixture
async def lost(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """Leave rows 0 and 1, which rang, and 2, which didn't, in doubt hours ago."""

    def then() -> float:
        return time.time() - LONG_AGO

    rows, journal = write_rows(tmp_path / "rows.csv", 5), tmp_path / "j.db"
    simulator.set_habit(Habit(Reaction.BUSY), address=number(1))
    for row in (0, 1):
        simulator.fault_next(Fault.DROP_AFTER_READ, to=number(row))
    simulator.fault_next(Fault.DROP_BEFORE_READ, dialled=False, to=number(2))
    with monkeypatch.context() as patch:
        patch.setattr("aiophlo.journal.open_journal.time", SimpleNamespace(time=then))
        patch.setattr(simulator.call_list, "_now", then)
        assert await run(rows, "--journal", journal) == Exit.IN_DOUBT
    return rows, journal


def verdicts(journal: Path) -> dict[str, str | None]:
    """Return the verdict of each key."""
    with Journal.read(journal) as reader:
        return {record.key: record.verdict for record in reader.outcomes()}


async def test_what_is_seen_is_accepted_and_nothing_is_sent(
    simulator: Simulator, lost: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The morning after, somebody wants to know whom to call by hand."""
    rows, journal = lost
    before = len(simulator.ledger.requests)
    assert await run(rows, "--journal", journal, "--resolve") == Exit.IN_DOUBT
    out = capsys.readouterr().out
    assert "3 rows in doubt: 2 seen" in out
    assert "1 unseen, which proves nothing; 0 unclear. Nothing was sent." in out
    asked = {record.action for record in simulator.ledger.requests[before:]}
    assert asked <= {"list_calls", "get_call"}
    assert verdicts(journal) == {
        **{f"row-{row}": "accepted" for row in (0, 1, 3, 4)},
        "row-2": "in_doubt",
    }
    assert number(0) not in out


async def test_second_look_finds_what_is_left(
    lost: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be run as often as one likes."""
    rows, journal = lost
    assert await run(rows, "--journal", journal, "--resolve") == Exit.IN_DOUBT
    capsys.readouterr()
    command = (rows, "--journal", journal, "--resolve", "--json")
    assert await run(*command) == Exit.IN_DOUBT
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "in_doubt": 1,
        "accepted": 0,
        "unseen": 1,
        "unclear": 0,
        "elsewhere": 0,
        "interrupted": False,
    }
    with Journal.read(journal) as reader:
        assert all(
            record.intended_at < time.time() - LONG_AGO / 2
            for record in reader.outcomes()
        ), "or the next look would look at the wrong time"


async def test_next_run_writes_what_was_found(
    simulator: Simulator, lost: tuple[Path, Path], tmp_path: Path
) -> None:
    """Results are the runs' own."""
    rows, journal = lost
    await run(rows, "--journal", journal, "--resolve")
    dials = simulator.ledger.dials()
    results = tmp_path / "results.csv"
    command = (rows, "--journal", journal, "--results", results)
    assert await run(*command) == Exit.IN_DOUBT
    assert {key: row[1] for key, row in read_results(results).items()} == verdicts(
        journal
    )
    assert simulator.ledger.dials() == dials


async def test_rows_to_one_phone_are_told_apart_or_left(
    simulator: Simulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two agents called one supervisor: the call that is listed may be either's."""
    rows, journal = tmp_path / "rows.csv", tmp_path / "j.db"
    rows.write_text(
        f"key,to,trigger_source\na,{number(1)},{number(8)}\nb,{number(1)},{number(9)}\n"
    )
    simulator.fault_next(Fault.DROP_BEFORE_READ, dialled=False, to=number(1))

    def then() -> float:
        return time.time() - LONG_AGO

    with monkeypatch.context() as patch:
        patch.setattr("aiophlo.journal.open_journal.time", SimpleNamespace(time=then))
        patch.setattr(simulator.call_list, "_now", then)
        assert await run(rows, "--journal", journal) == Exit.IN_DOUBT
    assert simulator.ledger.dials() == 1
    assert await run(rows, "--journal", journal, "--resolve") == Exit.IN_DOUBT
    assert "0 seen" in capsys.readouterr().out
    assert sorted(map(str, verdicts(journal).values())) == ["accepted", "in_doubt"]


async def test_list_that_can_not_be_read_settles_nothing(
    simulator: Simulator, lost: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A refusal says nothing about a call."""
    rows, journal = lost
    simulator.answer_next(403, action="list_calls", times=None)
    assert await run(rows, "--journal", journal, "--resolve") == Exit.IN_DOUBT
    assert "0 seen" in capsys.readouterr().out.replace("\n", " ")
    assert list(verdicts(journal).values()).count("in_doubt") == 3


async def test_doubts_of_other_files_are_counted(
    lost: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody should think that all is well."""
    rows, journal = lost
    write_rows(rows, 1)
    assert await run(rows, "--journal", journal, "--resolve") == Exit.IN_DOUBT
    out = capsys.readouterr().out
    assert "1 row in doubt: 1 seen" in out
    assert "not in this file: 2" in out


async def test_unseen_rows_are_sent_again_on_request(
    simulator: Simulator, lost: tuple[Path, Path]
) -> None:
    """Who certainly wasn't rung, as far as can be known, is rung at last."""
    rows, journal = lost
    again = (rows, "--journal", journal, "--include-in-doubt", "--unseen-after")
    dials = simulator.ledger.dials()
    assert await run(*again, 400) == Exit.IN_DOUBT
    assert simulator.ledger.dials() == dials, "it is too soon"
    assert await run(*again, 5) == Exit.ACCEPTED
    assert simulator.ledger.dials() == dials + 1
    assert simulator.ledger.dials(to=number(2)) == 1
    assert set(verdicts(journal).values()) == {"accepted"}


async def test_unlisted_row_rings_twice(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is what --unseen-after risks, as its help says of --include-in-doubt."""
    simulator.list_calls(Listing(unlisted=1.0))
    rows, journal = write_rows(tmp_path / "rows.csv", 1), tmp_path / "j.db"
    simulator.fault_next(Fault.DROP_AFTER_READ)
    clock: Any = SimpleNamespace(time=lambda: time.time() - LONG_AGO)
    with monkeypatch.context() as patch:
        patch.setattr("aiophlo.journal.open_journal.time", clock)
        await run(rows, "--journal", journal)
    again = (rows, "--journal", journal, "--include-in-doubt", "--unseen-after", 5)
    assert await run(*again) == Exit.ACCEPTED
    assert simulator.ledger.dials(to=number(0)) == 2


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (["--resolve"], "--resolve: expected the --journal"),
        (["--resolve", "--journal", "none.db"], "--resolve: expected the --journal"),
        (["--resolve", "--dry-run"], "--resolve: expected without --dry-run"),
        (["--resolve", "--results", "r.csv"], "--resolve: expected without"),
        (["--unseen-after", "5"], "expected --include-in-doubt with it"),
    ],
)
async def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, more: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is sent, and nothing is looked for."""
    rows = write_rows(tmp_path / "rows.csv", 1)
    assert await run(rows, *more) == Exit.UNUSABLE
    assert error in capsys.readouterr().err
