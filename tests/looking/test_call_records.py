"""What the list says of a call is read whatever it looks like; nothing is guessed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiophlo import CallState
from aiophlo.looking.call_records import (
    CallRecord,
    read_finished,
    read_time,
    read_under_way,
)

FINISHED: dict[str, Any] = {
    "answer_time": "2022-06-28 19:39:05+05:30",
    "call_direction": "outbound",
    "call_uuid": "57a1b60a-5c0b-11e7-9082-ef888d0400e9",
    "end_time": "2022-06-28 19:39:15+05:30",
    "from_number": "12025551111",
    "hangup_cause_code": 4000,
    "hangup_cause_name": "Normal Hangup",
    "initiation_time": "2022-06-28 19:39:00+05:30",
    "to_number": "14152225555",
}
LIVE: dict[str, Any] = {
    "call_status": "in-progress",
    "call_uuid": "57a1b60a-5c0b-11e7-9082-ef888d0400e9",
    "direction": "outbound",
    "from": "12025551111",
    "session_start": "2022-06-28 14:09:00.123456",
    "to": "+14152225555",
}
BEGAN = 1_656_425_340.0
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_finished_call_is_read_as_documented() -> None:
    """These are the field names of Plivo's documentation."""
    record = read_finished(FINISHED)
    assert record is not None
    assert record.state is CallState.ENDED
    assert record.is_outbound
    assert (record.began_at, record.answered_at) == (BEGAN, BEGAN + 5)
    assert record.ended_at == BEGAN + 15
    assert (record.hangup_cause, record.hangup_code) == ("Normal Hangup", 4000)
    assert record.is_to("+14152225555")
    assert record.is_from_one_of(frozenset({"+12025551111", "+12025552222"}))
    assert "2225555" not in repr(record)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("ringing", CallState.RINGING),
        ("in-progress", CallState.TALKING),
        ("queued", CallState.QUEUED),
        ("initiated", CallState.RINGING),
        (None, CallState.RINGING),
    ],
)
def test_call_under_way_is_read(status: str | None, state: CallState) -> None:
    """What isn't known to be answered is not called so."""
    record = read_under_way(LIVE | {"call_status": status})
    assert record is not None
    assert (record.state, record.began_at) == (state, BEGAN)


@pytest.mark.parametrize("missing", ["call_uuid", "to", "from", "direction"])
def test_call_that_lacks_what_tells_it_apart_is_none(missing: str) -> None:
    """It might be the second candidate."""
    assert read_under_way({k: v for k, v in LIVE.items() if k != missing}) is None
    assert read_under_way(LIVE | {missing: 7}) is None


@pytest.mark.parametrize(
    ("to", "same"),
    [
        ("14152225555", True),
        ("+1 415 222 5555", True),
        ("sip:+14152225555@carrier.example", True),
        ("1415222555", False),
        ("141522255550", False),
        ("4152225555", False),
        ("sip:14152225555@phone.plivo.com", False),
        ("", False),
        ("anonymous", False),
    ],
)
def test_numbers_are_compared_by_their_digits(to: str, same: bool) -> None:
    """The filter takes prefixes, and lists write no plus."""
    record = read_under_way(LIVE | {"to": to})
    assert record is not None
    assert record.is_to("+14152225555") is same


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2022-06-28 14:09:00", BEGAN),
        ("2022-06-28T14:09:00Z", BEGAN),
        ("2022-06-28 14:09:00.5+00:00", BEGAN),
        ("2022-06-28 19:39:00+0530", BEGAN),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1_656_425_340, None),
    ],
)
def test_time_is_read_in_any_of_its_spellings(text: object, at: float | None) -> None:
    """A call whose time isn't understood proves nothing."""
    assert read_time(text) == at


@given(JSON)
def test_nothing_that_json_can_say_raises(document: object) -> None:
    """A look must never break what it is about."""
    for read in (read_finished, read_under_way):
        assert read(document) is None
    values = dict.fromkeys((*FINISHED, *LIVE), document)
    for read in (read_finished, read_under_way):
        assert isinstance(read(values), CallRecord | None)
