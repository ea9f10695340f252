"""One process is cut off from the database alone, by a network that says nothing."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.cut_link import SERVER, link, why_not
from tests.support.postgres import find_binaries, running_postgres

pytestmark = pytest.mark.long

ROOT: Final = Path(__file__).parents[2]
NOT_HERE: Final = why_not() or ("" if find_binaries() else "no Postgres is installed")


@pytest.mark.skipif(bool(NOT_HERE), reason=NOT_HERE)
async def test_transfers_leave_while_the_link_to_the_database_is_cut() -> None:
    """The kernel tries for a quarter of an hour, and tells nobody that it's in vain."""
    binaries = find_binaries()
    assert binaries is not None
    with (
        link() as cable,
        running_postgres(binaries, host=SERVER, network=cable.server) as postgres,
    ):
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", cable.client, sys.executable),
            *("-m", "tests.support.cut_off_child", postgres.url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdin is not None
        assert process.stdout is not None

        async def send_ten() -> Any:  # noqa: ANN401 -- JSON
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"\n")
            said = json.loads(await process.stdout.readline())
            assert said["accepted"] == 10
            assert said["dials"] == 0, "each rang once"
            return said

        try:
            assert (await send_ten())["coordinated"]
            cable.cut()
            said = await send_ten()
            assert not said["coordinated"]
            assert said["seconds"] < 3.0
            assert (await send_ten())["seconds"] < 1.0
            cable.mend()
            async with asyncio.timeout(15.0):
                while not (await send_ten())["coordinated"]:  # noqa: ASYNC110 -- another process
                    await asyncio.sleep(0.2)
            process.stdin.close()
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
