"""`aiophlo demo --wallboard`: what it shows is what the simulator's ledger says."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiophlo.cli import main
from aiophlo.cli.exit_codes import Exit
from aiophlo.cli.ledger_comparison import compare
from aiophlo.cli.live_demo import LiveDemo
from aiophlo.cli.simulator_process import simulator_process
from aiophlo.model.accounts import Quota

pytestmark = pytest.mark.long


@pytest.fixture
async def demo() -> AsyncIterator[LiveDemo]:
    """Give a demo that is not busy yet."""
    async with (
        simulator_process(Quota(300, per=5.0)) as served,
        LiveDemo(served) as demo,
    ):
        yield demo


async def until_wrong(demo: LiveDemo, kind: str) -> dict[str, Any]:
    """Wait until the wallboard names a trouble; return it."""
    async with asyncio.timeout(15.0):
        while True:
            for trouble in demo.board.snapshot()["troubles"]:
                if trouble["kind"] == kind:
                    return dict(trouble)
            await asyncio.sleep(0.05)


async def test_every_figure_is_the_ledgers(demo: LiveDemo) -> None:
    """A newcomer who counts must find that it's true."""
    busy = asyncio.ensure_future(demo.run(staged=False))
    for _ in range(3):
        await demo.lose_an_answer()
        await asyncio.sleep(1.0)
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)
    await demo.end()
    view, ledger = demo.board.snapshot(), await demo.ledger()
    (account,) = view["accounts"]
    assert sum(account["requests"]) == len(ledger["requests"])
    answered = Counter(row["answered"] for row in ledger["requests"])
    assert sum(account["refused"]) == answered[429]
    assert account["verdicts"]["in_doubt"] >= 3
    assert account["in_flight"] == 0
    compared = compare(ledger, demo.verdicts.by_number)
    assert compared.disagreements == []
    assert compared.dials > 50


async def test_customer_on_hold_is_staged(demo: LiveDemo) -> None:
    """It is what the page is for."""
    await demo.leave_on_hold()
    trouble = await until_wrong(demo, "on_hold")
    assert trouble["level"] == "alarm"


async def test_dead_webhook_is_staged_and_ends(demo: LiveDemo) -> None:
    """Handovers fail, and the page says why."""
    await demo.webhooks_die()
    failing = asyncio.ensure_future(demo.handover())
    assert "Webhooks don't arrive" in (await until_wrong(demo, "webhook"))["what"]
    await failing
    await demo.webhooks_return()
    going_well = asyncio.ensure_future(demo.handover())
    async with asyncio.timeout(15.0):
        while demo.board.snapshot()["troubles"]:  # noqa: ASYNC110 -- until it is well
            await asyncio.sleep(0.05)
    going_well.cancel()
    await asyncio.gather(going_well, return_exceptions=True)


async def test_quota_that_others_eat_is_staged(demo: LiveDemo) -> None:
    """Another program with the same account is the usual reason for a 429."""
    busy = asyncio.ensure_future(demo.run(staged=False))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10.0):
            spending = asyncio.ensure_future(demo.spend_quota_elsewhere(8.0))
            trouble = await until_wrong(demo, "quota_eaten")
            assert "Something else spends the quota" in trouble["what"]
    for task in (spending, busy):
        task.cancel()
    await asyncio.gather(spending, busy, return_exceptions=True)


def test_command_runs_for_a_while_and_agrees(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The verdicts of what is shown are held against the ledger, too."""
    code = main(["demo", "--wallboard", "--port", "0", "--seconds", "2"])
    told = capsys.readouterr()
    assert code == Exit.ACCEPTED
    assert "http://127.0.0.1:" in told.err
    assert "The verdicts agree." in told.err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--wallboard", "--json"], "--json"),
        (["--wallboard", "--transfers", "5"], "--transfers"),
        (["--seconds", "5"], "--seconds"),
        (["--port", "1234"], "--port"),
    ],
)
def test_options_that_say_nothing_are_refused(
    options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever gives one expects it to count."""
    assert main(["demo", *options]) == Exit.UNUSABLE
    assert named in capsys.readouterr().err
