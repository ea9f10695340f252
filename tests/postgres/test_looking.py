"""A pool that looks asks what other pools have dialled."""

import attrs
import pytest

from aiophlo import InDoubt, SessionPool, Sighting, WarmTransfer
from aiophlo.coordination import AwayError
from aiophlo.postgres.shared_actions import PostgresActions
from aiophlo.simulator import Fault, Simulator
from tests.postgres.conftest import SharedPool, send
from tests.support.doubles import NODE_ID, PHLO_ID, address

OURS = "+14155550100"
TO = address(1)
TRANSFER = WarmTransfer(
    phlo_id=PHLO_ID, node_id=NODE_ID, trigger_source=address(2), to=TO
)
ANOTHER = attrs.evolve(TRANSFER, node_id="another", trigger_source=address(3))


async def lose(
    pool: SessionPool, simulator: Simulator, fault: Fault = Fault.DROP_AFTER_READ
) -> InDoubt:
    """Send a transfer whose answer is lost, or which never rings."""
    simulator.fault_next(fault, dialled=fault is Fault.DROP_AFTER_READ)
    outcome = await send(pool, TRANSFER)
    assert isinstance(outcome, InDoubt)
    return outcome


async def test_call_of_another_process_is_not_taken_for_it(
    shared_pool: SharedPool, simulator: Simulator
) -> None:
    """Two workers dial one partner: a phone that never rang would be said to ring."""
    one = await shared_pool(caller_ids=[OURS])
    two = await shared_pool(caller_ids=[OURS])
    await one.send(ANOTHER)
    doubt = await lose(two, simulator, Fault.DROP_BEFORE_READ)
    sighting = await two.look(doubt, look_for=2.0)
    assert sighting.state is Sighting.UNSEEN
    assert isinstance(sighting.outcome, InDoubt)


async def test_dial_of_another_process_that_rang_nobody_leaves_the_call_its_own(
    shared_pool: SharedPool, simulator: Simulator
) -> None:
    """Who was refused has made no call, and another phone's is none to this one."""
    one = await shared_pool(caller_ids=[OURS])
    two = await shared_pool(caller_ids=[OURS])
    simulator.fault_next(Fault.STATUS_404)
    assert (await send(one, ANOTHER)).verdict == "rejected"
    await one.send(attrs.evolve(ANOTHER, to=address(4)))
    sighting = await two.look(await lose(two, simulator))
    assert sighting.seen


async def test_doubt_of_another_process_is_settled_for_who_joined_it(
    shared_pool: SharedPool, simulator: Simulator
) -> None:
    """The second click of a double click is told what came of the first one."""
    one = await shared_pool(caller_ids=[OURS])
    two = await shared_pool(caller_ids=[OURS])
    await lose(one, simulator)
    doubt = await send(two, TRANSFER)
    assert isinstance(doubt, InDoubt)
    assert doubt.joined
    assert (await two.look(doubt)).seen


async def test_call_is_no_proof_while_others_cannot_be_asked_about(
    shared_pool: SharedPool, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other processes dialled meanwhile isn't known."""
    pool = await shared_pool(caller_ids=[OURS])
    doubt = await lose(pool, simulator)

    async def away(*_: object, **__: object) -> bool:
        raise AwayError

    with monkeypatch.context() as patched:
        patched.setattr(PostgresActions, "others_dialled", away)
        sighting = await pool.look(doubt, look_for=2.0)
    assert sighting.state is Sighting.UNSEEN
    assert (await pool.look(doubt)).seen


@pytest.mark.parametrize("rung", [False, True])
async def test_doubt_of_an_earlier_process_is_its_own(
    shared_pool: SharedPool, simulator: Simulator, *, rung: bool
) -> None:
    """The morning after a crash, what rang would stay in doubt for its own sake."""
    dead = await shared_pool(caller_ids=[OURS])
    doubt = await lose(dead, simulator)
    if rung:  # by another node of another process
        await (await shared_pool()).send(ANOTHER)
    later = await shared_pool(caller_ids=[OURS])
    sighting = await later.look(doubt, look_for=2.0)
    assert sighting.seen != rung
