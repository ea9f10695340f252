"""Actions: whatever is asked is right, or refused by field, and masked."""

import copy
import json
import pickle
import re
import traceback
from collections.abc import Mapping
from enum import Enum
from typing import Any

import attrs
import pytest

from aiophlo.errors import InvalidAddressError, InvalidInputError
from aiophlo.model import actions
from aiophlo.model.actions import (
    AbortTransfer,
    Action,
    AddUser,
    BridgeLeave,
    BridgeMute,
    BridgeUnmute,
    ColdTransfer,
    DialAction,
    GetNode,
    GetPhlo,
    Hangup,
    Hold,
    Lane,
    MemberAction,
    Mute,
    NodeAction,
    ResumeCall,
    Role,
    RunPhlo,
    Unhold,
    Unmute,
    VoicemailDrop,
    WarmTransfer,
)
from aiophlo.model.parameters import Parameters

AGENT = "+14155550100"
PARTNER = "+14155550199"
PHLO = "faad0293-f5f0-487e-8ff7-b45ba6c45b25"
BASE: dict[str, Any] = {"phlo_id": PHLO}
NODE: dict[str, Any] = {**BASE, "node_id": "node_1-A"}
DIAL: dict[str, Any] = {**NODE, "trigger_source": AGENT, "to": PARTNER}
MEMBER: dict[str, Any] = {**NODE, "member": AGENT}
URGENT, AWAITED = Lane.URGENT, Lane.AWAITED

# class, its arguments, verb, idempotent, dials, lane
TABLE: list[tuple[type[Action], Mapping[str, Any], str, bool, bool, Lane]] = [
    (AddUser, DIAL, "call", False, True, AWAITED),
    (WarmTransfer, DIAL, "warm_transfer", False, True, AWAITED),
    (ColdTransfer, DIAL, "cold_transfer", False, True, AWAITED),
    (AbortTransfer, MEMBER, "abort_transfer", True, False, URGENT),
    (ResumeCall, MEMBER, "resume_call", False, False, AWAITED),
    (VoicemailDrop, MEMBER, "voicemail_drop", False, False, AWAITED),
    (Hangup, MEMBER, "hangup", True, False, URGENT),
    (Hold, MEMBER, "hold", True, False, AWAITED),
    (Unhold, MEMBER, "unhold", True, False, URGENT),
    (Mute, MEMBER, "mute", True, False, AWAITED),
    (Unmute, MEMBER, "unmute", True, False, AWAITED),
    (BridgeMute, MEMBER, "mute", True, False, AWAITED),
    (BridgeUnmute, MEMBER, "unmute", True, False, AWAITED),
    (BridgeLeave, MEMBER, "leave", True, False, AWAITED),
    (RunPhlo, {**BASE, "parameters": {"to": PARTNER}}, "", False, True, AWAITED),
    (GetPhlo, BASE, "", True, False, AWAITED),
    (GetNode, NODE, "", True, False, AWAITED),
]
EXAMPLES = [row[0](**row[1], key=f"call from {AGENT}") for row in TABLE]
ROWS = pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0].__name__)
ACTIONS = pytest.mark.parametrize(
    "action", EXAMPLES, ids=lambda action: type(action).__name__
)

LOOP: dict[str, Any] = {}
LOOP["self"] = LOOP
DEEP: Any = []
for _ in range(200_000):  # newer Pythons nest deeper
    DEEP = [DEEP]
NO_TEXT: list[Any] = [
    True,
    14155550100,
    1.5,
    b"+14155550100",
    bytearray(b"+14155550100"),
    [AGENT],
    (AGENT,),
    {"to": AGENT},
    {AGENT: {AGENT: [AGENT]}},
    {AGENT},
    object(),
    str,
    "",
]
BAD_TEXT = [" ", "١٤١٥٥٥٥٠١٠٠", "\ud800", f"{AGENT}\x00x", "9" * 50_000, "a/../b"]
NAN = float("nan")
WRONG: dict[str, list[Any]] = {
    "phlo_id": [None, *NO_TEXT, *BAD_TEXT, "..", "a.b", "a%2F", "a\n", "é"],
    "node_id": [None, *NO_TEXT, *BAD_TEXT, "..", "a.b", "a%2F", "a\n", "é"],
    "node_type": [None, *NO_TEXT, *BAD_TEXT, "..", "a b"],
    "trigger_source": [None, *NO_TEXT, *BAD_TEXT, "14155550100", "sip:x@y/../z?q"],
    "to": [None, *NO_TEXT, *BAD_TEXT, "14155550100", "sip:x@y/../z?q"],
    "member": [None, *NO_TEXT, *BAD_TEXT, "14155550100", "sip:x@y/../z?q"],
    "role": [None, *NO_TEXT, *BAD_TEXT, AGENT, "Agent", "supervisor", b"agent"],
    "parameters": [
        *(value for value in [None, *NO_TEXT] if not isinstance(value, dict)),
        *BAD_TEXT,
        {1: AGENT},
        {AGENT: object()},
        {"x": {AGENT}},
        {"x": AGENT.encode()},
        {"x": NAN},
        {"x": 10**5_000},
        {"x": {(1, 2): AGENT}},
        {"x": DEEP},
        LOOP,
    ],
    "key": [*NO_TEXT, f"{AGENT}\ud800"],
}
CASES = [
    pytest.param(row[0], row[1], field.name, id=f"{row[0].__name__}-{field.name}")
    for row in TABLE
    for field in attrs.fields(row[0])
]


def test_every_action_is_in_the_table() -> None:
    """An action that nobody checks is the one that rings twice."""
    abstract = {Action, NodeAction, DialAction, MemberAction}
    concrete = {
        value
        for value in vars(actions).values()
        if isinstance(value, type) and issubclass(value, Action)
    } - abstract
    assert concrete == {row[0] for row in TABLE}
    assert len(concrete) == 17


@ROWS
def test_action_forgets_nothing_that_sending_must_know(row: tuple[Any, ...]) -> None:
    """A new action that inherits its rule by oversight rings or holds somebody."""
    kind: type[Action] = row[0]
    own = {
        name for one in kind.__mro__ if one is not Action for name in vars(one)
    } - set(vars(object))
    assert {"verb", "idempotent", "lane", "undone_by"} <= own
    assert bool(kind.verb) == issubclass(kind, NodeAction)
    known = {row[0].__name__ for row in TABLE}
    assert kind.undone_by <= known
    assert bool(kind.undone_by) == issubclass(kind, DialAction | MemberAction)
    assert kind.reads == kind.__name__.startswith("Get")
    assert kind.ends_dials == (kind.__name__ in {"AbortTransfer", "Hangup"})


@ROWS
def test_action_says_what_it_is(row: tuple[Any, ...]) -> None:
    """A dial marked idempotent is a second phone ringing."""
    kind, _, verb, idempotent, dials, lane = row
    assert (kind.verb, kind.idempotent, kind.dials, kind.lane) == (
        verb,
        idempotent,
        dials,
        lane,
    )


def test_bridge_actions_are_for_the_bridge() -> None:
    """A mute sent to the wrong kind of node mutes nobody."""
    for action in EXAMPLES:
        bridge = type(action).__name__.startswith("Bridge")
        kind = getattr(action, "node_type", None)
        if kind is not None:
            assert kind == ("conference_bridge" if bridge else "multi_party_call")
    assert GetNode(**NODE, node_type="conference_bridge").node_type[:4] == "conf"


@pytest.mark.parametrize(("kind", "arguments", "field"), CASES)
def test_every_wrong_value_is_refused_by_field(
    kind: type[Action], arguments: Mapping[str, Any], field: str
) -> None:
    """An integration that passes the wrong column must learn which, not dial it."""
    address = field in {"to", "trigger_source", "member"}
    for value in WRONG[field]:
        with pytest.raises(InvalidInputError) as caught:
            kind(**{**arguments, field: value})
        error = caught.value
        assert error.field == field
        assert str(error).startswith(f"{field}: expected ") or address
        assert isinstance(error, InvalidAddressError) is address
        shown = "".join(traceback.format_exception(error))
        messages = "\n".join(re.findall(r"^\S*Error.*$", shown, re.MULTILINE))
        assert not re.search(r"\d{6}", messages.replace("+14152225555", ""))
        str(error).encode()


@ROWS
def test_missing_or_stray_argument_shows_no_value(row: tuple[Any, ...]) -> None:
    """Python's own complaint about a call must not quote the customer's number."""
    kind, arguments, *_ = row
    missing = {name: arguments[name] for name in arguments if name != "phlo_id"}
    for positional, named in (
        ((AGENT,), {}),
        ((), {**arguments, "other": AGENT}),
        ((), missing),
    ):
        with pytest.raises(TypeError) as caught:
            kind(*positional, **named)
        assert "155550100" not in str(caught.value)


@ACTIONS
def test_action_shows_no_whole_number(action: Action) -> None:
    """Logs outlive calls."""
    shown = f"{action!r} {action}"
    assert "4155550" not in shown
    assert "…00" in shown  # the key's, at least
    assert PHLO in shown


def test_number_given_as_an_id_is_masked() -> None:
    """Two swapped arguments must not print the customer."""
    for field in ("phlo_id", "node_id", "node_type"):
        action = GetNode(**{**NODE, field: "14155550100"})
        assert "155550100" not in repr(action)
    sip = Hold(**{**NODE, "member": "sip:bob.miller@phone.plivo.com"})
    assert "bob" not in repr(sip)


@ACTIONS
def test_action_can_not_change(action: Action) -> None:
    """What was checked is what is sent."""
    for field in attrs.fields(type(action)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError) as caught:
            setattr(action, field.name, AGENT)
        assert "155550100" not in str(caught.value)
    assert not hasattr(action, "__dict__")


@ACTIONS
def test_action_is_itself_after_any_copy(action: Action) -> None:
    """A transfer handed to a worker process must arrive whole, key included."""
    copies = [
        pickle.loads(pickle.dumps(action, protocol))  # noqa: S301 -- our own bytes
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    ]
    for twin in (*copies, copy.copy(action), copy.deepcopy(action)):
        assert twin == action
        assert type(twin) is type(action)
        assert twin.key == action.key
        assert hash(twin) == hash(action)
    other = attrs.evolve(action, key="other")
    assert other == action
    assert hash(other) == hash(action)
    assert other.key == "other"
    assert attrs.evolve(action, phlo_id="other") != action
    with pytest.raises(InvalidInputError):
        attrs.evolve(action, phlo_id="../other")


def test_actions_of_different_kinds_differ() -> None:
    """A Hold that equalled an Unhold would be swallowed as its double click."""
    assert len({*EXAMPLES}) == len(EXAMPLES)


def test_action_is_matched_by_its_fields() -> None:
    """Handlers written with `match` are how outcomes are read."""
    match EXAMPLES[1]:
        case WarmTransfer(to=to, role=Role.AGENT, trigger_source=source):
            assert (to, source) == (PARTNER, AGENT)
        case _:
            pytest.fail("a warm transfer was not matched")


def test_addresses_take_their_canonical_spelling() -> None:
    """Two spellings of one number are one double click."""
    loose = WarmTransfer(**{**DIAL, "to": "+1 (415) 555-0199"})
    assert loose == WarmTransfer(**DIAL)
    assert loose.to == PARTNER


def test_role_is_taken_by_word_or_member() -> None:
    """The one dialled hears what its role hears."""
    assert WarmTransfer(**DIAL, role="agent").role is Role.AGENT
    assert WarmTransfer(**DIAL, role="customer").role is Role.CUSTOMER
    assert WarmTransfer(**DIAL, role=Role.CUSTOMER).role is Role.CUSTOMER
    assert WarmTransfer(**DIAL).role is Role.AGENT


def test_id_and_address_of_a_string_enum_are_its_value() -> None:
    """Some Pythons format such a member as its name: a path to nowhere."""

    class Ids(str, Enum):  # noqa: UP042 -- the older spelling is the case
        SALES = PHLO
        DESK = AGENT

    action = Hold(phlo_id=Ids.SALES, node_id=Ids.SALES, member=Ids.DESK)
    for value in (action.phlo_id, action.node_id, action.member):
        assert type(value) is str
    assert action == Hold(phlo_id=PHLO, node_id=PHLO, member=AGENT)


def test_longest_id_is_taken() -> None:
    """The bound on ids must not refuse a real one."""
    assert len(GetPhlo(phlo_id="a" * 128).phlo_id) == 128
    with pytest.raises(InvalidInputError, match=r"^phlo_id: .* got 129 characters"):
        GetPhlo(phlo_id="a" * 129)


def test_parameters_are_a_mapping_that_was_copied() -> None:
    """A dict changed after asking must not change what is dialled."""
    given: dict[str, Any] = {"to": PARTNER, "tags": ["a"], "n": None}
    run = RunPhlo(phlo_id=PHLO, parameters=given)
    given["tags"].append("b")
    given["to"] = AGENT
    parameters = run.parameters
    assert dict(parameters) == {"to": PARTNER, "tags": ["a"], "n": None}
    parameters["tags"].append("c")
    assert parameters["tags"] == ["a"]
    assert list(parameters) == ["to", "tags", "n"]
    assert len(parameters) == 3
    assert json.loads(parameters.text) == dict(parameters)
    with pytest.raises(KeyError):
        parameters["missing"]
    assert RunPhlo(phlo_id=PHLO).parameters == {}
    assert RunPhlo(phlo_id=PHLO, parameters=parameters).parameters is parameters


def test_parameters_compare_by_content_and_hash_alike() -> None:
    """Two runs with the same values are one double click."""
    one = Parameters({"a": 1, "b": [1, {"c": None}]})
    two = Parameters({"b": [1, {"c": None}], "a": 1})
    assert one == two == {"a": 1, "b": [1, {"c": None}]}
    assert hash(one) == hash(two)
    assert one != Parameters({"a": 2, "b": []})
    assert one != Parameters({})
    assert one != [("a", 1)]


def test_parameters_can_not_change_and_travel() -> None:
    """What was checked is what is sent, by whichever process."""
    parameters = Parameters({"to": PARTNER})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        parameters.text = "{}"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        del parameters.text
    assert not hasattr(parameters, "__dict__")
    for twin in (
        pickle.loads(pickle.dumps(parameters)),  # noqa: S301 -- our own bytes
        copy.copy(parameters),
        copy.deepcopy(parameters),
    ):
        assert twin == parameters
        assert twin.text == parameters.text
    assert repr(parameters) == "<1 parameters>"
    with pytest.raises(InvalidInputError, match=r"^values: "):
        Parameters({"to": object()})


def test_parameters_of_many_names_compare_in_one_pass() -> None:
    """A loop stopped for minutes by one comparison is every caller waiting."""
    names = {f"name{index}": index for index in range(20_000)}
    assert Parameters(names) == Parameters(names)
