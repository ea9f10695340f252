"""The results file: whole at any moment, and never in the place of something else."""

import asyncio
from pathlib import Path

import pytest
from batches import IDS, read_results, write_rows

from aiophlo.cli import main
from aiophlo.cli.exits import Exit, UnusableError
from aiophlo.cli.results import Result, Results, format_of


def row(number: int) -> Result:
    """Give a row of its own for each number."""
    return (f"k{number}", "accepted", None, 201, "id", 1, 0.25)


async def test_rows_of_an_earlier_run_stay_until_there_are_as_many(
    tmp_path: Path,
) -> None:
    """A resumed batch that is killed at once must not take away what was known."""
    path = tmp_path / "o.csv"
    first = Results(path, resumed=False)
    for number in range(5):
        first.add(row(number))
    first.close()
    again = Results(path, resumed=True)
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
    results = Results(path, resumed=False)
    assert read_results(path) == {}
    for number in range(5_000):
        results.add(row(number))
    assert len(read_results(path)) > 1_000
    results.close()


async def test_fewer_rows_take_their_place_in_the_end(tmp_path: Path) -> None:
    """A list that was cut down must not leave stale rows behind."""
    path = tmp_path / "o.jsonl"
    for rows in (5, 2):
        results = Results(path, resumed=True)
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
        Results(path, resumed=resumed)
    assert path.read_text() == "to,trigger_source\n"


def test_results_of_another_batch_are_not_overwritten(tmp_path: Path) -> None:
    """Yesterday's results are not this journal's."""
    path = tmp_path / "o.csv"
    path.write_text("key,verdict,reason,status,api_id,attempts,seconds\n")
    with pytest.raises(UnusableError, match="not this batch's"):
        Results(path, resumed=False)


def test_name_has_to_tell_the_format(tmp_path: Path) -> None:
    """A guess would give a script what it can't read."""
    with pytest.raises(UnusableError, match=r"\.csv or \.jsonl"):
        format_of(tmp_path / "o.xlsx")


async def test_full_disk_is_told_with_the_next_row(tmp_path: Path) -> None:
    """A batch that can't say what it did must stop."""
    results = Results(tmp_path / "o.csv", resumed=False)
    results.add(row(1))
    results._file, file = 10_000, results._file  # noqa: SLF001 -- no descriptor
    await asyncio.sleep(0.3)  # rows wait for others no longer than a quarter
    with pytest.raises(OSError, match="descriptor"):
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
    monkeypatch.setenv("PLIVO_AUTH_ID", "MA" + "X" * 18)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", "secret")
    monkeypatch.setenv("AIOPHLO_BASE_URL", "http://127.0.0.1:9/v1")
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
        (["batch", "--journal", "nowhere.db", "--report"], "--journal"),
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
    monkeypatch.setenv("PLIVO_AUTH_ID", "MA" + "X" * 18)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", "secret")
    assert main(arguments) == Exit.UNUSABLE
    assert named in capsys.readouterr().err
