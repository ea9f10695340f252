"""Events: what Plivo says must be understood, kept whole and never shown."""

import contextlib
import pickle
from collections.abc import Callable, Mapping

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from aiophlo.errors import InvalidInputError
from aiophlo.webhooks.events import (
    BaseEvent,
    MemberJoined,
    MemberLeft,
    RecordingReady,
    Redirected,
    UnknownEvent,
    decode_body,
    decode_query,
    join_fields,
    parse_event,
)

CONFERENCE = "0ddba11c-1111-2222-3333-444455556666"
CALL = "c0ffee00-1111-2222-3333-444455556666"
JOINED = {
    "event": "ConferenceEnter",
    "from": "+14155550100",
    "to": "+14155550101",
    "direction": "outbound",
    "caller_name": "Ann",
    "bill_rate": "0.0085",
    "call_status": "in-progress",
    "conference_name": "support",
    "call_uuid": CALL,
    "conference_uuid": CONFERENCE,
    "member_id": "7",
    "to_iso2": "US",
    "from_iso2": "US",
    "to_country": "United States",
    "from_country": "United States",
}


def pascal(name: str) -> str:
    """Return `name` as Plivo's Voice API spells it."""
    words = name.split("_")
    return "".join(w.upper() if w == "uuid" else w.title() for w in words)


def camel(name: str) -> str:
    """Return `name` as JavaScript spells it."""
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


@pytest.mark.parametrize("spell", [str, pascal, camel, str.upper])
def test_documented_event_is_understood_in_any_case(
    spell: Callable[[str], str],
) -> None:
    """The names' case isn't documented; guessing wrong would lose every event."""
    data = {spell(name): value for name, value in JOINED.items()}
    assert parse_event(data) == MemberJoined(
        event="ConferenceEnter",
        conference_uuid=CONFERENCE,
        conference_name="support",
        call_uuid=CALL,
        member_id="7",
        from_="+14155550100",
        to="+14155550101",
        direction="outbound",
        call_status="in-progress",
        fields=data,
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ConferenceEnter", MemberJoined),
        ("conference_enter", MemberJoined),
        ("ConferenceExit", MemberLeft),
        ("conferenceExit", MemberLeft),
        ("Redirect", Redirected),
        ("ConferenceDigits", UnknownEvent),
        ("Record", UnknownEvent),
        ("", UnknownEvent),
    ],
)
def test_event_gets_its_type(name: str, kind: type[BaseEvent]) -> None:
    """An agent who left must not be taken for one who came."""
    event = parse_event({**JOINED, "event": name})
    assert type(event) is kind
    assert event.event == name
    assert event.conference_uuid == CONFERENCE


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("+14155550100", "+14155550100"),
        ("14155550100", "+14155550100"),
        (" 14155550100", "+14155550100"),
        ("+1 (415) 555-0100", "+14155550100"),
        pytest.param(14155550100, "+14155550100", id="int"),
        (["14155550100"], "+14155550100"),
        ("sip:Ann@Phone.plivo.com", "sip:Ann@phone.plivo.com"),
        ("anonymous", "anonymous"),
        ("1000", "1000"),
        ("0123456789", "0123456789"),
        ("", None),
        (None, None),
        (True, None),
        (1e300, None),
        pytest.param(10**400, None, id="huge"),
        ({"a": "b"}, None),
    ],
)
def test_address_gets_its_canonical_spelling(text: object, address: str) -> None:
    """A partner whose number came without its plus would never count as inside."""
    assert parse_event({"From": text}).from_ == address


@pytest.mark.parametrize(
    ("direction", "member"),
    [
        ("inbound", "+14155550100"),
        ("Outbound", "+14155550101"),
        ("sideways", None),
        (None, None),
    ],
)
def test_member_follows_the_direction(
    direction: str | None, member: str | None
) -> None:
    """The customer's own number must not pass for the agent's."""
    assert parse_event({**JOINED, "direction": direction}).member == member


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        ({"direction": "outbound", "to": "+14155550101"}, ("+14155550101",)),
        (
            {"direction": "outbound", "to": "14155550101"},
            ("+14155550101", "14155550101"),
        ),
        (
            {"direction": "outbound", "to": "02079460958", "to_iso2": "gb"},
            ("+442079460958", "+4402079460958", "02079460958"),
        ),
        (
            {"direction": "inbound", "From": "02079460958", "FromCountry": "GB"},
            ("+442079460958", "+4402079460958", "02079460958"),
        ),
        (
            {"direction": "inbound", "from": "02079460958", "from_country": "Britain"},
            ("02079460958",),
        ),
        ({"direction": "inbound", "from": "Restricted"}, ("",)),
        ({"direction": "inbound"}, ("",)),
        ({"direction": "outbound"}, ()),
        ({"direction": "sideways", "from": "+14155550100"}, ()),
        (
            {"from": "+14155550100", "to": "sip:a@b:5060"},
            ("+14155550100", "a@b"),
        ),
        ({}, ()),
    ],
)
def test_member_is_known_by_its_keys(
    data: dict[str, str], keys: tuple[str, ...]
) -> None:
    """Whoever answered under another spelling would not be seen to have answered."""
    assert parse_event(data).member_keys == keys


def test_event_that_was_changed_by_hand_is_about_the_new_party() -> None:
    """A service that mends its events' numbers would mend them in vain."""
    event = parse_event({"direction": "outbound", "to": "0101"})
    assert attrs.evolve(event, to="+14155550101").member_keys == ("+14155550101",)
    event = MemberJoined(direction="inbound", from_="sip:a@b;x=y")
    assert event.member_keys == ("a@b",)


def test_contradiction_counts_as_not_said() -> None:
    """Of two numbers, neither may be picked to end a handover by."""
    event = parse_event({**JOINED, "To": "+14155550102", "From": "+14155550100"})
    assert event.to is None
    assert event.from_ == "+14155550100"
    assert event.fields["To"] == "+14155550102"
    repeated = MultiDict([("event", "ConferenceExit"), ("event", "ConferenceEnter")])
    event = parse_event(repeated)
    assert event == UnknownEvent(
        fields={"event": ["ConferenceExit", "ConferenceEnter"]}
    )


RECORDING = {"RecordUrl": "https://media.example.com/1.mp3", "RecordingID": "r1"}


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        ({"Event": "Record", **RECORDING, "RecordingDuration": "61.5"}, 61.5),
        ({"Event": "RecordStop", **RECORDING, "RecordingDurationMs": "61500"}, 61.5),
        ({"recording_duration": 3, **RECORDING}, 3.0),
        ({"Event": "Record", **RECORDING, "RecordingDuration": "-1"}, None),
        ({"Event": "Record", **RECORDING, "RecordingDuration": "long"}, None),
        ({"Event": "Record", **RECORDING, "RecordingDuration": "inf"}, None),
    ],
)
def test_recording_is_ready_when_it_has_a_url(
    data: Mapping[str, object], seconds: float | None
) -> None:
    """Compliance staff look for recordings that nobody was told of."""
    event = parse_event(data)
    assert isinstance(event, RecordingReady)
    assert event.recording_url == RECORDING["RecordUrl"]
    assert event.recording_id == "r1"
    assert event.recording_duration == seconds
    assert RECORDING["RecordUrl"] not in repr(event)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ConferenceExit", MemberLeft), ("ConferenceDigits", UnknownEvent)],
)
def test_other_event_with_a_recording_is_still_itself(
    name: str, kind: type[BaseEvent]
) -> None:
    """A partner who left must not be missed because the call was recorded."""
    assert type(parse_event({"Event": name, **RECORDING})) is kind


def test_event_is_a_value() -> None:
    """Services put events in sets and send them between processes."""
    event = parse_event(JOINED)
    assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301 -- made here
    assert len({event, parse_event(JOINED)}) == 1
    assert event != parse_event({**JOINED, "x": "y"})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.to = "+14155550109"  # type: ignore[misc]
    assert not hasattr(event, "__dict__")


def test_repr_leads_to_the_call_but_not_to_the_people() -> None:
    """A log must find the call without naming who was on it."""
    shown = repr(parse_event({**JOINED, "from": "sip:ann@phone.plivo.com"}))
    assert CONFERENCE in shown
    assert CALL in shown
    assert "'caller_name'" in shown
    assert "to='…01'" in shown
    assert "from_='sip:…@phone.plivo.com'" in shown
    assert "Ann" not in shown
    assert "from_='…'" in repr(parse_event({"from": "Ann at home"}))


NAMES = st.sampled_from([*JOINED, "Event", "recordUrl", "recording_id", "x", "To"])


@given(
    digits=st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True),
    written=st.sampled_from(
        ["{}", "+{}", "call {} back", "sip:{}@a.b", "sip{}", "{}@a"]
    ),
    name=NAMES | st.just("14155550100"),
    event=st.sampled_from(["ConferenceEnter", "Redirect", "Record", "?"]),
)
def test_repr_never_shows_a_number(
    digits: str, written: str, name: str, event: str
) -> None:
    """Every number is a person's, whichever field it comes in."""
    data = {"recording_url": "https://a/", "event": event, name: written.format(digits)}
    assert digits not in repr(parse_event(data))
    assert digits not in repr(parse_event({**data, digits: "1"}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(
        NAMES | st.text() | st.none() | st.integers() | st.tuples(st.text()),
        st.sampled_from(list(JOINED.values())) | JSON,
    )
)
def test_any_mapping_is_an_event_and_kept_whole(data: dict[str, object]) -> None:
    """An odd event must neither stop the service nor lose what it said."""
    event = parse_event(data)
    assert isinstance(event, BaseEvent)
    assert event.fields is not data
    assert list(map(repr, event.fields.items())) == list(map(repr, data.items()))
    assert repr(event).startswith(type(event).__name__)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (
            b"event=ConferenceEnter&to=%2B14155550101",
            "application/x-www-form-urlencoded",
        ),
        (b"event=ConferenceEnter&to=14155550101", ""),
        (b'{"event": "ConferenceEnter", "to": 14155550101}', "application/json"),
        (b' {"event": "ConferenceEnter", "to": "14155550101"}', "text/plain"),
        (b'{"event": "ConferenceEnter", "to": 14155550101}', "application/x+json; a=b"),
    ],
)
def test_form_and_json_say_the_same(body: bytes, content_type: str) -> None:
    """Which of them Plivo sends isn't documented."""
    event = parse_event(decode_body(body, content_type))
    assert isinstance(event, MemberJoined)
    assert event.to == "+14155550101"


def test_form_that_looks_like_json_is_a_form() -> None:
    """What is signed depends on which of them it is."""
    form = "application/x-www-form-urlencoded; charset=utf-8"
    assert decode_body(b'{"a": 1}', form) == {'{"a": 1}': ""}


def test_json_numbers_keep_their_spelling() -> None:
    """The text is what is signed: 1.10 read and written again is another text."""
    body = b'{"a": 1.10, "b": 1e2, "c": 0, "d": NaN, "e": [1], "f": {"g": true}}'
    assert decode_body(body) == {
        "a": "1.10",
        "b": "1e2",
        "c": "0",
        "d": "NaN",
        "e": ["1"],
        "f": {"g": True},
    }


@pytest.mark.parametrize("body", [b'{"a": 1, "a": 2, "a": 3}', b"a=1&b=&a=2&a=3"])
def test_repeated_fields_are_all_kept(body: bytes) -> None:
    """What came last would hide what came before."""
    assert decode_body(body)["a"] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"[1]", "application/json"),
        (b"null", "application/json"),
        (b"{", "application/json"),
        (b"\xff", ""),
        (b"a=%ff", "application/x-www-form-urlencoded"),
        (b'{"a": "\xff"}', "application/json"),
        (b'{"a":' * 60_000, "application/json"),
        (b"[" * 60_000, "application/json"),
        (b"&".join([b"a=1"] * 1001), ""),
        (b'{"a": 1', "text/plain"),
    ],
)
def test_undecodable_body_is_said_so(body: bytes, content_type: str) -> None:
    """Anybody may post anything; only one exception has to be expected."""
    with pytest.raises(InvalidInputError, match="body: expected a form or a JSON"):
        decode_body(body, content_type)


@given(st.binary(), st.sampled_from(["", "application/json", "text/plain"]))
def test_junk_decodes_or_is_refused(body: bytes, content_type: str) -> None:
    """A body must not choose which exception the service meets."""
    with contextlib.suppress(InvalidInputError):
        assert isinstance(decode_body(body, content_type), dict)


def test_query_is_decoded_and_bounded() -> None:
    """A GET's event is all in its query."""
    assert decode_query("a=1&b=&a=%2B2&c=%ff") == {
        "a": ["1", "+2"],
        "b": "",
        "c": "\ufffd",
    }
    with pytest.raises(InvalidInputError, match="query"):
        decode_query("a=1&" * 1001)


def test_body_overrides_the_query() -> None:
    """The `?to=` in a callback's URL is yours; the event's `To` is Plivo's."""
    joined = join_fields({"tenant": "acme", "to": "us"}, {"To": "+14155550101"})
    assert joined == {"tenant": "acme", "To": "+14155550101"}
    assert parse_event(joined).to == "+14155550101"
