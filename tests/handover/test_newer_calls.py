"""That what an old handover sends late doesn't meet the agent's newer call."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from aiophlo import Consult, CustomerOnHoldError, NotSentError, RejectedError
from aiophlo.simulator import Call
from aiophlo.webhooks.events import parse_event
from tests.support.handover_stage import (
    AGENT,
    CONSULTING,
    CUSTOMER,
    FIRST,
    NODE,
    ON_HOLD,
    PHLO,
    SECOND,
    TALKING,
    Stage,
    set_stage,
)

NEXT_CUSTOMER = "+14152227777"


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Give a call whose agent soon takes the next one."""
    async with set_stage() as stage:
        yield stage


def place_next_call(stage: Stage) -> Call:
    """Let the agent talk to the next customer."""
    return stage.simulator.place_call(PHLO, NODE, agent=AGENT, customer=NEXT_CUSTOMER)


async def take_next_call(stage: Stage) -> Call:
    """Let the agent talk to the next customer, and events tell of it."""
    told = len(stage.simulator.posts)
    call = place_next_call(stage)
    await stage.simulator.wait_for(lambda _: len(stage.simulator.posts) == told + 2)
    return call


def say_joined(stage: Stage, conference_uuid: str, *who: str) -> None:
    """Tell late that some joined a call."""
    for address in who:
        stage.router.feed(
            parse_event(
                {
                    "event": "ConferenceEnter",
                    "direction": "inbound",
                    "from": address,
                    "conference_uuid": conference_uuid,
                    "call_uuid": f"{conference_uuid}-{address}",
                }
            )
        )


def count(stage: Stage, action: str) -> int:
    """Count the requests of a kind."""
    return sum(one.action == action for one in stage.simulator.ledger.requests)


async def until_sent(stage: Stage, action: str) -> None:
    """Wait until a request of a kind has come."""
    await stage.simulator.wait_for(lambda _: count(stage, action) > 0)


async def test_agent_who_left_is_not_hung_up_in_the_next_call(stage: Stage) -> None:
    """The proof that they left would cut off the next customer."""
    stage.simulator.answer_next(502, action="hangup", dialled=True, times=None)
    async with stage.consult() as consult:
        with stage.simulator.hold_answers():
            stage.call.leave(stage.call[AGENT])
            await stage.simulator.wait_for(held=1)
            newer = await take_next_call(stage)
        assert await consult.complete() == FIRST
    assert newer[AGENT].state is TALKING
    assert count(stage, "hangup") == 1
    assert stage.alarms == []


@pytest.mark.parametrize("all_left", [False, True])
async def test_next_transfer_is_not_aborted_to_prove_that_the_agent_left(
    stage: Stage, all_left: bool
) -> None:
    """No hang-up could prove it, and the next customer would be cut off."""
    stage.simulator.answer_next(502, action="hangup", dialled=False, times=None)
    stage.simulator.answer_next(502, action="abort_transfer", times=None, dialled=True)
    async with stage.consult(bring_back_within=2.0):
        stage.call.leave(stage.call[AGENT])
        await until_sent(stage, "abort_transfer")
        for who in (CUSTOMER, FIRST) if all_left else ():
            stage.call.leave(stage.call[who])
        newer = await take_next_call(stage)
        await stage.node.warm_transfer(to=SECOND, trigger_source=AGENT)
    assert newer[AGENT].state is CONSULTING
    assert stage.alarms == []


async def test_next_transfer_is_not_aborted_for_a_customer_who_has_left(
    stage: Stage,
) -> None:
    """Nobody is on hold any more, though the agent's leave was never told."""
    stage.simulator.answer_next(502, action="abort_transfer", times=None, dialled=True)
    async with stage.consult(bring_back_within=2.0) as consult:
        ending = asyncio.ensure_future(consult.abort())
        await until_sent(stage, "abort_transfer")
        stage.call.leave(stage.call[CUSTOMER])
        await stage.simulator.wait_for(lambda _: len(stage.simulator.posts) == 4)
        stage.simulator.post_events(None)
        stage.call.leave(stage.call[AGENT])
        newer = place_next_call(stage)
        say_joined(stage, newer.conference_uuid, NEXT_CUSTOMER, AGENT)
        await stage.node.warm_transfer(to=SECOND, trigger_source=AGENT)
        await ending
    assert newer[AGENT].state is CONSULTING
    assert stage.alarms == []


async def test_customer_is_brought_back_though_an_earlier_call_is_told_of_late(
    stage: Stage,
) -> None:
    """The agent is there, and the customer would hear music for ever."""
    stage.simulator.answer_next(502, action="abort_transfer", times=6, dialled=False)
    async with stage.consult(bring_back_within=5.0):
        say_joined(stage, "an earlier one", NEXT_CUSTOMER, AGENT)
    assert stage.customer_is_with_agent
    assert count(stage, "abort_transfer") == 7
    assert stage.alarms == []


async def ring_by_hand(stage: Stage) -> Consult:
    """Hand the customer over without events, and let the partner answer."""
    consult = stage.consult(router=None, bring_back_within=2.0)
    await consult.start()
    await stage.until(CONSULTING, ON_HOLD, CONSULTING)
    return consult


async def test_abort_in_doubt_is_not_repeated_once_the_agent_transfers_anew(
    stage: Stage,
) -> None:
    """No event tells of the next call, but this pool has begun its transfer."""
    consult = await ring_by_hand(stage)
    stage.simulator.answer_next(502, action="abort_transfer", times=None, dialled=True)
    ending = asyncio.ensure_future(consult.abort())
    await until_sent(stage, "abort_transfer")
    newer = place_next_call(stage)
    await stage.node.warm_transfer(to=SECOND, trigger_source=AGENT)
    with pytest.raises(CustomerOnHoldError):
        await ending
    assert newer[AGENT].state is CONSULTING
    assert len(stage.alarms) == 1


async def test_abort_waits_for_the_answer_to_a_newer_transfer(stage: Stage) -> None:
    """What is refused ends nobody's hold: the first customer must be brought back."""
    consult = await ring_by_hand(stage)
    stage.simulator.answer_next(502, action="abort_transfer", dialled=False, times=4)
    ending = asyncio.ensure_future(consult.abort())
    await until_sent(stage, "abort_transfer")
    with pytest.raises(RejectedError):
        await stage.node.warm_transfer(to=SECOND, trigger_source=AGENT)
    await ending
    assert stage.customer_is_with_agent
    assert stage.alarms == []


async def test_nothing_is_aborted_while_a_newer_transfer_has_no_answer(
    stage: Stage,
) -> None:
    """It may be ringing by then, and an abort would end it."""
    consult = await ring_by_hand(stage)
    newer = place_next_call(stage)
    with stage.simulator.hold_answers():
        transfer = stage.node.warm_transfer(to=SECOND, trigger_source=AGENT)
        asking = asyncio.ensure_future(transfer)
        await stage.simulator.wait_for(held=1)
        ending = asyncio.ensure_future(consult.abort())
        await asyncio.wait({ending}, timeout=0.2)
        assert not ending.done()
    await asking
    with pytest.raises(CustomerOnHoldError):
        await ending
    assert count(stage, "abort_transfer") == 0
    assert newer[AGENT].state is CONSULTING


async def test_agent_who_transfers_anew_is_not_hung_up_again(stage: Stage) -> None:
    """The first hang-up was carried out; a second one cuts off the next customer."""
    consult = await ring_by_hand(stage)
    stage.simulator.answer_next(502, action="hangup", dialled=True, times=None)
    with stage.simulator.hold_answers():
        completing = asyncio.ensure_future(consult.complete())
        await stage.simulator.wait_for(held=1)
        newer = place_next_call(stage)
        transfer = stage.node.warm_transfer(to=SECOND, trigger_source=AGENT)
        asking = asyncio.ensure_future(transfer)
        await stage.simulator.wait_for(held=2)
    await asking
    with pytest.raises(CustomerOnHoldError):
        await completing
    assert newer[AGENT].state is CONSULTING
    assert len(stage.alarms) == 1


async def test_handover_that_was_forgotten_ends_no_newer_transfer(stage: Stage) -> None:
    """Its call has long been over when its pool is closed, or somebody completes it."""
    consult = await ring_by_hand(stage)
    newer = place_next_call(stage)
    await stage.node.warm_transfer(to=SECOND, trigger_source=AGENT)
    with pytest.raises(NotSentError):
        await consult.complete()
    await stage.pool.close()
    assert newer[AGENT].state is CONSULTING
    assert len(stage.alarms) == 1
