"""A service in a process of its own that hands a customer over."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from aiophlo import EventRouter
from aiophlo.simulator import AUTH_TOKEN, Callback, Simulator
from tests.support.doubles import pool_of
from tests.support.handover_stage import AGENT, CUSTOMER, NODE, PHLO, Stage

_CHILD: Final = Path(__file__).with_name("handover_child.py")
_ROOT: Final = Path(__file__).parents[2]


@asynccontextmanager
async def child(
    simulator: Simulator, path: Path, talk: float = 60.0, *shared: str
) -> AsyncIterator[Process]:
    """Run one that has begun to hand the customer over.

    Args:
        simulator: Where.
        path: Of its journal.
        talk: Seconds of the private talk.
        shared: URL of a database that it shares, and the namespace.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(_CHILD), simulator.base_url, AUTH_TOKEN),
        *(str(path), str(talk), *shared),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        simulator.post_events(Callback(url=url))
        simulator.place_call(PHLO, NODE, agent=AGENT, customer=CUSTOMER)
        await simulator.wait_for(lambda _: len(simulator.posts) == 2)
        process.stdin.write(b"go on\n")
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def stage_of(simulator: Simulator) -> Stage:
    """Look at the call that a child hands over."""
    (call,) = simulator.calls
    return Stage(simulator, pool_of(simulator), EventRouter(), call, [])
