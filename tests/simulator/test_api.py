"""The simulator answers as the API is documented."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator

import aiohttp
import pytest

from aiophlo.simulator import Simulator

NODE = "/phlo/p-1/multi_party_call/n_1"
BRIDGE = "/phlo/p-1/conference_bridge/n_1"
MEMBER = f"{NODE}/members/+14152223333"
TRANSFER = {
    "action": "warm_transfer",
    "to": "+14152225555",
    "role": "agent",
    "trigger_source": "+14152223333",
}
CURL = shutil.which("curl") or ""


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    """Give a client with the simulator's credentials."""
    auth = aiohttp.encode_basic_auth(simulator.auth_id, simulator.auth_token)
    headers = {"Authorization": auth}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield session


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("action", ["call", "warm_transfer", "cold_transfer"])
async def test_dialling_is_accepted_when_sent_as_documented(
    simulator: Simulator, client: aiohttp.ClientSession, action: str, slash: str
) -> None:
    """Whoever tests a transfer must get the answer that Plivo gives."""
    url = simulator.base_url + NODE + slash
    async with client.post(url, json=TRANSFER | {"action": action}) as answer:
        document = await answer.json()
    assert (answer.status, document["error"]) == (201, "")
    assert len(document["api_id"]) == 36
    assert simulator.ledger.dials(to="+14152225555") == 1


@pytest.mark.parametrize(
    "action",
    [
        "abort_transfer",
        "resume_call",
        "voicemail_drop",
        "hangup",
        "hold",
        "unhold",
        "mute",
        "unmute",
    ],
)
async def test_member_action_is_accepted_when_sent_as_documented(
    simulator: Simulator, client: aiohttp.ClientSession, action: str
) -> None:
    """Whoever tests an abort must get the answer that Plivo gives."""
    url = simulator.base_url + MEMBER
    async with client.post(url, json={"action": action}) as answer:
        document = await answer.json()
    assert (answer.status, document["error"]) == (201, "")
    assert simulator.ledger.applied(action, "+14152223333") == 1
    assert simulator.ledger.dials() == 0


@pytest.mark.parametrize("action", ["mute", "unmute", "leave"])
async def test_bridge_action_is_accepted_when_sent_as_the_sdks_do(
    simulator: Simulator, client: aiohttp.ClientSession, action: str
) -> None:
    """A conference bridge has members too."""
    url = f"{simulator.base_url}{BRIDGE}/members/sip:bob@phone.plivo.com/"
    async with client.post(url, json={"action": action}) as answer:
        assert answer.status == 201
    applied = simulator.ledger.applied(f"bridge_{action}", "sip:bob@phone.plivo.com")
    assert applied == 1


async def test_run_starts_a_phlo_when_sent_with_and_without_fields(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    """A run without fields is as documented as one with."""
    url = f"{simulator.base_url}/account/{simulator.auth_id}/phlo/p-1"
    async with client.post(url) as answer:
        document = await answer.json()
    assert answer.status == 201
    assert set(document) == {"api_id", "message", "phlo_id"}
    async with client.post(url, json={"to": "+14152225555"}) as answer:
        assert answer.status == 201
    assert simulator.ledger.dials() == 2
    assert simulator.ledger.dials(to="+14152225555") == 1


async def test_run_is_refused_when_the_path_names_another_account(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    """One customer's PHLOs aren't another's to run."""
    url = f"{simulator.base_url}/account/MAXXXXXXXXXXXXXXXXXX/phlo/p-1"
    async with client.post(url) as answer:
        assert answer.status == 401


async def test_phlo_and_node_are_described_when_asked_for(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    """The SDKs read both before they transfer."""
    async with client.get(f"{simulator.base_url}/phlo/p-1/") as answer:
        phlo = await answer.json()
    assert set(phlo) == {"api_id", "created_on", "name", "phlo_id"}
    async with client.get(simulator.base_url + NODE) as answer:
        node = await answer.json()
    assert set(node) == {*phlo, "node_id", "node_type"}
    assert simulator.ledger.dials() == 0


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[1]", "body"),
        (b'{"action": "warm_transfer"}', "to"),
        (TRANSFER | {"action": "warm"}, "action"),
        (TRANSFER | {"role": "boss"}, "role"),
        (TRANSFER | {"to": 14152225555}, "to"),
        (TRANSFER | {"to": "+0"}, "to"),
        (TRANSFER | {"trigger_source": "bob"}, "trigger_source"),
    ],
)
async def test_bad_body_is_refused(
    simulator: Simulator,
    client: aiohttp.ClientSession,
    body: bytes | dict[str, object],
    error: str,
) -> None:
    """A typo must show in the test, not on the first live call."""
    data = json.dumps(body) if isinstance(body, dict) else body
    async with client.post(simulator.base_url + NODE, data=data) as answer:
        document = await answer.json()
    assert answer.status == 400
    assert set(document) == {"api_id", "error"}
    assert document["error"].startswith(("the " + error, error))
    assert simulator.ledger.dials() == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/phlos/p-1", 404),
        ("GET", "/phlo/p 1", 404),
        ("GET", "/phlo/p-1/ivr/n", 404),
        ("PUT", NODE, 405),
        ("GET", MEMBER, 405),
        ("POST", BRIDGE, 405),
        ("DELETE", "/phlo/p-1", 405),
        ("POST", f"{NODE}/members/bob", 400),
        ("POST", f"{BRIDGE}/members/+14152223333", 400),
    ],
)
async def test_request_is_refused_when_it_leads_nowhere(
    simulator: Simulator,
    client: aiohttp.ClientSession,
    method: str,
    path: str,
    status: int,
) -> None:
    """A wrong URL must not look like a transfer."""
    url = simulator.base_url + path
    async with client.request(method, url, json={"action": "hold"}) as answer:
        assert (answer.status, "error" in await answer.json()) == (status, True)


@pytest.mark.parametrize("authorization", ["", "Basic eDp5", "Bearer x"])
async def test_stranger_is_refused(simulator: Simulator, authorization: str) -> None:
    """Wrong credentials must show in the test."""
    headers = {"Authorization": authorization} if authorization else {}
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            simulator.base_url + NODE, json=TRANSFER, headers=headers
        ) as answer,
    ):
        assert answer.status == 401
    assert [record.account for record in simulator.ledger.requests] == [""]
    assert simulator.ledger.dials() == 0


async def test_member_is_found_when_percent_encoded(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    """Clients differ in what they encode."""
    url = f"{simulator.base_url}{NODE}/members/%2B14152223333"
    async with client.post(url, json={"action": "hold"}) as answer:
        assert answer.status == 201
    assert simulator.ledger.applied("hold", "+14152223333") == 1


@pytest.mark.skipif(not CURL, reason="no curl here")
async def test_curl_is_answered_when_it_sends_a_form_content_type(
    simulator: Simulator,
) -> None:
    """People try the documented request with curl first."""
    process = await asyncio.create_subprocess_exec(
        CURL,
        *("-s", "-w", "%{http_code}"),
        *("-u", f"{simulator.auth_id}:{simulator.auth_token}"),
        *("-d", json.dumps(TRANSFER)),
        simulator.base_url + NODE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert output.endswith(b'"error": ""}201')


@pytest.mark.skipif(not CURL, reason="no curl here")
async def test_curl_is_answered_when_its_body_is_long(simulator: Simulator) -> None:
    """Old curls wait to be invited before they send a long body."""
    process = await asyncio.create_subprocess_exec(
        CURL,
        *("-s", "-w", "%{http_code}", "-H", "Expect: 100-continue"),
        *("-u", f"{simulator.auth_id}:{simulator.auth_token}", "-d", "@-"),
        *("--expect100-timeout", "60"),
        simulator.base_url + NODE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    body = json.dumps(TRANSFER).encode() + b" " * 500_000
    output, _ = await process.communicate(body)
    assert output.endswith(b"201")
