"""Handovers in many processes, each of whose events goes to any of them.

A course of `benchmarks.cluster`: a third of the first partners decline, one event in
ten comes late and one in ten twice, and every post goes to a process by chance.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from aiophlo import EventRouter, PhloError, SessionPool
from aiophlo.simulator import AUTH_TOKEN, Callback, Habit, Reaction, Simulator, State
from benchmarks.cluster.spreading import spreading
from tests.support.handover_stage import webhook

PHLO_ID, NODE_ID = "my-phlo", "my-node"
_RING_FOR: Final = 5.0  # seconds
_TALK: Final = 0.2  # seconds of the consult
_TWO: Final = 2  # events of each call before its handover
_PLACED: Final = 60.0  # seconds until those have come


def _address(kind: int, number: int) -> str:
    return f"+1415{kind}{number:06}"


def _people(number: int) -> tuple[str, str, str, str]:
    """Return agent, customer, and first and second partner."""
    agent, customer, first, second = (_address(kind, number) for kind in range(2, 6))
    return agent, customer, first, second


def _first_declines(number: int) -> bool:
    return number % 3 == 0


async def hand_over_all(
    pool: SessionPool, router: EventRouter, numbers: Iterable[int], per_second: float
) -> int:
    """Hand over one call after the other, and return how many came off."""
    handovers = []
    for number in numbers:
        handovers.append(asyncio.create_task(_hand_over(pool, router, number)))
        await asyncio.sleep(1.0 / per_second)
    return sum(await asyncio.gather(*handovers))


async def _hand_over(pool: SessionPool, router: EventRouter, number: int) -> bool:
    agent, customer, first, second = _people(number)
    consult = pool.consult(
        pool.phlo(PHLO_ID).multi_party_call(NODE_ID),
        agent=agent,
        customer=customer,
        to=[first, second],
        ring_for=_RING_FOR,
        router=router,
    )
    try:
        async with consult:
            await asyncio.sleep(_TALK)
            partner = await consult.complete()
    except PhloError:
        return False
    return partner == (second if _first_declines(number) else first)


@contextlib.asynccontextmanager
async def receiving(router: EventRouter) -> AsyncIterator[str]:
    """Receive events for a router; gives the URL."""
    async with webhook(router, AUTH_TOKEN) as url:
        yield url


@contextlib.asynccontextmanager
async def calls_placed(
    simulator: Simulator, number: int, urls: Sequence[str]
) -> AsyncIterator[None]:
    """Place so many calls, whose events go to any of some URLs."""
    chance = random.Random(1)  # noqa: S311 -- a choice of workers, no secret
    async with spreading(lambda: [chance.choice(urls)], "/events") as spreader:
        simulator.post_events(Callback(url=spreader.url, late=0.1, twice=0.1))
        simulator.set_habit(Habit(after=0.3))
        for one in range(number):
            agent, customer, first, _ = _people(one)
            if _first_declines(one):
                habit = Habit(Reaction.DECLINES, after=0.2)
                simulator.set_habit(habit, address=first)
            simulator.place_call(PHLO_ID, NODE_ID, agent=agent, customer=customer)
        await simulator.wait_for(
            lambda _: len(simulator.posts) >= _TWO * number, within=_PLACED
        )
        yield


def came_off(simulator: Simulator, number: int) -> int:
    """Count the customers who talk to the partner who took them, and to nobody else."""
    count = 0
    for one in range(number):
        agent, customer, first, second = _people(one)
        partner = second if _first_declines(one) else first
        [call] = [call for call in simulator.calls if customer in call.members]
        talking = {
            member.address
            for member in call.members.values()
            if member.state is State.TALKING
        }
        count += talking == {customer, partner} and not call[agent].present
    return count
