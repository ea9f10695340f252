"""`aiophlo batch`: what is sent, what is told, and what a second run does."""

import asyncio
import json
import re
import sqlite3
from pathlib import Path

import pytest
from batches import AGENT, IDS, json_lines, number, read_results, write_rows

from aiophlo.accounts import Quota
from aiophlo.cli import main
from aiophlo.cli.batch_words import plan
from aiophlo.cli.exits import Exit
from aiophlo.cli.words import duration
from aiophlo.journal import Journal
from aiophlo.simulator import Simulator


@pytest.fixture(autouse=True)
def environment(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Point the command at the simulator, and temporary files at this test's folder."""
    monkeypatch.setenv("PLIVO_AUTH_ID", simulator.auth_id)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", simulator.auth_token)
    monkeypatch.setenv("AIOPHLO_BASE_URL", simulator.base_url)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


async def run(*arguments: object, ids: bool = True) -> int:
    """Run the command beside the simulator, as fast as it goes."""
    command = ["batch", *map(str, arguments), *(IDS if ids else ())]
    return await asyncio.to_thread(main, [*command, "--quota", "none"])


async def test_every_row_is_sent_once_and_told(
    simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list of a thousand people must become a thousand calls, and a list of them."""
    rows, results = write_rows(tmp_path / "a.csv", 50), tmp_path / "out.csv"
    assert await run(rows, "--results", results) == Exit.ACCEPTED
    assert [simulator.ledger.dials(number(n)) for n in range(50)] == [1] * 50
    found = read_results(results)
    assert set(found) == {f"row-{n}" for n in range(50)}
    assert all(row[1:4] == ["accepted", "", "201"] for row in found.values())
    assert results.stat().st_mode & 0o777 == 0o600
    assert [*(tmp_path / "tmp").iterdir()] == []
    out, err = capsys.readouterr()
    assert out == "50 of 50 rows: 50 accepted, 0 rejected, 0 not sent, 0 in doubt.\n"
    assert "50 transfers: as fast as it goes" in err
    assert "+1415" not in out + err


async def test_json_is_a_line_for_each_row_and_a_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script goes by these fields."""
    assert await run(write_rows(tmp_path / "a.csv", 3), "--json") == Exit.ACCEPTED
    *rows, summary = json_lines(capsys.readouterr().out)
    assert {row["key"] for row in rows} == {"row-0", "row-1", "row-2"}
    assert [*rows[0]] == [
        *("key", "verdict", "reason", "status", "api_id", "attempts", "seconds")
    ]
    assert summary == {
        "rows": 3,
        "accepted": 3,
        "rejected": 0,
        "not_sent": 0,
        "in_doubt": 0,
        "refused_429": 0,
        "interrupted": False,
        "failure": None,
        "journal": None,
    }


@pytest.mark.parametrize("keyed", [True, False])
async def test_second_run_sends_what_is_left_and_tells_of_all(
    keyed: bool, simulator: Simulator, tmp_path: Path
) -> None:
    """Whoever runs the same command again must not ring anybody again."""
    rows, journal = tmp_path / "a.csv", tmp_path / "j.db"
    lines = [f"{number(n)},{AGENT},{f'row-{n}' if keyed else ''}" for n in range(40)]
    rows.write_text("\n".join(["to,trigger_source,key", *lines]))
    out, again = tmp_path / "out.jsonl", tmp_path / "again.jsonl"
    simulator.answer_next(400)
    simulator.answer_next(503)
    assert await run(rows, "--journal", journal, "--results", out) == Exit.IN_DOUBT
    first = json_lines(out.read_text())
    assert await run(rows, "--journal", journal, "--results", out) == Exit.IN_DOUBT
    assert await run(rows, "--journal", journal, "--results", again) == Exit.IN_DOUBT
    assert simulator.ledger.received == 40
    for path in (out, again):
        second = json_lines(path.read_text())
        assert {str(r["key"]): r for r in second} == {str(r["key"]): r for r in first}


async def test_not_sent_rows_are_sent_by_the_next_run(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage must cost time, not calls."""
    rows, journal = write_rows(tmp_path / "a.csv", 30), tmp_path / "j.db"
    options = (rows, "--journal", journal, "--results", tmp_path / "out.csv")
    monkeypatch.setenv("AIOPHLO_BASE_URL", "http://127.0.0.1:9/v1")
    assert await run(*options, "--send-within", "0.3") == Exit.REFUSED
    found = read_results(tmp_path / "out.csv")
    assert {row[1] for row in found.values()} == {"not_sent"}
    monkeypatch.setenv("AIOPHLO_BASE_URL", simulator.base_url)
    assert await run(*options) == Exit.ACCEPTED
    assert [simulator.ledger.dials(number(n)) for n in range(30)] == [1] * 30
    assert len(read_results(tmp_path / "out.csv")) == 30


async def test_rows_in_doubt_are_sent_again_only_when_asked_for(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Their phones may have rung: only a person can decide to ring them again."""
    rows, journal = write_rows(tmp_path / "a.csv", 3), tmp_path / "j.db"
    simulator.answer_next(503)
    assert await run(rows, "--journal", journal) == Exit.IN_DOUBT
    assert await run(rows, "--journal", journal) == Exit.IN_DOUBT
    assert simulator.ledger.received == 3
    again = await run(rows, "--journal", journal, "--include-in-doubt")
    assert (again, simulator.ledger.received) == (Exit.ACCEPTED, 4)


async def test_temporary_journal_is_kept_and_named_when_something_is_in_doubt(
    simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it nobody could send the rest without ringing the others again."""
    rows = write_rows(tmp_path / "a.csv", 4)
    simulator.answer_next(503)
    assert await run(rows) == Exit.IN_DOUBT
    err = capsys.readouterr().err
    assert "1 in doubt: their requests left" in err
    match = re.search(r"with --journal (\S+)", err)
    assert match is not None
    assert f"Its journal, until it ends: {match[1]}" in err
    kept = Path(match[1])
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert await run(rows, "--journal", kept) == Exit.IN_DOUBT
    assert simulator.ledger.received == 4


async def test_standard_input_is_read_like_a_file(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists come out of other programs, and must not stay behind on the disk."""
    rows = write_rows(tmp_path / "a.csv", 20)
    with rows.open() as piped:
        monkeypatch.setattr("sys.stdin", piped)
        assert await run("-", "--results", tmp_path / "o.csv") == Exit.ACCEPTED
    assert simulator.ledger.dialled_total == 20
    assert len(read_results(tmp_path / "o.csv")) == 20
    assert [*(tmp_path / "tmp").iterdir()] == []


async def test_repeated_key_is_sent_once_whether_finished_before_or_not(
    simulator: Simulator, tmp_path: Path
) -> None:
    """A list that holds somebody twice must ring once."""
    rows, journal, out = (tmp_path / name for name in ("a.csv", "j.db", "o.jsonl"))
    row = f"{number(1)},{AGENT},twice"
    rows.write_text(f"to,trigger_source,key\n{row}\n{row}\n")
    for _ in range(2):
        code = await run(rows, "--journal", journal, "--results", out)
        assert code == Exit.REFUSED
        found = sorted(str(r["reason"]) for r in json_lines(out.read_text()))
        assert found == ["None", "duplicate"]
    assert simulator.ledger.dials(number(1)) == 1


async def test_unusable_rows_are_told_when_the_others_are_sent(
    simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Corrected later, they must be sent then, and the others not again."""
    rows, journal, out = (tmp_path / name for name in ("a.csv", "j.db", "o.csv"))
    sound = write_rows(rows, 4).read_text()
    rows.write_text(sound.replace(number(2), "1.41E+10").replace(number(3), "1,2"))
    options = (rows, "--journal", journal, "--results", out)
    assert await run(*options, "--skip-invalid") == Exit.REFUSED
    listed = capsys.readouterr().err.splitlines()[:2]
    assert [line.split(":")[0] for line in listed] == ["line 4", "line 5"]
    found = read_results(out)
    assert found["row-2"][1:3] == ["not_sent", "invalid"]
    assert found["5:"][1:3] == ["not_sent", "invalid"]  # its key can't be told
    assert [found[f"row-{n}"][1] for n in range(2)] == ["accepted"] * 2
    assert await run(*options) == Exit.UNUSABLE
    rows.write_text(sound)
    assert await run(*options) == Exit.ACCEPTED
    assert [simulator.ledger.dials(number(n)) for n in range(4)] == [1] * 4


@pytest.mark.parametrize("page", [1, 3, 2_000])
@pytest.mark.parametrize("key", ["row-{}", "+1415555{:04}", "Zürich {}", ""])
async def test_finished_rows_are_found_whatever_their_keys(
    *,
    page: int,
    key: str,
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row that is not found is a phone that rings twice."""
    monkeypatch.setattr("aiophlo.cli.finished._PAGE", page)
    rows, journal, out = (tmp_path / name for name in ("a.csv", "j.db", "o.jsonl"))
    lines = [f"{number(n)},{AGENT},{key.format(n)}" for n in range(30)]
    rows.write_text("\n".join(["to,trigger_source,key", *lines]))
    options = (rows, "--journal", journal, "--results", out)
    assert await run(*options) == Exit.ACCEPTED
    first = json_lines(out.read_text())
    with sqlite3.connect(journal) as database:  # as if these had met an outage
        database.execute("UPDATE actions SET verdict = 'not_sent' WHERE id % 4 = 0")
    database.close()
    assert await run(*options) == Exit.ACCEPTED
    rang = [simulator.ledger.dials(number(n)) for n in range(30)]
    assert sorted(rang) == [1] * 23 + [2] * 7
    second = json_lines(out.read_text())
    assert {row["key"] for row in second} == {row["key"] for row in first}
    assert len(second) == 30


async def test_moved_rows_without_keys_are_refused(
    simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line more at the top would otherwise ring everybody below it again."""
    rows, journal = tmp_path / "a.csv", tmp_path / "j.db"
    header, old = "to,trigger_source", [f"{number(n)},{AGENT}" for n in range(5)]
    rows.write_text("\n".join([header, *old, ""]))
    assert await run(rows, "--journal", journal) == Exit.ACCEPTED
    rows.write_text("\n".join([header, f"{number(9)},{AGENT}", *old, ""]))
    assert await run(rows, "--journal", journal) == Exit.UNUSABLE
    assert "could be dialled again" in capsys.readouterr().err
    assert simulator.ledger.received == 5
    rows.write_text("\n".join([header, *old, f"{number(9)},{AGENT}", ""]))
    assert await run(rows, "--journal", journal) == Exit.ACCEPTED
    assert simulator.ledger.received == 6


async def test_moved_rows_with_keys_are_known(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Sorting a list must not ring anybody again."""
    rows, journal = write_rows(tmp_path / "a.csv", 20), tmp_path / "j.db"
    assert await run(rows, "--journal", journal) == Exit.ACCEPTED
    header, *lines = rows.read_text().splitlines()
    rows.write_text("\n".join([header, *reversed(lines)]))
    assert await run(rows, "--journal", journal) == Exit.ACCEPTED
    assert simulator.ledger.received == 20


async def test_changed_row_of_a_known_key_is_not_sent(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Its key says that it was sent; its number says that it wasn't."""
    rows, journal = write_rows(tmp_path / "a.csv", 2), tmp_path / "j.db"
    assert await run(rows, "--journal", journal) == Exit.ACCEPTED
    rows.write_text(rows.read_text().replace(number(1), number(7)))
    out = tmp_path / "o.csv"
    code = await run(rows, "--journal", journal, "--results", out)
    assert code == Exit.REFUSED
    assert read_results(out)["row-1"][1:3] == ["not_sent", "invalid"]
    assert simulator.ledger.received == 2


async def test_rows_stop_when_their_file_changes_meanwhile(
    simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that nobody has checked, at places that have moved, must not be sent."""
    rows = write_rows(tmp_path / "a.csv", 400)
    simulator.hold_answers()
    batch = asyncio.create_task(run(rows, "--concurrency", "10"))
    await simulator.wait_for(held=10)
    write_rows(rows, 400, first=1_000)
    simulator.release_answers()
    assert await batch == Exit.REFUSED
    assert "has changed while it was being read" in capsys.readouterr().err
    assert simulator.ledger.dials(number(1_050)) == 0


async def test_stop_by_itself_is_told_with_what_to_do(
    simulator: Simulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wrong credentials must not be tried a thousand times, nor go unnoticed."""
    rows = write_rows(tmp_path / "a.csv", 300)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", "wrong")
    code = await run(rows, "--concurrency", "5")
    assert code == Exit.REFUSED
    err = capsys.readouterr().err
    assert "not sent: nothing rang. The same command with the same journal" in err
    assert "rejected: Plivo said no" in err
    assert simulator.ledger.received < 30


@pytest.mark.parametrize("as_json", [True, False])
async def test_dry_run_checks_and_sends_nothing(
    *,
    as_json: bool,
    simulator: Simulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever tries a list out must not ring anybody, nor need an account."""
    monkeypatch.delenv("PLIVO_AUTH_ID")
    rows = write_rows(tmp_path / "a.csv", 300)
    command = ["batch", str(rows), *IDS, "--dry-run", *["--json"] * as_json]
    assert await asyncio.to_thread(main, command) == Exit.ACCEPTED
    out = capsys.readouterr().out
    if as_json:
        assert json.loads(out) == {
            "rows": 300,
            "unusable": 0,
            "settled": 0,
            "seconds": 5.1,
            "queue_seconds": 144.9,
        }
    else:
        assert "300 transfers: 5 s at 59.2 per second" in out
        assert "queue for 2 min before it rings" in out
    assert simulator.ledger.received == 0


def test_plan_tells_how_long_it_takes_and_how_long_calls_may_queue() -> None:
    """Two minutes of sending may be an hour of ringing, and people go home at six."""
    lines = plan(10_000, 1_000, Quota(300), None)
    assert lines[0] == (
        "10000 transfers, 1000 of them settled before: 3 min at 59.2 per second"
    )
    assert "queue for 1.2 h before it rings" in lines[1]
    assert len(plan(10_000, 0, Quota(300), 2.0)) == 1
    assert plan(5, 5, Quota(300), None) == ["5 transfers, all of them settled before"]
    spans = [duration(seconds) for seconds in (0.2, 59.0, 3_000.0, 90_000.0)]
    assert spans == ["1 s", "59 s", "50 min", "1.0 days"]


async def test_report_shows_a_batch_and_what_to_do(
    simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody has to find out about the rows in doubt, the morning after."""
    rows, journal = write_rows(tmp_path / "a.csv", 5), tmp_path / "j.db"
    simulator.answer_next(503)
    await run(rows, "--journal", journal, "--concurrency", "1")
    capsys.readouterr()
    report = ["batch", "--journal", str(journal), "--report"]
    assert main(report) == Exit.IN_DOUBT
    out = capsys.readouterr().out
    assert "5 of 5 rows begun: 4 accepted, 0 rejected, 0 not sent, 1 in doubt." in out
    assert "row-0 to …00" in out
    assert "server_error, status 503" in out
    assert "Look in Plivo's logs" in out
    assert main([*report, "--json"]) == Exit.IN_DOUBT
    doubt, summary = json_lines(capsys.readouterr().out)
    assert (doubt["key"], doubt["address"]) == ("row-0", "…00")
    assert (summary["rows"], summary["accepted"], summary["in_doubt"]) == (5, 4, 1)


async def test_report_counts_what_was_begun_as_in_doubt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a kill, those in flight are the ones to ask about."""
    path = tmp_path / "j.db"
    write_rows(tmp_path / "a.csv", 2)
    await run(tmp_path / "a.csv", "--journal", path)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE actions SET verdict = NULL WHERE key = 'row-1'")
    database.close()
    capsys.readouterr()
    assert main(["batch", "--journal", str(path), "--report"]) == Exit.IN_DOUBT
    out = capsys.readouterr().out
    assert "1 begun and without an outcome" in out
    assert "row-1 to …01" in out
    assert "no outcome" in out


async def test_full_journal_stops_cleanly_with_nothing_unrecorded(
    simulator: Simulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full disk must not ring people whom nobody will remember."""

    class Small(Journal):
        def __init__(self, path: Path) -> None:
            super().__init__(path, max_bytes=40_960)

    monkeypatch.setattr("aiophlo.cli.batch_run.Journal", Small)
    rows, journal = write_rows(tmp_path / "a.csv", 2_000), tmp_path / "j.db"
    code = await run(rows, "--journal", journal, "--concurrency", "5")
    out, err = capsys.readouterr()
    assert code in {Exit.IN_DOUBT, Exit.REFUSED}
    assert "database or disk is full" in err
    assert "of 2000 rows:" in out
    with Journal.read(journal) as reader:
        known = {record.key for record in reader.outcomes()}
    rang = {f"row-{n}" for n in range(2_000) if simulator.ledger.dials(number(n))}
    assert rang
    assert rang <= known
