"""`aiophlo transfer`: the four things that can happen, told to people and scripts."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from typing import Any

import pytest

from aiophlo.cli import main
from aiophlo.cli.exit_codes import Exit
from aiophlo.simulator import Fault, Simulator
from aiophlo.simulator.event_poster import OUR_NUMBER

NUMBER = "+14155550123"
COMMAND = (
    *("transfer", "--phlo-id", "p", "--node-id", "n"),
    *("--to", NUMBER, "--trigger-source", "+14155550199"),
)


@pytest.fixture(autouse=True)
def environment(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the command at the simulator, as the environment can."""
    monkeypatch.setenv("PLIVO_AUTH_ID", simulator.auth_id)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", simulator.auth_token)
    monkeypatch.setenv("AIOPHLO_BASE_URL", simulator.base_url)


async def run(*more: str) -> int:
    """Run the command beside the simulator."""
    return await asyncio.to_thread(main, [*COMMAND, *more])


async def test_transfer_is_accepted_when_plivo_says_yes(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script goes by these fields."""
    assert await run("--json") == Exit.ACCEPTED
    out, err = capsys.readouterr()
    fields: dict[str, Any] = json.loads(out)
    assert [*fields] == [
        *("verdict", "reason", "status", "api_id", "attempts", "seconds", "error")
    ]
    assert fields["verdict"] == "accepted"
    assert (fields["status"], fields["attempts"]) == (201, 1)
    assert "…" not in fields["api_id"]
    assert err == ""
    assert simulator.ledger.dials(NUMBER) == 1


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (201, Exit.ACCEPTED, ["Accepted", "…23"]),
        (400, Exit.REFUSED, ["Rejected", "nothing rings", "status 400"]),
        (401, Exit.REFUSED, ["Rejected", "Check PLIVO_AUTH_ID"]),
        (404, Exit.REFUSED, ["Rejected", "Check --phlo-id, --node-id"]),
        (503, Exit.IN_DOUBT, ["In doubt", "may be ringing", "Don't send it again"]),
    ],
)
async def test_people_are_told_what_happened_and_what_to_do(
    status: int,
    code: Exit,
    words: list[str],
    simulator: Simulator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Somebody stands at a phone and decides by these lines."""
    simulator.answer_next(status)
    assert await run() == code
    out = capsys.readouterr().out
    assert all(word in out for word in words)
    assert NUMBER not in out


async def test_transfer_is_not_sent_when_nobody_listens(
    unused_tcp_port: int, simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is safe to try again, and only then."""
    nowhere = f"http://127.0.0.1:{unused_tcp_port}/v1"
    options = ("--base-url", nowhere, "--send-within", "2.0")
    assert await run(*options) == Exit.REFUSED
    out = capsys.readouterr().out
    assert "Not sent: nothing rings (unreachable" in out
    assert "safe to send it again" in out
    assert await run(*options, "--json") == Exit.REFUSED
    fields = json.loads(capsys.readouterr().out)
    assert (fields["verdict"], fields["reason"]) == ("not_sent", "unreachable")
    assert simulator.ledger.received == 0


async def test_error_is_masked_and_tame_when_plivo_quotes_the_number(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A customer's number, or a terminal's escape codes, must not reach a log."""
    body = {"api_id": NUMBER, "error": f"\x1b[2Jcan't dial {NUMBER}"}
    for more in ((), ("--json",)):
        simulator.answer_next(400, body=body)
        assert await run(*more) == Exit.REFUSED
        out = capsys.readouterr().out
        assert "can't dial" in out
        assert NUMBER not in out
        assert "\x1b" not in out
        assert "\\u001b" not in out


@pytest.mark.parametrize("more", [(), ("--json",)])
async def test_dry_run_shows_the_request_and_sends_nothing(
    more: tuple[str, ...],
    simulator: Simulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever tries the command out must not ring a phone, nor need an account."""
    monkeypatch.delenv("PLIVO_AUTH_ID")
    monkeypatch.delenv("PLIVO_AUTH_TOKEN")
    assert await run("--dry-run", *more) == Exit.ACCEPTED
    out = capsys.readouterr().out
    assert f"{simulator.base_url}/phlo/p/multi_party_call/n" in out
    assert '"to": "…23"' in out
    assert '"action": "warm_transfer"' in out
    assert "155550" not in out
    assert simulator.ledger.received == 0


@pytest.mark.parametrize("ignored", ["", "INT"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
async def test_transfer_is_in_doubt_when_interrupted_on_its_way(
    name: str, ignored: str, simulator: Simulator
) -> None:
    """Whoever presses Ctrl-C, or stops a service, must know that a phone may ring."""
    if name == f"SIG{ignored}":
        pytest.skip("a shell's background jobs ignore it")
    simulator.hold_answers()
    trap = f"trap '' {ignored};" if ignored else ""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f'{trap} exec "$@"', "bash"),
        *(sys.executable, "-m", "aiophlo", *COMMAND, "--json"),
        stdout=PIPE,
        stderr=PIPE,
    )
    await simulator.wait_for(held=1, within=30)
    process.send_signal(signal.Signals[name])
    out, err = await process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    fields = json.loads(out)
    assert (fields["verdict"], fields["reason"]) == ("in_doubt", "cancelled")
    assert err.decode() == "aiophlo: interrupted\n"


async def test_transfer_goes_on_without_its_terminal_when_asked_to(
    simulator: Simulator,
) -> None:
    """`nohup` says that a closed terminal is no reason to end."""
    simulator.hold_answers()
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", "trap '' HUP; exec \"$@\"", "bash"),
        *(sys.executable, "-m", "aiophlo", *COMMAND, "--json"),
        stdout=PIPE,
    )
    await simulator.wait_for(held=1, within=30)
    process.send_signal(signal.SIGHUP)
    simulator.release_answers()
    out, _ = await process.communicate()
    assert process.returncode == Exit.ACCEPTED
    assert json.loads(out)["verdict"] == "accepted"


async def test_lost_answer_is_looked_for_on_request(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who tries it by hand wants to know, too."""
    look = ("--look", "--caller-id", OUR_NUMBER)
    simulator.fault_next(Fault.DROP_AFTER_READ)
    assert await run(*look) == Exit.ACCEPTED
    out = capsys.readouterr().out
    assert "Plivo's list shows the call to …23" in out
    assert NUMBER not in out
    simulator.call_list.reset()  # two calls would be no proof
    simulator.fault_next(Fault.DROP_AFTER_READ)
    assert await run(*look, "--json") == Exit.ACCEPTED
    fields = json.loads(capsys.readouterr().out)
    assert (fields["verdict"], fields["reason"]) == ("accepted", "sighted")


async def test_call_that_is_not_seen_stays_in_doubt(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unseen is no licence to send it again."""
    simulator.fault_next(Fault.DROP_AFTER_READ)
    simulator.answer_next(403, action="list_calls", times=None)
    assert await run("--look", "--caller-id", OUR_NUMBER) == Exit.IN_DOUBT
    assert "not seen, which proves nothing" in capsys.readouterr().out


async def test_caller_id_without_a_look_is_refused(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would do nothing."""
    assert await run("--caller-id", OUR_NUMBER) == Exit.UNUSABLE
    assert "expected --look with it" in capsys.readouterr().err
    assert simulator.ledger.received == 0
