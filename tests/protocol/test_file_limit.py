"""What becomes of transfers in a process that may open few files."""

import asyncio
import os
import resource
import sys
from typing import Final

import pytest

from aiophlo.protocol.file_limit import most_connections
from aiophlo.simulator import Simulator

CROWD: Final = """
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from aiophlo import Account, Hold, SessionPool

async def main():
    account = Account.from_env(quota=None)
    async with SessionPool(account) as pool:
        holds = [
            Hold(phlo_id="p", node_id="n", member=f"+1415{n:07d}") for n in range(400)
        ]
        sends = (pool.send(hold, send_within=60) for hold in holds)
        results = await asyncio.gather(*sends, return_exceptions=True)
    print(sorted({type(result).__name__ for result in results}))

asyncio.run(main())
"""


async def test_crowd_gets_through_with_few_files() -> None:
    """A morning's rush on a default `ulimit` failed most of it."""
    async with Simulator(quota=None, latency=0.05) as simulator:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            CROWD,
            env={
                **os.environ,
                "AIOPHLO_BASE_URL": simulator.base_url,
                "PLIVO_AUTH_ID": simulator.auth_id,
                "PLIVO_AUTH_TOKEN": simulator.auth_token,
            },
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
    assert out.decode().strip() == "['Accepted']"


def test_connections_leave_files_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal or a database that can't be opened stops the whole service."""
    for soft, most in ((1_024, (600, 768)), (10, (1, 1)), (-1, (0, 0))):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, -1))
        assert most[0] <= most_connections() <= most[1]
    monkeypatch.setattr(os, "listdir", lambda _: list(range(500)))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 1_024))
    assert most_connections() == 393
