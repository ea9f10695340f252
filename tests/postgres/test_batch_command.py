"""`aiophlo batch --journal postgresql:NAME`: one list, several machines."""

import json
import os
from asyncio.subprocess import PIPE, create_subprocess_exec
from pathlib import Path
from sys import executable

import pytest

from aiophlo.cli.exit_codes import Exit
from aiophlo.simulator import Simulator
from tests.support.batches import (
    IDS,
    environment,
    number,
    read_results,
    start_batch,
    write_rows,
)
from tests.support.postgres import Postgres

pytestmark = pytest.mark.long

ROWS = 300


@pytest.fixture
def shared(
    postgres: Postgres, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, ...]:
    """Name the database, and give the options that name a journal in it."""
    monkeypatch.setenv("AIOPHLO_POSTGRES_URL", postgres.url)
    return "--namespace", namespace, "--journal", "postgresql:nightly"


async def finished(
    simulator: Simulator, *arguments: object
) -> tuple[int | None, str, str]:
    """Return how a command ends, and what it says."""
    process = await start_batch(simulator, *arguments)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_two_commands_split_a_file(
    simulator: Simulator, tmp_path: Path, shared: tuple[str, ...]
) -> None:
    """Each machine's results are whole, and nobody is rung by both."""
    rows = write_rows(tmp_path / "rows.csv", ROWS)
    results = [tmp_path / "one.csv", tmp_path / "two.csv"]
    pace = ("--quota", "200/1")
    runs = [
        await start_batch(simulator, rows, *shared, *pace, "--results", path)
        for path in results
    ]
    for run in runs:
        out, _ = await run.communicate()
        assert (run.returncode, out.decode()) == (
            Exit.ACCEPTED,
            "300 of 300 rows: 300 accepted, 0 rejected, 0 not sent, 0 in doubt.\n",
        )
    assert simulator.ledger.rung_twice() == {}
    assert len(simulator.ledger.dialled) == ROWS
    for path in results:
        found = read_results(path)
        assert found.keys() == {f"row-{n}" for n in range(ROWS)}
        assert {row[1] for row in found.values()} == {"accepted"}
    code, _, err = await finished(simulator, rows, *shared)
    assert (code, len(simulator.ledger.dialled)) == (Exit.ACCEPTED, ROWS)
    assert "all settled before" in err


async def test_report_and_doubts(
    simulator: Simulator, tmp_path: Path, shared: tuple[str, ...]
) -> None:
    """Whoever is to ask the agents finds out from any machine whom to ask about."""
    rows = write_rows(tmp_path / "rows.csv", 3)
    simulator.drop_next_answer(to=number(1))
    code, _, err = await finished(simulator, rows, *shared)
    assert code == Exit.IN_DOUBT
    assert "--journal postgresql:nightly sends nothing more; --report" in err
    assert "--resolve" not in err, "it is for journals in files"
    report = await create_subprocess_exec(
        *(executable, "-m", "aiophlo", "batch", *shared, "--report", "--json"),
        env=dict(os.environ),
        stdout=PIPE,
    )
    out, _ = await report.communicate()
    doubt, whole = map(json.loads, out.decode().splitlines())
    assert report.returncode == Exit.IN_DOUBT
    assert (doubt["key"], doubt["verdict"]) == ("row-1", "in_doubt")
    assert (whole["rows"], whole["accepted"], whole["in_doubt"]) == (3, 2, 1)
    code, _, err = await finished(simulator, rows, *shared, "--include-in-doubt")
    assert code == Exit.ACCEPTED
    assert "3 transfers, 2 of them settled before: 1 s at" in err
    assert simulator.ledger.dials(number(1)) == 2


async def test_the_same_rows_under_another_name_are_noticed(
    simulator: Simulator, tmp_path: Path, shared: tuple[str, ...]
) -> None:
    """Somebody who names the journal by the date rings everybody again at midnight."""
    rows = write_rows(tmp_path / "rows.csv", 50)
    shared = (*shared[:-1], "postgresql:nightly-2026-11-28")
    assert (await finished(simulator, rows, *shared))[0] == Exit.ACCEPTED
    header, *lines = rows.read_text().splitlines()
    again = tmp_path / "again.csv"  # exported anew: another order, other keys, one more
    changed = [line.replace("row-", "case-") for line in reversed(lines)]
    more = f"case-new,{number(99)},+14155559999"
    again.write_text("\n".join([header, *changed, more, ""]))
    other = (*shared[:-1], "postgresql:next")
    code, out, dry = await finished(simulator, again, *other, "--dry-run")
    assert (code, out) == (Exit.UNUSABLE, "")
    _, _, none = await finished(simulator, *other, "--report")
    assert "postgresql:next does not exist" in none, "a dry run begins nothing"
    code, _, err = await finished(simulator, again, *other)
    assert code == Exit.UNUSABLE
    assert "most of its rows are in the journal nightly-2026-11-28, which" in err
    assert dry == err
    code, out, _ = await finished(
        simulator, again, *other, "--dry-run", "--allow-repeats"
    )
    assert (code, out.splitlines()[-1]) == (
        Exit.ACCEPTED,
        "Nothing was sent: this is a dry run.",
    )
    rest = write_rows(tmp_path / "rest.csv", 20)  # a part of it, sent by hand
    assert (await finished(simulator, rest, *other))[0] == Exit.UNUSABLE
    assert len(simulator.ledger.dialled) == 50
    code, _, _ = await finished(simulator, again, *other, "--allow-repeats")
    assert (code, len(simulator.ledger.dialled)) == (Exit.ACCEPTED, 101)
    fresh = write_rows(tmp_path / "fresh.csv", 50, first=200)
    code, _, _ = await finished(simulator, fresh, *shared[:-1], "postgresql:third")
    assert code == Exit.ACCEPTED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--journal", "postgresql:no name"), "--journal: name: expected letters"),
        (("--journal", "postgresql:x", "--namespace", "nowhere"), "postgres migrate"),
        (("--journal", "postgresql:x", "--postgres-url", "x"), "expected a URL"),
    ],
)
async def test_what_can_be_no_journal_is_refused(
    simulator: Simulator,
    tmp_path: Path,
    postgres: Postgres,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    """Nothing may be sent that nothing remembers."""
    rows = write_rows(tmp_path / "rows.csv", 1)
    url = () if "--postgres-url" in arguments else ("--postgres-url", postgres.url)
    code, _, err = await finished(simulator, rows, *arguments, *url)
    assert code == Exit.UNUSABLE
    assert message in err
    assert simulator.ledger.dialled == []


async def test_a_shared_journal_needs_a_database(
    simulator: Simulator, tmp_path: Path
) -> None:
    """It says which variable is missing."""
    rows = write_rows(tmp_path / "rows.csv", 1)
    env = environment(simulator)
    env.pop("AIOPHLO_POSTGRES_URL", None)
    process = await create_subprocess_exec(
        *(executable, "-m", "aiophlo", "batch", str(rows), *IDS),
        *("--journal", "postgresql:x"),
        env=env,
        stderr=PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == Exit.UNUSABLE
    assert "AIOPHLO_POSTGRES_URL" in err.decode()
