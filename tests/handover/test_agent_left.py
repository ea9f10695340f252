"""That an event says the agent has left is no success until a request proves it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from aiophlo import CustomerOnHoldError
from aiophlo.webhooks.events import parse_event
from tests.support.handover_stage import (
    AGENT,
    CONSULTING,
    CUSTOMER,
    FIRST,
    LEFT,
    ON_HOLD,
    TALKING,
    Stage,
    set_stage,
)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Give a call whose agent wants to hand the customer over."""
    async with set_stage() as stage:
        yield stage


def say_left(stage: Stage, who: str) -> None:
    """Tell that somebody left, though they didn't: forged, or Plivo's mistake."""
    fields = {"event": "ConferenceExit", "direction": "inbound", "from": who}
    where = {"conference_uuid": stage.call.conference_uuid}
    leg = {"call_uuid": stage.call[who].call_uuid}
    assert stage.router.feed(parse_event({**fields, **where, **leg}))


def hangups(stage: Stage) -> int:
    """Count the requests to hang the agent up."""
    return sum(one.action == "hangup" for one in stage.simulator.ledger.requests)


@pytest.mark.parametrize("completing", [True, False])
async def test_customer_is_with_the_partner_when_the_agent_was_said_to_leave(
    stage: Stage, completing: bool
) -> None:
    """The service said done, and the customer listens to music until they hang up."""
    async with stage.consult() as consult:
        say_left(stage, AGENT)
        if completing:
            assert await consult.complete() == FIRST
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)
    assert stage.alarms == []


async def test_hand_over_to_the_partner_is_true_when_the_agent_was_said_to_leave(
    stage: Stage,
) -> None:
    """A bot that is told that it has left must not be believed by itself."""

    async def accept(_: object) -> bool:
        say_left(stage, AGENT)
        await asyncio.Event().wait()
        return True

    options = stage.options(accept=accept)
    assert await stage.pool.hand_over(stage.node, **options) == FIRST
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)


async def test_customer_is_back_and_it_is_an_alarm_when_it_cannot_be_proved(
    stage: Stage,
) -> None:
    """Event and request say the opposite: somebody has to look."""
    stage.simulator.answer_next(403, action="hangup", times=None)
    with pytest.raises(CustomerOnHoldError):  # noqa: PT012 -- the block raises
        async with stage.consult() as consult:
            say_left(stage, AGENT)
            await consult.complete()
    assert stage.customer_is_with_agent
    assert len(stage.alarms) == 1
    assert hangups(stage) == 1  # what was refused would be refused again


@pytest.mark.parametrize("status", [429, 500])
async def test_abort_proves_it_where_no_hangup_can(stage: Stage, status: int) -> None:
    """A moment's trouble with one request is no reason to cry out."""
    stage.simulator.answer_next(status, action="hangup", dialled=False, times=None)
    async with stage.consult(send_within=0.3) as consult:
        stage.call.leave(stage.call[AGENT])
        assert await consult.complete() == FIRST
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)
    assert stage.alarms == []


async def test_hangup_in_doubt_is_repeated_before_an_abort_is_tried(
    stage: Stage,
) -> None:
    """An abort might fetch back a customer who talks to the partner."""
    stage.simulator.answer_next(500, action="hangup", dialled=False, times=4)
    async with stage.consult() as consult:
        say_left(stage, AGENT)
        assert await consult.complete() == FIRST
    assert {one.action for one in stage.simulator.ledger.requests} == {
        "warm_transfer",
        "hangup",
    }
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)


async def test_agent_is_not_hung_up_once_the_partner_has_left(stage: Stage) -> None:
    """The agent is there, whatever the event said, and is all that the customer has."""
    stage.simulator.answer_next(429, action="hangup", headers={"Retry-After": "1"})
    with pytest.raises(CustomerOnHoldError):  # noqa: PT012 -- the block raises
        async with stage.consult():
            say_left(stage, AGENT)
            await stage.simulator.wait_for(lambda ledger: ledger.refused_429 == 1)
            stage.call.leave(stage.call[FIRST])
            await stage.simulator.wait_for(lambda _: len(stage.simulator.posts) == 4)
    assert stage.customer_is_with_agent
    assert stage.simulator.ledger.applied("hangup", AGENT) == 0


async def test_outage_is_an_alarm_when_the_agent_is_said_to_have_left(
    stage: Stage,
) -> None:
    """Nobody can say where the customer is, so somebody has to be told."""
    with pytest.raises(CustomerOnHoldError):  # noqa: PT012 -- the block raises
        async with stage.consult(bring_back_within=0.3) as consult:
            stage.simulator.answer_next(502, dialled=False, times=None)
            say_left(stage, AGENT)
            await consult.complete()
    assert stage.states()[:3] == (CONSULTING, ON_HOLD, CONSULTING)
    assert len(stage.alarms) == 1


async def test_proof_is_not_asked_for_when_the_hangup_was_accepted(
    stage: Stage,
) -> None:
    """The event often comes before the answer: two requests per handover are enough."""
    async with stage.consult() as consult:
        with stage.simulator.hold_answers():
            completing = asyncio.ensure_future(consult.complete())
            await stage.simulator.wait_for(held=1)
            await asyncio.wait_for(consult.ended(), 2.0)  # the event has come
        await completing
    assert hangups(stage) == 1
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)


async def test_agent_is_not_hung_up_once_the_customer_has_left(stage: Stage) -> None:
    """There is nothing to prove any more, and agent and partner may go on talking."""
    async with stage.consult() as consult:
        say_left(stage, CUSTOMER)
        say_left(stage, AGENT)
        assert await consult.complete() == FIRST
    assert hangups(stage) == 0
