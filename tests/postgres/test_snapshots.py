"""With a coordinator, a wallboard shows all processes, and costs only while watched."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import psycopg
import pytest

from aiophlo import SessionPool, WarmTransfer
from aiophlo.cli import main
from aiophlo.cli.exit_codes import Exit
from aiophlo.coordination import AwayError
from aiophlo.observed_events import HandoverStep
from aiophlo.postgres import PostgresCoordinator
from aiophlo.postgres.shared_snapshots import watch_snapshots
from aiophlo.simulator import Simulator
from aiophlo.wallboard import Wallboard
from tests.postgres.conftest import SharedPool
from tests.support.doubles import account_of, act, pool_of
from tests.support.postgres import Postgres
from tests.support.queues import shared_by

TRANSFERS: Final = [act(WarmTransfer, number) for number in range(12)]


@contextlib.asynccontextmanager
async def watching(board: Wallboard) -> AsyncIterator[asyncio.Queue[bytes]]:
    """Watch a wallboard."""
    came: asyncio.Queue[bytes] = asyncio.Queue()

    async def watch() -> None:
        async for snapshot in board.feed.watch():
            came.put_nowait(snapshot)

    task = asyncio.ensure_future(watch())
    try:
        yield came
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(board: Wallboard, holds: Any) -> dict[str, Any]:  # noqa: ANN401 -- a condition
    """Return the first snapshot of which something holds."""
    async with asyncio.timeout(15.0):
        while True:
            view = board.snapshot()
            if holds(view):
                return view
            await asyncio.sleep(0.02)


async def send_all(pool: SessionPool, first: int, number: int) -> None:
    """Send some transfers."""
    report = await pool.send_all(TRANSFERS[first : first + number])
    assert report.accepted == number


async def test_wallboard_shows_what_all_processes_did(shared_pool: SharedPool) -> None:
    """One quota, one wall: half of it would be a lie."""
    one, other = await shared_pool(), await shared_pool()
    board = Wallboard(one, name="one")
    Wallboard(other, name="other")
    await send_all(one, 0, 5)
    await send_all(other, 5, 7)
    async with watching(board):
        view = await until(board, lambda view: len(view["processes"]) == 2)
    (account,) = view["accounts"]
    assert account["verdicts"]["accepted"] == 12
    assert sum(account["requests"]) == 12
    assert [process["name"] for process in view["processes"]] == ["one", "other"]
    assert {process["coordinator"] for process in view["processes"]} == {"reached"}


async def test_process_without_a_wallboard_counts_from_when_one_is_watched(
    shared_pool: SharedPool,
) -> None:
    """A worker that only dials has no page, and spends the same quota."""
    one, other = await shared_pool(), await shared_pool()
    board = Wallboard(one, name="one")
    async with watching(board):
        await until(board, lambda view: len(view["processes"]) == 2)
        await send_all(other, 0, 3)
        await until(
            board,
            lambda view: view["accounts"][0]["verdicts"]["accepted"] == 3,
        )


async def test_nobody_tells_anything_while_nobody_watches(
    shared_pool: SharedPool, postgres: Postgres, namespace: str
) -> None:
    """A wall is off at night, and the database isn't to be written to."""
    one, other = await shared_pool(), await shared_pool()
    board = Wallboard(one)
    Wallboard(other)
    await asyncio.sleep(1.5)

    async def rows() -> int:
        async with await psycopg.AsyncConnection.connect(postgres.url) as connection:
            found = await connection.execute(
                f"SELECT count(*) FROM {namespace}.snapshots"  # noqa: S608 -- a test's
            )
            row = await found.fetchone()
        assert row is not None
        return int(row[0])

    assert await rows() == 0
    async with watching(board):
        await until(board, lambda view: len(view["processes"]) == 2)
    assert await rows() == 2


async def test_alarm_elsewhere_is_shown_within_a_second(
    shared_pool: SharedPool, simulator: Simulator
) -> None:
    """It does not matter which process the customer was with."""
    one, other = await shared_pool(), await shared_pool()
    board, elsewhere = Wallboard(one), Wallboard(other, name="elsewhere")
    async with watching(board) as came:
        await until(board, lambda view: len(view["processes"]) == 2)
        while not came.empty():
            came.get_nowait()
        elsewhere(HandoverStep(account_of(simulator), "h", "on_hold", "ringing"))
        async with asyncio.timeout(1.0):
            while b'"on_hold","level":"alarm"' not in await came.get():
                pass


async def test_process_that_ended_is_named_and_then_forgotten(
    shared_pool: SharedPool,
) -> None:
    """A worker that hangs looks like a quiet one."""
    one, other = await shared_pool(), await shared_pool()
    board = Wallboard(one, name="one")
    Wallboard(other, name="other")
    async with watching(board):
        await until(board, lambda view: len(view["processes"]) == 2)
        await other.close()
        view = await until(board, lambda view: view["troubles"])
        assert "other says nothing any more" in view["troubles"][0]["what"]


async def test_terminal_reads_it_from_the_database(
    shared_pool: SharedPool,
    postgres: Postgres,
    namespace: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where no page is served, there still is a database."""
    pool = await shared_pool()
    Wallboard(pool, name="one")
    async with (
        contextlib.aclosing(
            watch_snapshots(postgres.url, namespace=namespace)
        ) as snapshots,
        asyncio.timeout(15.0),
    ):
        async for parts in snapshots:
            if parts:
                break
    assert [part["name"] for part in parts] == ["one"]
    assert parts[0]["age"] < 5.0
    arguments = ["top", "--once", "--json", "--namespace", namespace, postgres.url]
    assert await asyncio.to_thread(main, arguments) == Exit.ACCEPTED
    told = json.loads(capsys.readouterr().out)
    assert [process["name"] for process in told["processes"]] == ["one"]


def test_terminal_says_what_the_database_has_not(
    postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    """It answers, and a namespace with a typing error is no network to mend."""
    arguments = ["top", "--once", "--namespace", "nobodys", postgres.url]
    assert main(arguments) == Exit.UNUSABLE
    assert 'relation "nobodys.snapshots" does not exist' in capsys.readouterr().err


async def test_pool_that_closes_as_others_are_read_leaves_no_connection(
    shared_pool: SharedPool,
) -> None:
    """A page that outlives its pool would take them all, second by second."""
    pool = await shared_pool()
    shared = shared_by(pool)
    reading = asyncio.create_task(shared.exhibits())
    await asyncio.sleep(0)  # it connects
    await pool.close()
    with contextlib.suppress(AwayError):
        await reading
    with pytest.raises(AwayError):
        await shared.exhibits()


async def test_page_goes_on_without_its_database(
    own_postgres: Postgres, simulator: Simulator
) -> None:
    """It is looked at most when something is down."""
    coordinator = PostgresCoordinator(own_postgres.url, migrate=True)
    async with pool_of(simulator, coordinator=coordinator) as pool:
        board = Wallboard(pool)
        async with watching(board) as came:
            await until(board, lambda view: view["processes"])
            own_postgres.kill()
            view = await until(board, lambda view: view["troubles"])
            assert view["troubles"][0]["kind"] == "coordinator"
            while not came.empty():
                came.get_nowait()
            async with asyncio.timeout(3.0):
                await came.get()
