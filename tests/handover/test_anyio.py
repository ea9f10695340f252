"""Services on Starlette are cancelled by anyio: again and again, until they are out."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import anyio
import pytest

from aiophlo import Consult, HandoverError
from tests.support.handover_stage import (
    CONSULTING,
    FIRST,
    ON_HOLD,
    RINGING,
    Stage,
    set_stage,
)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Give a call whose agent wants to hand the customer over."""
    async with set_stage() as stage:
        yield stage


async def talk(stage: Stage) -> None:
    """Talk to the partner for longer than anybody waits."""
    async with stage.consult(ring_for=30.0):
        await anyio.sleep(30.0)


async def talk_and_fail(stage: Stage) -> None:
    """Do the same, with a mistake in what is done when it is cancelled."""
    async with stage.consult(ring_for=30.0):
        try:
            await anyio.sleep(30.0)
        finally:
            raise ZeroDivisionError


async def hand_over(stage: Stage) -> None:
    """Ask for longer than anybody waits."""

    async def accept(_: Consult) -> bool:
        await anyio.sleep(30.0)
        return True

    await stage.pool.hand_over(stage.node, **stage.options(), accept=accept)


@pytest.mark.parametrize("work", [talk, hand_over])
@pytest.mark.parametrize("ringing", [True, False])
async def test_customer_is_back_when_anyio_s_time_is_over(
    stage: Stage, work: Callable[[Stage], object], ringing: bool
) -> None:
    """The next line of the service tells the agent that the customer is back."""
    if ringing:
        stage.people_are("ignores", FIRST, after=30.0)
    with anyio.move_on_after(0.15) as scope:
        await work(stage)  # type: ignore[misc]
    assert scope.cancelled_caught
    assert stage.customer_is_with_agent


async def test_customer_is_back_when_a_task_group_is_cancelled(stage: Stage) -> None:
    """A client that disconnects cancels the task group of its request."""
    async with anyio.create_task_group() as group:
        group.start_soon(talk, stage)
        await stage.until(CONSULTING, ON_HOLD, CONSULTING)
        group.cancel_scope.cancel()
    assert stage.customer_is_with_agent


async def test_customer_is_back_when_the_block_fails_as_it_is_cancelled(
    stage: Stage,
) -> None:
    """It would be left at anyio's next turn: no cancel is what it leaves for."""
    with pytest.raises(ZeroDivisionError), anyio.move_on_after(0.15):
        await talk_and_fail(stage)
    assert stage.customer_is_with_agent


async def test_customer_is_back_when_the_pool_is_closed_by_a_cancel(
    stage: Stage,
) -> None:
    """Closing cancelled at its first step would cancel whoever brings them back."""
    consult = await stage.consult().__aenter__()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await stage.pool.close()
    assert stage.customer_is_with_agent
    await consult.abort()
    assert stage.alarms == []


async def test_processor_is_free_while_the_customer_is_brought_back(
    stage: Stage,
) -> None:
    """Everybody else's requests would be served by what a busy loop leaves."""
    stage.simulator.answer_next(500, action="abort_transfer", dialled=False, times=4)
    async with anyio.create_task_group() as group:
        group.start_soon(talk, stage)
        await stage.until(CONSULTING, ON_HOLD, CONSULTING)
        used, began = time.process_time(), time.monotonic()
        group.cancel_scope.cancel()
    used, took = time.process_time() - used, time.monotonic() - began
    assert stage.customer_is_with_agent
    assert used < took / 2 or took < 0.1


async def test_second_cancel_beside_anyio_s_is_heard(stage: Stage) -> None:
    """Who presses Ctrl-C twice doesn't want to wait: the pool goes on alone."""
    stage.people_are("ignores", FIRST, after=30.0)

    async def work() -> None:
        with anyio.move_on_after(0.05):
            await talk(stage)

    with stage.simulator.hold_answers():
        task = asyncio.ensure_future(work())
        await stage.simulator.wait_for(held=1)
        await asyncio.sleep(0.1)
        assert not task.done()
        task.cancel()
        with suppress(asyncio.CancelledError, HandoverError):
            await asyncio.wait_for(asyncio.shield(task), 2.0)
        assert task.done()
    await stage.until(*stage.states()[:2])
    assert RINGING not in stage.states()[:2]
    await stage.pool.close()
    assert stage.customer_is_with_agent
