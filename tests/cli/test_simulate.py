"""`aiophlo simulate`, mostly as the process that people run."""

import asyncio
import base64
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from aiophlo.cli import main
from aiophlo.cli.exit_codes import Exit
from aiophlo.cli.simulate import serve
from aiophlo.simulator import Simulator

POSTMAN = {
    "action": "warm_transfer",
    "to": "+14152225555",
    "role": "agent",
    "trigger_source": "+14152223333",
}
CANARY = "canary-token"


@contextmanager
def simulate(
    *options: str, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run the command for the length of the block."""
    unset = {"PLIVO_AUTH_ID", "PLIVO_AUTH_TOKEN"}
    inherited = {name: text for name, text in os.environ.items() if name not in unset}
    with subprocess.Popen(  # noqa: S603 -- our own interpreter and code
        [sys.executable, "-m", "aiophlo", "simulate", *options],
        env=inherited | dict(environ or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """Read a line of its output."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def post(url: str, pair: str, body: Mapping[str, str]) -> tuple[int, dict[str, str]]:
    """Send what curl sends with `-u` and a plain `-d`."""
    request = urllib.request.Request(  # noqa: S310 -- http, to this machine
        f"{url}/phlo/p/multi_party_call/n",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 -- so is this
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_postman_item_works_when_its_lines_are_read_by_a_script() -> None:
    """The documented request must work as it stands, on a first try."""
    with simulate("--latency", "0") as process:
        url = line(process)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", url)
        auth_id = line(process).removeprefix("PLIVO_AUTH_ID=")
        pair = f"{auth_id}:{line(process).removeprefix('PLIVO_AUTH_TOKEN=')}"
        status, answer = post(url, pair, POSTMAN)
        assert (status, answer["error"]) == (201, "")
        assert re.fullmatch(r"[0-9a-f-]{36}", answer["api_id"])
        assert post(url, f"{pair}x", POSTMAN)[0] == 401
        assert post(url, pair, POSTMAN | {"role": "boss"})[0] == 400


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_end_is_clean_when_it_is_signalled(number: signal.Signals) -> None:
    """A supervisor takes anything else for a crash."""
    with simulate() as process:
        assert line(process).endswith("/v1")
        process.send_signal(number)
        assert process.wait(10) == Exit.ACCEPTED


def test_end_of_stdin_ends_it_only_when_asked_to() -> None:
    """The demo's simulator must not outlive it; a daemon's must outlive its shell."""
    with simulate("--until-stdin-closes") as process, simulate() as daemon:
        for each in (process, daemon):
            assert line(each).endswith("/v1")
            assert each.stdin is not None
            each.stdin.close()
        assert process.wait(10) == Exit.ACCEPTED
        assert daemon.poll() is None


def test_credentials_of_the_environment_are_taken_and_never_shown() -> None:
    """A service under test keeps its own configuration."""
    mine = {"PLIVO_AUTH_ID": "MA" + "X" * 18, "PLIVO_AUTH_TOKEN": CANARY}
    with simulate(environ=mine) as process:
        url = line(process)
        assert post(url, ":".join(mine.values()), POSTMAN)[0] == 201
        process.terminate()
        assert process.communicate()[0] == ""


def test_faults_strike_when_they_are_asked_for() -> None:
    """A client's trouble can be tried out from any language."""
    with simulate("--faults", "status_422=1", "--seed", "7") as process:
        url, *pair = (line(process).rpartition("=")[2] for _ in range(3))
        assert post(url, ":".join(pair), POSTMAN)[0] == 422


def control(url: str, path: str, body: object = None) -> Any:  # noqa: ANN401 -- JSON
    """Do as `curl URL/_simulator… -d BODY`."""
    data = None if body is None else json.dumps(body).encode()
    root = url.removesuffix("/v1") + "/_simulator"
    with urllib.request.urlopen(root + path, data, timeout=10) as answer:  # noqa: S310 -- http, to this machine
        return json.load(answer)


def test_process_is_controlled_over_http() -> None:
    """A suite in another language has nothing but the process."""
    with simulate() as process:
        url, *pair = (line(process).rpartition("=")[2] for _ in range(3))
        assert "POST /_simulator/faults" in control(url, "")
        control(url, "/faults", {"fault": "status_422"})
        assert post(url, ":".join(pair), POSTMAN)[0] == 422
        people = {"agent": "+14152223333", "customer": "+14152224444"}
        control(url, "/calls", {"phlo_id": "p", "node_id": "n"} | people)
        assert post(url, ":".join(pair), POSTMAN)[0] == 201
        assert control(url, "/wait", {"dials": 1})["dialled"] == 1
        (call,) = control(url, "/calls")
        assert len(call["members"]) == 3
        (dial,) = control(url, "/ledger")["dials"]
        assert dial["to"] == POSTMAN["to"]
        control(url, "/reset", {})
        assert control(url, "/ledger") == {"requests": [], "dials": []}


def test_help_shows_how_to_control_it(capsys: pytest.CaptureFixture[str]) -> None:
    """What nobody finds nobody uses, and a line that was wrapped can't be pasted."""
    assert main(["simulate", "--help"]) == Exit.ACCEPTED
    lines = [text.strip(" │") for text in capsys.readouterr().out.splitlines()]
    assert "curl -X POST $URL/_simulator/reset" in lines
    orders = [text for text in lines if text.startswith("curl $URL")]
    assert len(orders) == 8
    whole = (
        """curl $URL/_simulator/callback -d '{"url": "http://127.0.0.1:8080/events"}'"""
    )
    assert whole in orders


def test_half_of_the_credentials_is_unusable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Falling back to the made-up pair would hide a misspelt variable."""
    monkeypatch.setenv("PLIVO_AUTH_ID", "MA" + "X" * 18)
    monkeypatch.delenv("PLIVO_AUTH_TOKEN", raising=False)
    assert main(["simulate"]) == Exit.UNUSABLE
    assert "PLIVO_AUTH_TOKEN" in capsys.readouterr().err


def test_taken_port_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts it twice must see why."""
    monkeypatch.delenv("PLIVO_AUTH_ID", raising=False)
    monkeypatch.delenv("PLIVO_AUTH_TOKEN", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["simulate", "--port", port]) == Exit.UNUSABLE
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "--port" in err


@pytest.mark.parametrize("made_up", [True, False])
async def test_token_is_printed_only_when_it_is_made_up(
    made_up: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real token must not land in a build log."""
    simulator = Simulator(auth_token=CANARY)
    before = signal.getsignal(signal.SIGTERM)
    serving = asyncio.create_task(
        serve(simulator, made_up=made_up, until_stdin_closes=False)
    )
    out = err = ""
    while not out:
        await asyncio.sleep(0)
        out, err = capsys.readouterr()
    signal.raise_signal(signal.SIGTERM)
    await serving
    assert out.splitlines()[0] == simulator.base_url
    assert (CANARY in out) is made_up
    assert CANARY not in err
    assert signal.getsignal(signal.SIGTERM) is before


def test_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    """A wrong file must be named before anybody connects."""
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    for arguments in (["--certificate", str(nothing)], ["--key", str(nothing)]):
        assert main(["simulate", *arguments]) == 2


def test_tls_is_served_with_a_certificate_of_ones_own(tmp_path: Path) -> None:
    """Whoever tests through TLS must reach the simulator that way."""
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    pem = tmp_path / "own.pem"
    own.private_key_and_cert_chain_pem.write_to_path(str(pem))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    command = [sys.executable, "-m", "aiophlo", "simulate", "--certificate", str(pem)]
    with subprocess.Popen(  # noqa: S603 -- our own command
        command, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        ledger = base_url.removesuffix("/v1") + "/_simulator/ledger"
        with urllib.request.urlopen(ledger, context=trusting) as answer:  # noqa: S310
            assert json.load(answer) == {"requests": [], "dials": []}
        process.terminate()
        assert process.wait(10.0) == 0
    assert base_url.startswith("https://")
