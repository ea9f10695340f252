"""`aiophlo check`: what can be known without ringing anybody."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE

import pytest

from aiophlo.cli import main
from aiophlo.cli.exit_codes import Exit
from aiophlo.simulator import Simulator

PHLO = ("--phlo-id", "p")
NODE = (*PHLO, "--node-id", "n")


@pytest.fixture(autouse=True)
def environment(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the command at the simulator, as the environment can."""
    monkeypatch.setenv("PLIVO_AUTH_ID", simulator.auth_id)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", simulator.auth_token)
    monkeypatch.setenv("AIOPHLO_BASE_URL", simulator.base_url)


async def run(*more: str) -> int:
    """Run the command beside the simulator."""
    return await asyncio.to_thread(main, ["check", *more])


@pytest.mark.parametrize(
    ("options", "statuses", "found", "code"),
    [
        ((), [200], ("ok", "not_checked", "not_checked"), Exit.ACCEPTED),
        ((), [404], ("ok", "not_checked", "not_checked"), Exit.ACCEPTED),
        ((), [401], ("refused", "not_checked", "not_checked"), Exit.REFUSED),
        ((), [400], ("unknown", "not_checked", "not_checked"), Exit.REFUSED),
        (PHLO, [200], ("ok", "ok", "not_checked"), Exit.ACCEPTED),
        (PHLO, [404], ("ok", "not_found", "not_checked"), Exit.REFUSED),
        (PHLO, [403], ("refused", "not_checked", "not_checked"), Exit.REFUSED),
        (NODE, [200, 200], ("ok", "ok", "ok"), Exit.ACCEPTED),
        (NODE, [200, 404], ("ok", "ok", "not_found"), Exit.REFUSED),
        (NODE, [200, 400], ("ok", "ok", "unknown"), Exit.REFUSED),
        (NODE, [404], ("ok", "not_found", "not_checked"), Exit.REFUSED),
    ],
)
async def test_each_part_is_judged_by_its_own_answer(
    *,
    options: tuple[str, ...],
    statuses: list[int],
    found: tuple[str, str, str],
    code: Exit,
    simulator: Simulator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever sets up an account must learn which of three ids is wrong."""
    for status in statuses:
        simulator.answer_next(None if status == 200 else status)
    assert await run(*options, "--json") == code
    fields = json.loads(capsys.readouterr().out)
    assert (fields["credentials"], fields["phlo"], fields["node"]) == found
    assert (fields["error"] is None) == (code == Exit.ACCEPTED)
    assert simulator.ledger.received == len(statuses)
    assert {record.action for record in simulator.ledger.requests} <= {
        *("get_phlo", "get_node")
    }


async def test_people_are_told_in_words(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first command that a newcomer runs says what to repair."""
    assert await run(*NODE) == Exit.ACCEPTED
    words = capsys.readouterr().out.split()
    assert words == ["credentials", "ok", "phlo", "ok", "node", "ok"]
    simulator.answer_next(401)
    assert await run(*NODE) == Exit.REFUSED
    out = capsys.readouterr().out
    assert "check PLIVO_AUTH_ID" in out
    assert "status 401" in out


async def test_unreachable_server_is_named_as_that(
    unused_tcp_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Credentials must not be blamed for a network's trouble."""
    nowhere = f"http://127.0.0.1:{unused_tcp_port}/v1"
    assert await run("--base-url", nowhere) == Exit.REFUSED
    out = capsys.readouterr().out
    assert "credentials  unknown" in out
    assert "unreachable" in out


async def test_failing_server_leaves_it_in_doubt(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script must tell a server's trouble from a refusal."""
    simulator.answer_next(503, times=None)
    assert await run() == Exit.IN_DOUBT
    assert "status 503" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
async def test_check_is_130_when_interrupted(name: str, simulator: Simulator) -> None:
    """A deployment script tells an impatient operator from wrong credentials."""
    simulator.hold_answers()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiophlo", "check"), stdout=PIPE, stderr=PIPE
    )
    await simulator.wait_for(held=1, within=30)
    process.send_signal(signal.Signals[name])
    assert await process.communicate() == (b"", b"aiophlo: interrupted\n")
    assert process.returncode == Exit.INTERRUPTED
