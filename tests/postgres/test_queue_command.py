"""`aiophlo enqueue` and `aiophlo worker`: two terminals and a database."""

import asyncio
import hashlib
import hmac
import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aiophlo.cli import main
from aiophlo.cli import worker as worker_command
from aiophlo.cli.exit_codes import Exit
from aiophlo.postgres import Worker
from aiophlo.simulator import Simulator
from tests.support.batches import IDS, number, write_rows
from tests.support.postgres import Postgres
from tests.support.queues import verdicts, worker_process

ROWS = 100


@pytest.fixture
def queue(
    postgres: Postgres,
    namespace: str,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[str, ...]:
    """Name the account and the database, and give the options that name the queue."""
    monkeypatch.setenv("PLIVO_AUTH_ID", simulator.auth_id)
    monkeypatch.delenv("PLIVO_AUTH_TOKEN", raising=False)  # enqueueing needs none
    monkeypatch.setenv("AIOPHLO_POSTGRES_URL", postgres.url)
    return "--namespace", namespace, *IDS


async def enqueue(*arguments: object) -> int:
    """Run the command beside the simulator."""
    return await asyncio.to_thread(main, ["enqueue", *map(str, arguments)])


async def test_a_file_is_enqueued_once_and_sent(
    simulator: Simulator,
    postgres: Postgres,
    queue: tuple[str, ...],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The command again is what people do who don't know whether it worked."""
    namespace = queue[1]
    rows = write_rows(tmp_path / "rows.csv", ROWS)
    assert await enqueue(rows, *queue, "--by", "4h") == Exit.ACCEPTED
    assert await enqueue(rows, *queue, "--json") == Exit.ACCEPTED
    told = capfd.readouterr().out.splitlines()
    assert told[0] == "100 enqueued, 0 known already, 0 not enqueued."
    counts = {"enqueued": 0, "known": ROWS, "refused": 0, "unusable": 0, "equal": 0}
    assert json.loads(told[1]) == counts
    async with worker_process(simulator, postgres, namespace) as worker:
        async with asyncio.timeout(60.0):
            while len(verdicts(postgres, namespace)) < ROWS:
                await asyncio.to_thread(time.sleep, 0.1)
        worker.send_signal(signal.SIGTERM)
        out, err = await worker.communicate()
        assert worker.returncode == Exit.ACCEPTED, err.decode()
    assert out.decode() == "100 accepted, 0 rejected, 0 not sent, 0 in doubt.\n"
    assert set(verdicts(postgres, namespace).values()) == {"accepted"}
    assert simulator.ledger.rung_twice() == {}
    assert len(simulator.ledger.dialled) == ROWS


async def test_worker_shares_the_secret_that_the_environment_has(
    simulator: Simulator,
    postgres: Postgres,
    queue: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A callback that isn't signed could be anybody's."""
    secret = "a secret of many words"  # noqa: S105 -- made up
    monkeypatch.setenv("AIOPHLO_POSTGRES_SECRET", secret)
    posts: asyncio.Queue[tuple[bytes, str | None]] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        signature = request.headers.get("X-Aiophlo-Signature")
        posts.put_nowait((await request.read(), signature))
        return web.Response()

    app = web.Application()
    app.router.add_post("/told", take)
    async with TestServer(app) as server:
        rows = write_rows(tmp_path / "rows.csv", 1)
        url = str(server.make_url("/told"))
        assert await enqueue(rows, *queue, "--callback-url", url) == Exit.ACCEPTED
        async with worker_process(simulator, postgres, queue[1]):
            body, signature = await asyncio.wait_for(posts.get(), 30.0)
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    assert signature == f"sha256={digest}"


@pytest.mark.parametrize("secret", ["short", "x" * 15])
async def test_secret_that_can_not_be_one_is_named_but_not_shown(
    queue: tuple[str, ...],
    secret: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Events under it would be read by nobody."""
    monkeypatch.setenv("AIOPHLO_POSTGRES_SECRET", secret)
    rows = write_rows(tmp_path / "rows.csv", 1)
    assert await enqueue(rows, *queue) == Exit.UNUSABLE
    said = capfd.readouterr().err
    assert "AIOPHLO_POSTGRES_SECRET: secret: expected text of 16" in said
    assert secret not in said


async def test_worker_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever watches a worker that says nothing takes it for stuck."""
    monkeypatch.setattr(worker_command, "_FIRST_TOLD", 0.01)
    monkeypatch.setattr(worker_command, "_TOLD_EVERY", 0.01)
    ended = {"accepted": 1, "rejected": 0, "not_sent": 0, "in_doubt": 0}
    worker = SimpleNamespace(ended=ended, idle=False)
    telling = asyncio.create_task(worker_command._tell(cast("Worker", worker)))  # noqa: SLF001 -- its own task
    told = ""
    for text in ("1 accepted, 0", "2 accepted, 0", "so far; nothing waits\n"):
        async with asyncio.timeout(30.0):
            while text not in told:
                await asyncio.sleep(0.02)
                told += capfd.readouterr().err
        worker.idle = ended["accepted"] == 2
        ended["accepted"] = 2
    telling.cancel()
    assert told.splitlines() == [
        "aiophlo: 1 accepted, 0 rejected, 0 not sent, 0 in doubt so far",
        "aiophlo: 2 accepted, 0 rejected, 0 not sent, 0 in doubt so far",
        "aiophlo: 2 accepted, 0 rejected, 0 not sent, 0 in doubt so far; nothing waits",
    ]


async def test_rows_without_a_key_go_by_their_file(
    queue: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever runs it again must not ring everybody twice."""
    rows = tmp_path / "rows.csv"
    rows.write_text(
        f"to,trigger_source\n{number(1)},{number(9)}\n{number(2)},{number(9)}\n"
    )
    await enqueue(rows, *queue)
    await enqueue(rows, *queue)
    told = capfd.readouterr().out.splitlines()
    assert told == [
        "2 enqueued, 0 known already, 0 not enqueued.",
        "0 enqueued, 2 known already, 0 not enqueued.",
    ]


async def test_bad_row_keeps_all_others_out(
    postgres: Postgres,
    namespace: str,
    queue: tuple[str, ...],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Half a campaign is worse than none, and hard to undo."""
    rows = tmp_path / "rows.csv"
    lines = [f"a,{number(1)},{number(9)}", f"b,4155551234,{number(9)}"]
    rows.write_text("\n".join(["key,to,trigger_source", *lines, ""]))
    assert await enqueue(rows, *queue) == Exit.UNUSABLE
    told = capfd.readouterr().err
    assert "line 3: to: " in told
    assert "4155551234" not in told
    assert await postgres.rows(f"SELECT FROM {namespace}.queued") == []
    assert await enqueue(rows, *queue, "--skip-invalid") == Exit.REFUSED
    enqueued = capfd.readouterr().out
    assert enqueued == "1 enqueued, 0 known already, 1 not enqueued.\n"


async def test_key_of_another_transfer_is_told(
    queue: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The second order under one number would never ring."""
    rows = tmp_path / "rows.csv"
    codes = []
    for to in (1, 2):
        rows.write_text(f"key,to,trigger_source\na,{number(to)},{number(9)}\n")
        codes.append(await enqueue(rows, *queue))
    assert codes == [Exit.ACCEPTED, Exit.REFUSED]
    told = capfd.readouterr()
    assert told.out.endswith("0 enqueued, 0 known already, 1 not enqueued.\n")
    assert "key 'a' stands for another transfer" in told.err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--by", "yesterday"), "or a time such as 2026-11-28T18:00+01:00"),
        (("--by", "0"), "--by: expected a time to come"),
        (("--by", "2020-01-01"), "--by: expected a time to come"),
        (("--priority", "99999"), "priority: expected"),
        (("--callback-url", "host"), "callback_url: expected"),
        (("--postgres-url", "mysql://host"), "--postgres-url: "),
    ],
)
async def test_options_that_can_not_be_right_are_refused(
    options: tuple[str, ...],
    complaint: str,
    queue: tuple[str, ...],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A campaign that ends before it began would ring nobody, and say nothing."""
    rows = write_rows(tmp_path / "rows.csv", 1)
    assert await enqueue(rows, *queue, *options) == Exit.UNUSABLE
    assert complaint in capfd.readouterr().err


async def test_dry_run_enqueues_nothing(
    queue: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever only looks must not start a campaign."""
    rows = write_rows(tmp_path / "rows.csv", 3)
    assert await enqueue(rows, *queue, "--dry-run") == Exit.ACCEPTED
    assert capfd.readouterr().out.startswith("3 rows can be enqueued; none was")
    await enqueue(rows, *queue)
    assert capfd.readouterr().out.startswith("3 enqueued")


async def test_report_says_what_waits_and_what_came_of_the_rest(
    simulator: Simulator,
    postgres: Postgres,
    queue: tuple[str, ...],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Nobody can tell otherwise, but by SQL, whether a campaign is through."""
    at = queue[:2]
    assert await enqueue("--report", *at) == Exit.UNUSABLE
    assert await enqueue("rows.csv", "--report", *at) == Exit.UNUSABLE
    told = capfd.readouterr().err.splitlines()
    assert told == [
        "aiophlo: nothing was ever enqueued there",
        "aiophlo: --report: expected no FILE with it",
    ]
    rows = write_rows(tmp_path / "rows.csv", 3)
    simulator.drop_next_answer(to=number(1))
    await enqueue(rows, *queue)
    async with worker_process(simulator, postgres, queue[1]):
        async with asyncio.timeout(60.0):
            while list(verdicts(postgres, queue[1]).values()).count("accepted") < 2:
                await asyncio.to_thread(time.sleep, 0.1)
            while "in_doubt" not in verdicts(postgres, queue[1]).values():
                await asyncio.to_thread(time.sleep, 0.1)
    await enqueue(write_rows(tmp_path / "more.csv", 2, first=10), *queue)
    capfd.readouterr()
    assert await enqueue("--report", *at) == Exit.ACCEPTED
    told = capfd.readouterr().out.splitlines()
    ended = "ended: 2 accepted, 0 rejected, 0 not sent, 1 in doubt."
    assert told[0] == f"2 wait, 0 in hand; {ended}"
    assert told[-1].startswith("  row-1 to …")
    assert await enqueue("--report", "--json", *at) == Exit.ACCEPTED
    found = json.loads(capfd.readouterr().out)
    assert (found["waiting"], found["accepted"], found["in_hand"]) == (2, 2, 0)
    assert [doubt["key"] for doubt in found["doubts"]] == ["row-1"]


async def test_row_that_is_left_out_is_counted(
    queue: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever reads that all is well would wait for a call that nobody gets."""
    rows = tmp_path / "rows.csv"
    lines = [f"{key},{number(1)},{number(9)}" for key in ("a", "b")]
    rows.write_text("\n".join(["key,to,trigger_source", *lines, ""]))
    assert await enqueue(rows, *queue, "--dry-run") == Exit.ACCEPTED
    assert await enqueue(rows, *queue, "--dry-run", "--json") == Exit.ACCEPTED
    assert await enqueue(rows, *queue) == Exit.REFUSED
    assert await enqueue(rows, *queue, "--allow-repeats") == Exit.ACCEPTED
    left_out = (
        "1 row asks for the same transfer as an earlier one: not sent again, unless"
        " with --allow-repeats"
    )
    assert capfd.readouterr().out.splitlines() == [
        "1 row can be enqueued; none was: this is a dry run.",
        left_out,
        '{"rows": 2, "unusable": 0, "equal": 1}',
        "1 enqueued, 0 known already, 1 not enqueued.",
        left_out,
        "1 enqueued, 1 known already, 0 not enqueued.",
    ]


async def test_schema_that_is_missing_is_told_in_one_line(
    queue: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is the first thing that goes wrong; a traceback says nothing about it."""
    rows = write_rows(tmp_path / "rows.csv", 1)
    assert await enqueue(rows, *queue, "--namespace", "nowhere") == Exit.UNUSABLE
    told = capfd.readouterr().err
    assert told.startswith("aiophlo: postgres: schema 'nowhere' has version 0")
    assert told.count("\n") == 1


async def test_account_that_is_not_named_is_told(
    queue: tuple[str, ...],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What an id looks like is no answer to who forgot to name one."""
    rows = write_rows(tmp_path / "rows.csv", 1)
    monkeypatch.delenv("PLIVO_AUTH_ID")
    assert await enqueue(rows, *queue) == Exit.UNUSABLE
    told = capfd.readouterr().err
    assert told == "aiophlo: PLIVO_AUTH_ID: expected in the environment, is not set\n"
