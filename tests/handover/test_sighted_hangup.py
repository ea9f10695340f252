"""A transfer in doubt that is seen hung up rings no longer than its phone did."""

import asyncio
import time
from collections.abc import AsyncIterator

import attrs
import pytest

from aiophlo import (
    Accepted,
    CallState,
    Ending,
    NobodyAnsweredError,
    Sighting,
    WarmTransfer,
)
from aiophlo.handover.sighted_hangup import ending_of
from aiophlo.model.handover_records import Tried
from aiophlo.simulator import Fault, Listing
from tests.support.doubles import act
from tests.support.handover_stage import FIRST, SECOND, Stage, set_stage

LONG = 12.0  # seconds; nobody waits for the end of that ring
ENDED = Sighting(
    state=CallState.ENDED,
    outcome=Accepted(action=act(WarmTransfer), sighted=True),
)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Give a call whose events don't tell of unanswered rings, as Plivo's may not."""
    async with set_stage(caller_ids=["+14155550100"]) as stage:
        yield stage


async def reach(stage: Stage, **options: object) -> NobodyAnsweredError:
    """Ring both in vain, the first one's answer lost."""
    stage.simulator.fault_next(Fault.DROP_AFTER_READ, action="warm_transfer")
    with pytest.raises(NobodyAnsweredError) as caught:
        async with stage.consult(ring_for=LONG, **options):
            pass
    return caught.value


@pytest.mark.parametrize(
    ("reaction", "ending"),
    [
        ("busy", Ending.BUSY),
        ("declines", Ending.DECLINED),
        ("ignores", Ending.NO_ANSWER),
    ],
)
async def test_ring_ends_when_its_hang_up_is_seen(
    stage: Stage, reaction: str, ending: Ending
) -> None:
    """The customer hears music for twenty seconds though the line was busy at once."""
    stage.people_are(reaction, FIRST, after=0.1)
    began = time.monotonic()
    error = await reach(stage, look=True)
    assert time.monotonic() - began < LONG / 4
    assert error.tried == (Tried(FIRST, ending),)
    assert stage.customer_is_with_agent
    assert stage.rung == [FIRST]


async def test_next_one_is_rung_once_the_first_is_out(stage: Stage) -> None:
    """Two phones must never ring for one customer."""
    stage.people_are("busy", FIRST, after=0.1)
    stage.people_are("ignores", SECOND, after=0.1)
    stage.simulator.fault_next(Fault.DROP_AFTER_READ, to=FIRST)
    stage.simulator.fault_next(Fault.DROP_AFTER_READ, to=SECOND)
    with pytest.raises(NobodyAnsweredError) as caught:
        async with stage.consult(to=[FIRST, SECOND], ring_for=LONG, look=True):
            pass
    assert caught.value.tried == (
        Tried(FIRST, Ending.BUSY),
        Tried(SECOND, Ending.NO_ANSWER),
    )
    assert stage.rung == [FIRST, SECOND]


async def test_unseen_ring_lasts_as_long_as_ever(stage: Stage) -> None:
    """Unseen proves nothing: the phone may be ringing."""
    stage.simulator.list_calls(Listing(unlisted=1.0))
    stage.people_are("ignores", FIRST, after=LONG)
    stage.simulator.fault_next(Fault.DROP_AFTER_READ, action="warm_transfer")
    began = time.monotonic()
    with pytest.raises(NobodyAnsweredError) as caught:
        async with stage.consult(ring_for=0.8, look=True):
            pass
    assert time.monotonic() - began >= 0.8
    assert [tried.ending for tried in caught.value.tried] == [Ending.NO_ANSWER]


async def test_answered_ring_goes_on(stage: Stage) -> None:
    """A call that is seen answered is what its events say it is."""
    stage.simulator.fault_next(Fault.DROP_AFTER_READ, action="warm_transfer")
    async with stage.consult(ring_for=LONG, look=True) as consult:
        await consult.complete()
    assert stage.rung == [FIRST]


async def test_nothing_is_looked_for_unless_it_is_in_doubt_and_asked_for(
    stage: Stage,
) -> None:
    """Looking costs requests."""
    stage.people_are("ignores", FIRST, after=0.1)
    stage.simulator.fault_next(Fault.DROP_AFTER_READ, action="warm_transfer")
    for options in ({"look": False}, {"look": True}):
        with pytest.raises(NobodyAnsweredError):
            async with stage.consult(ring_for=0.3, **options):
                pass
    asked = {record.action for record in stage.simulator.ledger.requests}
    assert asked == {"warm_transfer", "abort_transfer"}


async def test_cancelled_block_leaves_no_look_behind(stage: Stage) -> None:
    """A service that stops must not go on asking."""
    stage.people_are("ignores", FIRST, after=LONG)
    stage.simulator.fault_next(Fault.DROP_AFTER_READ, action="warm_transfer")
    entering = asyncio.ensure_future(
        stage.consult(ring_for=LONG, look=True).__aenter__()
    )
    await stage.simulator.wait_for(
        lambda ledger: any(r.action == "list_calls" for r in ledger.requests)
    )
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    await stage.pool.drain()
    assert stage.customer_is_with_agent
    asked = len(stage.simulator.ledger.requests)
    await asyncio.sleep(1.2)  # longer than from one look to the next
    assert len(stage.simulator.ledger.requests) == asked


@pytest.mark.parametrize(
    ("code", "cause", "ending"),
    [
        (3000, "No Answer", Ending.NO_ANSWER),
        (3010, "Busy Line", Ending.BUSY),
        (3020, "Rejected", Ending.DECLINED),
        (1000, "Canceled", Ending.NO_ANSWER),
        (None, "Call Rejected", Ending.DECLINED),
        (3999, "Ring Timeout Reached", Ending.NO_ANSWER),
        (2010, "Destination Out Of Service", Ending.FAILED),
        (None, None, Ending.NO_ANSWER),
    ],
)
def test_hang_up_has_its_word(
    code: int | None, cause: str | None, ending: Ending
) -> None:
    """Who is busy is asked again in a minute; a dead number is corrected."""
    assert (
        ending_of(attrs.evolve(ENDED, hangup_code=code, hangup_cause=cause)) is ending
    )


def test_call_that_was_answered_or_goes_on_has_ended_no_ring() -> None:
    """Events tell of what came after an answer."""
    assert ending_of(attrs.evolve(ENDED, answered_at=1.0)) is None
    assert ending_of(attrs.evolve(ENDED, state=CallState.RINGING)) is None
