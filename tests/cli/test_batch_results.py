"""The results file: whole at any moment, and never in the place of something else."""

import asyncio
import json
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from aiophlo.cli import main
from aiophlo.cli.earlier_results import read_results as read_back
from aiophlo.cli.exit_codes import Exit, UnusableError
from aiophlo.cli.results import Result, Results, check_place, format_of, part_of
from aiophlo.journal.journal import Journal
from tests.support.batches import IDS, name_account, read_results, write_rows


def row(number: int) -> Result:
    """Give a row of its own for each number."""
    return (f"k{number}", "accepted", None, 201, "id", 1, 0.25, None)


async def test_rows_of_an_earlier_run_stay_until_there_are_as_many(
    tmp_path: Path,
) -> None:
    """A resumed batch that is killed at once must not take away what was known."""
    path = tmp_path / "o.csv"
    first = Results(path)
    for number in range(5):
        first.add(row(number))
    first.close()
    again = Results(path)
    for number in range(4):
        again.add(row(number))
    await asyncio.sleep(0.3)  # rows wait for others no longer than a quarter
    assert len(read_results(path)) == 5
    for number in range(4, 7):
        again.add(row(number))
    again.close()
    assert len(read_results(path)) == 7
    assert _names(tmp_path) == [path.name]


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_rows_are_there_before_the_end(tmp_path: Path) -> None:
    """Somebody watches the file while the batch runs for hours."""
    path = tmp_path / "o.csv"
    results = Results(path)
    assert read_results(path) == {}
    for number in range(5_000):
        results.add(row(number))
    assert len(read_results(path)) > 1_000
    results.close()


async def test_fewer_rows_take_their_place_in_the_end(tmp_path: Path) -> None:
    """A list that was cut down must not leave stale rows behind."""
    path = tmp_path / "o.jsonl"
    for rows in (5, 2):
        results = Results(path)
        for number in range(rows):
            results.add(row(number))
        results.close()
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl"])
@pytest.mark.parametrize("resumed", [True, False])
def test_other_files_are_not_overwritten(
    *, name: str, resumed: bool, tmp_path: Path
) -> None:
    """A typing error must not cost somebody's customer list."""
    path = tmp_path / name
    path.write_text("to,trigger_source\n")
    with pytest.raises(UnusableError, match="is there already"):
        check_place(path, resumed=resumed)
    assert path.read_text() == "to,trigger_source\n"


def test_results_of_another_batch_are_not_overwritten(tmp_path: Path) -> None:
    """Yesterday's results are not this journal's."""
    path = tmp_path / "o.csv"
    path.write_text("key,verdict,reason,status,api_id,attempts,seconds,error\n")
    with pytest.raises(UnusableError, match="not this batch's"):
        check_place(path, resumed=False)


def test_name_has_to_tell_the_format(tmp_path: Path) -> None:
    """A guess would give a script what it can't read."""
    with pytest.raises(UnusableError, match=r"\.csv or \.jsonl"):
        format_of(tmp_path / "o.xlsx")


async def test_full_disk_is_told_with_the_next_row(tmp_path: Path) -> None:
    """A batch that can't say what it did must stop."""
    results = Results(tmp_path / "o.csv")
    results.add(row(1))
    results._file, file = 10_000, results._file  # noqa: SLF001 -- no descriptor
    await asyncio.sleep(0.3)  # rows wait for others no longer than a quarter
    with pytest.raises(OSError, match=r"descriptor: .*o\.csv"):
        results.add(row(2))
    results._file = file  # noqa: SLF001 -- the real one again
    results.close()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--results", "o.txt"], "--results"),
        (["--results", "rows.csv"], "--results"),
        (["--results", "missing/o.csv"], "--results"),
        (["--journal", "rows.csv"], "--journal"),
        (["--journal", "other"], "--journal"),
        (["--journal", "o.csv", "--results", "o.csv"], "--results"),
        (["--report"], "--report"),
        (["--phlo-id", "a/b"], "--phlo-id"),
        (["--concurrency", "0"], "--concurrency"),
        (["--calls-per-second", "-1"], "--calls-per-second"),
    ],
)
def test_options_that_would_do_harm_are_refused(
    options: list[str],
    named: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is sent, and nothing overwritten, for a typing error."""
    monkeypatch.chdir(tmp_path)
    name_account(monkeypatch)
    write_rows(tmp_path / "rows.csv", 2)
    (tmp_path / "other").write_text("not a journal, but somebody's text")
    before = (tmp_path / "rows.csv").read_text()
    assert main(["batch", "rows.csv", *IDS, *options]) == Exit.UNUSABLE
    out, err = capsys.readouterr()
    assert out == ""
    assert named in err.splitlines()[-1]
    assert (tmp_path / "rows.csv").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["batch", *IDS], "FILE"),
        (["batch", "nowhere.csv", *IDS], "nowhere.csv"),
        (["batch", "--journal", "nowhere.db", "--report"], "does not exist"),
        (
            ["batch", "--journal", "night-2026-11-28.db", "--report"],
            "--journal: night-2026-11-28.db does not exist",
        ),
    ],
)
def test_missing_files_are_named(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line says which of several names was wrong."""
    monkeypatch.chdir(tmp_path)
    name_account(monkeypatch)
    assert main(arguments) == Exit.UNUSABLE
    assert named in capsys.readouterr().err


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl"])
@pytest.mark.parametrize("size", [0, 100, 700, 1_001])
async def test_rows_are_whole_when_the_disk_is_full(
    *, name: str, size: int, tmp_path: Path
) -> None:
    """Whoever reads half a row takes it for another one."""
    path = tmp_path / name
    results = Results(path)
    limit = path.stat().st_size + size
    with disk_of(limit):
        for number in range(40):
            results.add(row(number))
        with pytest.raises(OSError, match="too large"):
            results.close()
    found = [result[0] for result in read_back(path)]
    assert found == [f"k{number}" for number in range(len(found))]
    text = path.read_text()
    assert text.count("\n") == len(found) + (name == "o.csv")
    assert text.endswith("\n") or not text
    assert limit - len(text) <= 120  # what fits, stays


@pytest.mark.parametrize("earlier", [False, True])
def test_disk_without_room_for_the_first_line_is_said_in_one(
    *, earlier: bool, tmp_path: Path
) -> None:
    """A traceback and the code for a doubt, though nothing had been sent."""
    path = tmp_path / "o.csv"
    if earlier:
        asyncio.run(_written(path, row(1)))
    before = path.read_text() if earlier else ""
    with disk_of(10), pytest.raises(UnusableError, match="can't be written: File too"):
        Results(path)
    assert path.read_text() == before
    asyncio.run(_written(path, row(1)))  # what is left there is in nobody's way
    assert [*read_results(path)] == ["k1"]


async def _written(path: Path, *rows: Result) -> None:
    results = Results(path)
    for one in rows:
        results.add(one)
    results.close()


async def test_rows_go_on_where_they_ended_once_the_disk_has_room(
    tmp_path: Path,
) -> None:
    """What waited for room must be there once, and whole."""
    path = tmp_path / "o.csv"
    results = Results(path)
    for number in range(40):
        results.add(row(number))
    with disk_of(500), pytest.raises(OSError, match="too large"):
        results._flush()  # noqa: SLF001 -- as its timer does
    results.close()
    assert [*read_results(path)] == [f"k{number}" for number in range(40)]


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl"])
async def test_what_earlier_runs_told_stays_when_one_is_ended_early(
    name: str, tmp_path: Path
) -> None:
    """Ctrl-C in a second run must not take away what the first one told."""
    path = tmp_path / name
    first = Results(path)
    for number in range(9):
        first.add(row(number))
    first.close()
    again = Results(path)
    for number in (3, 4):
        again.add((f"k{number}", "rejected", None, 400, None, 1, 0.5, None))
    again.close(complete=False)
    found = {result[0]: result[1] for result in read_back(path)}
    assert [found[f"k{number}"] for number in range(9)] == [
        "rejected" if number in {3, 4} else "accepted" for number in range(9)
    ]
    assert len([*read_back(path)]) == 9


async def test_rows_that_share_a_key_stay_as_many_as_they_were(tmp_path: Path) -> None:
    """One of them was sent and the other is its duplicate: both were told of."""
    path = tmp_path / "o.csv"
    first = Results(path)
    for verdict in ("accepted", "not_sent", "rejected"):
        first.add(("k", verdict, None, None, None, 1, 0.5, None))
    first.add(row(1))
    first.close()
    again = Results(path)
    again.add(("k", "accepted", None, None, None, 1, 0.5, None))
    again.close(complete=False)
    assert [result[0] for result in read_back(path)] == ["k", "k", "k", "k1"]


@pytest.mark.parametrize(
    "key",
    [
        *("=HYPERLINK(1)", "+14155550123", "-1", "@SUM(1)", "'quoted", "''", "'"),
        *("\uff1dcmd", "plain", "7", "a=b", 'with "quotes", and comma'),
    ],
)
@pytest.mark.parametrize("name", ["o.csv", "o.jsonl"])
async def test_no_key_is_a_formula_and_each_reads_back_as_it_was(
    *, key: str, name: str, tmp_path: Path
) -> None:
    """Somebody else's key must not run in the spreadsheet of who opens the file."""
    path = tmp_path / name
    results = Results(path)
    results.add((key, "accepted", None, 201, "=id", 1, 0.25, "+1 why"))
    results.close()
    assert [*read_back(path)] == [
        (key, "accepted", None, 201, "=id", 1, 0.25, "+1 why")
    ]
    if name == "o.csv":
        cells = next(iter(read_results(path).values()))
        starts = ("=", "+", "-", "@", "\uff1d")
        assert not any(cell.startswith(starts) for cell in cells)


@pytest.mark.parametrize("planted", ["link", "dangling", "fifo", "0666", "folder"])
@pytest.mark.parametrize("place", ["results", "part"])
def test_nothing_planted_is_written_to_or_waited_for(
    *,
    planted: str,
    place: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others who may write to the folder must not choose what is overwritten."""
    name_account(monkeypatch)
    rows, victim = write_rows(tmp_path / "rows.csv", 2), tmp_path / "victim"
    victim.write_text("precious")
    out, journal = tmp_path / "o.csv", tmp_path / "j.db"
    path = out if place == "results" else part_of(out)
    if planted == "link":
        path.symlink_to(victim)
    elif planted == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif planted == "fifo":
        os.mkfifo(path)
    elif planted == "folder":
        path.mkdir()
    else:
        path.write_text("key,verdict,reason,status,api_id,attempts,seconds,error\n")
        path.chmod(0o666)
    before = sorted(tmp_path.iterdir())
    options = ["--results", str(out), "--journal", str(journal)]
    assert main(["batch", str(rows), *IDS, *options]) == Exit.UNUSABLE
    assert "--results" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert victim.read_text() == "precious"


SURVEY: Final = dict.fromkeys(
    ["rows", "unusable", "repeated", "keyless", "equal", "conflicts"], 1
)
FOREIGN: Final = {  # other fields, and other values in them
    "fingerprint": {"salt": "", "sighs": 3, "survey": {"rows": 1}},
    "counts": {
        "salt": "",
        "size": 1,
        "digest": "",
        "allow_repeats": False,
        "others": 0,
        "survey": {**SURVEY, "equal": None},
    },
}


@pytest.mark.parametrize(
    "planted", ["fifo", "circle", "folder", "fingerprint", "counts"]
)
@pytest.mark.parametrize("report", [True, False])
async def test_journal_that_is_none_is_one_line(
    *,
    planted: str,
    report: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A command that hangs, or shows a traceback, tells nobody what is wrong."""
    name_account(monkeypatch)
    rows, path = write_rows(tmp_path / "rows.csv", 2), tmp_path / "j.db"
    if planted == "fifo":
        os.mkfifo(path)
    elif planted == "circle":
        path.symlink_to(path)
    elif planted == "folder":
        path.mkdir()
    else:
        async with Journal(path):
            pass
        fingerprint = json.dumps(FOREIGN[planted])
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("INSERT INTO settings VALUES ('batch', ?)", (fingerprint,))
    command = ["--report"] if report else [str(rows), *IDS]
    code = await asyncio.to_thread(main, ["batch", *command, "--journal", str(path)])
    err = capsys.readouterr().err
    assert (code, err.count("\n")) == (Exit.UNUSABLE, 1)
    assert err.startswith("aiophlo: --journal: ")
