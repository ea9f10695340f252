"""What is loaded for a handover, and what of it can be handed to another process."""

import pickle
import subprocess
import sys

import pytest

import aiophlo
from aiophlo import Ending, OpenHandover, Recovered, Recovery, Tried

OPEN = OpenHandover(
    account="MA",
    phlo_id="p",
    node_id="n",
    agent="+14152223333",
    customer="…44",
    targets="…55",
)


@pytest.mark.parametrize(
    "thing",
    [
        Ending.LEFT,
        Tried("+14155550101", Ending.LEFT),
        OPEN,
        Recovery.UNKNOWN,
        Recovered(OPEN, Recovery.UNKNOWN),
        aiophlo.NobodyAnsweredError("x", tried=(Tried("+14155550101", Ending.LEFT),)),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_public_value_survives_pickling(thing: object) -> None:
    """Workers hand these to each other."""
    twin = pickle.loads(pickle.dumps(thing))  # noqa: S301 -- our own bytes
    assert repr(twin) == repr(thing)
    assert type(twin) is type(thing)


_FIRST_HANDOVER = """
import asyncio
import sys

from aiophlo import Account, EventRouter, NotSentError, SessionPool


class NoMoreFiles:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("aiophlo"):
            raise OSError(24, "Too many open files", name)


async def main():
    router = EventRouter()
    account = Account("MA0123456789ABCDEFGH", "token")
    async with SessionPool(account, base_url="http://127.0.0.1:1") as pool:
        sys.meta_path.insert(0, NoMoreFiles())
        node = pool.phlo("p").multi_party_call("n")
        parties = {"agent": "+14155550100", "customer": "+14155550101"}
        to = "+14155550102"
        consult = pool.consult(node, **parties, to=to, router=router, send_within=0.1)
        try:
            await consult.__aenter__()
        except NotSentError:
            print("not sent")


asyncio.run(main())
"""


def test_first_handover_imports_nothing() -> None:
    """When files have run out, it would fail with an error that nobody expects."""
    done = subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-c", _FIRST_HANDOVER],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "not sent\n", done.stderr
