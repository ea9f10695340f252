"""A process that hands calls over as it is told, and tells what comes of each.

Orders come as lines of JSON, and news go as such.
"""

import asyncio
import contextlib
import json
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Literal

import attrs

from aiophlo import Account, EventRouter, PhloError, SessionPool
from aiophlo.observed_events import HandoverStep, ObservedEvent
from aiophlo.postgres import PostgresCoordinator
from aiophlo.simulator import AUTH_ID, AUTH_TOKEN
from benchmarks.harness.lab import ROOT
from tests.support.handover_stage import webhook

PHLO_ID, NODE_ID = "my-phlo", "my-node"
_TOLD_WITHIN: Final = 60.0  # seconds in which a process says what is waited for


@attrs.frozen
class Order:
    """A handover that a process is told to begin.

    Attributes:
        number: Comes back in its news.
        agent: The agent's address.
        customer: The customer's.
        to: Whom to ring.
        talk: Seconds of the private talk.
        then: What follows it.
    """

    number: int
    agent: str
    customer: str
    to: str
    talk: float
    then: Literal["complete", "return"] = "complete"


class Worker:
    """The near end of such a process.

    Attributes:
        url: Where it wants events.
        handovers: Ids of its handovers, by number.
        phases: Phases that each has come to.
        ended: How each has ended: `complete`, `return`, or an exception's name.
        alarms: Ids of those that it sounded the alarm about, its own or others'.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._news = asyncio.Event()
        self.url = ""
        self.handovers: dict[int, str] = {}
        self.phases: defaultdict[int, list[str]] = defaultdict(list)
        self.ended: dict[int, str] = {}
        self.alarms: set[str] = set()

    def tell(self, order: Order) -> None:
        """Tell it to begin a handover."""
        assert self._process.stdin is not None  # noqa: S101 -- PIPE
        self._process.stdin.write(json.dumps(attrs.asdict(order)).encode() + b"\n")

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until its news have made a condition true.

        Raises:
            TimeoutError: They haven't in a minute.
        """
        async with asyncio.timeout(_TOLD_WITHIN):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def listen(self) -> None:
        """Take its news until it ends."""
        assert self._process.stdout is not None  # noqa: S101 -- PIPE
        async for line in self._process.stdout:
            match json.loads(line):
                case {"url": url}:
                    self.url = url
                case {"number": number, "handover": handover}:
                    self.handovers[number] = handover
                case {"number": number, "phase": phase}:
                    self.phases[number].append(phase)
                case {"number": number, "ended": ended}:
                    self.ended[number] = ended
                case {"alarm": handover}:
                    self.alarms.add(handover)
            self._news.set()


@contextlib.asynccontextmanager
async def working(
    base_url: str, database: str | None, lease: float
) -> AsyncIterator[Worker]:
    """Run such a process; it is killed in the end.

    Args:
        base_url: Where its requests go.
        database: What it shares; None for nothing.
        lease: Of its handovers, in seconds.
    """
    arguments = json.dumps((base_url, database, lease))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.cluster", "--hand-over", arguments),
        stdin=PIPE,
        stdout=PIPE,
        cwd=ROOT,
    )
    worker = Worker(process)
    listening = asyncio.create_task(worker.listen())
    try:
        await worker.until(lambda: bool(worker.url))
        yield worker
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await listening


class _Alarms(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.CRITICAL:
            _say(alarm=getattr(record, "phlo_handover", ""))


def _say(**news: object) -> None:
    print(json.dumps(news), flush=True)


class _Steps:
    """Tells of the steps of handovers, by the numbers of their orders."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, event: ObservedEvent) -> None:
        if isinstance(event, HandoverStep) and event.id in self.numbers:
            _say(number=self.numbers[event.id], phase=event.phase)


async def run(base_url: str, database: str | None, lease: float) -> None:
    """Be such a process, until there are no more orders."""
    logging.getLogger("aiophlo").addHandler(_Alarms())
    steps = _Steps()
    coordinator = PostgresCoordinator(database, lease=lease) if database else None
    router = EventRouter(coordinator=coordinator)
    account = Account(AUTH_ID, AUTH_TOKEN, quota=None)
    async with (
        SessionPool(
            account,
            base_url=base_url,
            coordinator=coordinator,
            observers=[steps],
            answer_within=lease * 2 / 3,  # what these are by default, where it is 15 s
        ) as pool,
        webhook(router, AUTH_TOKEN) as url,
        asyncio.TaskGroup() as group,
    ):
        _say(url=url)
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = Order(**json.loads(line))
            handing_over = _hand_over(pool, router, steps, order, lease)
            group.create_task(handing_over)


async def _hand_over(
    pool: SessionPool, router: EventRouter, steps: _Steps, order: Order, lease: float
) -> None:
    consult = pool.consult(
        pool.phlo(PHLO_ID).multi_party_call(NODE_ID),
        agent=order.agent,
        customer=order.customer,
        to=order.to,
        ring_for=lease * 4,
        router=router,
        bring_back_within=lease * 2,
    )
    steps.numbers[consult.id] = order.number
    _say(number=order.number, handover=consult.id)
    try:
        async with consult:
            await asyncio.sleep(order.talk)
            if order.then == "complete":
                await consult.complete()
        ended: Any = order.then
    except PhloError as error:
        ended = type(error).__name__
    _say(number=order.number, ended=ended)
