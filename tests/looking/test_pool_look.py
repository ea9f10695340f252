"""A pool looks for what it left in doubt, and says seen only of what was rung."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest

from aiophlo import (
    Accepted,
    CallState,
    InDoubt,
    InDoubtError,
    InvalidInputError,
    Lane,
    Reason,
    SessionPool,
    Sighting,
    WarmTransfer,
)
from aiophlo.model.actions import Hangup
from aiophlo.simulator import Fault, Habit, Listing, Reaction, Simulator
from aiophlo.simulator.api import Asked
from tests.support.doubles import (
    AGENT,
    NODE_ID,
    PHLO_ID,
    act,
    address,
    outcome_of,
    pool_of,
)

OURS = "+14155550100"
OTHERS = "+14155550199"
TO = address(1)
TRANSFER = WarmTransfer(phlo_id=PHLO_ID, node_id=NODE_ID, trigger_source=AGENT, to=TO)
LOST = Fault.DROP_AFTER_READ  # it rings, and nobody is told
NEVER = Fault.DROP_BEFORE_READ
LONG_AGO = 20_000.0  # seconds; by then every call is over, and listed


@pytest.fixture
async def pool(simulator: Simulator) -> AsyncIterator[SessionPool]:
    """Give a pool that knows what its PHLOs call from."""
    async with pool_of(simulator, caller_ids=[OURS]) as pool:
        yield pool


@pytest.fixture
async def stranger(simulator: Simulator) -> AsyncIterator[SessionPool]:
    """Give a pool that doesn't."""
    async with pool_of(simulator) as pool:
        yield pool


async def lose(
    pool: SessionPool, simulator: Simulator, fault: Fault = LOST, ago: float = 0.0
) -> InDoubt:
    """Send a transfer whose answer is lost, and have it left so many seconds ago."""
    simulator.call_list._now = lambda: time.time() - ago  # noqa: SLF001 -- its clock
    simulator.fault_next(fault, dialled=fault is LOST)
    outcome = await outcome_of(pool.send(TRANSFER, on_duplicate="send"))
    simulator.call_list._now = time.time  # noqa: SLF001 -- as above
    assert isinstance(outcome, InDoubt)
    assert outcome.left_at is not None
    return attrs.evolve(outcome, left_at=outcome.left_at - ago)


async def test_ringing_phone_is_seen(pool: SessionPool, simulator: Simulator) -> None:
    """Who has lost an answer wants to know whether the supervisor's phone rings."""
    simulator.set_habit(Habit(after=60.0))
    sighting = await pool.look(await lose(pool, simulator))
    assert sighting.state is Sighting.RINGING
    assert isinstance(sighting.outcome, Accepted)
    assert sighting.outcome.sighted
    [leg] = simulator.call_list.legs(TO)
    assert sighting.call_uuid == leg.call_uuid
    assert simulator.ledger.dials() == 1, "looking rings nobody"


async def test_answered_phone_is_seen(pool: SessionPool, simulator: Simulator) -> None:
    """By the time of the look they may have answered."""
    sighting = await pool.look(await lose(pool, simulator))
    assert sighting.state is Sighting.TALKING
    assert sighting.outcome.verdict == "accepted"


async def test_busy_line_is_seen_with_its_cause(
    pool: SessionPool, simulator: Simulator
) -> None:
    """That it rang, and why it doesn't any more, is both known then."""
    simulator.set_habit(Habit(Reaction.BUSY))
    sighting = await pool.look(await lose(pool, simulator))
    assert (sighting.state, sighting.hangup_cause) == (CallState.ENDED, "Busy Line")
    assert sighting.answered_at is None
    assert sighting.ended_at is not None
    assert isinstance(sighting.outcome, Accepted)


async def test_call_that_was_never_made_stays_in_doubt(
    pool: SessionPool, simulator: Simulator
) -> None:
    """Unseen proves nothing: the same doubt, with how often it was looked for."""
    doubt = await lose(pool, simulator, NEVER)
    sighting = await pool.look(doubt, look_for=1.2)
    assert (sighting.state, sighting.call_uuid) == (Sighting.UNSEEN, None)
    assert not sighting.seen
    assert isinstance(sighting.outcome, InDoubt)
    assert sighting.outcome.looked == 2
    assert attrs.evolve(sighting.outcome, looked=0) == doubt


async def test_stall_makes_no_other_dial_of_the_one_in_doubt(
    pool: SessionPool, simulator: Simulator
) -> None:
    """The loop's clock may not run while Unix time does, as when a laptop sleeps."""
    simulator.fault_next(Fault.STATUS_503)
    with simulator.hold_answers():
        sending = asyncio.ensure_future(outcome_of(pool.send(TRANSFER)))
        await simulator.wait_for(requests=1)
        time.sleep(0.2)  # noqa: ASYNC251 -- a stall, which this loop doesn't count
    doubt = await sending
    assert isinstance(doubt, InDoubt)
    assert (await pool.look(doubt, look_for=0)).seen


async def test_queued_dial_without_a_time_is_no_proof(
    stranger: SessionPool, simulator: Simulator
) -> None:
    """It may be anybody's: by number alone nothing is proved."""
    simulator.list_calls(Listing(queued=1000.0))
    sighting = await stranger.look(await lose(stranger, simulator), look_for=0)
    assert (sighting.state, sighting.candidates) == (Sighting.UNSEEN, 1)


async def test_late_listing_is_waited_for(
    pool: SessionPool, simulator: Simulator
) -> None:
    """Plivo lists a call some seconds after it has begun."""
    simulator.list_calls(Listing(lag=1.5))
    sighting = await pool.look(await lose(pool, simulator))
    assert sighting.seen


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"ours": OTHERS}, id="from another number"),
        pytest.param({"dialled": False}, id="of one who calls in"),
    ],
)
async def test_call_of_another_kind_is_not_taken_for_it(
    pool: SessionPool, simulator: Simulator, other: dict[str, str]
) -> None:
    """A supervisor's phone rings for other reasons, too."""
    doubt = await lose(pool, simulator, NEVER)
    simulator.place_other_call(TO, **other)  # type: ignore[arg-type]
    sighting = await pool.look(doubt, look_for=0)
    assert (sighting.state, sighting.candidates) == (Sighting.UNSEEN, 0)


async def test_two_calls_are_no_proof(pool: SessionPool, simulator: Simulator) -> None:
    """One of them isn't ours, and nobody can say which."""
    doubt = await lose(pool, simulator)
    simulator.place_other_call(TO)
    sighting = await pool.look(doubt, look_for=0)
    assert (sighting.state, sighting.candidates) == (Sighting.UNSEEN, 2)
    assert isinstance(sighting.outcome, InDoubt)


async def test_call_of_before_is_not_taken_for_it(
    pool: SessionPool, simulator: Simulator
) -> None:
    """The same phone was rung this morning."""
    doubt = await lose(pool, simulator, NEVER)
    await lose(pool, simulator, ago=LONG_AGO)
    [leg] = simulator.call_list.legs(TO)
    assert leg.began_at < time.time() - LONG_AGO + 1.0
    sighting = await pool.look(doubt, look_for=0)
    assert (sighting.state, sighting.candidates) == (Sighting.UNSEEN, 0)


async def test_other_dial_of_the_pool_to_the_phone_leaves_it_open(
    pool: SessionPool, simulator: Simulator
) -> None:
    """Two agents ask for one supervisor: the call may be either's."""
    await outcome_of(pool.send(act(WarmTransfer, 2)))
    first = await lose(pool, simulator, NEVER)
    assert (await pool.look(first, look_for=0)).candidates == 0
    await pool.send(attrs.evolve(TRANSFER, trigger_source=address(7)))
    sighting = await pool.look(first, look_for=0)
    assert (sighting.state, sighting.candidates) == (Sighting.UNSEEN, 1)


async def test_dials_of_before_the_first_look_are_known(
    pool: SessionPool, simulator: Simulator
) -> None:
    """Who looks after the error has asked for nothing before it."""
    first = await lose(pool, simulator, NEVER)
    await pool.send(attrs.evolve(TRANSFER, trigger_source=address(7)))
    assert pool._looking is None  # noqa: SLF001 -- it has never looked
    sighting = await pool.look(first, look_for=0)
    assert (sighting.state, sighting.candidates) == (Sighting.UNSEEN, 1)


async def test_caller_ids_unknown_one_call_is_proof_once_all_are_listed(
    stranger: SessionPool, simulator: Simulator
) -> None:
    """Another's call may be the first that is listed."""
    doubt = await lose(stranger, simulator)
    early = await stranger.look(doubt, look_for=0)
    assert (early.state, early.candidates) == (Sighting.UNSEEN, 1)
    assert not early.complete
    late = await stranger.look(await lose(stranger, simulator, ago=LONG_AGO))
    assert late.seen
    assert late.complete


async def test_call_between_two_lists_is_waited_for(
    stranger: SessionPool, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is over and not yet listed as such: another's is the only one to be seen."""
    monkeypatch.setattr("aiophlo.looking.looker.LAG", 1.0)
    simulator.set_habit(Habit(Reaction.BUSY, after=60.0))
    doubt = await lose(stranger, simulator, ago=100.0)
    [entry] = simulator.call_list._entries  # noqa: SLF001 -- to time its listing
    simulator.call_list._now = lambda: time.time() - 100.0  # noqa: SLF001 -- its clock
    simulator.place_other_call(TO, ours=OTHERS, habit=Habit(stays=1000.0))
    simulator.call_list._now = time.time  # noqa: SLF001 -- as above
    entry.end_lag = time.time() + 0.8 - (entry.leg.ended_at or 0.0)
    once = await stranger.look(doubt, look_for=0)
    assert (once.state, once.candidates) == (Sighting.UNSEEN, 1)
    assert not once.complete
    sighting = await stranger.look(doubt, look_for=3.0)
    assert (sighting.state, sighting.candidates) == (Sighting.UNSEEN, 2)


async def test_call_that_leaves_the_queue_meanwhile_is_seen(
    stranger: SessionPool, simulator: Simulator
) -> None:
    """Else it would be in neither list, and be rung again as unseen."""
    simulator.list_calls(Listing(queued=1.0))
    simulator.set_habit(Habit(after=10_000.0))
    doubt = await lose(stranger, simulator)
    [leg] = simulator.call_list.legs(TO)
    answer, asked = simulator.call_list.answer, 0

    def answer_and_go_on(query: Asked, account: str) -> dict[str, Any]:
        nonlocal asked
        at = leg.began_at - 0.01 + asked * 0.02
        simulator.call_list._now = lambda: at  # noqa: SLF001 -- its clock
        asked += 1
        return answer(query, account)

    setattr(simulator.call_list, "answer", answer_and_go_on)  # noqa: B010 -- a method
    sighting = await stranger.look(doubt, look_for=0)
    assert sighting.candidates == 1


@pytest.mark.parametrize(
    "meta", [{"total_count": 2}, {"next": "/v1/Account/MA/Call/?offset=1"}]
)
async def test_list_that_says_it_has_more_is_not_whole(
    stranger: SessionPool, simulator: Simulator, meta: dict[str, Any]
) -> None:
    """A page may be shorter than was asked for, and the second candidate behind it."""
    doubt = await lose(stranger, simulator, NEVER, ago=LONG_AGO)
    body = json.dumps({"calls": [], "objects": [], "meta": meta})
    simulator.answer_next(200, body=body, action="list_calls", times=None)
    sighting = await stranger.look(doubt, look_for=0)
    assert not sighting.complete


async def test_list_that_never_answers_ends_in_time(
    pool: SessionPool, simulator: Simulator
) -> None:
    """Who asked for eight seconds has an agent waiting."""
    doubt = await lose(pool, simulator)
    simulator.fault_next(Fault.SILENCE, action="list_calls", times=None)
    began = time.monotonic()
    sighting = await pool.look(doubt, look_for=0)
    assert time.monotonic() - began < 8.0, "an answer has ten seconds"
    assert (sighting.state, sighting.complete) == (Sighting.UNSEEN, False)


async def test_clock_of_plivos_that_is_ahead_is_reckoned_with(
    stranger: SessionPool, simulator: Simulator
) -> None:
    """A server whose clock is off by minutes must not miss every call."""
    simulator.list_calls(Listing(ahead=300.0))
    doubt = await lose(stranger, simulator, ago=LONG_AGO)
    assert (await stranger.look(doubt)).seen


async def test_list_that_can_not_be_read_leaves_it_in_doubt(
    stranger: SessionPool, simulator: Simulator
) -> None:
    """A refusal of the list says nothing about the call."""
    doubt = await lose(stranger, simulator, ago=LONG_AGO)
    simulator.answer_next(403, action="list_calls", times=None)
    before = len(simulator.ledger.requests)
    sighting = await stranger.look(doubt, look_for=30.0)
    assert (sighting.state, sighting.complete) == (Sighting.UNSEEN, False)
    assert len(simulator.ledger.requests) - before == 3, "and isn't asked again"


@pytest.mark.parametrize(
    "body", ["[]", '{"api_id": "1"}', '{"objects": [1], "calls": [2]}', '{"calls": {}}']
)
async def test_list_that_makes_no_sense_leaves_it_in_doubt(
    stranger: SessionPool, simulator: Simulator, body: str
) -> None:
    """Half a list may lack the second candidate."""
    doubt = await lose(stranger, simulator, ago=LONG_AGO)
    simulator.answer_next(200, body=body, action="list_calls", times=None)
    sighting = await stranger.look(doubt, look_for=0)
    assert (sighting.state, sighting.complete) == (Sighting.UNSEEN, False)


async def test_more_pages_than_are_read_are_no_proof(
    stranger: SessionPool, simulator: Simulator
) -> None:
    """A number with a hundred calls: the other candidate may be on the next page."""
    doubt = await lose(stranger, simulator, ago=LONG_AGO)
    for _ in range(70):
        simulator.place_other_call(TO, habit=Habit(Reaction.BUSY), ours=OTHERS)
    before = len(simulator.ledger.requests)
    sighting = await stranger.look(doubt, look_for=0)
    assert not sighting.complete
    assert len(simulator.ledger.requests) - before <= 6


async def test_send_that_looks_returns_accepted(
    pool: SessionPool, simulator: Simulator
) -> None:
    """The agent goes on as if nothing had been lost."""
    simulator.fault_next(LOST)
    accepted = await pool.send(TRANSFER, look=True)
    assert (accepted.sighted, accepted.status) == (True, None)
    node = pool.phlo("p").multi_party_call("n")
    simulator.fault_next(Fault.STATUS_503)
    again = await node.warm_transfer(to=address(2), trigger_source=AGENT, look=True)
    assert again.sighted


async def test_send_that_looks_in_vain_raises(
    pool: SessionPool, simulator: Simulator
) -> None:
    """The doubt stays one."""
    simulator.fault_next(NEVER, dialled=False)
    with pytest.raises(InDoubtError, match="looked for 2 times") as caught:
        await pool.send(TRANSFER, look=True, look_for=1.0)
    outcome = caught.value.outcome
    assert isinstance(outcome, InDoubt)
    assert outcome.looked == 2


async def test_what_does_not_dial_is_not_looked_for(
    pool: SessionPool, simulator: Simulator
) -> None:
    """The list says nothing about a hang-up."""
    simulator.fault_next(LOST, times=None)
    outcome = await outcome_of(pool.send(act(Hangup), look=True))
    assert isinstance(outcome, InDoubt)
    assert {record.action for record in simulator.ledger.requests} == {"hangup"}


async def test_nothing_is_asked_when_look_is_off(
    pool: SessionPool, simulator: Simulator
) -> None:
    """Who doesn't look pays nothing: not a request, and no more than a list's end."""
    simulator.fault_next(LOST)
    assert isinstance(await outcome_of(pool.send(TRANSFER)), InDoubt)
    await pool.send(act(WarmTransfer, 2))
    await pool.send_all([act(WarmTransfer, number) for number in range(3, 6)])
    assert len(simulator.ledger.requests) == 5
    assert pool._looking is None  # noqa: SLF001 -- what would cost


async def test_questions_go_behind_everything_else(
    pool: SessionPool, simulator: Simulator
) -> None:
    """A look must not delay a transfer."""
    doubt = await lose(pool, simulator)
    lanes: list[Lane] = []
    sender = pool._senders[simulator.auth_id]  # noqa: SLF001 -- to watch its queue
    take = sender.context.slots.take

    def note(lane: Lane, deadline: float) -> bool:
        lanes.append(lane)
        return take(lane, deadline)

    sender.context.slots.take = note  # type: ignore[method-assign]
    await pool.look(doubt, look_for=0)
    assert set(lanes) == {Lane.LOOKED}


@pytest.mark.parametrize(
    "outcome",
    [
        Accepted(action=TRANSFER),
        InDoubt(action=act(Hangup), reason=Reason.SILENT, left_at=1.0),
        InDoubt(action=TRANSFER, reason=Reason.SILENT),
        InDoubt(action=TRANSFER, reason=Reason.SILENT, left_at=float("nan")),
        InDoubt(action=TRANSFER, reason=Reason.SILENT, left_at=1e18),
        None,
    ],
)
async def test_what_can_not_be_looked_for_is_refused(
    pool: SessionPool, outcome: InDoubt
) -> None:
    """A look without a time would take any call for it."""
    with pytest.raises(InvalidInputError, match="outcome"):
        await pool.look(outcome)


async def test_wrong_options_are_refused(pool: SessionPool) -> None:
    """Before anything is sent."""
    for wrong in (-1.0, float("nan"), True, "8"):
        with pytest.raises(InvalidInputError, match="look_for"):
            await pool.send(TRANSFER, look=True, look_for=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="look: expected a bool"):
        await pool.send(TRANSFER, look="yes")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="caller_ids"):
        SessionPool(pool._accounts["MASIMULATOR000000001"], caller_ids="+14155550100")  # noqa: SLF001 -- an account
    with pytest.raises(InvalidInputError, match="voice_url"):
        SessionPool(
            pool._accounts["MASIMULATOR000000001"],  # noqa: SLF001 -- an account
            voice_url="http://api.example.com",
        )


async def test_closed_pool_does_not_look(simulator: Simulator) -> None:
    """Who closes a pool isn't kept waiting."""
    async with pool_of(simulator) as pool:
        doubt = await lose(pool, simulator)
    with pytest.raises(InvalidInputError, match="expected an open one"):
        await pool.look(doubt)


async def test_numbers_are_in_no_record(
    pool: SessionPool, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The question for a number holds it, and must not show it."""
    caplog.set_level(logging.DEBUG)
    doubt = await lose(pool, simulator)
    simulator.answer_next(500, action="list_calls", times=1)
    sighting = await pool.look(doubt)
    simulator.fault_next(Fault.GARBAGE, action="list_calls", times=None)
    await pool.look(doubt, look_for=0)
    assert "looked for the call" in caplog.text
    for record in caplog.records:
        shown = f"{record.getMessage()} {vars(record)}"
        assert TO.removeprefix("+") not in shown, record.name
    assert TO.removeprefix("+") not in repr(sighting)


async def test_sip_endpoint_is_seen_as_the_list_shows_it(
    pool: SessionPool, simulator: Simulator
) -> None:
    """Supervisors have softphones."""
    endpoint = "sip:anna@phone.plivo.com"
    simulator.fault_next(LOST)
    accepted = await pool.send(attrs.evolve(TRANSFER, to=endpoint), look=True)
    assert accepted.sighted
