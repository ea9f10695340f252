"""The campaign: one list, worked by a runner on each host."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from benchmarks.day.centre import NODE, PHLO, Centre
from benchmarks.day.evidence import Row
from benchmarks.day.hosts import Host
from benchmarks.harness.lab import ROOT

_JOURNAL: Final = "postgresql:the-day"
_SUPERVISED: Final = 3.0  # seconds until a runner that has ended is started again
_LEFT: Final = 180.0  # seconds that what is left at the end may take
_SHARE: Final = 0.7  # of its time: the rest makes up for what was away


def _number(row: int) -> str:
    return f"+1418{row:07}"


class Campaign:
    """A list, and its runners.

    Args:
        centre: Where it is worked.
        seconds: How long it may take.
    """

    def __init__(self, centre: Centre, seconds: float) -> None:
        self._centre = centre
        self._rate = centre.options.campaign
        self._rows = int(seconds * self._rate * _SHARE)
        self._file = centre.folder / "campaign.csv"
        self._done = asyncio.Event()
        self._runners: set[asyncio.subprocess.Process] = set()
        lines = [f"row-{row},{_number(row)},+14155559999" for row in range(self._rows)]
        self._file.write_text("\n".join(["key,to,trigger_source", *lines, ""]))

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Have it worked by a runner on each host, started again whenever it ends."""
        async with asyncio.TaskGroup() as group:
            for host in self._centre.hosts:
                group.create_task(self._supervise(host))
            try:
                yield
            finally:
                self._done.set()
                for runner in self._runners:
                    runner.send_signal(signal.SIGTERM)
        await self._finish()

    async def _supervise(self, host: Host) -> None:
        while not self._done.is_set():
            share = self._rate / len(self._centre.hosts)
            runner = await self._start(host, host.folder / "campaign.jsonl", share)
            self._runners.add(runner)
            ended = await runner.wait()
            self._runners.discard(runner)
            if not ended:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), _SUPERVISED)

    async def _start(
        self, host: Host, results: Path, rate: float
    ) -> asyncio.subprocess.Process:
        simulator = self._centre.simulator
        options = {
            "--phlo-id": PHLO,
            "--node-id": NODE,
            "--journal": _JOURNAL,
            "--results": str(results),
            "--calls-per-second": str(rate),
        }
        words = [word for pair in options.items() for word in pair]
        with (host.folder / "campaign.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(*host.place.inside, sys.executable, "-m", "aiophlo", "batch"),
                *(str(self._file), *words),
                cwd=ROOT,
                env={
                    **os.environ,
                    "PLIVO_AUTH_ID": simulator.auth_id,
                    "PLIVO_AUTH_TOKEN": simulator.auth_token,
                    "AIOPHLO_BASE_URL": simulator.base_url,
                    "AIOPHLO_POSTGRES_URL": self._centre.postgres.url,
                },
                stdout=log,
                stderr=log,
            )

    async def _finish(self) -> None:
        """Have what is left sent, and read what came of every row."""
        host = self._centre.hosts[0]
        results = self._centre.folder / "results.jsonl"
        runner = await self._start(host, results, 2 * self._rate)
        try:
            await asyncio.wait_for(runner.wait(), _LEFT)
        except TimeoutError:
            runner.kill()
            await runner.wait()
        self._centre.evidence.campaign += self._read(results)

    def _read(self, results: Path) -> list[Row]:
        verdicts: dict[str, str] = {}
        if results.exists():
            for line in results.read_text("utf-8").splitlines():
                said = json.loads(line)
                verdicts[said["key"]] = said["verdict"]
        return [
            Row(_number(row), verdicts.get(f"row-{row}", ""))
            for row in range(self._rows)
        ]
