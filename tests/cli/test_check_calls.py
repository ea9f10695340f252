"""`aiophlo check --calls`: whether looking would see anything on this account."""

import asyncio
import datetime as dt
import json

import pytest

from aiophlo import WarmTransfer
from aiophlo.cli import main
from aiophlo.cli.check_calls import KnownCall
from aiophlo.cli.exit_codes import Exit, UnusableError
from aiophlo.simulator import Habit, Listing, Reaction, Simulator
from tests.support.doubles import act, address, pool_of

TO = address(1)


@pytest.fixture(autouse=True)
def environment(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the command at the simulator, as the environment can."""
    monkeypatch.setenv("PLIVO_AUTH_ID", simulator.auth_id)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", simulator.auth_token)
    monkeypatch.setenv("AIOPHLO_BASE_URL", simulator.base_url)


async def run(*more: str, to: str = TO, ago: float = 0.0) -> int:
    """Run the command beside the simulator, for a call of a moment ago."""
    at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=ago)
    options = ["check", "--calls", "--to", to, "--at", at.isoformat(), *more]
    return await asyncio.to_thread(main, options)


async def transfer(simulator: Simulator) -> None:
    """Make the call that it is about."""
    async with pool_of(simulator) as pool:
        await pool.send(act(WarmTransfer, 1))


async def test_listed_call_is_told_of(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then looking can be turned on."""
    simulator.set_habit(Habit(Reaction.BUSY))
    simulator.place_other_call(TO, dialled=False)
    simulator.place_other_call(address(2))
    await transfer(simulator)
    asked = simulator.ledger.dialled_total
    assert await run() == Exit.ACCEPTED
    out = capsys.readouterr().out
    assert "listed: what looking assumes holds" in out
    assert "ended (Busy Line), began" in out
    assert "from …00" in out
    assert TO not in out
    assert simulator.ledger.dialled_total == asked, "it places nothing"


async def test_json_has_the_same(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """For scripts."""
    await transfer(simulator)
    assert await run("--json") == Exit.ACCEPTED
    told = json.loads(capsys.readouterr().out)
    assert (told["calls"], told["error"]) == ("ok", None)
    [listed] = told["listed"]
    assert (listed["state"], listed["from"]) == ("talking", "…00")
    assert abs(listed["seconds_after"]) < 3


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("unlisted", "not listed"),
        ("earlier", "not listed"),
        ("two", "more than one"),
        ("refused", "could not be read: status 403"),
        ("senseless", "not be understood"),
    ],
)
async def test_call_that_can_not_be_told_is_a_failure(
    simulator: Simulator, capsys: pytest.CaptureFixture[str], trouble: str, words: str
) -> None:
    """Who turns looking on where it sees nothing waits in vain at every doubt."""
    ago = 0.0
    match trouble:
        case "unlisted":
            simulator.list_calls(Listing(unlisted=1.0))
        case "earlier":
            ago = 90.0
        case "two":
            simulator.place_other_call(TO)
        case "refused":
            simulator.list_calls(Listing(unlisted=1.0))
            simulator.answer_next(403, action="list_calls", times=None)
        case "senseless":
            simulator.list_calls(Listing(unlisted=1.0))
            simulator.answer_next(200, body={}, action="list_calls", times=None)
    await transfer(simulator)
    assert await run(ago=ago) == Exit.REFUSED
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--calls"], "--calls: expected --to and --at"),
        (["--calls", "--to", TO], "--calls: expected --to and --at"),
        (["--to", TO, "--at", "14:05"], "expected --calls with them"),
        (["--calls", "--to", TO, "--at", "noon"], "--at: expected HH:MM:SS of today"),
        (["--calls", "--to", "4152225555", "--at", "14:05"], "the '+' is missing"),
    ],
)
async def test_options_that_say_too_little_are_refused(
    options: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It can't know by itself which call to compare with."""
    assert await asyncio.to_thread(main, ["check", *options]) == Exit.UNUSABLE
    assert error in capsys.readouterr().err


def test_time_may_be_of_today() -> None:
    """Nobody types a date who has just made a call."""
    today = dt.datetime.now().astimezone()
    at = KnownCall.parse(TO, "14:05:03").at
    read = dt.datetime.fromtimestamp(at).astimezone()
    assert (read.hour, read.minute, read.second) == (14, 5, 3)
    assert abs((read - today).days) <= 1
    assert KnownCall.parse(TO, "2027-01-15T08:00:00Z").at == 1_800_000_000.0
    with pytest.raises(UnusableError):
        KnownCall.parse(None, "14:05")
