"""Plivo's own client, unchanged but for its base URI, runs against the simulator."""

import asyncio
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from aiophlo import Account, SessionPool
from aiophlo.simulator import Fault, Habit, Reaction, Simulator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own, on newer Pythons
    import plivo  # type: ignore[import-untyped]
    from plivo.exceptions import (  # type: ignore[import-untyped]
        AuthenticationError,
        InvalidRequestError,
        PlivoRestError,
        PlivoServerError,
        ResourceNotFoundError,
        ValidationError,
    )

Client = Any  # plivo has no types

AGENT = "+14152223333"
SUPERVISOR = "+14152225555"


@pytest.fixture
def client(phlo_simulator: Simulator) -> Iterator[Client]:
    """Give plivo-python's client, pointed at the simulator."""
    with plivo.phlo.RestClient(
        phlo_simulator.auth_id, phlo_simulator.auth_token
    ) as client:
        client.phlo_base_uri = phlo_simulator.base_url
        yield client


def actions(simulator: Simulator) -> list[str]:
    """Say what the simulator was asked to do."""
    return [record.action for record in simulator.ledger.requests]


@pytest.mark.parametrize("action", ["call", "warm_transfer", "cold_transfer"])
def test_documented_flow_takes_three_requests_and_ours_one(
    client: Client,
    phlo_simulator: Simulator,
    action: str,
) -> None:
    """Whoever moves from the SDK to us must find the same API behind both."""
    phlo = client.phlo.get("p-1")
    node = phlo.multi_party_call("n-1")
    answer = getattr(node, action)(trigger_source=AGENT, to=SUPERVISOR, role="agent")
    assert (phlo.phlo_id, node.node_id) == ("p-1", "n-1")
    assert answer.error == ""
    assert answer.api_id
    assert actions(phlo_simulator) == ["get_phlo", "get_node", action]
    assert phlo_simulator.ledger.dials(to=SUPERVISOR) == 1

    async def ours() -> None:
        account = Account(phlo_simulator.auth_id, phlo_simulator.auth_token)
        async with SessionPool(account, base_url=phlo_simulator.base_url) as pool:
            node = pool.phlo("p-1").multi_party_call("n-1")
            name = {"call": "add_user"}.get(action, action)
            await getattr(node, name)(trigger_source=AGENT, to=SUPERVISOR)

    asyncio.run(ours())
    assert actions(phlo_simulator) == ["get_phlo", "get_node", action, action]


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
def test_member_action_is_accepted(
    client: Client,
    phlo_simulator: Simulator,
    action: str,
) -> None:
    """Every action of the SDK's member must reach the simulator's."""
    member = client.phlo.get("p").multi_party_call("n").member(AGENT)
    assert getattr(member, action)().error == ""
    assert phlo_simulator.ledger.applied(action, AGENT) == 1


@pytest.mark.parametrize("action", ["mute", "unmute"])
def test_bridge_action_is_accepted(
    client: Client,
    phlo_simulator: Simulator,
    action: str,
) -> None:
    """The SDK's default node type is the conference bridge."""
    assert client.phlo.member("p", "n", AGENT, action).error == ""
    assert phlo_simulator.ledger.applied(f"bridge_{action}", AGENT) == 1


def test_run_starts_a_phlo(
    client: Client,
    phlo_simulator: Simulator,
) -> None:
    """Its fields go to the PHLO's Start node."""
    answer = client.phlo.get("p").run(to=SUPERVISOR, language="en")
    assert (answer.phlo_id, bool(answer.message)) == ("p", True)
    assert phlo_simulator.ledger.dials(to=SUPERVISOR) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ValidationError),
        (401, AuthenticationError),
        (404, ResourceNotFoundError),
        (405, InvalidRequestError),
        (409, PlivoRestError),
        (429, PlivoRestError),
        (500, PlivoServerError),
        (503, PlivoRestError),
    ],
)
def test_status_is_the_sdks_error(
    client: Client,
    phlo_simulator: Simulator,
    status: int,
    error: type[Exception],
) -> None:
    """Its users' error handling must be possible to test too."""
    phlo_simulator.answer_next(status)
    with pytest.raises(error):
        client.phlo.get("p")


def test_wrong_credentials_are_its_authentication_error(
    phlo_simulator: Simulator,
) -> None:
    """That is how its users find out."""
    with plivo.phlo.RestClient("MA" + "X" * 18, "wrong") as client:
        client.phlo_base_uri = phlo_simulator.base_url
        with pytest.raises(AuthenticationError, match="authentication failed"):
            client.phlo.get("p")


def test_bad_role_is_its_validation_error(client: Client) -> None:
    """It checks nothing itself."""
    node = client.phlo.get("p").multi_party_call("n")
    with pytest.raises(ValidationError, match="role"):
        node.warm_transfer(trigger_source=AGENT, to=SUPERVISOR, role="boss")


@pytest.mark.phlo_simulator(quota=(2, 60.0))
def test_quota_is_its_rest_error(
    client: Client,
    phlo_simulator: Simulator,
) -> None:
    """Its documented flow spends three requests of the quota on one transfer."""
    node = client.phlo.get("p").multi_party_call("n")
    with pytest.raises(PlivoRestError, match="429"):
        node.warm_transfer(trigger_source=AGENT, to=SUPERVISOR)
    assert phlo_simulator.ledger.dials() == 0


def test_lost_answer_is_requests_own_error(
    client: Client,
    phlo_simulator: Simulator,
) -> None:
    """The SDK doesn't say that the phone may be ringing; it is."""
    node = client.phlo.get("p").multi_party_call("n")
    phlo_simulator.fault_next(Fault.DROP_AFTER_READ)
    with pytest.raises(requests.ConnectionError):
        node.warm_transfer(trigger_source=AGENT, to=SUPERVISOR)
    assert phlo_simulator.ledger.dials(to=SUPERVISOR) == 1


def test_refusal_within_201_is_success_to_it(
    client: Client,
    phlo_simulator: Simulator,
) -> None:
    """What we call rejected it returns as if accepted."""
    node = client.phlo.get("p").multi_party_call("n")
    phlo_simulator.fault_next(Fault.ERROR_IN_201)
    answer = node.warm_transfer(trigger_source=AGENT, to=SUPERVISOR)
    assert answer.error
    assert phlo_simulator.ledger.dials() == 0


@pytest.fixture
def voice_client(
    phlo_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Client]:
    """Give plivo-python's client of the Voice API, pointed at the simulator."""
    base_uri = f"{phlo_simulator.base_url}/Account"
    monkeypatch.setattr("plivo.rest.client.API_VOICE_BASE_URI", base_uri)
    with plivo.RestClient(phlo_simulator.auth_id, phlo_simulator.auth_token) as client:
        yield client


@pytest.mark.phlo_simulator(quota=None)
def test_calls_are_listed_to_it(
    voice_client: Client, client: Client, phlo_simulator: Simulator
) -> None:
    """Looking must be tested against what Plivo's own client reads."""
    node = client.phlo.get("p").multi_party_call("n")
    node.warm_transfer(trigger_source=AGENT, to=SUPERVISOR)
    [call_uuid] = voice_client.live_calls.list_ids(to_number="14152225555").calls
    live = voice_client.live_calls.get(call_uuid)
    assert (live.direction, live.to) == ("outbound", "14152225555")
    assert live.call_status == "in-progress"
    assert voice_client.queued_calls.list_ids().calls == []
    assert list(voice_client.calls.list(to_number="14152225555")) == []
    for _ in range(25):
        phlo_simulator.place_other_call(SUPERVISOR, habit=Habit(Reaction.BUSY))
    found = voice_client.calls.list(to_number="14152225555", call_direction="outbound")
    assert (len(found), found.meta.total_count) == (20, 25)
    assert len(list(voice_client.calls)) == 25  # page by page
    record = voice_client.calls.get(found.objects[0].call_uuid)
    assert record.hangup_cause_name == "Busy Line"
    with pytest.raises(ResourceNotFoundError):
        voice_client.calls.get(call_uuid)
