"""An owner of handovers that is stopped, and wakes to newer ones of the same agents."""

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import attrs

from aiophlo.simulator import Callback, Simulator, State
from benchmarks.cluster.rows import Report, zeros
from benchmarks.cluster.scenes import Phase, Scene, addresses
from benchmarks.cluster.worker import Worker, working

_NEWER: Final = 1_000  # added to the number of a handover
_ALL_BEGUN: Final = 120.0  # seconds in which all newer ones have begun, or never will
_AWAKE: Final = 5.0  # seconds in which a woken owner may do harm
_TALK: Final = 8.0  # seconds of half of the newer talks, from when the owner wakes
_SHORT: Final = 0.5  # seconds of the others, which end while it sleeps


async def stop(
    database: str,
    *,
    lease: float = 15.0,
    seconds: float = 30.0,
    of_each: int = 2,
) -> Report:
    """Stop an owner; let another process begin newer transfers; wake the owner.

    Args:
        database: What they share.
        lease: Of their handovers, in seconds.
        seconds: How long the owner is stopped.
        of_each: How many handovers are stopped in each phase.
    """
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(
            Simulator(quota=None, latency=0.05, strict=True)
        )
        owner, other = [
            await stack.enter_async_context(
                working(simulator.base_url, database, lease)
            )
            for _ in range(2)
        ]
        simulator.post_events(Callback(url=other.url))
        scenes = _scenes(simulator, of_each)
        for scene in scenes:
            owner.tell(scene.order(talk=seconds / 2))
        for scene in scenes:
            await scene.until_held(simulator, owner)
        owner.send_signal(signal.SIGSTOP)
        wakes_at = time.monotonic() + seconds
        try:
            newer = [_begin_newer(scene, other, wakes_at) for scene in scenes]
            async with asyncio.timeout(_ALL_BEGUN):
                await asyncio.gather(*newer)
            await asyncio.sleep(max(wakes_at - time.monotonic(), 0.0))
            before = simulator.ledger.received
        finally:
            owner.send_signal(signal.SIGCONT)
        await asyncio.sleep(_AWAKE)
        late = simulator.ledger.received - before
        for scene in scenes:
            number = scene.number
            await owner.until(lambda: number in owner.ended)  # noqa: B023 -- awaited here
            await other.until(lambda: number + _NEWER in other.ended)  # noqa: B023 -- as above
        return _report(scenes, owner, other, late)


def _scenes(simulator: Simulator, of_each: int) -> list[Scene]:
    """Place calls of which none has lost its agent."""
    return [
        Scene.place(
            simulator,
            index * of_each + number,
            phase,
            applied=phase is not Phase.COMPLETING and number % 2 == 0,
        )
        for index, phase in enumerate(Phase)
        for number in range(of_each)
    ]


async def _begin_newer(scene: Scene, other: Worker, wakes_at: float) -> None:
    """Begin a newer handover as soon as the agent may."""
    *_, second = addresses(scene.number)
    number = scene.number + _NEWER
    is_long = scene.number % 2 == 0
    order = attrs.evolve(
        scene.order(),
        number=number,
        to=second,
        talk=max(wakes_at - time.monotonic(), 0.0) + _TALK if is_long else _SHORT,
        then="complete",
    )
    while True:
        other.phases.pop(number, None)
        other.ended.pop(number, None)
        other.tell(order)
        await other.until(
            lambda: number in other.ended or "consulting" in other.phases[number]
        )
        if number not in other.ended and is_long:
            return
        if number not in other.ended:
            await other.until(lambda: number in other.ended)
        if other.ended[number] == "complete":
            return
        await asyncio.sleep(0.5)  # the agent is engaged still


def _report(scenes: Sequence[Scene], owner: Worker, other: Worker, late: int) -> Report:
    came_off = sum(map(_came_off, scenes))
    taken_over = sum(owner.phases[it.number][-1] == "taken_over" for it in scenes)
    alarms = len(owner.alarms | other.alarms)
    number = len(scenes)
    return Report(
        [
            {
                "stopped": number,
                "ended as taken over": taken_over,
                "requests after waking": late,
                "newer ones came off": came_off,
                "false alarms": alarms,
            }
        ],
        zeros(
            requests_after_waking=late,
            newer_ones_harmed=number - came_off,
            not_taken_over=number - taken_over,
            false_alarms=alarms,
        ),
    )


def _came_off(scene: Scene) -> bool:
    agent, customer, _, second = addresses(scene.number)
    call = scene.call
    talking = call[customer].state is call[second].state is State.TALKING
    return talking and not call[agent].present
