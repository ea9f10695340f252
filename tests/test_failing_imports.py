"""Nothing that a failure needs is imported at the failure."""

import subprocess
import sys

import pytest

CODE = """
import asyncio, sys
import aiohttp
from aiophlo import Account, EventRouter, PhloError, SessionPool, WarmTransfer

class Recorder:
    def find_spec(self, name, path=None, target=None):
        print(name)

def transfers():
    for number in range(12):
        yield WarmTransfer(phlo_id="p", node_id="n", trigger_source="+14155550100",
                           to=f"+141555502{number:02}")

async def send(pool):
    await pool.send(next(transfers()), send_within=1.0)

async def stream(pool):
    async with pool.stream(transfers(), send_within=1.0) as outcomes:
        sys.meta_path.insert(0, Recorder())
        async for outcome in outcomes:
            pass

async def consult(pool):
    node = pool.phlo("p").multi_party_call("n")
    consult = pool.consult(node, agent="+14155550100", customer="+14155550101",
                           to="+14155550102", router=EventRouter(), send_within=1.0,
                           told_within=0.1, bring_back_within=0.5)
    sys.meta_path.insert(0, Recorder())
    async with consult:
        pass

async def main(do):
    account = Account("MAIMPORTS00000000001", "token", quota=None)
    async with SessionPool(account, base_url="http://127.0.0.1:1/v1") as pool:
        if do is send:
            sys.meta_path.insert(0, Recorder())
        try:
            await do(pool)
        except PhloError as error:
            repr(error), str(error)

asyncio.run(main({}))
"""


@pytest.mark.parametrize("do", ["send", "stream", "consult"])
def test_no_failure_loads_a_module(do: str) -> None:
    """Out of file descriptors, the import failed, and a bare OSError came out."""
    done = subprocess.run(  # noqa: S603 -- this very interpreter, fixed code
        [sys.executable, "-c", CODE.replace("{}", do)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
