"""What became of each customer, over many handovers that met everything at once.

::

    python -m benchmarks.questions.handovers --number 10000
    python -m benchmarks.questions.handovers --open 1000

Hypothesis makes up and drives them: people of every habit, faults on three requests
in ten, events late, twice and out of order, cancellation, agents and customers who
hang up. See `handover_scenarios`, `handover_scenes` and `handover_witness`.
"""

import argparse
import asyncio
import gc
import logging
import multiprocessing
import resource
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from aiophlo import (
    Account,
    EventRouter,
    SessionPool,
)
from aiophlo.simulator import (
    AUTH_ID,
    AUTH_TOKEN,
    Callback,
    Habit,
    Simulator,
)
from tests.support.handover_scenarios import Deed, Scenario
from tests.support.handover_scenes import NODE, PHLO, drive, stage, webhook
from tests.support.handover_witness import Table

TOLD_WITHIN: Final = 4.0  # seconds: a busy machine is late with its events


async def _run_many(number: int, seed: int, at_once: int) -> Table:
    async with stage(seed=seed, told_within=TOLD_WITHIN) as it:
        errors = await drive(it, number, at_once=at_once, seed=seed, shrink=False)
        await it.pool.close()
        for error in errors:
            print("".join(traceback.format_exception(error)))
        return it.table()


def _serve(pipe: Connection, number: int) -> None:
    """Be the simulator, in a process of its own."""

    async def main() -> None:
        async with Simulator(quota=None, strict=True) as simulator:
            pipe.send(simulator.base_url)
            url = await asyncio.to_thread(pipe.recv)
            simulator.post_events(Callback(url=url))
            for one in range(number):
                quiet = Scenario([Habit()], Deed.COMPLETE, 0.0, number=one)
                simulator.place_call(
                    PHLO, NODE, agent=quiet.agent, customer=quiet.customer
                )
            await asyncio.to_thread(pipe.recv)

    asyncio.run(main())


async def _hold_open(number: int) -> str:
    """Open so many handovers, hold them all, complete them all."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs, number)
    )
    process.start()
    router = EventRouter()
    base_url = await asyncio.to_thread(ours.recv)
    account = Account(AUTH_ID, AUTH_TOKEN, quota=None)
    async with (
        webhook(router.feed) as url,
        SessionPool(account, base_url=base_url) as pool,
    ):
        await asyncio.to_thread(ours.send, url)
        await asyncio.sleep(number / 500)  # until the calls' own events are in
        node = pool.phlo(PHLO).multi_party_call(NODE)
        inside = asyncio.Semaphore(0)
        go_on = asyncio.Event()

        async def one(number: int) -> None:
            quiet = Scenario([Habit()], Deed.COMPLETE, 0.0, number=number)
            async with pool.consult(
                node,
                agent=quiet.agent,
                customer=quiet.customer,
                to=quiet.targets,
                router=router,
            ) as consult:
                inside.release()
                await go_on.wait()
                await consult.complete()

        gc.collect()
        memory, cpu, clock = _memory(), time.process_time(), time.perf_counter()
        tasks = [asyncio.ensure_future(one(each)) for each in range(number)]
        for _ in range(number):
            await inside.acquire()
        gc.collect()
        opened = (_memory() - memory) / number
        reached = time.perf_counter() - clock
        go_on.set()
        await asyncio.gather(*tasks)
        cpu = (time.process_time() - cpu) / number
        ours.send("enough")
        await asyncio.to_thread(process.join)
    return (
        f"{number:,} at once: all reached in {reached:.2f} s;"
        f" {opened / 1024:.1f} kB and {cpu * 1e3:.2f} ms of CPU each,"
        " connections, webhook and events included"
    )


def _memory() -> int:
    """Return the bytes that the process holds in memory now."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=0, help="handovers to play")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=150, help="of these, at once")
    parser.add_argument("--open", type=int, default=0, help="open so many, hold them")
    arguments = parser.parse_args()
    logging.getLogger("aiophlo").addHandler(logging.NullHandler())
    logging.getLogger("aiophlo").propagate = False
    if arguments.number:
        clock = time.perf_counter()
        table = asyncio.run(
            _run_many(arguments.number, arguments.seed, arguments.at_once)
        )
        print(table)
        for witness in table.worst[:10]:
            print(witness)
        print(f"{time.perf_counter() - clock:.0f} s")
    if arguments.open:
        print(asyncio.run(_hold_open(arguments.open)))


if __name__ == "__main__":
    main()
