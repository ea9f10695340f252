"""`aiophlo top`: the wallboard's figures in a terminal, honest when they are old."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

import attrs
import pytest
from aiohttp import web
from rich.console import Console

from aiophlo import PhloError, WarmTransfer
from aiophlo.cli import main
from aiophlo.cli.exit_codes import Exit, UnusableError
from aiophlo.cli.top import Latest, shown_url, snapshots
from aiophlo.cli.top_view import duration, fit, render
from aiophlo.observed_events import HandoverStep
from aiophlo.simulator import Simulator
from aiophlo.wallboard import Wallboard, aiohttp_app
from tests.support.doubles import pool_of
from tests.support.ports import free_port

TOKEN: Final = "a token that nobody guesses"  # noqa: S105 -- made up
TRANSFER: Final = WarmTransfer(
    phlo_id="p", node_id="n", trigger_source="+14155550100", to="+14155550101"
)


@contextlib.asynccontextmanager
async def serving(
    board: Wallboard, token: str | None = None, port: int = 0
) -> AsyncIterator[str]:
    """Serve a wallboard."""
    app = web.Application()
    app.add_subapp("/wall", aiohttp_app(board, token=token))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/wall"
    finally:
        await runner.cleanup()


def drawn(
    view: dict[str, Any] | None,
    age: float = 0.0,
    width: int = 200,
    why: str | None = None,
) -> str:
    """Return what is shown, as text."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(render(view, age, "http://wall/", why))
    shown = console.file
    assert isinstance(shown, io.StringIO)
    return shown.getvalue()


async def test_name_of_another_machine_steers_no_terminal(
    simulator: Simulator,
) -> None:
    """It could hide an alarm, or type for the operator."""
    async with pool_of(simulator) as pool:
        view = Wallboard(pool, name="a\x1b[2J\x1b]0;owned\x07b\x9b2J").snapshot()
    shown = drawn(view)
    assert not {"\x1b", "\x9b", "\x07"} & set(shown)
    assert "a[2J]0;ownedb2J" in shown


async def first(url: str) -> dict[str, Any]:
    """Return the first snapshot that comes."""
    async with contextlib.aclosing(snapshots(url)) as views:
        return await anext(views)


async def test_every_figure_is_the_ledgers(simulator: Simulator) -> None:
    """An operator believes the terminal that is open."""
    simulator.answer_next(429, times=2)
    simulator.answer_next(400, to="+14155560003", times=None)
    simulator.fault_next("drop_after_read", to="+14155560007")
    async with pool_of(simulator) as pool:
        board = Wallboard(pool)

        async def send(index: int) -> None:
            with suppress(PhloError):
                await pool.send(attrs.evolve(TRANSFER, to=f"+1415556{index:04}"))

        await asyncio.gather(*map(send, range(40)))
        async with serving(board) as url:
            text = drawn(await first(url))
    ledger = simulator.ledger.as_json()
    dials, requests = len(ledger["dials"]), len(ledger["requests"])
    assert f"accepted {dials - 1}  rejected 1  not sent 0  in doubt 1  429s 2" in text
    assert f"requests {requests}" in text
    assert "in flight 0  waiting, urgent 0  waiting, awaited 0" in text
    assert "…07" in text
    assert "4155560007" not in text


async def test_token_is_taken_from_the_environment(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An argument is read by everybody who lists processes."""
    async with pool_of(simulator) as pool, serving(Wallboard(pool), TOKEN) as url:
        with pytest.raises(UnusableError, match="AIOPHLO_WALLBOARD_TOKEN"):
            await first(url)
        monkeypatch.setenv("AIOPHLO_WALLBOARD_TOKEN", TOKEN)
        assert (await first(url))["troubles"] == []


async def test_it_goes_on_when_the_wallboard_is_back(simulator: Simulator) -> None:
    """A deploy must not leave an operator with yesterday's figures."""
    port = free_port()
    async with pool_of(simulator) as pool:
        latest = Latest()
        following = asyncio.ensure_future(
            latest.follow(f"http://127.0.0.1:{port}/wall/")
        )
        for _ in range(2):
            latest.view = None
            async with serving(Wallboard(pool), port=port), asyncio.timeout(10.0):
                while latest.view is None:  # noqa: ASYNC110 -- until it comes
                    await asyncio.sleep(0.02)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def view_of(simulator: Simulator, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 -- any of its fields
    """Return the snapshot of a pool that has done nothing."""
    async with pool_of(simulator) as pool:
        return {**Wallboard(pool).snapshot(), **changes}


async def test_old_data_says_so(simulator: Simulator) -> None:
    """Figures that stand still look like a quiet day."""
    view = await view_of(simulator)
    assert "OLD DATA" not in drawn(view, 2.0)
    assert "OLD DATA: nothing has come from http://wall/ for 3 s" in drawn(view, 3.0)
    assert "No data from http://wall/ yet" in drawn(None)


async def test_nothing_is_said_to_be_well_by_old_data(simulator: Simulator) -> None:
    """The process that is gone may have left a customer on hold."""
    view = await view_of(simulator)
    assert "Nothing known is wrong." in drawn(view, 2.0)
    assert "Nothing known was wrong." in drawn(view, 3.0)


async def test_it_is_said_why_nothing_comes(simulator: Simulator) -> None:
    """A misspelled database looks as if it were away, and never comes."""
    view = await view_of(simulator)
    why = 'database "nix" does not exist\x1b[2J'
    for shown in (drawn(None, why=why), drawn(view, 3.0, why=why)):
        assert 'database "nix" does not exist[2J' in shown
    assert why not in drawn(view, 2.0, why=why)


async def test_why_is_kept_until_something_comes(simulator: Simulator) -> None:
    """It is what to mend."""
    port = free_port()
    latest = Latest()
    following = asyncio.ensure_future(
        latest.follow(f"http://127.0.0.1:{port}/wall/?token={TOKEN}")
    )
    async with asyncio.timeout(10.0):
        while latest.why is None:  # noqa: ASYNC110 -- until it is known
            await asyncio.sleep(0.02)
        assert latest.why == "ClientConnectorError"
        async with pool_of(simulator) as pool, serving(Wallboard(pool), port=port):
            while latest.view is None:  # noqa: ASYNC110 -- until it comes
                await asyncio.sleep(0.02)
    assert latest.why is None
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_customer_on_hold_is_first_and_ages(simulator: Simulator) -> None:
    """They wait while somebody scrolls."""
    trouble = {"level": "alarm", "what": "on hold", "todo": "Call back.", "age": 58.0}
    text = drawn(await view_of(simulator, troubles=[trouble]), 2.0)
    assert "ALARM" in text.splitlines()[1]  # also where there are no colours
    assert "on hold — for 1:00 min" in text.splitlines()[2]
    assert "Call back." in text


@pytest.mark.parametrize(("height", "more"), [(6, True), (500, False)])
async def test_low_terminal_says_how_much_it_has_no_room_for(
    simulator: Simulator, height: int, more: bool
) -> None:
    """What is below would look as if it weren't there."""
    console = Console(width=100, height=height, force_terminal=True, highlight=False)
    view = render(await view_of(simulator), 0.0, "here")
    whole = console.render_lines(view, pad=False)
    with console.capture() as text:
        console.print(fit(view, console), end="")
    lines = text.get().rstrip("\n").splitlines()
    assert len(lines) == min(len(whole), height)
    hidden = len(whole) - (height - 1)
    assert (f"{hidden} more lines: make the terminal higher" in lines[-1]) is more


async def test_tables_say_who_the_customer_is_and_how_many_more_there_are(
    simulator: Simulator,
) -> None:
    """A ninth handover that isn't listed looks as if it weren't there."""
    handover = {
        "id": "e83f9243ac6d5fc7",
        "phase": "ringing",
        "age": 9.0,
        "phase_age": 3.0,
        "agent": "…29",
        "customer": "…30",
        "partner": "…31",
    }
    doubt = {
        "action": "AbortTransfer",
        "who": "…29",
        "reason": "timeout",
        "age": 5.0,
        "account": "MA",
        "handover": handover["id"],
    }
    rows = {"handovers": [handover] * 9, "in_doubt": [doubt] * 11}
    phases = {"ringing": {"number": 60, "oldest": 3.0}}
    text = drawn(await view_of(simulator, phases=phases, **rows), width=120)
    lines = text.splitlines()
    assert sum("ringing" in line and "…30" in line for line in lines) == 8
    assert sum("AbortTransfer" in line for line in lines) == 8
    assert "and 52 more" in text
    assert "and 3 more" in text
    assert "In doubt: done or not; a dial may have rung" in text


async def test_doubts_of_who_is_on_hold_come_first(simulator: Simulator) -> None:
    """They say what went wrong for the customer who waits now."""
    doubt = {"action": "Dial", "who": "…29", "reason": "timeout", "account": "MA"}
    rows = [{**doubt, "age": 1.0, "handover": ""} for _ in range(9)]
    rows += [{**doubt, "age": 50.0, "handover": "h", "who": "…30"}]
    held = {"on_hold": [{"id": "h"}], "on_hold_number": 1}
    text = drawn(await view_of(simulator, in_doubt=rows, **held), width=120)
    shown = [line for line in text.splitlines() if "Dial" in line]
    assert ["…30" in line for line in shown] == [True, *[False] * 7]


async def test_it_fits_a_narrow_terminal(simulator: Simulator) -> None:
    """Operators have 80 columns."""
    text = drawn(await view_of(simulator), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "in doubt 0" in text


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0 s"), (59.9, "59 s"), (62, "1:02 min")]
)
def test_ages(seconds: float, shown: str) -> None:
    """They are the page's."""
    assert duration(seconds) == shown


async def test_once_is_for_scripts(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check asks every minute, and reads JSON."""
    async with pool_of(simulator) as pool, serving(Wallboard(pool)) as url:
        code = await asyncio.to_thread(main, ["top", "--once", "--json", url])
        assert code == Exit.ACCEPTED
        assert json.loads(capsys.readouterr().out)["troubles"] == []
        assert await asyncio.to_thread(main, ["top", "--once", url]) == Exit.ACCEPTED
        assert "Nothing known is wrong." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["top", "--once", "ftp://host/"], "expected one such as"),
        (["top", "nonsense"], "expected one such as"),
        (["top", "--json"], "--once"),
        (["top", "--once", "http://127.0.0.1:1/wall/?token=secret"], "nothing answers"),
        (["top", "--once", "--namespace", "x"], "--namespace"),
        (["top", "--once", "http://u:secret@127.0.0.1:1/?token=secret"], "no user"),
        (["top", "--once", "postgresql://127.0.0.1:1/x"], "nothing answers"),
        (["top", "--once", "postgresql:///x?host=127.0.0.1&port=1"], "refused"),
    ],
)
def test_what_cannot_work_says_so(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A terminal that stays empty tells nothing."""
    assert main(arguments) == Exit.UNUSABLE
    told = capsys.readouterr().err
    assert said in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("url", "as_shown"),
    [
        ("postgresql:///calls", "postgresql:///calls"),
        ("postgresql:///calls?host=/tmp&password=secret", "postgresql:///calls"),
        ("postgresql://u:se/cret@db/calls", "postgresql://db/calls"),
        ("postgresql://u:%zz?secret@[::1]:1/calls", "postgresql://[::1]:1/calls"),
        ("postgres://u:secret@a:1,b:x/calls", "postgres://a:1,b:x/calls"),
        ("postgres://db/calls?password=x@secret", "postgres://db/calls"),
        ("http://u:secret@host:1/wall/?token=secret", "http://host:1/wall/"),
    ],
)
def test_url_is_shown_without_what_is_secret(url: str, as_shown: str) -> None:
    """A local database's URL has no host, and libpq takes some that others don't."""
    assert shown_url(url) == as_shown


async def test_page_that_is_no_wallboard_says_so() -> None:
    """A URL without its path leads to some other page."""
    async with Simulator(quota=None) as simulator:
        url = simulator.base_url.removesuffix("/v1")
        with pytest.raises(UnusableError, match="expected the URL of a wallboard"):
            await first(url)


async def test_what_would_steer_the_terminal_is_not_passed_on(
    simulator: Simulator,
) -> None:
    """A process's name comes from another machine."""
    async with pool_of(simulator) as pool:
        board = Wallboard(pool, name="evil\x1b]0;owned\x07")
        async with serving(board) as url:
            assert "\x1b" not in drawn(await first(url))


async def test_brackets_of_an_address_are_no_markup(simulator: Simulator) -> None:
    """Whom to call would be left out, or the terminal would end."""
    async with pool_of(simulator) as pool:
        board = Wallboard(pool)
        to, account = "sip:…@[fe80::1]", pool.accounts[0]
        board(HandoverStep(account, "0" * 16, "ringing", "asking", to, customer="[/]"))
        view = board.snapshot()
    (row,) = (line for line in drawn(view).splitlines() if "0" * 16 in line)
    assert to in row
    assert "[/]" in row


async def test_stream_of_another_program_ends_top_with_an_error() -> None:
    """It must not look as if somebody had pressed Ctrl-C."""

    async def events(_: web.Request) -> web.Response:
        return web.Response(text="data: hello\n\n", content_type="text/event-stream")

    app = web.Application()
    app.router.add_get("/events", events)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    with pytest.raises(UnusableError, match="no JSON"):
        await Latest().follow(f"http://127.0.0.1:{runner.addresses[0][1]}/")
    await runner.cleanup()
