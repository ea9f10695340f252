"""Double clicks on handovers that land on two processes at the same moment."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Final

from aiophlo.simulator import Callback, Simulator, State
from benchmarks.cluster.rows import Report, zeros
from benchmarks.cluster.scenes import addresses
from benchmarks.cluster.worker import NODE_ID, PHLO_ID, Order, working

_APART: Final = 0.1  # seconds from one double click to the next
_TALK: Final = 0.5  # seconds
_EVENTS: Final = 2  # of each call before its handover


async def click_twice(
    database: str | None, number: int = 100, lease: float = 15.0
) -> Report:
    """Let two processes be told to hand over each call, and see that one does.

    Args:
        database: What they share; None for nothing.
        number: How many calls.
        lease: Of their handovers, in seconds.
    """
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(
            Simulator(quota=None, latency=0.05, strict=True)
        )
        one, two = [
            await stack.enter_async_context(
                working(simulator.base_url, database, lease)
            )
            for _ in range(2)
        ]
        simulator.post_events(Callback(url=one.url))
        calls = []
        for index in range(number):
            agent, customer, *_ = addresses(index)
            calls.append(
                simulator.place_call(PHLO_ID, NODE_ID, agent=agent, customer=customer)
            )
        await simulator.wait_for(
            lambda _: len(simulator.posts) >= _EVENTS * number, within=30.0
        )
        for index in range(number):
            order = Order(index, *addresses(index)[:3], talk=_TALK)
            for worker in (one, two) if index % 2 else (two, one):
                worker.tell(order)
            await asyncio.sleep(_APART)
        for worker in (one, two):
            await worker.until(lambda: len(worker.ended) == number)  # noqa: B023 -- awaited here
        ends = [
            Counter((one.ended[index], two.ended[index])) for index in range(number)
        ]
        refused = sum(end == {"complete": 1, "EngagedError": 1} for end in ends)
        well = 0
        for index, call in enumerate(calls):
            agent, customer, first, _ = addresses(index)
            talking = call[customer].state is call[first].state is State.TALKING
            well += talking and not call[agent].present
        alarms = len(one.alarms | two.alarms)
        rung_twice = len(simulator.ledger.rung_twice())
        return Report(
            [
                {
                    "double clicks": number,
                    "one of two refused": refused,
                    "came off": well,
                    "false alarms": alarms,
                    "rung twice": rung_twice,
                }
            ],
            zeros(
                not_one_of_two_refused=number - refused,
                consults_harmed=number - well,
                false_alarms=alarms,
                rung_twice=rung_twice,
            ),
        )
