"""While other pools are asked, a handover may be ended, refused or overtaken."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from aiophlo import EngagedError, HandoverError, WarmTransfer
from aiophlo.handover.requests import CheckedDelivery, NotNowError
from aiophlo.model.outcomes import Reason
from tests.support.handover_stage import (
    AGENT,
    FIRST,
    NODE,
    PHLO,
    SECOND,
    TALKING,
    Stage,
    set_stage,
)
from tests.support.shared_leases import SharedLeases


class Gate:
    """Lets answers through, or holds those to some question back.

    Attributes:
        held: What was asked, once its answer is held back.
        opened: Set to let it through.
    """

    def __init__(self, question: str) -> None:
        self._question = question
        self.held = asyncio.Event()
        self.opened = asyncio.Event()

    async def answer(self, question: str) -> None:
        """Wait as long as it is held back."""
        if question == self._question:
            self.held.set()
            await self.opened.wait()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Give a call whose agent wants to hand the customer over."""
    async with set_stage() as stage:
        yield stage


def share(stage: Stage, question: str) -> tuple[SharedLeases, Gate]:
    """Let the stage's pool share leases, the answers to one question held back."""
    gate = Gate(question)
    shared = SharedLeases(gate.answer)
    stage.pool._handovers().shared = shared  # noqa: SLF001 -- what a coordinator would do
    return shared, gate


@pytest.mark.parametrize("question", ["begin", "engage"])
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_pool_is_closed_while_others_are_asked(
    stage: Stage, question: str, elsewhere: bool
) -> None:
    """A deploy in that moment must neither ring anybody nor fail with a riddle."""
    shared, gate = share(stage, question)
    if elsewhere:
        shared.open.add("other")
        shared.engaged[FIRST if question == "engage" else AGENT] = "other"
    consult = stage.consult(to=[FIRST, SECOND])
    entering = asyncio.ensure_future(consult.__aenter__())
    await gate.held.wait()
    closing = asyncio.ensure_future(stage.pool.close())
    while not consult._status.giving_up:  # noqa: SLF001, ASYNC110 -- nothing tells of it
        await asyncio.sleep(0)
    gate.opened.set()
    with pytest.raises(HandoverError):
        await entering
    await closing
    assert stage.rung == []
    assert stage.customer_is_with_agent
    assert stage.alarms == []
    assert set(shared.engaged.values()) <= {"other"}


async def test_what_happens_in_a_handover_that_is_refused_alarms_of_nobody(
    stage: Stage,
) -> None:
    """The other one completes in the moment of a second click, and all is well."""
    shared, gate = share(stage, "begin")
    shared.open.add("other")
    shared.engaged[AGENT] = "other"
    entering = asyncio.ensure_future(stage.consult().__aenter__())
    await gate.held.wait()
    posts = len(stage.simulator.posts)
    stage.call.leave(stage.call[AGENT])
    await stage.simulator.wait_for(lambda _: len(stage.simulator.posts) > posts)
    gate.opened.set()
    with pytest.raises(EngagedError):
        await entering
    assert stage.alarms == []


async def test_request_is_checked_in_the_moment_of_leaving(stage: Stage) -> None:
    """Connecting takes seconds, in which another process may have taken over."""
    answers = iter([None, Reason.NOT_COORDINATED, Reason.NOT_COORDINATED])
    sender = stage.pool._sender_for(None)  # noqa: SLF001 -- what handovers send by
    delivery = CheckedDelivery(
        sender.context,
        WarmTransfer(phlo_id=PHLO, node_id=NODE, to=FIRST, trigger_source=AGENT),
        1.0,
        lambda: next(answers),
    )
    with pytest.raises(NotNowError):
        await sender.run(delivery)
    assert delivery.cancelled().reason is Reason.NOT_COORDINATED  # type: ignore[union-attr]
    assert stage.rung == []
    assert stage.states()[0] is TALKING
