"""Output that can't be written: what was sent stays known, and the code is right."""

import asyncio
import json
import os
import pty
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from aiophlo.cli.exit_codes import Exit
from aiophlo.journal.journal import Journal
from aiophlo.simulator import Simulator
from tests.support.batches import IDS, environment, number, write_rows

pytestmark = pytest.mark.long

TRANSFER = (
    *("transfer", "--phlo-id", "p", "--node-id", "n"),
    *("--to", "+14155550123", "--trigger-source", "+14155550199"),
)


async def shell(
    simulator: Simulator, redirection: str, *arguments: object, **variables: str
) -> tuple[int, str, str]:
    """Run the command with its output going elsewhere; return its own exit code."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f'set -o pipefail; "$@" {redirection}', "bash"),
        *(sys.executable, "-m", "aiophlo", *map(str, arguments)),
        env=environment(simulator) | variables,
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err, err.decode()
    assert b"Exception ignored" not in err, err.decode()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "| true"])
@pytest.mark.parametrize("more", [(), ("--json",)])
async def test_accepted_transfer_is_0_wherever_its_output_goes(
    redirection: str, more: tuple[str, ...], simulator: Simulator
) -> None:
    """A script that takes 1 for "nothing rings" would ring again."""
    code, _, _ = await shell(simulator, redirection, *TRANSFER, *more)
    assert code == Exit.ACCEPTED
    assert simulator.ledger.received == 1


async def test_verdict_is_told_elsewhere_when_standard_output_is_full(
    simulator: Simulator,
) -> None:
    """Somebody stands at a phone and has to know whether it rings."""
    simulator.answer_next(503)
    code, _, err = await shell(simulator, ">/dev/full", *TRANSFER)
    assert code == Exit.IN_DOUBT
    assert "standard output can't be written: No space left on device" in err
    assert "In doubt: the request left" in err


async def test_both_outputs_may_be_full(simulator: Simulator) -> None:
    """Even then the code tells what became of the transfer."""
    code, _, _ = await shell(simulator, ">/dev/full 2>/dev/full", *TRANSFER)
    assert code == Exit.ACCEPTED


@pytest.mark.parametrize("redirection", [">/dev/full", "| true", ">&-"])
@pytest.mark.parametrize("more", [(), ("--json",)])
async def test_temporary_journal_stays_unless_its_summary_was_written(
    redirection: str, more: tuple[str, ...], simulator: Simulator, tmp_path: Path
) -> None:
    """Who can't see what came of it runs it again, and rings everybody twice."""
    rows = write_rows(tmp_path / "a.csv", 5)
    (tmp_path / "tmp").mkdir()
    options = ("batch", rows, *IDS, "--quota", "none", *more)
    folder = {"TMPDIR": str(tmp_path / "tmp")}
    code, _, err = await shell(simulator, redirection, *options, **folder)
    assert code == Exit.ACCEPTED
    found = re.search(r"with --journal (\S+)", err)
    assert found is not None
    with Journal.read(found[1]) as journal:
        assert journal.report().verdicts["accepted"] == 5
    again = (*options, "--journal", found[1])
    assert (await shell(simulator, "", *again))[0] == Exit.ACCEPTED
    assert simulator.ledger.received == 5


async def test_batch_goes_on_when_its_reader_has_seen_enough(
    simulator: Simulator, tmp_path: Path
) -> None:
    """`| head -1` looks at one row; the others are to be sent all the same."""
    rows = write_rows(tmp_path / "a.csv", 300)
    options = ("batch", rows, *IDS, "--quota", "none", "--json")
    code, out, err = await shell(simulator, "| head -1", *options)
    assert code == Exit.ACCEPTED
    assert out.count("\n") == 1
    assert "--journal" in err
    assert [simulator.ledger.dials(number(n)) for n in range(300)] == [1] * 300


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
async def test_what_standard_output_cannot_encode_is_replaced(
    encoding: str, simulator: Simulator
) -> None:
    """An old terminal shows a question mark, and no traceback after a ring."""
    code, out, _ = await shell(simulator, "", *TRANSFER, PYTHONIOENCODING=encoding)
    assert code == Exit.ACCEPTED
    assert "dials" in out
    for command in ((), ("--help",), ("batch", "--help"), ("demo", "--help")):
        _, out, _ = await shell(simulator, "", *command, PYTHONIOENCODING=encoding)
        assert "Usage:" in out


async def test_key_survives_an_output_that_cannot_encode_it(
    simulator: Simulator, tmp_path: Path
) -> None:
    """A script that reads `Z?rich` finds no such row."""
    rows = tmp_path / "a.csv"
    rows.write_text(f"to,trigger_source,key\n{number(1)},{number(2)},Zürich\n")
    options = ("batch", rows, *IDS, "--json", "--quota", "none")
    _, out, _ = await shell(simulator, "", *options, PYTHONIOENCODING="ascii")
    assert json.loads(out.splitlines()[0])["key"] == "Zürich"


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "| true"])
@pytest.mark.parametrize(
    "command",
    [
        ("--help",),
        ("--version",),
        ("check",),
        ("demo", "--transfers", "2", "--quota", "none"),
        ("demo", "--transfers", "2", "--quota", "none", "--json"),
    ],
)
async def test_other_commands_end_without_a_traceback(
    command: tuple[str, ...], redirection: str, simulator: Simulator
) -> None:
    """A cron job's mail must not hold forty lines for a full disk."""
    code, _, _ = await shell(simulator, redirection, *command)
    assert code == Exit.ACCEPTED


async def test_failure_of_ours_after_sending_is_in_doubt_with_the_journal_kept(
    simulator: Simulator, tmp_path: Path
) -> None:
    """A fault in this program must not read as "nothing rings"."""
    rows = write_rows(tmp_path / "a.csv", 3)
    code = (
        "import sys; from aiophlo.cli import main; from aiophlo.cli import batch_end;"
        "batch_end._summary = None; sys.exit(main(sys.argv[1:]))"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "batch", str(rows), *IDS, "--json"),
        env=environment(simulator) | {"TMPDIR": os.fspath(tmp_path)},
        stdout=PIPE,
        stderr=PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == Exit.IN_DOUBT
    found = re.search(r"with --journal (\S+)", err.decode())
    assert found is not None
    with Journal.read(found[1]) as journal:
        assert journal.report().verdicts["accepted"] == 3


async def test_rows_go_to_standard_output_while_a_terminal_shows_progress(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Whoever watches the progress wants the rows in the file they go to."""
    rows = write_rows(tmp_path / "a.csv", 30)
    terminal, inside = pty.openpty()
    simulator.hold_answers()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiophlo", "batch", str(rows), *IDS),
        *("--json", "--quota", "none", "--concurrency", "30"),
        env=environment(simulator) | {"TERM": "xterm", "TMPDIR": str(tmp_path)},
        stdout=PIPE,
        stderr=inside,
    )
    os.close(inside)
    await simulator.wait_for(held=30, within=30)
    seen = await asyncio.to_thread(os.read, terminal, 65_536)
    while b"in flight" not in seen:  # the progress is shown
        seen += await asyncio.to_thread(os.read, terminal, 65_536)
    simulator.release_answers()
    out, _ = await process.communicate()
    os.close(terminal)
    assert process.returncode == Exit.ACCEPTED
    assert len(out.splitlines()) == 31
