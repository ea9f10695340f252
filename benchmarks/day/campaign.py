"""The campaign: a list in the queue, and a worker on each host that sends it."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Final

from aiophlo.postgres import PostgresCoordinator
from benchmarks.day.centre import NODE, PHLO, Centre
from benchmarks.day.evidence import Row
from benchmarks.day.hosts import QUEUE_RECORDS, Host
from benchmarks.day.records import RECORDS
from benchmarks.harness.lab import ROOT

_SUPERVISED: Final = 3.0  # seconds until a worker that has ended is started again
_LEFT: Final = 180.0  # seconds that what is left at the end may take
_SHARE: Final = 0.7  # of its time: the rest makes up for what was away
_WAITING: Final = "SELECT count(*) FROM aiophlo.queued WHERE ended_at IS NULL"


def _number(row: int) -> str:
    return f"+1418{row:07}"


class Campaign:
    """A list, and the workers that send it.

    Args:
        centre: Where they are.
        seconds: How long it may take.
    """

    def __init__(self, centre: Centre, seconds: float) -> None:
        self._centre = centre
        self._rows = int(seconds * centre.options.campaign * _SHARE)
        self._file = centre.folder / "campaign.csv"
        self._done = asyncio.Event()
        self._workers = centre.campaign_workers
        lines = [f"row-{row},{_number(row)},+14155559999" for row in range(self._rows)]
        self._file.write_text("\n".join(["key,to,trigger_source", *lines, ""]))

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Enqueue the list, and keep a worker on each host until it is sent."""
        hosts = self._centre.hosts
        words = "--phlo-id", PHLO, "--node-id", NODE, "--by", "4h"
        enqueued = await self._run(hosts[0], "enqueue", str(self._file), *words)
        if await enqueued.wait():
            raise RuntimeError((hosts[0].folder / "campaign.log").read_text("utf-8"))
        async with asyncio.TaskGroup() as group:
            for host in hosts:
                group.create_task(self._supervise(host))
            try:
                yield
                await self._sent()
            finally:
                self._done.set()
                for worker in self._workers.values():
                    worker.send_signal(signal.SIGTERM)
        self._read()

    async def _supervise(self, host: Host) -> None:
        rate = self._centre.options.campaign  # which pools of one account share
        while not self._done.is_set():
            worker = await self._run(host, "worker", "--calls-per-second", str(rate))
            self._workers[host.name] = worker
            await worker.wait()
            del self._workers[host.name]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), _SUPERVISED)

    async def _run(self, host: Host, *words: str) -> asyncio.subprocess.Process:
        simulator = self._centre.simulator
        module = "benchmarks.day.queue_worker"
        with (host.folder / "campaign.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(*host.place.inside, sys.executable, "-m", module, *words),
                cwd=ROOT,
                env={
                    **os.environ,
                    "PLIVO_AUTH_ID": simulator.auth_id,
                    "PLIVO_AUTH_TOKEN": simulator.auth_token,
                    "AIOPHLO_BASE_URL": simulator.base_url,
                    "AIOPHLO_POSTGRES_URL": self._centre.postgres.url,
                    RECORDS: str(host.folder / QUEUE_RECORDS),
                },
                stdout=log,
                stderr=log,
            )

    async def _sent(self) -> None:
        """Wait until nothing is in the queue any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEFT):
                while (await self._centre.postgres.rows(_WAITING))[0][0]:  # noqa: ASYNC110 -- other processes'
                    await asyncio.sleep(1.0)

    def _read(self) -> None:
        """Read what came of every row."""
        coordinator = PostgresCoordinator(self._centre.postgres.url)
        with coordinator.read_journal("queue") as reader:
            verdicts = {one.key: one.verdict or "" for one in reader.outcomes()}
        self._centre.evidence.campaign += [
            Row(_number(row), verdicts.get(f"row-{row}", ""))
            for row in range(self._rows)
        ]
