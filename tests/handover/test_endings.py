"""How each ring ended is told in a word that somebody can act on."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from aiophlo import Consult, Ending, EventRouter, NobodyAnsweredError
from aiophlo.handover.event_reading import UNANSWERED
from aiophlo.handover.ringing import unanswered
from aiophlo.model.handover_records import Tried
from aiophlo.simulator import Simulator
from aiophlo.webhooks.events import parse_event
from tests.support.doubles import pool_of
from tests.support.handover_stage import (
    AGENT,
    CONSULTING,
    CUSTOMER,
    FIRST,
    NODE,
    ON_HOLD,
    PHLO,
    RINGING,
    SECOND,
    Stage,
    set_stage,
)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Give a call whose agent wants to hand the customer over."""
    async with set_stage() as stage:
        yield stage


async def second_answers_after(stage: Stage, **event: str) -> Consult:
    """Let an event tell of the first one's ring, and the second one answer."""
    stage.people_are("ignores", FIRST, after=30.0)
    reaching = asyncio.ensure_future(
        stage.consult(to=[FIRST, SECOND], ring_for=30.0).__aenter__()
    )
    await stage.until(CONSULTING, ON_HOLD, RINGING)
    stage.router.feed(parse_event({"direction": "outbound", "to": FIRST, **event}))
    return await asyncio.wait_for(reaching, 5.0)


@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize(
    ("status", "ending"),
    [
        ("busy", Ending.BUSY),
        ("Busy", Ending.BUSY),
        ("rejected", Ending.DECLINED),
        ("failed", Ending.FAILED),
        ("no-answer", Ending.NO_ANSWER),
        ("timeout", Ending.NO_ANSWER),
    ],
)
async def test_ring_has_ended_as_the_event_says(
    stage: Stage, status: str, ending: Ending, placed: bool
) -> None:
    """Who is busy is asked again in a minute; a dead number is corrected."""
    where = {"conference_uuid": stage.call.conference_uuid} if placed else {}
    consult = await second_answers_after(stage, call_status=status, **where)
    assert consult.tried == (Tried(FIRST, ending), Tried(SECOND, Ending.ANSWERED))
    await consult.complete()
    assert consult.tried[-1] == Tried(SECOND, Ending.ANSWERED)


async def test_ring_of_the_one_before_says_nothing_of_the_next(stage: Stage) -> None:
    """The second supervisor would be called busy, and is only away from the desk."""
    stage.people_are("ignores", SECOND, after=30.0)
    busy = {"direction": "outbound", "to": FIRST, "call_status": "busy"}
    stage.people_are("ignores", FIRST, after=30.0)
    consult = stage.consult(to=[FIRST, SECOND], ring_for=0.2)
    reaching = asyncio.ensure_future(consult.__aenter__())
    await stage.until(CONSULTING, ON_HOLD, RINGING)
    stage.router.feed(parse_event(busy))
    await asyncio.wait({reaching})
    assert reaching.exception() is not None
    assert [one.ending for one in consult.tried] == [Ending.BUSY, Ending.NO_ANSWER]


async def test_partner_is_not_blamed_when_nothing_is_heard_of_the_call(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """The supervisor answered each time; the events went to another process."""
    deaf = EventRouter()
    for _ in "12":
        with pytest.raises(NobodyAnsweredError) as caught:
            await stage.consult(to=[FIRST, SECOND], router=deaf).__aenter__()
        endings = [one.ending for one in caught.value.tried]
        assert endings == [Ending.NOT_SEEN, Ending.NOT_SEEN]
        assert str(caught.value) == (
            "nobody is known to have taken the call: …55 (not_seen), …66 (not_seen);"
            " the customer is with the agent if they are in the call. not_seen: no"
            " event of that call came here; check the webhooks"
        )
    assert caplog.text.count("no event of that call came") == 1
    assert stage.customer_is_with_agent


async def test_customer_is_not_said_to_be_with_an_agent_who_had_left() -> None:
    """Nobody would look after them; a PHLO may take such a transfer all the same."""
    router, agent = EventRouter(), {"direction": "inbound", "from": AGENT}
    for what in ("ConferenceEnter", "ConferenceExit"):
        call = {"call_uuid": "leg", "conference_uuid": "conference"}
        router.feed(parse_event({"event": what, **agent, **call}))
    async with (
        Simulator(quota=None) as lenient,
        pool_of(lenient, answer_within=1.0) as pool,
    ):
        consult = pool.consult(
            pool.phlo(PHLO).multi_party_call(NODE),
            agent=AGENT,
            customer=CUSTOMER,
            to=FIRST,
            router=router,
            ring_for=0.05,
        )
        with pytest.raises(NobodyAnsweredError) as caught:
            await consult.__aenter__()
    assert str(caught.value) == (
        "nobody is known to have taken the call: …55 (not_seen); events told that the"
        " agent had left before. not_seen: no event of that call came here; check the"
        " webhooks"
    )


def test_every_status_of_an_unanswered_call_has_its_ending() -> None:
    """A status that is no ending would raise with a customer on hold."""
    endings = {status: unanswered(status) for status in UNANSWERED}
    assert Ending.LEFT not in endings.values()
    assert set(endings) > {"busy", "no-answer", "failed"}
