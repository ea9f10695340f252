"""The board: its figures are the ledger's, and no number is in them."""

import asyncio
import json
import time
from contextlib import suppress
from typing import Any, Final

import attrs
import pytest

from aiophlo import (
    CustomerOnHoldError,
    Lane,
    NobodyAnsweredError,
    PhloError,
    Quota,
    SessionPool,
    WarmTransfer,
)
from aiophlo.observed_events import (
    HandoverEnded,
    HandoverStep,
    WebhookReceived,
    WebhookResult,
)
from aiophlo.simulator import Simulator
from aiophlo.wallboard import Wallboard
from tests.support.doubles import account_of, pool_of
from tests.support.handover_stage import (
    AGENT,
    CUSTOMER,
    FIRST,
    NODE,
    PHLO,
    set_stage,
)

TRANSFER: Final = WarmTransfer(
    phlo_id="p", node_id="n", trigger_source="+14155550100", to="+14155550101"
)


async def transfers(pool: SessionPool, number: int) -> None:
    """Send some, each to a number of its own."""

    async def send(index: int) -> None:
        with suppress(PhloError):
            await pool.send(attrs.evolve(TRANSFER, to=f"+1415556{index:04}"))

    await asyncio.gather(*map(send, range(number)))


def kinds(view: dict[str, Any]) -> list[str]:
    """Return what is wrong, by its kind."""
    return [trouble["kind"] for trouble in view["troubles"]]


async def test_questions_for_calls_are_no_actions_on_the_wall(
    simulator: Simulator,
) -> None:
    """A list that can't be read is no phone that may be ringing."""
    async with pool_of(simulator, caller_ids=["+14155550100"]) as pool:
        board = Wallboard(pool)
        simulator.fault_next("drop_after_read", action="warm_transfer")
        simulator.answer_next(503, action="list_calls", times=None)
        with suppress(PhloError):
            await pool.send(TRANSFER, look=True, look_for=0)
        view = board.snapshot()
    (account,) = view["accounts"]
    assert account["verdicts"] == {
        "accepted": 0,
        "rejected": 0,
        "not_sent": 0,
        "in_doubt": 1,
    }
    assert len(view["in_doubt"]) == 1
    assert sum(account["requests"]) == len(simulator.ledger.requests)


async def test_every_figure_is_the_ledgers(simulator: Simulator) -> None:
    """A wall that is wrong is worse than none."""
    simulator.answer_next(429, times=2)
    simulator.answer_next(400, to="+14155560003", times=None)
    simulator.fault_next("drop_after_read", to="+14155560007")
    simulator.fault_next("reset", to="+14155560009")
    async with pool_of(simulator) as pool:
        board = Wallboard(pool)
        await transfers(pool, 40)
        await asyncio.gather(*(pool.send(TRANSFER) for _ in range(3)))
        view = board.snapshot()
    (account,) = view["accounts"]
    ledger = simulator.ledger.as_json()["requests"]
    assert sum(account["requests"]) == len(ledger)
    refused = sum(row["answered"] == 429 for row in ledger)
    assert sum(account["refused"]) == refused == 2
    assert account["verdicts"] == {
        "accepted": 40,
        "rejected": 1,
        "not_sent": 0,
        "in_doubt": 2,
    }
    dials = simulator.ledger.dials()
    assert dials == account["verdicts"]["accepted"] - account["joined"] + 2
    assert account["joined"] == 2
    assert {one["who"] for one in view["in_doubt"]} == {"…07", "…09"}
    assert account["in_flight"] == sum(account["waiting"].values()) == 0


async def test_what_is_under_way_is_shown_while_it_is(simulator: Simulator) -> None:
    """A wall is for now."""
    account = account_of(simulator, quota=Quota(1, per=60.0))
    async with pool_of(simulator, account) as pool:
        board = Wallboard(pool)
        with simulator.hold_answers():
            first = asyncio.ensure_future(pool.send(TRANSFER))
            await simulator.wait_for(lambda _: simulator.held == 1)
            other = attrs.evolve(TRANSFER, to="+14155550102")
            queued = asyncio.ensure_future(pool.send(other, send_within=None))
            while not pool.state().waiting[Lane.AWAITED]:  # noqa: ASYNC110 -- the loop's own steps, no time
                await asyncio.sleep(0)
            (shown,) = board.snapshot()["accounts"]
            assert (shown["in_flight"], shown["waiting"]["awaited"]) == (1, 1)
            queued.cancel()
        await first


async def test_customer_on_hold_is_at_the_top_and_says_what_to_do() -> None:
    """They are waiting while somebody reads."""
    async with set_stage() as stage:
        board = Wallboard(stage.pool)
        stage.people_are("ignores", FIRST)
        stage.simulator.answer_next(503, action="abort_transfer", times=None)
        with pytest.raises(CustomerOnHoldError):
            async with stage.consult(bring_back_within=0.1):
                pass
        view = board.snapshot()
    first = view["troubles"][0]
    assert (first["kind"], first["level"]) == ("on_hold", "alarm")
    assert "Call the customer back" in first["todo"]
    assert f"…{AGENT[-2:]}" in first["todo"]
    assert f"…{FIRST[-2:]}" in first["todo"]
    assert f"Customer …{CUSTOMER[-2:]}" in first["todo"]
    assert f"phlo_handover={first['handover']}" in first["todo"]
    assert view["handovers"] == []
    told = json.dumps(view)
    assert all(number[-6:] not in told for number in (AGENT, CUSTOMER, FIRST))


async def test_handover_is_shown_by_its_phase_until_it_ends() -> None:
    """Who waits for a minute in one phase needs help."""
    async with set_stage() as stage:
        board = Wallboard(stage.pool)
        stage.people_are("answers", FIRST)
        async with stage.consult(ring_for=10.0) as consult:
            view = board.snapshot()
            assert view["phases"]["consulting"]["number"] == 1
            (shown,) = view["handovers"]
            assert (shown["id"], shown["partner"]) == (consult.id, f"…{FIRST[-2:]}")
            await consult.complete()
        view = board.snapshot()
    assert (view["phases"], view["handovers"], view["on_hold"]) == ({}, [], [])
    assert view["troubles"] == []


async def test_alarm_that_comes_late_says_who_it_is_about() -> None:
    """It is known minutes after the handover ended; somebody is alone since then."""
    async with set_stage() as stage:
        board = Wallboard(stage.pool)
        stage.people_are("answers", FIRST)
        async with stage.consult(ring_for=10.0) as consult:
            await consult.complete()
        account = stage.pool.accounts[0]
        board(HandoverEnded(account, consult.id, "with_partner", 9.0, alarm=True))
        view = board.snapshot()
    (held,) = view["on_hold"]
    shown = (held["agent"], held["partner"], held["customer"])
    assert shown == tuple(f"…{number[-2:]}" for number in (AGENT, FIRST, CUSTOMER))


@pytest.mark.parametrize("by", [-86_400.0, -601.0, -3.0, 7.0, 3_600.0])
async def test_clock_that_is_set_takes_nothing_off_the_wall(
    simulator: Simulator, by: float
) -> None:
    """A customer on hold is so by any clock."""
    now = time.time()
    async with pool_of(simulator) as pool:
        board = Wallboard(pool, clock=lambda: now)
        await pool.send(TRANSFER)
        account = pool.accounts[0]
        board(HandoverEnded(account, "0" * 16, "on_hold", 9.0, alarm=True))
        now += by
        await pool.send(TRANSFER, on_duplicate="send")
        view = board.snapshot()
    (shown,) = view["accounts"]
    assert shown["verdicts"]["accepted"] == sum(shown["requests"]) == 2
    assert sum(shown["requests"][-3:]) == 2
    (held,) = view["on_hold"]
    assert 0 <= held["age"] < 60
    assert view["at"] == round(now, 3)


async def test_ring_of_a_late_alarm_is_counted_once(simulator: Simulator) -> None:
    """Its handover is told to have ended twice."""
    async with pool_of(simulator) as pool:
        board = Wallboard(pool)
        account = pool.accounts[0]
        board(HandoverStep(account, "0" * 16, "ringing", "asking"))
        for alarm in (False, True):
            board(HandoverEnded(account, "0" * 16, "with_agent", 9.0, alarm, 1))
        assert board.snapshot()["unseen"] == 1


async def test_dead_webhook_is_named() -> None:
    """Every handover fails, and each alone looks like a partner who didn't answer."""
    async with set_stage() as stage:
        board = Wallboard(stage.pool)
        stage.simulator.post_events(None)
        who = {"agent": "+14152227777", "customer": "+14152228888"}
        stage.simulator.place_call(PHLO, NODE, **who)
        with pytest.raises(NobodyAnsweredError):
            async with stage.consult(**who):
                pass
        assert kinds(board.snapshot()) == ["webhook"]


async def test_refused_webhooks_are_named(simulator: Simulator) -> None:
    """A wrong token looks like silence to the router."""
    async with pool_of(simulator) as pool:
        board = Wallboard(pool)
        board(WebhookReceived(None, result=WebhookResult.REFUSED))
        board(WebhookReceived(None, result=WebhookResult.UNREADABLE))
        view = board.snapshot()
    assert kinds(view) == ["webhook_refused", "webhook_failed"]
    assert view["webhooks"]["results"] == {"refused": 1, "unreadable": 1}


async def test_quota_that_others_eat_is_named() -> None:
    """Lowering one's own pace won't help."""
    async with Simulator(quota=(300, 5.0)) as simulator:
        account = account_of(simulator, quota=Quota(300, per=5.0))
        async with pool_of(simulator, account) as pool:
            board = Wallboard(pool)
            simulator.answer_next(429)
            await pool.send(TRANSFER)
            (trouble,) = board.snapshot()["troubles"]
    assert trouble["kind"] == "quota_eaten"
    assert "Something else spends the quota: 1 request refused" in trouble["what"]
    assert 0.0 <= trouble["last"]["Last 429"] < 5.0


async def test_pool_that_is_not_open_yet_has_a_page(simulator: Simulator) -> None:
    """A service mounts it before it opens the pool."""
    pool = pool_of(simulator)
    board = Wallboard(pool)
    (account,) = board.snapshot()["accounts"]
    assert account["in_flight"] == 0
    async with pool:
        await transfers(pool, 2)
        (account,) = board.snapshot()["accounts"]
    assert account["verdicts"]["accepted"] == 2
    assert repr(pool) in repr(board)
