"""The fixture that users of the library test their own code with."""

import socket
import subprocess
import sys
import threading

import pytest

from aiophlo.simulator import Simulator, in_thread

pytest_plugins = ["pytester"]

STRICT = (
    "--strict-markers",
    "-Werror",
    "--override-ini=asyncio_default_fixture_loop_scope=function",
)
BLOCKING = """
import base64
import json
import urllib.error
import urllib.request

import pytest

BODY = {"action": "call", "to": "+14152225555", "trigger_source": "+14152223333"}

def call(simulator):
    pair = f"{simulator.auth_id}:{simulator.auth_token}".encode()
    request = urllib.request.Request(
        f"{simulator.base_url}/phlo/p/multi_party_call/n",
        data=json.dumps(BODY).encode(),
        headers={"Authorization": "Basic " + base64.b64encode(pair).decode()},
    )
    with urllib.request.urlopen(request) as answer:
        return answer.status

def test_default(phlo_simulator):
    assert call(phlo_simulator) == 201
    assert phlo_simulator.ledger.dials(to="+14152225555") == 1

@pytest.mark.phlo_simulator(quota=(1, 60.0))
def test_marked(phlo_simulator):
    assert call(phlo_simulator) == 201
    with pytest.raises(urllib.error.HTTPError, match="429") as refused:
        call(phlo_simulator)
    refused.value.close()
"""
ASYNCHRONOUS = """
import aiohttp
import pytest

CUSTOMER = "+14152224444"

@pytest.mark.asyncio
async def test_async(phlo_simulator):
    call = phlo_simulator.place_call("p", "n", agent="+14152223333", customer=CUSTOMER)
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{phlo_simulator.base_url}/phlo/p") as answer:
            assert answer.status == 401
    await phlo_simulator.wait_for(requests=1)
    assert call[CUSTOMER].state == "talking"
"""


def test_blocking_code_is_served(pytester: pytest.Pytester) -> None:
    """A Flask or Django service is tested with the same fixture."""
    pytester.makepyfile(BLOCKING)
    result = pytester.runpytest_inprocess(*STRICT)
    result.assert_outcomes(passed=2)


def test_asynchronous_code_is_served(pytester: pytest.Pytester) -> None:
    """So is code on an event loop, whichever plugin runs it."""
    pytester.makepyfile(ASYNCHRONOUS)
    result = pytester.runpytest_inprocess(*STRICT)
    result.assert_outcomes(passed=1)


ACCOUNT = """
import pytest
from aiophlo import SessionPool

ADDRESSES = {"to": "+14152225555", "trigger_source": "+14152223333"}

@pytest.mark.asyncio
@pytest.mark.phlo_simulator(quota=(1, 60.0))
async def test_pool(phlo_simulator):
    account, base_url = phlo_simulator.account, phlo_simulator.base_url
    assert (account.quota.limit, account.quota.per) == (1, 60.0)
    async with SessionPool(account, base_url=base_url) as pool:
        await pool.phlo("p").multi_party_call("n").warm_transfer(**ADDRESSES)
    assert phlo_simulator.ledger.dials(to="+14152225555") == 1

@pytest.mark.phlo_simulator(quota=None)
def test_unpaced(phlo_simulator):
    assert phlo_simulator.account.quota is None
"""


def test_fixture_gives_an_account_that_it_lets_in(pytester: pytest.Pytester) -> None:
    """Whoever tests a service should not have to make up credentials for it."""
    pytester.makepyfile(ACCOUNT)
    result = pytester.runpytest_inprocess(*STRICT)
    result.assert_outcomes(passed=2)


def test_plugin_loads_without_the_simulator() -> None:
    """Every pytest run on the machine loads it, and few need it."""
    code = (
        "import sys, aiophlo.pytest_plugin;"
        "print([name for name in sys.modules if name.startswith('aiophlo.sim')])"
    )
    output = subprocess.check_output([sys.executable, "-c", code], text=True)  # noqa: S603 -- ours
    assert output.strip() == "[]"


def test_error_is_raised_when_the_port_is_taken() -> None:
    """A hang would tell nobody that something else listens there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        simulator = Simulator(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"), in_thread(simulator):
            pass


def test_thread_ends_with_its_block() -> None:
    """A run of a thousand tests must not end with a thousand threads."""
    before = threading.active_count()
    with in_thread(Simulator()) as simulator:
        simulator.hold_answers()
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert simulator.ledger.dials() == 0


def test_simulator_that_can_not_start_says_so() -> None:
    """A wrong argument must fail a test run, not hang it."""
    with pytest.raises(OverflowError), in_thread(Simulator(port=99_999)):
        pass
