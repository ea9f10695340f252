"""The ledger tells which verdicts were lies."""

from types import SimpleNamespace

import aiohttp
import attrs
import pytest

from aiophlo.simulator import Ledger, Record, Simulator
from aiophlo.simulator.api import Asked
from aiophlo.simulator.http11 import Connection
from aiophlo.simulator.quota import MovingWindow

TO = "+14152225555"
AGENT = "+14152223333"
CLASSES = {
    "AddUser": "call",
    "WarmTransfer": "warm_transfer",
    "ColdTransfer": "cold_transfer",
    "VoicemailDrop": "voicemail_drop",
    "ResumeCall": "resume_call",
    "Hold": "hold",
    "BridgeMute": "bridge_mute",
}


@attrs.frozen
class Outcome:
    """What a client says of an action."""

    verdict: str
    action: object
    joined: bool = False


def action(name: str) -> object:
    """Make what a client calls an action: the ledger knows it by its class's name."""
    fields: dict[str, str] = {"phlo_id": "p", "node_id": "n"}
    if name in {"AddUser", "WarmTransfer", "ColdTransfer"}:
        fields |= {"to": TO, "trigger_source": AGENT, "role": "agent"}
    elif name == "RunPhlo":
        fields = {"phlo_id": "p"}
    else:
        fields |= {"member": TO}
    return type(name, (SimpleNamespace,), {})(**fields)


def outcome(
    verdict: str, name: str = "WarmTransfer", *, joined: bool = False
) -> Outcome:
    """Make an outcome of an action of that class."""
    return Outcome(verdict, action(name), joined)


def ledger(name: str, applied: int) -> Ledger:
    """Make a ledger in which an action took effect so often."""
    made = Ledger()
    if name == "RunPhlo":
        asked = Asked(action="run_phlo", phlo_id="p", to=TO)
    else:
        asked = Asked(action=CLASSES[name], phlo_id="p", node_id="n")
        setattr(asked, "to" if hasattr(action(name), "to") else "member", TO)
    for _ in range(applied):
        made.apply(made.open(asked, at=0.0, account="MA"))
    return made


@pytest.mark.parametrize("name", [*CLASSES, "RunPhlo"])
@pytest.mark.parametrize(
    ("verdict", "applied", "disagrees"),
    [
        ("accepted", 1, False),
        ("accepted", 0, True),
        ("rejected", 0, False),
        ("rejected", 1, True),
        ("not_sent", 0, False),
        ("not_sent", 1, True),
        ("in_doubt", 0, False),
        ("in_doubt", 1, False),
    ],
)
def test_verdict_disagrees_when_the_phone_knows_better(
    name: str, verdict: str, applied: int, disagrees: bool
) -> None:
    """A judge that nods at a wrong verdict lets a phone ring twice."""
    found = ledger(name, applied).disagreements([outcome(verdict, name)])
    assert bool(found) is disagrees
    assert TO not in str(found)


@pytest.mark.parametrize(
    ("name", "verdicts", "applied", "disagrees"),
    [
        ("WarmTransfer", ["accepted"], 2, True),
        ("WarmTransfer", ["in_doubt"], 2, True),
        ("WarmTransfer", ["in_doubt", "in_doubt"], 2, False),
        ("WarmTransfer", ["accepted", "in_doubt"], 1, False),
        ("WarmTransfer", ["accepted", "accepted"], 1, True),
        ("WarmTransfer", ["accepted", "not_sent"], 2, True),
        ("VoicemailDrop", ["accepted"], 2, True),
        ("Hold", ["accepted"], 2, False),
        ("Hold", ["accepted", "accepted"], 2, False),
        ("Hold", ["not_sent"], 2, True),
        ("WarmTransfer", [], 1, True),
    ],
)
def test_effects_disagree_when_they_outnumber_the_outcomes(
    name: str, verdicts: list[str], applied: int, disagrees: bool
) -> None:
    """Two supervisors on the line for one transfer is what we are here to prevent."""
    outcomes = [outcome(verdict, name) for verdict in verdicts]
    assert bool(ledger(name, applied).disagreements(outcomes)) is disagrees


def test_joined_outcome_adds_no_dial() -> None:
    """A double click that was joined is one call, and two would be wrong."""
    both = [outcome("accepted"), outcome("accepted", joined=True)]
    assert ledger("WarmTransfer", 1).disagreements(both) == []
    assert ledger("WarmTransfer", 2).disagreements(both) != []
    assert ledger("WarmTransfer", 1).disagreements(both[1:]) == []


def test_reads_are_never_judged() -> None:
    """A GET rings nobody, whatever became of it."""
    assert Ledger().disagreements([outcome("accepted", "GetPhlo")]) == []


def test_record_shows_no_whole_number() -> None:
    """Test reports are read by people who mustn't know whom we call."""
    made = ledger("WarmTransfer", 1)
    made.open(Asked(action="hold", member="sip:bob@x.example"), at=0.0, account="MA")
    text = repr(made.requests) + repr(made)
    assert "…55" in text
    assert TO not in text
    assert "bob" not in text


def test_counts_are_right_when_records_are_not_kept() -> None:
    """A long soak must be judged as strictly as a short test."""
    made = Ledger(keep_requests=False)
    record = made.open(Asked(action="call", to=TO), at=0.0, account="MA")
    made.apply(record)
    made.apply(record)
    assert (made.requests, made.dialled) == ([], [])
    assert (made.received, made.dials(), made.rung_twice()) == (1, 2, {TO: 2})


def test_rate_is_that_of_arrivals() -> None:
    """The rate in a report must be the server's, not the client's own."""
    made = Ledger()
    assert made.rate_per_second() == 0.0
    for beat in range(11):
        made.admit(beat / 10)
    assert made.rate_per_second() == pytest.approx(10.0)


def test_rate_is_zero_when_all_came_at_once() -> None:
    """A report must not end in a division by zero."""
    made = Ledger()
    made.admit(1.0)
    made.admit(1.0)
    assert made.rate_per_second() == 0.0


def test_window_moves_when_requests_grow_old() -> None:
    """A client that is paced a little too fast must be found out."""
    window = MovingWindow(3, 5.0)
    assert [window.admit(at) for at in (0.0, 1.0, 4.0)] == [0.0, 0.0, 0.0]
    assert window.admit(4.5) == pytest.approx(0.5)
    assert window.admit(4.99) > 0
    assert window.admit(5.0) == 0.0
    assert window.admit(5.5) == pytest.approx(0.5)


async def test_ledger_is_json_when_asked_over_http(simulator: Simulator) -> None:
    """Tools in other languages hold their results against it."""
    auth = aiohttp.encode_basic_auth(simulator.auth_id, simulator.auth_token)
    body = {"action": "call", "to": TO, "trigger_source": AGENT}
    url = f"{simulator.base_url}/phlo/p/multi_party_call/n"
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": auth}
        async with session.post(url, json=body, headers=headers):
            pass
        async with session.get(f"{simulator.url}/_simulator/ledger") as answer:
            document = await answer.json()
        async with session.post(f"{simulator.url}/_simulator/ledger") as answer:
            assert answer.status == 405
        async with session.get(f"{simulator.url}/_simulator/other") as answer:
            assert answer.status == 404
    (dial,) = document["dials"]
    assert dial["to"] == TO
    assert dial["answered"] == 201
    assert set(dial) == {"account", "action", "answered", "at", "to"}
    assert set(document["requests"][0]) == set(Record.__slots__) - {"__weakref__"}
    assert simulator.ledger.received == 1


async def test_ledger_is_refused_when_the_peer_is_elsewhere(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds whole numbers, and needs no credentials."""
    monkeypatch.setattr(Connection, "peer", "192.0.2.1")
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{simulator.url}/_simulator/ledger") as answer,
    ):
        assert answer.status == 403
