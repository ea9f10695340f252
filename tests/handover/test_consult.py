"""A customer ends up with the agent or the partner, or somebody hears of it."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiophlo import (
    Consult,
    CredentialsError,
    CustomerLeftError,
    CustomerOnHoldError,
    Ending,
    EngagedError,
    EventRouter,
    HandoverError,
    InDoubtError,
    InvalidInputError,
    Journal,
    JournalError,
    NobodyAnsweredError,
    NotFoundError,
    NotSentError,
    PartnerLeftError,
    Party,
    Quota,
    RejectedError,
)
from aiophlo.simulator import Callback, Fault, Habit, Reaction
from aiophlo.webhooks.events import parse_event
from tests.support.doubles import account_of, pool_of
from tests.support.handover_stage import (
    AGENT,
    CONSULTING,
    CUSTOMER,
    FIRST,
    LEFT,
    ON_HOLD,
    RINGING,
    SECOND,
    TALKING,
    Stage,
    set_stage,
)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Give a call whose agent wants to hand the customer over."""
    async with set_stage() as stage:
        yield stage


@pytest.fixture(params=[True, False], ids=["returns", "stays"])
async def either_stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """Give one of each kind: a transfer that fails returns the customer, or not."""
    async with set_stage(returns_customer=request.param) as stage:
        yield stage


# The way it should go.


async def test_customer_is_with_the_partner_when_completed(stage: Stage) -> None:
    """That is what it's all for."""
    async with stage.consult() as consult:
        assert stage.states()[:3] == (CONSULTING, ON_HOLD, CONSULTING)
        assert consult.partner == FIRST
        assert await consult.complete() == FIRST
        assert stage.states()[:3] == (LEFT, TALKING, TALKING)
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)
    assert stage.simulator.ledger.applied("abort_transfer", AGENT) == 0
    assert stage.alarms == []


async def test_completing_twice_is_completing_once(stage: Stage) -> None:
    """A nervous click must not hang up somebody else."""
    async with stage.consult() as consult:
        await consult.complete()
        assert await consult.complete() == FIRST
    assert stage.simulator.ledger.applied("hangup", AGENT) == 1


async def test_customer_is_back_when_the_block_just_ends(stage: Stage) -> None:
    """The talk showed that the partner can't help."""
    async with stage.consult():
        pass
    assert stage.customer_is_with_agent


async def test_customer_is_back_when_the_block_raises(stage: Stage) -> None:
    """A bug in the agent's screen must not cost the caller."""
    with pytest.raises(ZeroDivisionError):
        async with stage.consult():
            raise ZeroDivisionError
    assert stage.customer_is_with_agent


@pytest.mark.parametrize("ringing", [True, False])
async def test_customer_is_back_when_time_is_over(stage: Stage, ringing: bool) -> None:
    """Nobody waits for ever for a partner who talks and talks."""
    if ringing:
        stage.people_are("ignores", FIRST, after=30.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), stage.consult(ring_for=5.0):
            await asyncio.sleep(5.0)
    assert stage.customer_is_with_agent


async def test_customer_is_back_when_aborted_in_the_block(stage: Stage) -> None:
    """The agent's other button."""
    async with stage.consult() as consult:
        await consult.abort()
        assert stage.customer_is_with_agent
        with pytest.raises(HandoverError):
            await consult.complete()
    assert stage.simulator.ledger.applied("abort_transfer", AGENT) == 1


async def test_partner_leaving_is_told(stage: Stage) -> None:
    """The block should hear of it, rather than complete into nothing."""
    async with stage.consult() as consult:
        stage.call.leave(stage.call[FIRST])
        await asyncio.wait_for(consult.partner_left(), 2.0)
        with pytest.raises(PartnerLeftError):
            await consult.complete()
        assert stage.customer_is_with_agent
    assert stage.simulator.ledger.applied("hangup", AGENT) == 0


@pytest.mark.parametrize(
    ("who", "party"),
    [
        (FIRST, Party.PARTNER),
        (CUSTOMER, Party.CUSTOMER),
        (AGENT, Party.AGENT),
    ],
)
async def test_who_left_is_told(stage: Stage, who: str, party: Party) -> None:
    """The agent's screen has to say why the talk is over."""
    async with stage.consult() as consult:
        leaving = asyncio.ensure_future(consult.partner_left())
        ended = asyncio.ensure_future(consult.ended())
        await asyncio.sleep(0)
        stage.call.leave(stage.call[who])
        assert await asyncio.wait_for(ended, 2.0) is party
        assert await asyncio.wait_for(leaving, 2.0) is (who == FIRST)
        assert await consult.ended() is party  # and again
        for other in {FIRST, CUSTOMER} - {who}:
            stage.call.leave(stage.call[other])
        await stage.simulator.wait_for(lambda _: len(stage.simulator.posts) >= 5)
        assert await consult.ended() is party  # who left first, whoever follows
    assert stage.alarms == []


async def test_nobody_left_when_the_talk_ended_otherwise(stage: Stage) -> None:
    """Taken off the line by us, the partner would be blamed for it."""
    async with stage.consult() as consult:
        ended = asyncio.ensure_future(consult.ended())
        await asyncio.sleep(0)
        await consult.abort()
        assert await asyncio.wait_for(ended, 2.0) is None
        assert await consult.ended() is None


async def test_partner_before_this_one_has_not_left_this_talk(stage: Stage) -> None:
    """The second supervisor's talk would be over as it begins."""
    stage.people_are("answers", FIRST, stays=0.05)

    async def accept(consult: Consult) -> bool:
        if consult.partner == FIRST:
            await consult.partner_left()
            return False
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(consult.ended(), 0.05)
        return True

    options = stage.options(to=[FIRST, SECOND])
    taken = await stage.pool.hand_over(stage.node, **options, accept=accept)
    assert taken == SECOND


# One after the other.


@pytest.mark.parametrize("reaction", ["busy", "declines", "ignores"])
async def test_next_one_is_rung_when_the_first_does_not_take_it(
    either_stage: Stage, reaction: str
) -> None:
    """There is always a second supervisor."""
    stage = either_stage
    stage.people_are(reaction, FIRST, after=0.05)
    async with stage.consult(to=[FIRST, SECOND]) as consult:
        assert consult.partner == SECOND
        assert stage.states() == (CONSULTING, ON_HOLD, LEFT, CONSULTING)
        await consult.complete()
    assert stage.states() == (LEFT, TALKING, LEFT, TALKING)
    assert stage.rung == [FIRST, SECOND]


async def test_next_one_is_rung_at_once_when_an_event_says_busy(stage: Stage) -> None:
    """Twenty seconds of music for a phone that isn't ringing."""
    stage.people_are("ignores", FIRST, after=30.0)
    reaching = asyncio.ensure_future(
        stage.consult(to=[FIRST, SECOND], ring_for=30.0).__aenter__()
    )
    await stage.until(CONSULTING, ON_HOLD, RINGING)
    busy = {"direction": "outbound", "to": FIRST, "call_status": "busy"}
    stage.router.feed(
        parse_event({**busy, "conference_uuid": stage.call.conference_uuid})
    )
    consult = await asyncio.wait_for(reaching, 2.0)
    assert consult.partner == SECOND
    await consult.abort()
    assert stage.customer_is_with_agent


async def test_error_says_who_was_tried_when_nobody_answers(
    either_stage: Stage,
) -> None:
    """The agent has to tell the customer something."""
    stage = either_stage
    stage.people_are("busy", FIRST)
    stage.people_are("ignores", SECOND, after=30.0)
    with pytest.raises(NobodyAnsweredError) as caught:
        async with stage.consult(to=[FIRST, SECOND]):
            pytest.fail("nobody has answered")
    assert [(one.to, one.ending) for one in caught.value.tried] == [
        (FIRST, Ending.NO_ANSWER),
        (SECOND, Ending.NO_ANSWER),
    ]
    assert stage.customer_is_with_agent
    assert "…55 (no_answer), …66 (no_answer)" in str(caught.value)
    shown = f"{caught.value!r} {vars(caught.value)}"
    assert FIRST[-7:] not in shown
    assert SECOND[-7:] not in shown


async def test_partner_who_leaves_while_joining_is_not_taken(stage: Stage) -> None:
    """Picked up, and gone at once."""
    stage.simulator.post_events(None)
    stage.people_are("answers", FIRST, stays=0.05)
    uuid = stage.call.conference_uuid
    reaching = asyncio.ensure_future(
        stage.consult(to=[FIRST, SECOND], ring_for=30.0).__aenter__()
    )
    await stage.until(TALKING, TALKING, LEFT)
    for name in ("ConferenceExit", "ConferenceEnter"):  # the wrong way round
        fields = {"event": name, "direction": "outbound", "to": FIRST}
        stage.router.feed(
            parse_event({**fields, "conference_uuid": uuid, "call_uuid": "leg"})
        )
    await stage.until(CONSULTING, ON_HOLD, LEFT, CONSULTING)
    fields = {"event": "ConferenceEnter", "direction": "outbound", "to": SECOND}
    stage.router.feed(parse_event({**fields, "conference_uuid": uuid}))
    consult = await asyncio.wait_for(reaching, 2.0)
    assert consult.partner == SECOND
    await consult.abort()


async def test_next_one_is_rung_when_plivo_refuses_the_first(stage: Stage) -> None:
    """A number that can't be dialled is no reason to give up."""
    stage.simulator.answer_next(400, to=FIRST)
    async with stage.consult(to=[FIRST, SECOND]) as consult:
        assert consult.partner == SECOND
    assert stage.customer_is_with_agent
    assert stage.rung == [SECOND]


async def test_refusal_of_all_says_so(stage: Stage) -> None:
    """Refused is not the same as unanswered."""
    stage.simulator.answer_next(400, to=FIRST)
    with pytest.raises(NobodyAnsweredError) as caught:
        await stage.consult().__aenter__()
    assert [one.ending for one in caught.value.tried] == [Ending.REFUSED]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, CredentialsError), (404, NotFoundError), (429, NotSentError)],
)
async def test_nobody_else_is_tried_when_it_would_be_pointless(
    stage: Stage, status: int, kind: type[Exception]
) -> None:
    """Wrong credentials refuse the second one as well."""
    stage.simulator.answer_next(status, action="warm_transfer", times=None)
    with pytest.raises(kind):
        await stage.consult(to=[FIRST, SECOND], send_within=0.3).__aenter__()
    assert stage.rung == []
    assert stage.customer_is_with_agent
    assert len({one.to for one in stage.simulator.ledger.requests}) == 1


async def test_who_was_rung_is_told_when_the_next_one_cannot_be(stage: Stage) -> None:
    """A verdict of not sent would say that no phone rang, and would ring it again."""
    stage.simulator.set_habit(Habit(Reaction.DECLINES), address=FIRST)
    stage.simulator.answer_next(429, to=SECOND, times=None)
    with pytest.raises(NobodyAnsweredError) as caught:
        await stage.consult(to=[FIRST, SECOND], send_within=0.3).__aenter__()
    assert [(one.to, one.ending) for one in caught.value.tried] == [
        (FIRST, Ending.NO_ANSWER),
        (SECOND, Ending.NOT_SENT),
    ]
    assert isinstance(caught.value.__cause__, NotSentError)
    assert str(caught.value.__cause__) in str(caught.value)
    assert stage.rung == [FIRST]
    assert stage.customer_is_with_agent


async def test_nobody_is_rung_when_cancelled_before_the_request_left(
    stage: Stage,
) -> None:
    """A click taken back in time must not make a phone ring seconds later."""
    account = account_of(stage.simulator, quota=Quota(1, per=5.0))
    async with pool_of(stage.simulator, account) as pool:
        node = pool.phlo("p").multi_party_call("n")
        await node.member(AGENT).mute()  # which takes the slot of five seconds
        consult = pool.consult(node, **stage.options())
        started = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await consult.__aenter__()
        assert asyncio.get_running_loop().time() - started < 2.0
    assert stage.rung == []
    assert stage.customer_is_with_agent


# In doubt.


async def test_transfer_in_doubt_is_settled_by_an_answer(stage: Stage) -> None:
    """A lost answer must not cost the consult, and never rings twice."""
    stage.simulator.drop_next_answer(action="warm_transfer")
    async with stage.consult() as consult:
        await consult.complete()
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)
    assert stage.rung == [FIRST]


async def test_transfer_in_doubt_is_out_before_the_next_is_rung(
    either_stage: Stage,
) -> None:
    """Two phones would ring for one customer."""
    stage = either_stage
    stage.people_are("ignores", FIRST, after=30.0)
    stage.simulator.drop_next_answer(action="warm_transfer")
    async with stage.consult(to=[FIRST, SECOND]) as consult:
        assert consult.partner == SECOND
        assert stage.states() == (CONSULTING, ON_HOLD, LEFT, CONSULTING)
    assert stage.customer_is_with_agent


async def test_transfer_that_never_arrived_is_nobody_answering(stage: Stage) -> None:
    """Silence proves nothing, but two refused aborts do."""
    stage.simulator.fault_next(Fault.DROP_BEFORE_READ, action="warm_transfer")
    with pytest.raises(NobodyAnsweredError):
        await stage.consult().__aenter__()
    assert stage.customer_is_with_agent
    aborts = [
        one for one in stage.simulator.ledger.requests if one.action == "abort_transfer"
    ]
    assert len(aborts) == 2


async def test_abort_is_repeated_until_it_is_clear(stage: Stage) -> None:
    """Hold music must not outlast a hiccup."""
    stage.simulator.answer_next(500, action="abort_transfer", dialled=False, times=6)
    async with stage.consult():
        pass
    assert stage.customer_is_with_agent
    assert stage.alarms == []


async def test_alarm_is_raised_when_the_customer_cannot_be_brought_back(
    stage: Stage, tmp_path: Path
) -> None:
    """Somebody has to pick up a phone and help."""
    stage.simulator.answer_next(403, action="abort_transfer", times=None)
    async with Journal(tmp_path / "journal") as journal:
        with pytest.raises(CustomerOnHoldError) as caught:
            async with stage.consult(journal=journal):
                pass
        (left,) = journal.handovers.left_open()
    assert stage.states()[:2] == (CONSULTING, ON_HOLD)
    (record,) = stage.alarms
    assert (record.name, record.levelname) == ("aiophlo", "CRITICAL")
    fields = vars(record)
    assert fields["phlo_handover"] == left.id
    assert fields["phlo_customer"] == "…44"
    assert caught.value.handover == left
    shown = f"{fields} {record.getMessage()} {caught.value!r} {caught.value}"
    for address in (AGENT, CUSTOMER, FIRST):
        assert address[-7:] not in shown  # fewer digits may stand in an id or a time
    assert left.agent == AGENT


async def test_alarm_is_raised_when_aborts_stay_in_doubt(stage: Stage) -> None:
    """That the partner has left doesn't say where the customer is."""
    stage.simulator.answer_next(502, action="abort_transfer", dialled=False, times=None)
    with pytest.raises(CustomerOnHoldError):
        async with stage.consult(bring_back_within=0.3):
            stage.call.leave(stage.call[FIRST])
    assert len(stage.alarms) == 1


async def test_own_error_is_kept_beneath_the_alarm(stage: Stage) -> None:
    """Whoever helps the customer wants to know what happened, too."""
    stage.simulator.answer_next(403, action="abort_transfer", times=None)
    with pytest.raises(CustomerOnHoldError) as caught:
        async with stage.consult():
            raise ZeroDivisionError
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# Completing, when it isn't that simple.


async def test_partner_who_leaves_as_the_agent_hangs_up_is_an_alarm() -> None:
    """The customer is alone in that moment, and nobody did wrong."""
    async with set_stage(delay=0.05) as stage:
        with pytest.raises(CustomerOnHoldError):  # noqa: PT012 -- the block raises
            async with stage.consult(ring_for=2.0) as consult:
                stage.call.leave(stage.call[FIRST])
                await consult.complete()
        assert stage.states()[:2] == (LEFT, TALKING)
        assert len(stage.alarms) == 1


async def test_alarm_that_was_caught_is_not_raised_again() -> None:
    """Whoever has begun to help must not be interrupted by the same news."""
    async with set_stage(delay=0.05) as stage:
        async with stage.consult(ring_for=2.0) as consult:
            stage.call.leave(stage.call[FIRST])
            with pytest.raises(CustomerOnHoldError):
                await consult.complete()
        assert len(stage.alarms) == 1


async def test_customer_who_leaves_with_the_partner_is_no_alarm() -> None:
    """A short talk that both have ended is a good end."""
    async with set_stage(delay=0.05) as stage:
        async with stage.consult(ring_for=2.0) as consult:
            completing = asyncio.ensure_future(consult.complete())
            await stage.until(LEFT, TALKING, TALKING)
            stage.call.leave(stage.call[FIRST])
            stage.call.leave(stage.call[CUSTOMER])
            assert await completing == FIRST
        assert stage.alarms == []


async def test_agent_who_hangs_up_has_completed(stage: Stage) -> None:
    """Most agents just press the red button."""
    async with stage.consult() as consult:
        stage.call.leave(stage.call[AGENT])
        assert await consult.complete() == FIRST
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)
    assert stage.alarms == []


async def test_agent_who_hangs_up_before_the_block_ends_has_completed(
    stage: Stage,
) -> None:
    """Nobody may be fetched back from the partner by a block that just ends."""
    async with stage.consult():
        stage.call.leave(stage.call[AGENT])
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)
    assert stage.alarms == []


async def test_agent_who_hangs_up_before_an_answer_leaves_it_to_the_partner(
    stage: Stage,
) -> None:
    """The customer is on hold until somebody picks up."""
    stage.people_are("answers", FIRST, after=0.1)
    reaching = asyncio.ensure_future(stage.consult(ring_for=1.0).__aenter__())
    await stage.until(CONSULTING, ON_HOLD, RINGING)
    stage.call.leave(stage.call[AGENT])
    consult = await reaching
    assert await consult.complete() == FIRST
    await consult.abort()  # which there is nothing left to do for
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)
    assert stage.alarms == []


async def test_agent_who_hangs_up_when_nobody_answers_is_an_alarm(
    stage: Stage,
) -> None:
    """There is nobody left to bring the customer back to."""
    stage.people_are("busy", FIRST, after=0.1)
    reaching = asyncio.ensure_future(stage.consult(to=[FIRST, SECOND]).__aenter__())
    await stage.until(CONSULTING, ON_HOLD, RINGING)
    stage.call.leave(stage.call[AGENT])
    with pytest.raises(CustomerOnHoldError):
        await reaching
    assert stage.states() == (LEFT, ON_HOLD, LEFT, None)


async def test_agent_who_hangs_up_unheard_has_completed() -> None:
    """The event is still under way when the hang-up is refused for want of an agent."""
    async with set_stage(delay=0.05) as stage:
        async with stage.consult(ring_for=2.0) as consult:
            stage.call.leave(stage.call[AGENT])
            assert await consult.complete() == FIRST
        assert stage.states()[:3] == (LEFT, TALKING, TALKING)
        assert stage.alarms == []


async def test_agent_who_was_gone_before_is_an_alarm() -> None:
    """The transfer is refused, and the customer talks to nobody."""
    async with set_stage(delay=0.05) as stage:
        stage.call.leave(stage.call[AGENT])
        with pytest.raises(CustomerOnHoldError) as caught:
            await stage.consult().__aenter__()
        assert isinstance(caught.value.__cause__, NotFoundError)
        assert len(stage.alarms) == 1


async def test_nobody_rings_for_a_customer_who_has_hung_up(stage: Stage) -> None:
    """The partner would pick up for nobody."""
    stage.people_are("ignores", FIRST, after=30.0)
    reaching = asyncio.ensure_future(
        stage.consult(to=[FIRST, SECOND], ring_for=30.0).__aenter__()
    )
    await stage.until(CONSULTING, ON_HOLD, RINGING)
    stage.call.leave(stage.call[CUSTOMER])
    with pytest.raises(CustomerLeftError):
        await asyncio.wait_for(reaching, 2.0)
    assert stage.reached == set()
    assert stage.rung == [FIRST]


async def test_nobody_is_rung_when_the_customer_hangs_up_before_it_leaves(
    stage: Stage,
) -> None:
    """A request that waits for its slot must not ring for nobody seconds later."""
    account = account_of(stage.simulator, quota=Quota(1, per=1.0))
    async with pool_of(stage.simulator, account) as pool:
        node = pool.phlo("p").multi_party_call("n")
        await node.member(AGENT).mute()  # which takes the slot
        consult = pool.consult(node, **stage.options())
        reaching = asyncio.ensure_future(consult.__aenter__())
        for _ in range(3):
            await asyncio.sleep(0)
        assert "asking" in repr(consult)
        stage.call.leave(stage.call[CUSTOMER])
        with pytest.raises(CustomerLeftError):
            await reaching
    assert stage.rung == []


@pytest.mark.parametrize(
    ("who", "error"), [(CUSTOMER, CustomerLeftError), (AGENT, CustomerOnHoldError)]
)
async def test_nobody_is_rung_when_the_end_is_told_as_it_begins(
    stage: Stage, who: str, error: type[Exception]
) -> None:
    """Whoever answered would never be taken off the line: the handover is over."""
    reaching = asyncio.ensure_future(stage.consult().__aenter__())
    await asyncio.sleep(0)  # the target is chosen, and about to be asked for
    fields = {"event": "ConferenceExit", "direction": "inbound", "from": who}
    where = {"conference_uuid": stage.call.conference_uuid}
    leg = {"call_uuid": stage.call[who].call_uuid}
    stage.router.feed(parse_event({**fields, **where, **leg}))
    with pytest.raises(error):
        await reaching
    assert stage.rung == []


async def test_completing_for_nobody_hangs_nobody_up(stage: Stage) -> None:
    """The agent still wants to say goodbye to the partner's chair."""
    async with stage.consult() as consult:
        stage.call.leave(stage.call[CUSTOMER])
        await stage.simulator.wait_for(lambda _: len(stage.simulator.posts) == 4)
        with pytest.raises(CustomerLeftError):
            await consult.complete()
    assert stage.states()[0] is TALKING
    assert stage.alarms == []


async def test_hangup_can_be_tried_again_when_it_was_refused(stage: Stage) -> None:
    """The agent is still there, and so is everybody else."""
    stage.simulator.answer_next(400, action="hangup")
    async with stage.consult() as consult:
        with pytest.raises(RejectedError):
            await consult.complete()
        assert stage.states()[:3] == (CONSULTING, ON_HOLD, CONSULTING)
        assert await consult.complete() == FIRST
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)


async def test_customer_is_back_when_the_hangup_could_not_be_sent(
    stage: Stage,
) -> None:
    """Nothing has changed, so all can be put back."""
    stage.simulator.answer_next(429, action="hangup", times=None)
    with pytest.raises(NotSentError):
        async with stage.consult(send_within=0.2) as consult:
            await consult.complete()
    assert stage.customer_is_with_agent


async def test_hangup_in_doubt_is_settled_by_the_agent_leaving(stage: Stage) -> None:
    """Bringing back a customer who talks to the partner would be absurd."""
    stage.simulator.drop_next_answer(action="hangup", times=None)
    async with stage.consult() as consult:
        assert await consult.complete() == FIRST
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)
    assert stage.alarms == []


async def test_customer_is_back_when_the_hangup_stays_in_doubt(stage: Stage) -> None:
    """An accepted abort proves that the agent is still there."""
    stage.simulator.answer_next(500, action="hangup", dialled=False, times=None)
    with pytest.raises(InDoubtError):
        async with stage.consult() as consult:
            await consult.complete()
    assert stage.customer_is_with_agent
    assert stage.alarms == []


async def test_agent_is_not_hung_up_when_the_partner_leaves_first(
    stage: Stage,
) -> None:
    """A hang-up that waits for a pause to end is looked at again before it leaves."""
    stage.simulator.answer_next(429, action="hangup", headers={"Retry-After": "1"})
    with pytest.raises(PartnerLeftError):  # noqa: PT012 -- the block raises
        async with stage.consult() as consult:
            completing = asyncio.ensure_future(consult.complete())
            await stage.simulator.wait_for(lambda ledger: ledger.refused_429 == 1)
            stage.call.leave(stage.call[FIRST])
            await completing
    assert stage.customer_is_with_agent
    assert stage.simulator.ledger.applied("hangup", AGENT) == 0


async def test_resumed_call_is_nobody_on_hold(stage: Stage) -> None:
    """Three may talk; leaving the block then changes nothing."""
    async with stage.consult():
        await stage.node.member(AGENT).resume_call()
    assert stage.states()[:3] == (TALKING, TALKING, TALKING)
    assert stage.alarms == []


# One handover at a time.


async def test_second_handover_of_an_agent_is_refused(stage: Stage) -> None:
    """Two transfers of one agent would undo each other."""
    async with stage.consult() as consult:
        with pytest.raises(EngagedError, match="agent") as caught:
            await stage.consult(to=[SECOND]).__aenter__()
        assert caught.value.field == "agent"
        assert "52223333" not in str(caught.value)
        await consult.complete()
    assert stage.rung == [FIRST]


async def test_second_handover_to_a_target_is_refused(stage: Stage) -> None:
    """A supervisor who talks to one agent can't answer another."""
    async with stage.consult():
        other = stage.consult(agent="+14152220001", customer="+14152220002")
        with pytest.raises(EngagedError, match="to:"):
            await other.__aenter__()
    async with stage.consult():
        pass  # and after it all are free again
    assert stage.rung == [FIRST, FIRST]


async def test_engaged_target_is_passed_over_when_there_are_others(
    stage: Stage,
) -> None:
    """A team shares its list of supervisors."""
    agent, customer = "+14152220001", "+14152220002"
    call = stage.simulator.place_call("p", "n", agent=agent, customer=customer)
    async with (
        stage.consult(),
        stage.consult(agent=agent, customer=customer, to=[FIRST, SECOND]) as other,
    ):
        assert other.partner == SECOND
        await other.complete()
    assert call[customer].state is TALKING
    assert stage.rung == [FIRST, SECOND]


async def test_shared_target_takes_many_callers(stage: Stage) -> None:
    """The number of a queue is nobody's in particular."""
    agent, customer = "+14152220001", "+14152220002"
    call = stage.simulator.place_call("p", "n", agent=agent, customer=customer)
    options = {"to": [FIRST], "shared": [FIRST]}
    async with (
        stage.consult(**options) as consult,
        stage.consult(agent=agent, customer=customer, **options) as other,
    ):
        with pytest.raises(EngagedError, match="agent"):  # who is one person still
            await stage.consult(**options).__aenter__()
        assert await other.complete() == FIRST
        assert await consult.complete() == FIRST
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)
    assert call[customer].state is TALKING
    assert stage.rung == [FIRST, FIRST]


async def test_next_one_is_rung_when_nobody_of_the_shared_answers(stage: Stage) -> None:
    """The queue is closed at night, and nothing was kept of it."""
    stage.people_are("busy", FIRST)
    async with stage.consult(to=[FIRST, SECOND], shared=FIRST) as consult:
        assert consult.partner == SECOND


async def test_target_is_free_again_once_out(stage: Stage) -> None:
    """The next agent may ask whoever did not answer this one."""
    agent, customer = "+14152220001", "+14152220002"
    stage.simulator.place_call("p", "n", agent=agent, customer=customer)
    stage.people_are("busy", FIRST)
    async with stage.consult(to=[FIRST, SECOND]):
        stage.people_are("answers", FIRST)
        other = stage.consult(agent=agent, customer=customer)
        async with other:
            assert other.partner == FIRST


async def test_consult_is_for_once(stage: Stage) -> None:
    """What was tried belongs to one handover."""
    consult = stage.consult()
    async with consult:
        pass
    with pytest.raises(InvalidInputError, match="new one"):
        await consult.__aenter__()


async def test_nothing_happens_until_it_is_entered(stage: Stage) -> None:
    """Making one must not take hold of anybody."""
    consult = stage.consult()
    await consult.abort()
    with pytest.raises(InvalidInputError, match="answered"):
        assert consult.partner
    with pytest.raises(InvalidInputError, match="answered"):
        await consult.complete()
    assert stage.simulator.ledger.received == 0


# By hand.


async def test_waiting_without_a_router_is_refused(stage: Stage) -> None:
    """Nobody can see an answer without events, and the API says so."""
    with pytest.raises(InvalidInputError, match=r"router: .*start\(\)"):
        await stage.consult(router=None).__aenter__()
    assert stage.simulator.ledger.received == 0


async def test_customer_is_with_the_partner_by_hand(stage: Stage) -> None:
    """The agent hears the partner, and clicks."""
    consult = stage.consult(router=None)
    await consult.start()
    await stage.until(CONSULTING, ON_HOLD, CONSULTING)
    assert await consult.complete() == FIRST
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)
    other = stage.consult(router=None, agent="+14152220001", customer="+14152220002")
    with pytest.raises(NotFoundError):
        await other.start()  # nobody is engaged any more, but who is that?


async def test_customer_is_back_by_hand(stage: Stage) -> None:
    """The agent hears ringing, and clicks."""
    stage.people_are("ignores", FIRST, after=30.0)
    consult = stage.consult(router=None)
    await consult.start()
    await consult.abort()
    assert stage.customer_is_with_agent


async def test_transfer_in_doubt_is_taken_back_by_hand(stage: Stage) -> None:
    """Without events nothing would settle it."""
    stage.simulator.drop_next_answer(action="warm_transfer")
    with pytest.raises(InDoubtError):
        await stage.consult(router=None).start()
    assert stage.customer_is_with_agent


async def test_several_targets_by_hand_are_refused(stage: Stage) -> None:
    """Who of them has answered, nobody would know."""
    with pytest.raises(InvalidInputError, match="to:"):
        await stage.consult(router=None, to=[FIRST, SECOND]).start()


# Closing.


@pytest.mark.parametrize("by_hand", [True, False])
async def test_closing_brings_the_customer_back(stage: Stage, by_hand: bool) -> None:
    """A deployment in the middle of a talk."""
    consult = stage.consult(router=None if by_hand else stage.router)
    await (consult.start() if by_hand else consult.__aenter__())
    await stage.pool.close()
    assert stage.customer_is_with_agent
    with pytest.raises(HandoverError):
        await consult.complete()


async def test_closing_ends_the_ringing(stage: Stage) -> None:
    """The same, a little earlier."""
    stage.people_are("ignores", FIRST, after=30.0)
    reaching = asyncio.ensure_future(
        stage.consult(to=[FIRST, SECOND], ring_for=30.0).__aenter__()
    )
    await stage.until(CONSULTING, ON_HOLD, RINGING)
    await stage.pool.close()
    assert stage.customer_is_with_agent
    with pytest.raises(HandoverError, match="ended from elsewhere"):
        await reaching
    assert stage.rung == [FIRST]


async def test_closed_pool_begins_no_handover(stage: Stage) -> None:
    """Nobody would see it through."""
    consult = stage.consult()
    await stage.pool.close()
    with pytest.raises(NotSentError, match=r"\(closed\): the pool is closed"):
        await consult.__aenter__()
    assert stage.simulator.ledger.received == 0


async def test_closing_gives_up_loudly() -> None:
    """A shutdown that hangs for ever helps nobody, and neither does a quiet one."""
    async with set_stage() as stage:
        consult = await stage.consult(bring_back_within=0.2).__aenter__()
        stage.simulator.answer_next(502, action="abort_transfer", times=None)
        await stage.pool.close()
        assert len(stage.alarms) == 1
        with pytest.raises(CustomerOnHoldError):
            await consult.abort()


# The journal.


async def test_handover_is_written_down_before_anything_leaves(
    stage: Stage, tmp_path: Path
) -> None:
    """A kill right after the request must leave a trace."""
    stage.people_are("ignores", FIRST, after=30.0)
    async with Journal(tmp_path / "journal") as journal:
        with stage.simulator.hold_answers():
            task = asyncio.ensure_future(stage.consult(journal=journal).__aenter__())
            await stage.simulator.wait_for(dials=1)
            with Journal.read(tmp_path / "journal") as reader:
                assert [one.agent for one in reader.handovers()] == [AGENT]
        assert journal.handovers.left_open() == []  # somebody cares for it
        with pytest.raises(NobodyAnsweredError):
            await task
        with Journal.read(tmp_path / "journal") as reader:
            assert reader.handovers() == []


async def test_nothing_leaves_when_it_cannot_be_written_down(
    stage: Stage, tmp_path: Path
) -> None:
    """A full disk must cost the transfer, not the customer."""
    journal = Journal(tmp_path / "journal")
    with pytest.raises(JournalError):
        await stage.consult(journal=journal).__aenter__()
    assert stage.simulator.ledger.received == 0


async def test_end_is_logged_when_it_cannot_be_written_down(
    stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next start would otherwise recover what is well, and nobody know why."""
    journal = Journal(tmp_path / "journal")
    await journal.__aenter__()
    async with stage.consult(journal=journal):
        await journal.__aexit__(None, None, None)
    assert stage.customer_is_with_agent
    assert "still in its journal" in caplog.text


# For bots.


class Accept:
    """Says of some that they have taken the call, and notes whom it was asked about."""

    def __init__(self, *takers: str) -> None:
        self.takers = takers
        self.asked: list[str] = []

    async def __call__(self, consult: Consult) -> bool:
        """Say whether the partner took it."""
        self.asked.append(consult.partner)
        await asyncio.sleep(0)
        return consult.partner in self.takers


async def test_call_is_handed_over_to_who_takes_it(stage: Stage) -> None:
    """A voice agent that can't help is done with one line."""
    taken = await stage.pool.hand_over(
        stage.node, **stage.options(), accept=Accept(FIRST)
    )
    assert taken == FIRST
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)


async def test_call_is_not_handed_over_to_a_machine(either_stage: Stage) -> None:
    """Nobody wants to be transferred to a voicemail greeting."""
    stage = either_stage
    stage.people_are("machine", FIRST)
    accept = Accept(SECOND)
    options = stage.options(to=[FIRST, SECOND])
    assert await stage.pool.hand_over(stage.node, **options, accept=accept) == SECOND
    assert accept.asked == [FIRST, SECOND]
    assert stage.states() == (LEFT, TALKING, LEFT, TALKING)


async def test_customer_is_back_when_nobody_takes_it(either_stage: Stage) -> None:
    """The bot has to go on talking."""
    stage = either_stage
    stage.people_are("ignores", SECOND, after=30.0)
    options = stage.options(to=[FIRST, SECOND])
    with pytest.raises(NobodyAnsweredError) as caught:
        await stage.pool.hand_over(stage.node, **options, accept=Accept())
    assert [one.ending for one in caught.value.tried] == [
        Ending.NOT_TAKEN,
        Ending.NO_ANSWER,
    ]
    assert stage.customer_is_with_agent


async def test_next_one_is_rung_when_the_partner_leaves_unasked(
    either_stage: Stage,
) -> None:
    """A question to somebody who is gone must not be waited for."""
    stage = either_stage
    stage.people_are("answers", FIRST, stays=0.1)
    asked: list[str] = []

    async def accept(consult: Consult) -> bool:
        asked.append(consult.partner)
        if consult.partner == FIRST:
            await asyncio.sleep(30.0)
        return True

    options = stage.options(to=[FIRST, SECOND])
    async with asyncio.timeout(10.0):
        taken = await stage.pool.hand_over(stage.node, **options, accept=accept)
    assert taken == SECOND
    assert asked == [FIRST, SECOND]
    assert stage.states() == (LEFT, TALKING, LEFT, TALKING)


async def test_next_one_is_rung_when_the_event_of_leaving_is_late() -> None:
    """The abort says that there is no transfer; only the event, that they are out."""
    async with set_stage(delay=0.05) as stage:

        async def accept(consult: Consult) -> bool:
            if consult.partner == FIRST:
                stage.call.leave(stage.call[FIRST])
            return consult.partner == SECOND

        options = stage.options(to=[FIRST, SECOND], ring_for=2.0)
        taken = await stage.pool.hand_over(stage.node, **options, accept=accept)
        assert taken == SECOND


async def test_agent_who_hangs_up_while_asked_has_handed_over(stage: Stage) -> None:
    """The customer is with whoever answered, whatever the question comes to."""

    async def accept(consult: Consult) -> bool:
        del consult
        stage.call.leave(stage.call[AGENT])
        await stage.simulator.wait_for(lambda _: len(stage.simulator.posts) == 4)
        return False

    assert (
        await stage.pool.hand_over(stage.node, **stage.options(), accept=accept)
        == FIRST
    )
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)


async def test_customer_is_back_when_the_question_fails(stage: Stage) -> None:
    """A bug in the bot must not cost the caller."""

    async def accept(consult: Consult) -> bool:
        raise ZeroDivisionError(consult.partner)

    with pytest.raises(ZeroDivisionError):
        await stage.pool.hand_over(stage.node, **stage.options(), accept=accept)
    assert stage.customer_is_with_agent


async def test_question_must_be_callable(stage: Stage) -> None:
    """It would fail with the partner on the line."""
    with pytest.raises(InvalidInputError, match="accept"):
        await stage.pool.hand_over(
            stage.node,
            **stage.options(),
            accept=True,  # type: ignore[arg-type]
        )


def plain(consult: Consult) -> bool:
    """Answer without being awaited."""
    return consult.partner == FIRST


class PlainAccept:
    """The same as an object."""

    def __call__(self, consult: Consult) -> bool:
        """Answer without being awaited."""
        return plain(consult)


@pytest.mark.parametrize(
    "accept", [plain, functools.partial(plain), PlainAccept(), Accept, lambda _: True]
)
async def test_question_that_is_not_awaited_is_refused(
    stage: Stage, accept: "Callable[[Consult], Awaitable[bool]]"
) -> None:
    """It would fail with the partner on the line, and hold music in an ear."""
    with pytest.raises(InvalidInputError, match="accept: expected an async") as caught:
        await stage.pool.hand_over(stage.node, **stage.options(), accept=accept)
    assert caught.value.field == "accept"
    assert stage.simulator.ledger.received == 0


async def is_somebody(consult: Consult, somebody: str) -> bool:
    """Say whether the partner is somebody."""
    return consult.partner == somebody


@functools.wraps(is_somebody)
def logged(consult: Consult, somebody: str) -> Awaitable[bool]:
    """Do what a decorator does."""
    return is_somebody(consult, somebody)


@pytest.mark.parametrize(
    "accept",
    [
        Accept(FIRST),
        Accept(FIRST).__call__,
        functools.partial(is_somebody, somebody=FIRST),
        functools.partial(logged, somebody=FIRST),
        functools.partial(functools.partial(Accept(FIRST))),
    ],
)
async def test_question_may_be_anything_that_is_awaited(
    stage: Stage, accept: "Callable[[Consult], Awaitable[bool]]"
) -> None:
    """Bots bind their session to a method, a partial or an object."""
    taken = await stage.pool.hand_over(stage.node, **stage.options(), accept=accept)
    assert taken == FIRST


@pytest.mark.parametrize(
    ("who", "error"), [(CUSTOMER, CustomerLeftError), (FIRST, NobodyAnsweredError)]
)
async def test_question_is_cancelled_when_somebody_leaves(
    stage: Stage, who: str, error: type[Exception]
) -> None:
    """A speech model talks to a supervisor about a customer who has hung up."""
    cancelled = asyncio.Event()

    async def accept(consult: Consult) -> bool:
        del consult
        stage.call.leave(stage.call[who])
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return True

    handing = stage.pool.hand_over(stage.node, **stage.options(), accept=accept)
    with pytest.raises(error):
        await asyncio.wait_for(handing, 5.0)
    assert cancelled.is_set()
    assert stage.reached == set()
    assert stage.alarms == []


async def test_next_one_is_rung_when_the_question_takes_too_long(stage: Stage) -> None:
    """A model that hangs keeps the customer on hold until somebody notices."""

    async def accept(consult: Consult) -> bool:
        if consult.partner == FIRST:
            await asyncio.Event().wait()
        return False

    options = stage.options(to=[FIRST, SECOND])
    with pytest.raises(NobodyAnsweredError) as caught:
        await stage.pool.hand_over(
            stage.node, **options, accept=accept, accept_within=0.1
        )
    assert [one.ending for one in caught.value.tried] == [Ending.NOT_TAKEN] * 2
    assert stage.customer_is_with_agent


@pytest.mark.parametrize("within", [0, -1.0, "60", float("nan")])
async def test_time_for_the_question_must_be_seconds(
    stage: Stage, within: object
) -> None:
    """It would fail with the partner on the line."""
    options: dict[str, Any] = stage.options(accept_within=within)
    with pytest.raises(InvalidInputError, match="accept_within"):
        await stage.pool.hand_over(stage.node, **options, accept=Accept(FIRST))
    assert stage.simulator.ledger.received == 0


# Arguments.


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("agent", "4152223333"),
        ("customer", "5"),
        ("customer", None),
        ("customer_call_uuid", ""),
        ("customer", AGENT),
        ("to", []),
        ("to", [FIRST, FIRST]),
        ("to", [CUSTOMER]),
        ("to", AGENT),
        ("to", 5),
        ("to", ["5"]),
        ("shared", [SECOND]),
        ("shared", ["5"]),
        ("shared", None),
        ("ring_for", 0),
        ("ring_for", "20"),
        ("role", "boss"),
        ("router", "router"),
        ("journal", "journal.db"),
        ("conference_uuid", 5),
        ("conference_uuid", ""),
        ("send_within", None),
        ("told_within", -1),
        ("told_within", "2"),
        ("bring_back_within", float("inf")),
    ],
)
async def test_argument_that_cannot_be_right_is_refused(
    stage: Stage, field: str, value: object
) -> None:
    """It should show while the customer still talks to the agent."""
    with pytest.raises(InvalidInputError, match=field) as caught:
        stage.consult(**{field: value})
    assert caught.value.field == field
    assert "52223333" not in str(caught.value)


async def test_handover_waits_for_news_as_long_as_its_router_says(
    stage: Stage,
) -> None:
    """Every test of a service that hands over would take two seconds more."""
    stage.router.told_within = 0.05
    clock = asyncio.get_running_loop().time
    async with stage.consult(told_within=None) as consult:
        started = clock()
        assert await consult.complete() == FIRST
        assert 0.05 <= clock() - started < 1.0


@pytest.mark.parametrize("value", [0, "2", float("nan")])
def test_router_is_told_seconds(value: Any) -> None:  # noqa: ANN401 -- not what it takes
    """It would fail with a customer on hold."""
    assert EventRouter(told_within=0.1).told_within == 0.1
    with pytest.raises(InvalidInputError, match="told_within"):
        EventRouter(told_within=value)


async def test_node_must_be_a_multi_party_call(stage: Stage) -> None:
    """A conference bridge knows no transfer."""
    bridge = stage.pool.phlo("p").conference_bridge("n")
    with pytest.raises(InvalidInputError, match="node"):
        stage.pool.consult(bridge, **stage.options())  # type: ignore[arg-type]


async def test_single_address_is_enough(stage: Stage) -> None:
    """Most have one supervisor."""
    async with stage.consult(to=FIRST) as consult:
        shown = repr(consult)
    assert shown == "<Consult of …33 with …55, consulting>"


async def test_events_may_come_late_and_twice(stage: Stage) -> None:
    """Webhooks are like that."""
    url = stage.simulator._poster.callback  # noqa: SLF001 -- only the URL is kept
    assert url is not None
    stage.simulator.post_events(
        Callback(url=url.url, delay=0.01, late=0.5, late_by=0.05, twice=1.0)
    )
    async with stage.consult() as consult:
        await consult.complete()
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)
    assert stage.alarms == []
