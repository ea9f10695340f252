"""Owners of handovers that are killed: is every customer back, or known to be lost?"""

import asyncio
import itertools
import random
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Final

import attrs
import psycopg

from aiophlo.simulator import Callback, Simulator
from benchmarks.cluster.rows import Report, zeros
from benchmarks.cluster.scenes import Phase, Scene
from benchmarks.cluster.worker import Worker, working
from benchmarks.harness.figures import quantile

_RENEWED: Final = 1 / 3  # of a lease, after which it is renewed
_AFTERWARDS: Final = 60.0  # seconds within which survivors have done with a handover


@attrs.define
class Fate:
    """What became of one customer.

    Attributes:
        scene: Whose.
        handover: Its id.
        seconds: From the kill until they talked to somebody; None for never.
        alarmed: Whether the alarm was sounded.
        well: Whether they talk to somebody in the end.
    """

    scene: Scene
    handover: str
    seconds: float | None = None
    alarmed: bool = False
    well: bool = False

    @property
    def silent(self) -> bool:
        """Whether they are forgotten."""
        return not self.alarmed and (self.seconds is None or not self.well)


async def kill(
    database: str,
    *,
    lease: float = 15.0,
    within: float = 25.0,
    rounds: int = 2,
    at_once: int = 5,
) -> Report:
    """Kill owners of five handovers each, one in each phase.

    Args:
        database: What they share.
        lease: Of their handovers, in seconds.
        within: Seconds within which a customer has to be back.
        rounds: How often.
        at_once: How many owners are killed in each.
    """
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(
            Simulator(quota=None, latency=0.05, strict=True)
        )
        survivors = [
            await stack.enter_async_context(
                working(simulator.base_url, database, lease)
            )
            for _ in range(2)
        ]
        simulator.post_events(Callback(url=survivors[0].url))
        fates: list[Fate] = []
        for number in range(rounds):
            owners = range(number * at_once, (number + 1) * at_once)
            dying = [
                _owner_dies(simulator, database, lease, within, owner)
                for owner in owners
            ]
            fates += itertools.chain.from_iterable(await asyncio.gather(*dying))
        await _until_all_have_ended(database)
        _look(fates, survivors)
        rung_twice = len(simulator.ledger.rung_twice())
        silent = sum(fate.silent for fate in fates)
        return Report(
            [_row(phase, fates) for phase in Phase],
            zeros(silent=silent, rung_twice=rung_twice),
        )


async def _owner_dies(
    simulator: Simulator,
    database: str,
    lease: float,
    within: float,
    owner: int,
) -> Sequence[Fate]:
    chance = random.Random(owner)  # noqa: S311 -- a moment, no secret
    async with working(simulator.base_url, database, lease) as doomed:
        scenes = [
            Scene.place(
                simulator, owner * len(Phase) + index, phase, applied=owner % 2 == 0
            )
            for index, phase in enumerate(Phase)
        ]
        for scene in scenes:
            doomed.tell(scene.order())
        for scene in scenes:
            await scene.until_held(simulator, doomed)
        await asyncio.sleep(chance.uniform(0.0, _RENEWED * lease))
        fates = [Fate(scene, doomed.handovers[scene.number]) for scene in scenes]
        doomed.send_signal(signal.SIGKILL)
        killed_at = time.monotonic()
    await asyncio.gather(
        *(_watch(simulator, fate, killed_at, within) for fate in fates)
    )
    return fates


async def _watch(
    simulator: Simulator, fate: Fate, killed_at: float, within: float
) -> None:
    try:
        await simulator.wait_for(
            lambda _: fate.scene.customer_is_well,
            within=max(killed_at + within - time.monotonic(), 0.0),
        )
    except TimeoutError:
        return
    fate.seconds = time.monotonic() - killed_at


async def _until_all_have_ended(database: str) -> None:
    """Wait until no handover is open any more, and so nobody is engaged in one."""
    query = (
        "SELECT (SELECT count(*) FROM aiophlo.handovers WHERE ended IS NULL)"
        " + (SELECT count(*) FROM aiophlo.engagements)"
    )
    async with (
        asyncio.timeout(_AFTERWARDS),
        await psycopg.AsyncConnection.connect(database, autocommit=True) as connection,
    ):
        while await (await connection.execute(query)).fetchone() != (0,):  # noqa: ASYNC110 -- of what other processes do
            await asyncio.sleep(0.2)


def _look(fates: Iterable[Fate], survivors: Iterable[Worker]) -> None:
    alarms = set().union(*(one.alarms for one in survivors))
    for fate in fates:
        fate.alarmed = fate.handover in alarms
        fate.well = fate.scene.customer_is_well


def _row(phase: Phase, fates: Iterable[Fate]) -> dict[str, object]:
    ours = [fate for fate in fates if fate.scene.phase is phase]
    back = sorted(it.seconds for it in ours if it.seconds is not None)
    later = [seconds for seconds in back if seconds > 1.0]
    return {
        "killed while": phase,
        "times": len(ours),
        "well at once": len(back) - len(later),
        "brought back": len(later),
        "p50 s": round(quantile(later, 0.5), 1) if later else None,
        "longest s": round(later[-1], 1) if later else None,
        "alarms": sum(fate.alarmed for fate in ours),
        "of these false": sum(fate.alarmed and fate.well for fate in ours),
        "silent": sum(fate.silent for fate in ours),
    }
