"""Courses of processes that send at the same time, or hand calls over."""

import asyncio
import contextlib
import itertools
import json
import math
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from aiophlo import (
    AbortTransfer,
    Accepted,
    Account,
    EventRouter,
    Outcome,
    Quota,
    SessionPool,
    WarmTransfer,
)
from aiophlo.postgres import PostgresCoordinator
from aiophlo.simulator import AUTH_ID, AUTH_TOKEN, Simulator
from benchmarks.cluster.handovers import (
    calls_placed,
    came_off,
    hand_over_all,
    receiving,
)
from benchmarks.harness.figures import quantile
from benchmarks.harness.lab import ROOT
from tests.support.doubles import outcome_of
from tests.support.relay import Relay

LATENCY: Final = 0.05  # seconds of the simulator's answers
PHLO_ID, NODE_ID = "my-phlo", "my-node"
AGENT: Final = "+14153330000"
CLICKS_APART: Final = 0.05  # seconds from one double click to the next


@attrs.frozen
class Course:
    """What processes do at the same time.

    Attributes:
        processes: How many.
        kind: What each does: see `WORK`; or `handovers`.
        seconds: How long.
        per_second: How often, all processes together; 0 for as often as may be.
        limit: Requests of the quota, in 5 seconds.
        round_trip: Seconds to the database and back, besides its own.
    """

    processes: int
    kind: str
    seconds: float
    per_second: float = 0.0
    limit: int = 300
    round_trip: float = 0.0

    @property
    def handovers(self) -> int:
        """How many calls are handed over."""
        return round(self.seconds * self.per_second) * (self.kind == "handovers")


COURSES: Final = {
    "saturated 1": Course(1, "stream", 15),
    "saturated 4": Course(4, "stream", 15),
    "50/s by 4": Course(4, "awaited", 20, 50),
    "90/s by 4": Course(4, "awaited", 20, 90),
    "50/s by 18": Course(18, "awaited", 20, 50),
    "90/s by 18": Course(18, "awaited", 20, 90),
    "urgent beside 18 streams": Course(18, "urgent", 20, 3),
    "one beside 18 streams": Course(19, "beside", 30, 1),
    "double clicks on 2": Course(2, "clicks", 50),
    "idle": Course(4, "idle", 15, 10),
    "cost": Course(1, "idle", 15, 50),
    "fast awaited": Course(1, "workers", 5, limit=100_000),
    "fast streamed": Course(1, "stream", 5, limit=100_000),
    "20 ms away, saturated 4": Course(4, "stream", 15, round_trip=0.02),
    "20 ms away, 50/s by 4": Course(4, "awaited", 20, 50, round_trip=0.02),
    "20 ms away, idle": Course(4, "idle", 15, 10, round_trip=0.02),
    "200 handovers by 1": Course(1, "handovers", 10, 20),
    "200 handovers by 3": Course(3, "handovers", 10, 20),
}


def transfer(process: int, number: int) -> WarmTransfer:
    """Return a transfer of its own."""
    return WarmTransfer(
        phlo_id=PHLO_ID,
        node_id=NODE_ID,
        trigger_source=AGENT,
        to=f"+1415{process:02}{number:05}",
    )


async def _stream(pool: SessionPool, process: int, course: Course) -> list[Outcome]:
    """Stream for as long as the course takes."""
    ends = time.monotonic() + course.seconds
    actions = (
        transfer(process, number)
        for number in itertools.takewhile(
            lambda _: time.monotonic() < ends, itertools.count()
        )
    )
    async with pool.stream(actions, concurrency=50) as outcomes:
        return [outcome async for outcome in outcomes]


async def _awaited(pool: SessionPool, process: int, course: Course) -> list[Outcome]:
    """Send at random moments."""
    chance = random.Random(process)  # noqa: S311 -- arrivals, no secrets
    share = course.per_second / course.processes
    sends: list[asyncio.Task[Outcome]] = []
    ends = time.monotonic() + course.seconds
    due = time.monotonic() + chance.expovariate(share)
    while due < ends:
        await asyncio.sleep(max(due - time.monotonic(), 0.0))
        sending = pool.send(transfer(process, len(sends)))
        sends.append(asyncio.create_task(outcome_of(sending)))
        due += chance.expovariate(share)
    return await asyncio.gather(*sends)


async def _urgent(pool: SessionPool, process: int, course: Course) -> list[Outcome]:
    """Stream, and abort now and then; returns the aborts' outcomes alone."""
    streaming = asyncio.create_task(_stream(pool, process, course))
    chance = random.Random(process)  # noqa: S311 -- as above
    share = course.per_second / course.processes
    ends = time.monotonic() + course.seconds
    outcomes: list[Outcome] = []
    due = time.monotonic() + chance.expovariate(share)
    while due < ends:
        await asyncio.sleep(max(due - time.monotonic(), 0.0))
        member = f"+1416{process:02}{len(outcomes):05}"
        abort = AbortTransfer(phlo_id=PHLO_ID, node_id=NODE_ID, member=member)
        outcomes.append(await outcome_of(pool.send(abort)))
        due += chance.expovariate(share)
    await streaming
    return outcomes


async def _beside(pool: SessionPool, process: int, course: Course) -> list[Outcome]:
    """Stream, but for one, which sends now and then; its outcomes alone count."""
    if process:
        await _stream(pool, process, course)
        return []
    return await _awaited(pool, process, attrs.evolve(course, processes=1))


async def _workers(pool: SessionPool, process: int, course: Course) -> list[Outcome]:
    """Send as fast as may be, a hundred at a time."""
    ends = time.monotonic() + course.seconds
    numbers = itertools.count()
    outcomes = []

    async def send_again_and_again() -> None:
        while time.monotonic() < ends:
            sending = pool.send(transfer(process, next(numbers)))
            outcomes.append(await outcome_of(sending))

    await asyncio.gather(*(send_again_and_again() for _ in range(100)))
    return outcomes


async def _clicks(pool: SessionPool, _: int, course: Course) -> list[Outcome]:
    """Send what every other process sends at the same moment."""
    begun = math.ceil(time.time())
    sends = []
    for number in range(round(course.seconds / CLICKS_APART)):
        due = begun + number * CLICKS_APART
        await asyncio.sleep(max(due - time.time(), 0.0))
        sends.append(asyncio.create_task(outcome_of(pool.send(transfer(0, number)))))
    return await asyncio.gather(*sends)


WORK: Final[
    dict[str, Callable[[SessionPool, int, Course], Coroutine[Any, Any, list[Outcome]]]]
] = {
    "stream": _stream,
    "awaited": _awaited,
    "urgent": _urgent,
    "clicks": _clicks,
    "beside": _beside,
    "workers": _workers,
    "idle": _awaited,
}


async def work(
    base_url: str, database: str | None, process: int, course: Course
) -> dict[str, Any]:
    """Be one of the processes."""
    account = Account(AUTH_ID, AUTH_TOKEN, quota=Quota(course.limit))
    coordinator = PostgresCoordinator(database) if database else None
    router = EventRouter(coordinator=coordinator)
    outcomes: list[Outcome] = []
    handed_over = 0
    async with (
        SessionPool(account, base_url=base_url, coordinator=coordinator) as pool,
        receiving(router) as url,
    ):
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        cpu = time.process_time()
        if course.handovers:
            numbers = range(process, course.handovers, course.processes)
            pace = course.per_second / course.processes
            handed_over = await hand_over_all(pool, router, numbers, pace)
        else:
            outcomes = await WORK[course.kind](pool, process, course)
        cpu = time.process_time() - cpu
        print("done", flush=True)
        await asyncio.to_thread(sys.stdin.readline)  # the others' events come here, too
    return {
        "accepted": sum(isinstance(outcome, Accepted) for outcome in outcomes),
        "not_accepted": sum(not isinstance(it, Accepted) for it in outcomes),
        "joined": sum(outcome.joined for outcome in outcomes),
        "waited": [it.waited for it in outcomes if isinstance(it, Accepted)],
        "handed_over": handed_over,
        "cpu": cpu,
    }


@contextlib.asynccontextmanager
async def _process(arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.cluster", "--work", json.dumps(arguments)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _said(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None  # noqa: S101 -- PIPE
    return (await process.stdout.readline()).decode().strip()


async def measure(course: Course, database: str | None) -> dict[str, Any]:
    """Run a course, and say what came of it."""
    async with (
        Simulator(latency=LATENCY, quota=(course.limit, 5.0)) as simulator,
        contextlib.AsyncExitStack() as stack,
    ):
        if database and course.round_trip:
            port = urlsplit(database).port or 0
            relay = Relay(port, course.round_trip / 2)
            database = (await stack.enter_async_context(relay)).url
        processes = []
        for number in range(course.processes):
            arguments = (simulator.base_url, database, number, attrs.asdict(course))
            processes.append(await stack.enter_async_context(_process(arguments)))
        urls = [await _said(process) for process in processes]
        if course.handovers:
            placing = calls_placed(simulator, course.handovers, urls)
            await stack.enter_async_context(placing)
        for process in processes:
            assert process.stdin is not None  # noqa: S101 -- PIPE
            process.stdin.write(b"\n")
        for process in processes:
            await _said(process)
        said = [
            json.loads(output or "{}")
            for output, _ in await asyncio.gather(
                *(process.communicate(b"\n") for process in processes)
            )
        ]
        figures = _figures(said, simulator, course)
        if course.handovers:
            figures["came off"] = came_off(simulator, course.handovers)
        return figures


def _figures(
    said: Sequence[dict[str, Any]], simulator: Simulator, course: Course
) -> dict[str, Any]:
    waited = sorted(itertools.chain.from_iterable(it["waited"] for it in said))
    accepted = [it["accepted"] for it in said]
    ledger = simulator.ledger
    total, handed_over = sum(accepted), sum(it["handed_over"] for it in said)
    return {
        "accepted": total,
        "not accepted": sum(it["not_accepted"] for it in said),
        "429": ledger.refused_429,
        "rung twice": len(ledger.rung_twice()),
        "joined": sum(it["joined"] for it in said),
        "% of quota": round(ledger.rate_per_second() / course.limit * 500.0, 1),
        "least and most": f"{min(accepted)}-{max(accepted)}",
        "p50 ms": round(quantile(waited, 0.5) * 1e3, 1) if waited else None,
        "p99 ms": round(quantile(waited, 0.99) * 1e3, 1) if waited else None,
        "CPU us": round(
            sum(it["cpu"] for it in said) / max(total + handed_over, 1) * 1e6
        ),
        "handed over": handed_over or None,
        "came off": None,
    }
