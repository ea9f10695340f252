"""`aiophlo batch`: what is sent, what is told, and what a second run does."""

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aiophlo.cli import main
from aiophlo.cli.batch_text import plan
from aiophlo.cli.earlier_results import read_results as read_results_of
from aiophlo.cli.exit_codes import Exit
from aiophlo.cli.progress import Sight, Speeds, describe
from aiophlo.cli.terminal_text import duration
from aiophlo.journal.journal import Journal
from aiophlo.model.accounts import Quota
from aiophlo.model.actions import WarmTransfer
from aiophlo.simulator import Simulator
from tests.support.batches import (
    AGENT,
    IDS,
    json_lines,
    number,
    read_results,
    write_rows,
)


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
        *("key", "verdict", "reason", "status", "api_id", "attempts", "seconds"),
        "error",
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
    assert "Plivo's logs, let --resolve look in its list of calls, or ask" in err
    match = re.search(r"with --journal (\S+)", err)
    assert match is not None
    assert f"Journal, until this batch ends: {match[1]}" in err
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
    assert found["line 5"][1:3] == ["not_sent", "invalid"]  # its key can't be told
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
    monkeypatch.setattr("aiophlo.journal.reader.PAGE_SIZE", page)
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
    options = ("--journal", journal, "--results", out)
    assert await run(rows, *options) == Exit.UNUSABLE
    assert not out.exists()
    assert await run(rows, *options, "--skip-invalid") == Exit.REFUSED
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
            "equal": 0,
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
    assert plan(5, 5, Quota(300), None) == ["5 transfers, all settled before"]
    spans = [duration(seconds) for seconds in (0.2, 59.0, 3_000.0, 90_000.0)]
    assert spans == ["1 s", "59 s", "50 min", "1.0 days"]


def write_keyed(path: Path, *rows: tuple[str, int]) -> Path:
    """Write a CSV file of keys, and of whom each of them is for."""
    lines = [f"{key},{number(n)},{AGENT}" for key, n in rows]
    path.write_text("\n".join(["key,to,trigger_source", *lines, ""]))
    return path


async def test_neighbours_with_one_mistake_are_listed_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A forgotten option would scroll away whatever else is wrong."""
    rows = tmp_path / "a.csv"
    sound, bad = f"{number(1)},{AGENT},n", f"0,{AGENT},n"
    rows.write_text("\n".join(["to,trigger_source,node_id", *[sound] * 3, bad, sound]))
    code = await run(rows, "--dry-run", ids=False)
    assert code == Exit.UNUSABLE
    phlo, *others, _ = capsys.readouterr().err.splitlines()
    assert phlo == "lines 2 to 6: phlo_id: is missing, and no --phlo-id was given"
    assert others == []
    await run(rows, "--dry-run", "--phlo-id", "p", ids=False)
    assert capsys.readouterr().err.startswith("line 5: to: ")


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl"])
async def test_results_say_why_a_row_was_not_accepted(
    name: str, simulator: Simulator, tmp_path: Path
) -> None:
    """The morning after, "invalid" alone corrects no row, and "400" no number."""
    rows, journal, out = tmp_path / "a.csv", tmp_path / "j.db", tmp_path / name
    rows.write_text(
        f"to,trigger_source,key\n{number(1)},{AGENT},a\n,{AGENT},b\n123,{AGENT},c\n"
    )
    said = f"=no such\nnumber {number(1)}"
    simulator.answer_next(400, body={"error": said})
    for _ in range(2):  # the second time from the journal
        options = ("--journal", journal, "--results", out, "--skip-invalid")
        assert await run(rows, *options) == Exit.REFUSED
        told = {row[0]: row[-1] for row in read_results_of(out)}
        assert "such as '+14152225555' or 'sip:user@" in str(told.pop("c"))
        assert told == {"a": "=no such number …01", "b": "to: is missing"}
    if name == "o.csv":  # no spreadsheet is to reckon with it
        assert ",'=no such" in out.read_text()


async def test_report_counts_rows_that_are_told_twice_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who reads "3 of 2 rows" believes nothing else that is said."""
    rows = [("a", 1), ("a", 2), ("a", 1), ("b", 3), ("c", 3), ("c", 3), ("d", 4)]
    path = write_keyed(tmp_path / "a.csv", *rows)
    journal = tmp_path / "j.db"
    await run(path, "--journal", journal, "--skip-invalid")
    capsys.readouterr()
    assert main(["batch", "--journal", str(journal), "--report"]) == Exit.ACCEPTED
    assert "3 of 3 rows begun" in capsys.readouterr().out


async def test_other_rows_in_a_journal_are_not_said_to_be_settled(
    simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody may be rung after a dry run said that all were settled before."""
    journal = tmp_path / "j.db"
    await run(write_rows(tmp_path / "a.csv", 5), "--journal", journal)
    more = write_rows(tmp_path / "b.csv", 4, first=3)
    for _ in range(2):
        capsys.readouterr()
        assert await run(more, "--journal", journal, "--dry-run") == Exit.ACCEPTED
        assert "4 transfers, 2 of them settled before" in capsys.readouterr().out
    assert await run(more, "--journal", journal) == Exit.ACCEPTED
    assert "4 transfers, 2 of them settled before" in capsys.readouterr().err
    assert simulator.ledger.dials() == 7
    assert await run(more, "--journal", journal, "--dry-run") == Exit.ACCEPTED
    assert "4 transfers, all settled before" in capsys.readouterr().out


async def test_key_of_another_transfer_in_the_journal_is_listed(
    simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Today's list under yesterday's keys would end as not sent, without a word why."""
    journal = tmp_path / "j.db"
    await run(write_keyed(tmp_path / "a.csv", ("1", 1)), "--journal", journal)
    today = write_keyed(tmp_path / "b.csv", ("1", 2), ("2", 3))
    capsys.readouterr()
    for more in ([], ["--dry-run"]):
        assert await run(today, "--journal", journal, *more) == Exit.UNUSABLE
        err = capsys.readouterr().err
        assert "line 2: key: the journal has it for another transfer" in err
        assert "1 of 2 rows can't be used, nothing was sent" in err
    assert await run(today, "--journal", journal, "--skip-invalid") == Exit.REFUSED
    assert "1 transfer: " in capsys.readouterr().err
    assert [simulator.ledger.dials(number(n)) for n in (1, 2, 3)] == [1, 0, 1]


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
    for told in ("First sent", "last noted", "begun"):  # which zone's hour it is
        assert re.search(told + r" \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\b", out)
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
    assert "1 more without an outcome, begun by a runner that is gone: in doubt" in out
    assert "1 in doubt: their requests left" in out
    assert "row-1 to …01" in out
    assert "no outcome" in out


async def test_report_tells_what_is_under_way_from_doubts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Agents are asked about calls that are only just being made."""
    path = tmp_path / "j.db"
    report = ["batch", "--journal", str(path), "--report"]
    action = WarmTransfer(
        phlo_id="p", node_id="n", trigger_source=number(0), to=number(1)
    )
    async with Journal(path) as journal:
        await journal.intend("row-1", action)
        assert main(report) == Exit.ACCEPTED
        out = capsys.readouterr().out
        assert "1 row: 0 accepted" in out
        assert "1 more under way: a runner has them in flight." in out
        assert "row-1" not in out
        assert "Look in Plivo's logs" not in out
        assert main([*report, "--json"]) == Exit.ACCEPTED
        (summary,) = json_lines(capsys.readouterr().out)
        assert (summary["open"], summary["under_way"]) == (1, 1)
    Path(f"{path}-lock").unlink()  # noqa: ASYNC240 -- nobody else is served
    assert main(report) == Exit.IN_DOUBT
    out = capsys.readouterr().out
    assert "1 more without an outcome: in flight if a runner is at work, which" in out
    assert "row-1 to …01" in out


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

    monkeypatch.setattr("aiophlo.cli.journal_places.Journal", Small)
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


async def test_journal_that_a_full_disk_left_without_tables_is_begun_anew(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Once there is room again, the same command has to do."""
    journal = tmp_path / "j.db"
    with closing(sqlite3.connect(journal)) as database:
        database.execute("PRAGMA journal_mode = WAL")
    assert journal.stat().st_size
    rows = write_rows(tmp_path / "a.csv", 3)
    assert await run(rows, "--journal", journal) == Exit.ACCEPTED
    assert len(simulator.ledger.dialled) == 3


async def test_resumed_batch_refuses_the_results_of_another(
    simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A word left over in the shell's history must not cost yesterday's results."""
    files = {}
    for name in ("one", "two"):  # with the same keys, as lists have that count rows
        rows, journal, out = (tmp_path / f"{name}.{end}" for end in ("csv", "db", "o"))
        out = out.with_suffix(".out.csv")
        write_rows(rows, 5)
        options = (rows, "--journal", journal, "--results", out)
        assert await run(*options) == Exit.ACCEPTED
        files[name] = (rows, journal, out)
    (rows, journal, _), (_, _, other) = files.values()
    before = other.read_bytes()
    code = await run(rows, "--journal", journal, "--results", other)
    assert code == Exit.UNUSABLE
    assert "of another batch" in capsys.readouterr().err
    assert other.read_bytes() == before
    assert await run(rows, "--journal", journal, "--results", files["one"][2]) == 0
    assert simulator.ledger.received == 10


async def test_resumed_batch_refuses_results_that_tell_nothing_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that were not sent name no request by which a journal could know them."""
    rows, journal, out = (tmp_path / name for name in ("a.csv", "j.db", "o.csv"))
    assert await run(write_rows(rows, 2), "--journal", journal) == Exit.ACCEPTED
    header = "key,verdict,reason,status,api_id,attempts,seconds,error\n"
    theirs = f"{header}row-0,not_sent,unreachable,,,3,1.5,\n"
    out.write_text(theirs)
    options = (rows, "--journal", journal, "--results", out)
    assert await run(*options) == Exit.UNUSABLE
    assert "of another batch" in capsys.readouterr().err
    assert out.read_text() == theirs
    out.write_text(header)  # nothing to lose
    assert await run(*options) == Exit.ACCEPTED


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl"])
@pytest.mark.parametrize("key", ["row-{}", "+1415555{:04}", "=Zürich {}", ""])
async def test_outcome_that_only_the_results_know_is_kept(
    *, name: str, key: str, simulator: Simulator, tmp_path: Path
) -> None:
    """Whoever asks again about what is in doubt must not ring the accepted ones."""
    rows, journal, out = tmp_path / "a.csv", tmp_path / "j.db", tmp_path / name
    lines = [f"{number(n)},{AGENT},{key.format(n)}" for n in range(9)]
    rows.write_text("\n".join(["to,trigger_source,key", *lines]))
    options = (rows, "--journal", journal, "--results", out)
    simulator.answer_next(400)
    assert await run(*options, "--concurrency", "1") == Exit.REFUSED
    first = {row[0]: row for row in read_results_of(out)}
    with sqlite3.connect(journal) as database:  # as if its disk had been full by then
        database.execute("UPDATE actions SET verdict = NULL WHERE id % 2")
    database.close()
    assert await run(*options, "--include-in-doubt") == Exit.REFUSED
    assert simulator.ledger.received == 9
    assert {row[0]: row for row in read_results_of(out)} == first
    with Journal.read(journal) as reader:
        verdicts = reader.report().verdicts
    assert (verdicts["accepted"], verdicts["rejected"]) == (8, 1)


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("allowed", [True, False])
async def test_equal_rows_ring_once_unless_asked_for(
    *,
    keyed: bool,
    allowed: bool,
    simulator: Simulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A person who stands in a list twice, however written, is rung twice."""
    rows, out, journal = (tmp_path / name for name in ("a.csv", "o.csv", "j.db"))
    numbers = ["+14155550101", "+14155550102", "+1 (415) 555-0101", "+1-415-5550101"]
    keys = "abcd" if keyed else [""] * 4
    lines = [f"{to},{AGENT},{key}" for to, key in zip(numbers, keys, strict=True)]
    other = f"+14155550101,{number(9)},{'e' if keyed else ''}"  # another agent's
    rows.write_text("\n".join(["to,trigger_source,key", *lines, other, ""]))
    options = (rows, "--journal", journal, "--results", out)
    more = ["--allow-repeats"] * allowed
    for _ in range(2):
        code = await run(*options, *more)
        assert code == (Exit.ACCEPTED if allowed else Exit.REFUSED)
        err = capsys.readouterr().err.splitlines()
        assert err[:2] == [
            "line 4: asks for the same transfer as line 2",
            "line 5: asks for the same transfer as line 2",
        ]
        assert ("--allow-repeats" in " ".join(err)) is not allowed
        assert simulator.ledger.received == (5 if allowed else 3)
        reasons = [row[2] for row in read_results_of(out)]
        assert reasons.count("duplicate") == (0 if allowed else 2)
    await run(*options)
    assert len([*read_results_of(out)]) == 5
    assert [r[1] for r in read_results_of(out)].count("accepted") == 3 + 2 * allowed
    assert simulator.ledger.received == (5 if allowed else 3)
    assert await run(*options, "--allow-repeats") == Exit.ACCEPTED
    assert simulator.ledger.received == 5


@pytest.mark.parametrize("allowed", [True, False])
async def test_repeat_that_is_told_twice_rings_nobody_again(
    *, allowed: bool, simulator: Simulator, tmp_path: Path
) -> None:
    """The line of a doubled row, pasted once more, must not ring after all."""
    rows, journal = tmp_path / "a.csv", tmp_path / "j.db"
    lines = [f"{number(1)},{AGENT},{key}" for key in ("a", "b", "b")]
    rows.write_text("\n".join(["to,trigger_source,key", *lines]))
    more = ["--allow-repeats"] * allowed
    for _ in range(2):
        await run(rows, "--journal", journal, *more)
        assert simulator.ledger.dials(number(1)) == (2 if allowed else 1)


async def test_row_that_cannot_be_sent_keeps_no_other_from_being_sent(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Somebody would wait for a call that only a refused row asked for."""
    rows = tmp_path / "a.csv"
    wanted = [(1, "a"), (2, "a"), (2, "b")]  # the second: a key that is taken
    lines = [f"{number(to)},{AGENT},{key}" for to, key in wanted]
    rows.write_text("\n".join(["to,trigger_source,key", *lines]))
    out = tmp_path / "o.csv"
    assert await run(rows, "--skip-invalid", "--results", out) == Exit.REFUSED
    assert [simulator.ledger.dials(number(n)) for n in (1, 2)] == [1, 1]
    found = [row[:2] for row in read_results_of(out)]
    assert sorted(found) == [("a", "accepted"), ("a", "not_sent"), ("b", "accepted")]


@pytest.mark.parametrize("allowed", [True, False])
async def test_dry_run_counts_and_lists_equal_rows(
    *, allowed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The dry run is where people look for a doubled list."""
    rows = tmp_path / "a.csv"
    line = f"{number(1)},{AGENT}"
    rows.write_text(f"to,trigger_source\n{line}\n{line}\n{number(2)},{AGENT}\n")
    command = [rows, "--dry-run", *["--allow-repeats"] * allowed]
    assert await run(*command) == Exit.ACCEPTED
    out, err = capsys.readouterr()
    assert err == "line 3: asks for the same transfer as line 2\n"
    assert f"{3 if allowed else 2} transfers" in out
    assert ("1 row asks for the same transfer as an earlier one" in out) is not allowed
    assert await run(*command, "--json") == Exit.ACCEPTED
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["equal"]) == (3, 1)


async def test_plan_is_not_told_when_another_runner_has_the_journal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever reads of four thousand transfers believes that they are sent."""
    rows, journal = write_rows(tmp_path / "a.csv", 3), tmp_path / "j.db"
    async with Journal(journal):
        assert await run(rows, "--journal", journal) == Exit.UNUSABLE
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "in use by another runner" in err


async def test_rate_shown_is_that_of_requests() -> None:
    """Rows that are stopped, or settled before, would read as a broken quota."""
    speeds = Speeds()
    sights = [Sight(done=n, requests=60, in_flight=0, refused_429=0) for n in (0, 900)]
    told = [describe(sight, speeds, Quota(300), 1_000) for sight in sights]
    assert all(text.startswith("0.0/s of 59.2/s") for text in told)


@pytest.mark.parametrize(
    ("done", "left"),
    [
        pytest.param(40, 40.0, id="another runner settles as many"),
        pytest.param(20, 20.0, id="alone"),
        pytest.param(0, 20.0, id="answers are slow"),
        pytest.param(9_000, 59.2, id="settled before"),
    ],
)
def test_what_is_left_counts_the_rows_of_other_runners(done: int, left: float) -> None:
    """Two on one journal foretold twice the time that the batch took."""
    speeds, quota = Speeds(), Quota(300)
    before = Sight(done=0, requests=0, in_flight=0, refused_429=0)
    speeds.at(0.0, before, quota)
    sight = Sight(done=done, requests=20, in_flight=0, refused_429=0)
    rate, pace = speeds.at(1.0, sight, quota)
    assert rate == pytest.approx(20.0)
    assert pace == pytest.approx(left, abs=0.1)


async def test_batch_is_refused_where_it_can_remember_nothing(
    simulator: Simulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a memory, the next run would ring everybody again."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    assert await run(write_rows(tmp_path / "a.csv", 2)) == Exit.UNUSABLE
    assert "--journal: expected one" in capsys.readouterr().err
    assert simulator.ledger.received == 0


@pytest.mark.parametrize(
    ("journal", "told"),
    [
        ("postgres:e3", "begins with postgres: "),
        ("Postgresql:e4", "begins with Postgresql: "),
        ("pg:x", "begins with pg: "),
        ("postgresql://user@host/db", "begins with postgresql:// "),
        ("PSQL:x", "such as postgresql:nightly-28, got one that begins with PSQL: "),
        ("postgresql:of 2026-11-28", "such as nightly-28, at most"),
        ("postgresql:of 2026-11-28", "got ' ' as character 3"),
        ("postgresql:-2026", "the first a letter or digit; got '-' as character 1"),
        ("postgresql:nuit-d'été", 'got "\'" as character 7'),
        (f"postgresql:{'n' * 101}", "got 101 characters"),
        ("postgresql:", "got 0 characters"),
    ],
)
def test_slip_in_the_name_of_a_shared_journal_makes_no_file(
    journal: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A journal of that name in a file knows nobody, and everybody is rung again."""
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "rows.csv"
    rows.write_text("to,trigger_source\n+14152225555,+14152223333\n", "utf-8")
    code = main(
        [
            *("batch", str(rows), "--phlo-id", "p", "--node-id", "n"),
            *("--journal", journal, "--postgres-url", "postgresql://127.0.0.1:1/x"),
        ]
    )
    assert code == Exit.UNUSABLE
    assert told in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"rows.csv", "tmp"}
