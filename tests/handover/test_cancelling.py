"""Cancelled at any step of the loop, once or twice, nobody is left on hold."""

import asyncio
import functools
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import pytest

from aiophlo import Consult, EventRouter, HandoverError, SessionPool
from aiophlo.simulator import Call, Callback, Habit, Simulator, State
from tests.support.calm_time import CalmLoop, CalmSelector
from tests.support.doubles import pool_of
from tests.support.handover_stage import NODE, PHLO, webhook
from tests.support.shared_leases import SharedLeases


class StepLoop(CalmLoop):
    """An event loop that calls back after each of its steps.

    Attributes:
        step_done: What it calls.
    """

    def __init__(self) -> None:
        self.step_done: Callable[[], object] = bool
        super().__init__(functools.partial(_StepSelector, self))


class _StepSelector(CalmSelector):
    """Asked for news once per step."""

    def __init__(self, loop: StepLoop, count: Callable[[float], float]) -> None:
        super().__init__(count)
        self._its_loop = loop

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        self._its_loop.step_done()
        return super().select(timeout)


@attrs.frozen
class Switchboard:
    """Where one call after the other is placed.

    Attributes:
        simulator: Where they take place.
        pool: Sends to it.
        router: Hears their events.
    """

    simulator: Simulator
    pool: SessionPool
    router: EventRouter

    def place(self, number: int) -> "Placed":
        """Place a call whose first target declines and whose second answers."""
        agent, customer, first, second = (f"+1415{number:06}{one}" for one in range(4))
        self.simulator.set_habit(Habit("declines", after=0.002), address=first)
        self.simulator.set_habit(Habit("answers", after=0.002), address=second)
        call = self.simulator.place_call(PHLO, NODE, agent=agent, customer=customer)
        consult = self.pool.consult(
            self.pool.phlo(PHLO).multi_party_call(NODE),
            agent=agent,
            customer=customer,
            to=[first, second],
            ring_for=0.06,
            router=self.router,
            told_within=0.02,
        )
        return Placed(call, consult, agent, customer)


@attrs.frozen
class Placed:
    """One call, and its handover.

    Attributes:
        call: The call.
        consult: The handover.
        agent: Address of the agent.
        customer: Address of the customer.
    """

    call: Call
    consult: Consult
    agent: str
    customer: str

    async def hand_over(self) -> None:
        """Hand the customer over."""
        async with self.consult:
            await asyncio.sleep(0.002)
            await self.consult.complete()

    def check(self) -> None:
        """See that the customer is with the agent or the partner, and nobody rings."""
        members = list(self.call.members.values())
        assert self.call[self.customer].state is State.TALKING, members
        present = [one for one in members if one.present]
        assert all(one.state is State.TALKING for one in present), members
        assert len(present) == 2, members


@asynccontextmanager
async def switchboard(shared: SharedLeases | None) -> AsyncIterator[Switchboard]:
    """Set up what all the calls share."""
    router = EventRouter()
    async with (
        Simulator(quota=None, strict=True) as simulator,
        webhook(router, simulator.auth_token) as url,
        pool_of(simulator) as pool,
    ):
        simulator.post_events(Callback(url=url))
        if shared is not None:
            pool._handovers().shared = shared  # noqa: SLF001 -- what a coordinator does
        yield Switchboard(simulator, pool, router)


async def cancelled_at(work: Coroutine[Any, Any, None], steps: tuple[int, ...]) -> bool:
    """Cancel `work` at each of some steps of the loop; say if it came so far."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, StepLoop)
    task = asyncio.ensure_future(work)
    left = list(steps)
    taken = 0

    def count() -> None:
        nonlocal taken
        taken += 1
        if left and taken == left[0]:
            left.pop(0)
            task.cancel()

    loop.step_done = count
    try:
        with suppress(asyncio.CancelledError, HandoverError):
            await task
    finally:
        loop.step_done = bool
    return taken >= steps[0]


async def settled(pool: SessionPool) -> None:
    """Wait until the pool has seen every handover through."""
    tasks = pool._handovers()._tasks  # noqa: SLF001 -- nobody else waits for them
    while tasks:
        await asyncio.wait(set(tasks))


async def cancel_everywhere(
    then: tuple[int, ...], shared: SharedLeases | None = None
) -> int:
    """Cancel a handover at step 1, 2, … until it is done; give their number."""
    beyond, step = 0, 0
    async with switchboard(shared) as board:
        while beyond < 3:  # how many steps there are varies a little
            step += 1
            placed = board.place(step)
            steps = (step, *(step + one for one in then))
            came_so_far = await cancelled_at(placed.hand_over(), steps)
            await settled(board.pool)
            placed.check()
            assert shared is None or not (shared.open or shared.engaged)
            if not came_so_far:
                beyond += 1
                assert placed.call[placed.agent].state is State.LEFT  # handed over
    return step


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run on a loop whose steps can be counted."""
    with asyncio.Runner(loop_factory=StepLoop) as runner:
        return runner.run(main)


def test_customer_is_well_when_cancelled_at_any_step() -> None:
    """A dropped websocket cancels whatever the agent was in the middle of."""
    assert run(cancel_everywhere(())) > 50


@pytest.mark.parametrize("later", [1, 3, 8])
def test_customer_is_well_when_cancelled_twice(later: int) -> None:
    """Impatient frameworks cancel again, in the middle of the cleaning up."""
    assert run(cancel_everywhere((later,))) > 50


@pytest.mark.parametrize("then", [(), (3,)])
def test_nobody_stays_engaged_in_other_pools_when_cancelled(
    then: tuple[int, ...],
) -> None:
    """Each question to the database is one more step to be cancelled at."""
    assert run(cancel_everywhere(then, SharedLeases())) > 70
