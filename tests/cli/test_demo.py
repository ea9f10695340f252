"""`aiophlo demo`: its witness is honest, and it leaves nothing behind."""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import pytest
from rich.console import Console

from aiophlo.cli import main
from aiophlo.cli import progress as progress_module
from aiophlo.cli.exit_codes import Exit
from aiophlo.cli.ledger_comparison import compare
from aiophlo.cli.progress import Sight, shown
from aiophlo.cli.simulator_process import Served, simulator_process
from aiophlo.cli.stats import Speed, percentile
from aiophlo.model.accounts import Account, Quota
from aiophlo.simulator import Simulator

pytestmark = pytest.mark.long

ONE, TWO = "+14155550101", "+14155550102"
KEYS = [
    *("transfers", "accepted", "rejected", "not_sent", "in_doubt"),
    *("refused_429", "rung_twice", "disagreements", "rate_per_second"),
]


def ledger(*requests: tuple[str, float, int | None]) -> dict[str, object]:
    """Give a ledger of requests: number, time and answer; 2xx and None have rung."""
    rows = [{"to": to, "at": at, "answered": answer} for to, at, answer in requests]
    return {
        "requests": rows,
        "dials": [row for row in rows if row["answered"] in {201, None}],
    }


@pytest.mark.parametrize(
    ("rings", "verdict", "agree"),
    [
        (0, "accepted", False),
        (1, "accepted", True),
        (2, "accepted", False),
        (0, "rejected", True),
        (1, "rejected", False),
        (0, "not_sent", True),
        (1, "not_sent", False),
        (0, "in_doubt", True),
        (1, "in_doubt", True),
        (2, "in_doubt", False),
        (1, None, False),
    ],
)
def test_verdict_is_held_against_how_often_the_phone_rang(
    rings: int, verdict: str | None, agree: bool
) -> None:
    """A demo that always agrees proves nothing."""
    verdicts = {TWO: "accepted"} | ({ONE: verdict} if verdict else {})
    calls = [(TWO, 0.0, 201), *((ONE, 1.0, 201) for _ in range(rings))]
    comparison = compare(ledger(*calls), verdicts)
    assert (comparison.disagreements == []) is agree
    assert comparison.rung_twice == (rings == 2)
    assert comparison.dials == 1 + rings
    assert all(ONE not in sentence for sentence in comparison.disagreements)


def test_rate_is_that_of_requests_within_the_quota() -> None:
    """Refused requests would make a client that is too fast look good."""
    rows = [(ONE, 10.0, 201), (ONE, 10.1, 429), (TWO, 12.0, 201), (TWO, 14.0, 400)]
    comparison = compare(ledger(*rows), {})
    assert comparison.rate_per_second == pytest.approx(2 / 4)
    assert comparison.refused_429 == 1
    assert compare(ledger(), {}).rate_per_second == 0.0
    assert compare(ledger((ONE, 1.0, 201)), {}).rate_per_second == 0.0


def test_percentiles_are_values_that_occurred() -> None:
    """An interpolated p99 would be a wait that nobody had."""
    values = [float(number) for number in range(200, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99)) == (100.0, 198.0)
    assert percentile([3.0], 0.99) == 3.0


def test_speed_is_that_of_the_last_seconds() -> None:
    """A mean since the start hides that it has stalled."""
    speed = Speed(over=5.0)
    assert speed.at(0.0, 0) == 0.0
    assert speed.at(5.0, 300) == 60.0
    assert speed.at(10.0, 300) == 0.0


def test_demo_accepts_all_and_agrees_with_its_ledger(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what a newcomer runs first, whatever is in the environment."""
    monkeypatch.setenv("PLIVO_AUTH_ID", "MA" + "X" * 18)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", "canary-token")
    monkeypatch.setenv("AIOPHLO_BASE_URL", "http://127.0.0.1:9/v1")
    assert main(["demo", "--transfers", "40", "--quota", "100/1", "--json"]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert [*summary] == KEYS
    assert summary.pop("rate_per_second") > 0
    assert summary == dict.fromkeys(KEYS[:-1], 0) | {"transfers": 40, "accepted": 40}
    assert "canary" not in out + err
    assert "+1415" not in out + err


def test_demo_ends_with_the_ledger_in_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The last line is what people remember."""
    assert main(["demo", "--transfers", "3", "--quota", "none"]) == Exit.ACCEPTED
    out = capsys.readouterr().out
    assert "waiting p50" in out
    assert "answering p50" in out
    last = out.splitlines()[-1]
    assert last.startswith("Ledger: 3 dials, 0 numbers rung twice, 0 refused (429)")
    assert last.endswith("3 accepted, 0 in doubt. They agree.")


@pytest.fixture
def served_by(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Simulator, str], None]:
    """Give a function that has the demo use a simulator of the test's own."""

    def serve(simulator: Simulator, base_url: str) -> None:
        account = Account(simulator.auth_id, simulator.auth_token, quota=None)

        @contextlib.asynccontextmanager
        async def process(_quota: Quota | None) -> AsyncIterator[Served]:
            yield Served(0, base_url, account)

        monkeypatch.setattr("aiophlo.cli.demo.simulator_process", process)

    return serve


@pytest.mark.parametrize(
    ("status", "dialled", "code", "ending"),
    [
        (400, False, Exit.REFUSED, "They agree."),
        (503, True, Exit.IN_DOUBT, "They agree."),
        (400, True, Exit.IN_DOUBT, "They DISAGREE on 1 number."),
    ],
)
async def test_demo_says_what_went_wrong(
    *,
    status: int,
    dialled: bool,
    code: Exit,
    ending: str,
    simulator: Simulator,
    served_by: Callable[[Simulator, str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The exit code must not call a phone that rang unasked a success."""
    served_by(simulator, simulator.base_url)
    simulator.answer_next(status, dialled=dialled)
    assert await asyncio.to_thread(main, ["demo", "--transfers", "2"]) == code
    out, err = capsys.readouterr()
    assert out.rstrip().endswith(ending)
    assert ("rang 1 time, its verdict is rejected" in err) is ("DIS" in ending)


async def test_verdicts_are_in_doubt_when_their_witness_is_gone(
    unused_tcp_port: int,
    simulator: Simulator,
    served_by: Callable[[Simulator, str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Agreement that nobody checked must not be claimed."""
    served_by(simulator, f"http://127.0.0.1:{unused_tcp_port}/v1")
    code = await asyncio.to_thread(main, ["demo", "--transfers", "1"])
    out, err = capsys.readouterr()
    assert (code, out) == (Exit.IN_DOUBT, "")
    assert "its ledger" in err


def test_demo_says_so_when_its_simulator_does_not_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for ever would tell nobody what is broken."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert main(["demo"]) == Exit.UNUSABLE
    assert "did not start" in capsys.readouterr().err


async def test_simulator_has_ended_when_its_block_has() -> None:
    """Leftover processes pile up on a developer's machine."""
    async with simulator_process(Quota(300)) as served:
        os.kill(served.pid, 0)
        assert served.ledger_url.endswith("/_simulator/ledger")
    with pytest.raises(ProcessLookupError):
        os.kill(served.pid, 0)


KEEP = """
import asyncio
from aiophlo.cli.simulator_process import simulator_process
async def keep():
    async with simulator_process(None):
        print("up", flush=True)
        await asyncio.Event().wait()
asyncio.run(keep())
"""


def test_simulator_ends_when_its_parent_is_killed() -> None:
    """Nobody is left then to end it."""
    command = [sys.executable, "-c", KEEP]
    with subprocess.Popen(  # noqa: S603 -- our own interpreter and code
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"up\n"
        process.kill()
        assert process.stderr.read() == b""  # ends when the last one that holds it does


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_demo_takes_its_simulator_along_when_interrupted(name: str) -> None:
    """Ctrl-C ends the whole of it, with no trace shown."""
    command = [sys.executable, "-m", "aiophlo", "demo"]
    with subprocess.Popen(  # noqa: S603 -- our own interpreter and code
        command, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "1000 transfers at up to 59.2/s" in process.stderr.readline()
        process.send_signal(signal.Signals[name])
        assert process.stderr.read() == "aiophlo: interrupted\n"
        assert process.wait(10) == Exit.INTERRUPTED


@pytest.mark.parametrize("terminal", [True, False])
async def test_progress_shows_rate_flight_and_refusals(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a minute of silence looks like a hang."""
    monkeypatch.setattr(progress_module, "PLAIN_EVERY", 0.001)
    looked = asyncio.Event()
    looks = iter([0, 0, 7])

    def look() -> Sight:
        done = next(looks, 10)
        if done == 10:
            looked.set()
        return Sight(done=done, requests=done, in_flight=3, refused_429=1)

    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=200)
    async with shown(look, total=10, quota=Quota(300), console=console):
        await looked.wait()
    shown_text = text.getvalue()
    assert "7/10" in shown_text
    assert "of 59.2/s, 3 in flight, 1 refused (429)" in shown_text
    assert ("\x1b" in shown_text) is terminal
