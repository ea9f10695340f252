"""Processes whose clocks differ share all the same: the database's decides."""

import asyncio
import json
import os
import shutil
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from aiophlo.postgres import migrate
from aiophlo.simulator import AUTH_ID, AUTH_TOKEN, Simulator
from tests.support.postgres import Postgres

pytestmark = pytest.mark.long

ROOT: Final = Path(__file__).parents[2]
PER_SECOND: Final = 40
EACH: Final = 80


async def test_clocks_that_differ_by_seconds_change_nothing(postgres: Postgres) -> None:
    """Of two that differ by the length of a pause, one would send all through it."""
    faketime = shutil.which("faketime")
    if faketime is None:
        assert not os.environ.get("CI"), "the gate installs faketime"
        pytest.skip("faketime isn't installed")
    await migrate(postgres.url)
    shifts = ("-5s", "+0s", "+5s")
    async with (
        Simulator(quota=(PER_SECOND, 1.0)) as simulator,
        AsyncExitStack() as stack,
    ):
        environment = {
            **os.environ,
            "PLIVO_AUTH_ID": AUTH_ID,
            "PLIVO_AUTH_TOKEN": AUTH_TOKEN,
            "AIOPHLO_BASE_URL": simulator.base_url,
        }
        processes = []
        for number, shift in enumerate(shifts):
            process = await asyncio.create_subprocess_exec(
                *(faketime, "-f", shift, sys.executable),
                *("-m", "tests.support.rushing_child", postgres.url),
                *map(str, (number, EACH, PER_SECOND)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment,
                cwd=ROOT,
            )
            stack.callback(_end, process)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        said = await asyncio.gather(
            *(process.communicate(b"\n") for process in processes)
        )
        results: list[dict[str, Any]] = [json.loads(output) for output, _ in said]
        assert [it["accepted"] for it in results] == [EACH] * len(shifts)
        assert sorted(it["joined"] for it in results) == [False, True, True]
        assert simulator.ledger.refused_429 == 0
        assert simulator.ledger.rung_twice() == {}
        took = [it["seconds"] for it in results]
        assert max(took) - min(took) < 0.2 * max(took), "all have even shares"


def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
