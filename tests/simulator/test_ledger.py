"""The ledger tells which verdicts were lies."""

from types import SimpleNamespace

import aiohttp
import attrs
import pytest

from aiophlo.simulator import Ledger, Record, Simulator
from aiophlo.simulator.answer_meaning import Meaning
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


def outcome(verdict: str, name: str = "WarmTransfer") -> Outcome:
    """Make an outcome of an action of that class."""
    return Outcome(verdict, action(name))


def open_like(made: Ledger, name: str) -> Record:
    """Enter a request for an action."""
    if name == "RunPhlo":
        asked = Asked(action="run_phlo", phlo_id="p", to=TO)
    else:
        asked = Asked(action=CLASSES[name], phlo_id="p", node_id="n")
        setattr(asked, "to" if hasattr(action(name), "to") else "member", TO)
    return made.open(asked, at=0.0, account="MA")


def ledger(name: str, applied: int) -> Ledger:
    """Make a ledger in which an action took effect and was answered so often."""
    made = Ledger()
    for _ in range(applied):
        record = open_like(made, name)
        made.apply(record)
        made.answer(record, 201, Meaning.YES)
    return made


@pytest.mark.parametrize("name", [*CLASSES, "RunPhlo"])
def test_outcome_is_held_against_its_own_action(name: str) -> None:
    """A judge that mistakes one action for another finds nothing, or everything."""
    made = ledger(name, 1)
    assert made.disagreements([outcome("accepted", name)]) == []
    found = str(made.disagreements([outcome("not_sent", name)]))
    assert "took effect" in found
    assert TO not in found


def test_effect_of_an_action_is_no_effect_of_another() -> None:
    """A hold that worked doesn't make a transfer accepted."""
    made = ledger("Hold", 1)
    other = outcome("accepted", "WarmTransfer")
    assert len(made.disagreements([outcome("accepted", "Hold"), other])) == 2
    assert len(made.disagreements([])) == 1


@pytest.mark.parametrize(
    ("between", "superseded"),
    [([], 0), (["unhold"], 1), (["hold"], 0), (["unhold", "unhold"], 1)],
)
def test_repeat_is_superseded_when_another_action_came_between(
    between: list[str], superseded: int
) -> None:
    """A customer taken off hold must not be put back by an old request."""
    made = Ledger()
    for word in ["hold", *between, "hold"]:
        asked = Asked(action=word, phlo_id="p", node_id="n", member=TO)
        made.open(asked, at=0.0, account="MA")
    assert made.requests[-1].counts.superseded == superseded


def test_clear_end_is_not_superseded() -> None:
    """Whoever holds, unholds and holds again does as they please."""
    made = Ledger()
    for word in ("hold", "unhold", "hold"):
        asked = Asked(action=word, phlo_id="p", node_id="n", member=TO)
        record = made.open(asked, at=0.0, account="MA")
        made.answer(record, 201, Meaning.YES)
    assert made.requests[-1].counts.superseded == 0


def test_dial_counts_as_a_word_of_who_starts_it() -> None:
    """A transfer begun since must not be ended by an older abort."""
    made = Ledger()
    abort = Asked(action="abort_transfer", phlo_id="p", node_id="n", member=AGENT)
    dial = Asked(action="call", phlo_id="p", node_id="n", to=TO, trigger_source=AGENT)
    for asked in (abort, dial, abort):
        made.open(asked, at=0.0, account="MA")
    assert made.requests[-1].counts.superseded == 1


def test_settled_is_forgotten_and_what_comes_later_is_found() -> None:
    """A soak of a million must be judged in little memory, and to the end."""
    made = ledger("WarmTransfer", 1)
    assert made.settle([outcome("not_sent")]) != []
    assert made.disagreements([]) == []
    made.apply(open_like(made, "WarmTransfer"))
    assert "no outcome tells" in str(made.disagreements([]))


def test_settling_leaves_the_others() -> None:
    """What isn't told yet must not be forgotten."""
    made = ledger("WarmTransfer", 1)
    assert made.settle([outcome("not_sent", "Hold")]) == []
    assert made.settle([outcome("accepted")]) == []


def test_faults_are_told_of_the_action_that_they_struck() -> None:
    """A report by fault must not blame another one."""
    made = Ledger()
    for fault in ("reset", "drip"):
        made.note_fault(open_like(made, "Hold"), fault)
    assert made.faults_of(action("Hold")) == ("reset", "drip")
    assert made.faults_of(action("BridgeMute")) == ()


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
    assert set(document["requests"][0]) == set(Record.__slots__) - {
        "__weakref__",
        "counts",
    }
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
