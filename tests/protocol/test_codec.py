"""The wire format: one request per action, one verdict per answer, whatever it is."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

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
from aiophlo.model.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason, Rejected
from aiophlo.protocol.codec import (
    Answer,
    NoAnswer,
    Request,
    decode,
    encode,
    retry_after,
)

AUTH_ID = "MA" + "X" * 18
BASE = "https://phlorunner.plivo.com/v1"
AGENT = "+14155550100"
PARTNER = "+14155550199"
NODE: dict[str, Any] = {"phlo_id": "p-1", "node_id": "n_1"}
DIAL: dict[str, Any] = {**NODE, "trigger_source": AGENT, "to": PARTNER}
MEMBER: dict[str, Any] = {**NODE, "member": AGENT}
TRANSFER = WarmTransfer(**DIAL, key="k")
NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT
PARTY = "/phlo/p-1/multi_party_call/n_1"
BRIDGE = "/phlo/p-1/conference_bridge/n_1"


def dial(verb: str, role: str = "agent", to: str = PARTNER) -> dict[str, str]:
    """Return the documented body of a dialling action."""
    return {"action": verb, "to": to, "role": role, "trigger_source": AGENT}


REQUESTS: list[tuple[Action, str, str, object]] = [
    (AddUser(**DIAL), "POST", PARTY, dial("call")),
    (WarmTransfer(**DIAL), "POST", PARTY, dial("warm_transfer")),
    (
        WarmTransfer(**{**DIAL, "to": "sip:a/b@h"}, role=Role.CUSTOMER),
        "POST",
        PARTY,
        dial("warm_transfer", "customer", "sip:a/b@h"),
    ),
    (ColdTransfer(**DIAL), "POST", PARTY, dial("cold_transfer")),
    *(
        (kind(**MEMBER), "POST", f"{PARTY}/members/{AGENT}", {"action": verb})
        for kind, verb in (
            (AbortTransfer, "abort_transfer"),
            (ResumeCall, "resume_call"),
            (VoicemailDrop, "voicemail_drop"),
            (Hangup, "hangup"),
            (Hold, "hold"),
            (Unhold, "unhold"),
            (Mute, "mute"),
            (Unmute, "unmute"),
        )
    ),
    *(
        (kind(**MEMBER), "POST", f"{BRIDGE}/members/{AGENT}", {"action": verb})
        for kind, verb in (
            (BridgeMute, "mute"),
            (BridgeUnmute, "unmute"),
            (BridgeLeave, "leave"),
        )
    ),
    (RunPhlo(phlo_id="p-1"), "POST", f"/account/{AUTH_ID}/phlo/p-1", {}),
    (
        RunPhlo(phlo_id="p-1", parameters={"to": PARTNER, "n": [1, None, "é"]}),
        "POST",
        f"/account/{AUTH_ID}/phlo/p-1",
        {"to": PARTNER, "n": [1, None, "é"]},
    ),
    (GetPhlo(phlo_id="p-1"), "GET", "/phlo/p-1", None),
    (GetNode(**NODE), "GET", PARTY, None),
    (GetNode(**NODE, node_type="conference_bridge"), "GET", BRIDGE, None),
]


@pytest.mark.parametrize(
    ("action", "method", "path", "body"),
    REQUESTS,
    ids=[f"{row[0].__class__.__name__}-{n}" for n, row in enumerate(REQUESTS)],
)
def test_action_has_its_documented_request(
    action: Action, method: str, path: str, body: object
) -> None:
    """A wrong path or word acts on another call than the agent's."""
    request = encode(action, auth_id=AUTH_ID)
    assert (request.method, request.path) == (method, path)
    assert (None if request.body is None else json.loads(request.body)) == body
    slashed = encode(action, auth_id=AUTH_ID, trailing_slash=True)
    assert slashed.path == (path if method == "GET" else f"{path}/")
    assert slashed.body == request.body
    assert URL(BASE + path, encoded=True).raw_path == f"/v1{path}"


def test_no_address_breaks_out_of_its_body() -> None:
    """Whoever may choose an endpoint's name could choose the action, too."""
    accepted = 0
    for number in range(0x3000):
        for text in (f"sip:a{chr(number)}b@h", f"sip:a@h;p={chr(number)}b"):
            try:
                action = WarmTransfer(**NODE, to=text, trigger_source=text)
            except InvalidAddressError:
                continue
            accepted += 1
            body = json.loads(encode(action, auth_id=AUTH_ID).body or b"")
            assert body == {
                "action": "warm_transfer",
                "to": action.to,
                "role": "agent",
                "trigger_source": action.trigger_source,
            }
    assert accepted > 2 * 62  # letters and digits at least


def test_warm_transfer_is_the_documented_json() -> None:
    """The one request this library is for, byte by byte."""
    assert encode(TRANSFER, auth_id=AUTH_ID).body == (
        b'{"action":"warm_transfer","to":"+14155550199","role":"agent",'
        b'"trigger_source":"+14155550100"}'
    )


def test_every_action_has_a_request() -> None:
    """An action that can't be written fails with the caller on the line."""
    abstract = {Action, NodeAction, DialAction, MemberAction}
    concrete = {
        value
        for value in vars(actions).values()
        if isinstance(value, type) and issubclass(value, Action)
    } - abstract
    assert concrete == {type(row[0]) for row in REQUESTS}


@pytest.mark.parametrize(
    ("member", "segment"),
    [
        ("sip:bob@host", "sip:bob@host"),
        ("sip:a/b?c@host", "sip:a%2Fb%3Fc@host"),
        ("sip:/../../x@host", "sip:%2F..%2F..%2Fx@host"),
        ("sip:%2e%2e%2fz@host", "sip:%252e%252e%252fz@host"),
        ("sip:a%23b@host", "sip:a%2523b@host"),
        ("sip:bob@[2001:db8::1]:5060", "sip:bob@%5B2001:db8::1%5D:5060"),
        (
            "sip:a;b=c@host;transport=tcp;x=%2F",
            "sip:a;b=c@host;transport=tcp;x=%252F",
        ),
        ("+1 415 555 0100", "+14155550100"),
    ],
)
@pytest.mark.parametrize("kind", [Hold, BridgeLeave])
def test_member_stays_one_segment_of_the_path(
    member: str, segment: str, kind: type[MemberAction]
) -> None:
    """A SIP endpoint that reached out of its segment would act on another call."""
    action = kind(**{**MEMBER, "member": member})
    path = encode(action, auth_id=AUTH_ID).path
    assert path.endswith(f"/members/{segment}")
    url = URL(BASE + path, encoded=True)
    assert (url.raw_path, url.raw_query_string, url.raw_fragment) == (
        f"/v1{path}",
        "",
        "",
    )
    assert url.raw_parts[-1] == segment
    assert url.path.endswith(f"/members/{action.member}")


@pytest.mark.parametrize(
    "member", ["sip:x@y/../z?q", "sip:a/b?c#d", "sip:a#b@host", "../x", "sip:a b@c"]
)
def test_member_that_escapes_its_segment_can_not_be_built(member: str) -> None:
    """plivo-python sends these, and they reach another resource."""
    with pytest.raises(InvalidAddressError):
        Hold(**{**MEMBER, "member": member})


@pytest.mark.parametrize(
    "kind", [Action, MemberAction, DialAction], ids=lambda kind: kind.__name__
)
def test_action_of_no_request_is_refused(kind: type[Action]) -> None:
    """A base class sent by mistake must not become an empty request."""
    arguments = {Action: {"phlo_id": "p"}, MemberAction: MEMBER, DialAction: DIAL}
    with pytest.raises(InvalidInputError, match=r"^action: ") as caught:
        encode(kind(**arguments[kind]), auth_id=AUTH_ID)
    assert caught.value.field == "action"


def test_request_and_answer_show_no_number() -> None:
    """A request logged while debugging is a customer's number in a file."""
    for action in (WarmTransfer(**DIAL), Hold(**MEMBER)):
        shown = repr(encode(action, auth_id=AUTH_ID))
        assert "4155550" not in shown
    answer = Answer(400, {"X": AGENT}, AGENT.encode())
    assert repr(answer) == "Answer(status=400, body=<12 bytes>)"
    gone = NoAnswer(left=True, reason=Reason.DISCONNECTED, detail=f"near {AGENT}")
    assert "4155550" not in repr(gone)
    assert repr(Request("GET", "/phlo/p")) == (
        "Request(method='GET', path='/phlo/p', body=None)"
    )


# What a body says, in the words of the table of verdicts.
YES, NO, UNCLEAR = "yes", "no", "unclear"
BODIES: dict[str, tuple[bytes, str, str | None]] = {
    "empty": (b"", UNCLEAR, None),
    "blank": (b" \r\n", UNCLEAR, None),
    "no_error": (b'{"api_id":"a"}', YES, None),
    "empty_object": (b"{}", YES, None),
    "null_error": (b'{"error":null}', YES, None),
    "empty_error": (b'{"api_id":"a","error":""}', YES, None),
    "blank_error": (b'{"error":" \\n"}', YES, None),
    "false_error": (b'{"error":false}', YES, None),
    "zero_error": (b'{"error":0}', YES, None),
    "empty_list_error": (b'{"error":[]}', YES, None),
    "empty_object_error": (b'{"error":{}}', YES, None),
    "bom": (b'\xef\xbb\xbf{"error":""}', YES, None),
    "other_words": (b'{"message":"ok"}', YES, None),
    "error": (b'{"error":" no such member "}', NO, "no such member"),
    "error_with_id": (b'{"api_id":"a","error":"no such node"}', NO, "no such node"),
    "true_error": (b'{"error":true}', NO, "true"),
    "number_error": (b'{"error":5030}', NO, "5030"),
    "list_error": (b'{"error":["to","role"]}', NO, '["to","role"]'),
    "object_error": (b'{"error":{"to":["bad"]}}', NO, '{"to":["bad"]}'),
    "long_error": (b'{"error":"%s"}' % (b"x" * 9_000), NO, "x" * 500),
    "infinite_error": (b'{"error":1e999}', NO, "Infinity"),
    "list": (b'[{"error":""}]', UNCLEAR, None),
    "string": (b'"accepted"', UNCLEAR, None),
    "number": (b"1", UNCLEAR, None),
    "null": (b"null", UNCLEAR, None),
    "html": (b"<html>502</html>", UNCLEAR, None),
    "cut": (b'{"api_id":"a","er', UNCLEAR, None),
    "twice": (b'{"error":""}{"error":""}', UNCLEAR, None),
    "not_a_number": (b'{"error":NaN}', UNCLEAR, None),
    "infinity": (b'{"x":-Infinity}', UNCLEAR, None),
    "not_utf8": (b'{"error":"\xff"}', UNCLEAR, None),
    "utf8_surrogate": (b'{"error":"\xed\xa0\x80"}', UNCLEAR, None),
    "twice_in_one": (b'{"error":"boom","error":null}', UNCLEAR, None),
    "twice_within": (b'{"api_id":"a","x":{"y":1,"y":2}}', UNCLEAR, None),
    "utf16": ('{"error":""}'.encode("utf-16"), UNCLEAR, None),
    "deep": (b"[" * 100_000, UNCLEAR, None),
    "deep_object": (b'{"error":' * 100_000, UNCLEAR, None),
    "huge_number": (b'{"x":' + b"9" * 5_000 + b"}", UNCLEAR, None),
}
Verdict = tuple[str, str | None]


DOCUMENTED = (400, 401, 403, 404, 405, 409, 422)
# Beyond 2xx the status decides, but for refusals that Plivo doesn't document: these
# are believed where the body is Plivo's. The later line wins.
BY_STATUS: dict[int, Verdict] = {
    **dict.fromkeys(range(100, 1000), ("in_doubt", "unknown")),
    **dict.fromkeys(range(400, 500), ("rejected", None)),
    **dict.fromkeys(range(500, 600), ("in_doubt", "server_error")),
    **dict.fromkeys([301, 302, 303], ("in_doubt", "redirected")),
    **dict.fromkeys([307, 308], ("rejected", None)),
    408: ("in_doubt", "silent"),
    429: ("not_sent", "throttled"),
}


def is_plivos(body: bytes) -> bool:
    """Say whether a body is an object with what Plivo's answers have in them."""
    has_words = b'"api_id"' in body or b'"error"' in body
    return has_words and read(200, body).verdict != "in_doubt"


def expected(status: int, said: str, *, plivos: bool) -> Verdict:
    """Return verdict and reason as the documentation's table has them."""
    undocumented = 400 <= status < 500 and status not in (*DOCUMENTED, 408, 429)
    if undocumented and not plivos:
        return "in_doubt", "unreadable"
    if not 200 <= status <= 299:
        return BY_STATUS[status]
    if said == NO:
        return "rejected", None
    if said == YES or status == 204:
        return "accepted", None
    return "in_doubt", "unreadable"


def read(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> Outcome:
    """Return the verdict on a warm transfer answered so."""
    return decode(TRANSFER, Answer(status, headers or {}, body), now=lambda: NOW)


@pytest.mark.parametrize("kind", BODIES)
def test_every_status_with_every_body_has_its_verdict(kind: str) -> None:
    """Each wrong cell is a phone ringing that nobody knows of, or one rung twice."""
    body, said, text = BODIES[kind]
    for status in range(100, 1000):
        outcome = read(status, body)
        reason = getattr(outcome, "reason", None)
        right = expected(status, said, plivos=is_plivos(body))
        assert (outcome.verdict, reason) == right, status
        assert outcome.status == status
        assert outcome.error == text, status


def test_table_of_verdicts_has_what_it_promises() -> None:
    """The table above is the judge: these cells are written out by hand."""
    cells: list[tuple[int, bytes, type[Outcome], str | None]] = [
        (100, b"{}", InDoubt, "unknown"),
        (199, b"{}", InDoubt, "unknown"),
        (200, b"{}", Accepted, None),
        (201, b'{"api_id":"a","error":""}', Accepted, None),
        (201, b'{"error":"x"}', Rejected, None),
        (202, b"", InDoubt, "unreadable"),
        (204, b"", Accepted, None),
        (204, b"<html>", Accepted, None),
        (204, b'{"error":"x"}', Rejected, None),
        (299, b"{}", Accepted, None),
        (300, b"{}", InDoubt, "unknown"),
        (301, b"{}", InDoubt, "redirected"),
        (302, b"", InDoubt, "redirected"),
        (303, b"", InDoubt, "redirected"),
        (304, b"", InDoubt, "unknown"),
        (306, b"", InDoubt, "unknown"),
        (307, b"", Rejected, None),
        (308, b"", Rejected, None),
        (309, b"", InDoubt, "unknown"),
        (399, b"", InDoubt, "unknown"),
        (400, b"", Rejected, None),
        (401, b"{}", Rejected, None),
        (404, b"{}", Rejected, None),
        (402, b'{"error":"pay"}', Rejected, None),
        (407, b"{}", InDoubt, "unreadable"),
        (408, b"{}", InDoubt, "silent"),
        (409, b"{}", Rejected, None),
        (428, b'{"api_id":"a"}', Rejected, None),
        (429, b'{"error":"x"}', NotSent, "throttled"),
        (430, b"", InDoubt, "unreadable"),
        (499, b"", InDoubt, "unreadable"),
        (500, b'{"api_id":"a","error":""}', InDoubt, "server_error"),
        (503, b"", InDoubt, "server_error"),
        (599, b"", InDoubt, "server_error"),
        (600, b"{}", InDoubt, "unknown"),
        (999, b"{}", InDoubt, "unknown"),
    ]
    for status, body, kind, reason in cells:
        outcome = read(status, body)
        found = (type(outcome), getattr(outcome, "reason", None))
        assert found == (kind, reason), status


@pytest.mark.parametrize("status", [201, 400, 408, 429, 500])
def test_outcome_carries_what_is_known(status: int) -> None:
    """Support asks for the api_id first, and the agent for her own key."""
    body = b'{"api_id":"faad0293","error":"busy","more":[1]}'
    outcome = decode(
        TRANSFER,
        Answer(status, {}, body),
        now=lambda: NOW,
        attempts=3,
        seconds=2.5,
        waited=0.5,
    )
    assert outcome.action is TRANSFER
    assert (outcome.attempts, outcome.seconds, outcome.waited) == (3, 2.5, 0.5)
    assert (outcome.api_id, outcome.error) == ("faad0293", "busy")
    assert outcome.body == json.loads(body)
    assert not outcome.joined


@pytest.mark.parametrize(
    ("written", "api_id"),
    [
        ('"faad0293-f5f0"', "faad0293-f5f0"),
        ("1", None),
        ("null", None),
        ('["a"]', None),
        (f'"{"a" * 128}"', "a" * 128),
        (f'"{"a" * 129}"', None),
        ('"a\\nb"', None),
        ('"\\ud800"', None),
        ('""', None),
        ('" "', None),
    ],
)
def test_api_id_is_a_printable_string_or_none(written: str, api_id: str | None) -> None:
    """An id that breaks the results' file costs the outcomes after it."""
    outcome = read(201, f'{{"api_id":{written}}}'.encode())
    assert (outcome.verdict, outcome.api_id) == ("accepted", api_id)


@pytest.mark.parametrize("status", [201, 503])
def test_body_that_is_no_object_leaves_an_empty_one(status: int) -> None:
    """Code that looks into the body must not have to ask whether there is one."""
    assert read(status, b"[1]").body == {}


def test_error_at_the_edge_of_what_can_be_nested_is_still_an_error() -> None:
    """A refusal that is hard to print is a refusal all the same."""
    texts = set()
    for depth in range(5, 1_200):
        body = b'{"error":%s1%s}' % (b"[" * depth, b"]" * depth)
        outcome = read(201, body)
        if isinstance(outcome, InDoubt):
            assert outcome.reason == "unreadable"
            continue
        assert isinstance(outcome, Rejected)
        assert outcome.error
        texts.add(outcome.error)
    assert texts


def test_error_too_deep_to_write_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be read at some depth may not be writable at it."""

    def too_deep(_: object) -> str:
        raise RecursionError

    monkeypatch.setattr("aiophlo.protocol.codec._dumps", too_deep)
    outcome = read(201, b'{"error":[1]}')
    assert isinstance(outcome, Rejected)
    assert outcome.error == "an error too deeply nested to show"


@pytest.mark.parametrize("reason", [*Reason])
@pytest.mark.parametrize("left", [True, False])
def test_no_answer_is_in_doubt_unless_proved_unsent(
    reason: Reason, *, left: bool
) -> None:
    """Calling a ringing phone not sent gets it rung again."""
    gone = NoAnswer(left=left, reason=reason, detail=" reset by peer\n", status=201)
    outcome = decode(
        TRANSFER, gone, now=lambda: NOW, attempts=2, seconds=1.5, waited=0.5
    )
    assert type(outcome) is (InDoubt if left else NotSent)
    assert outcome == (InDoubt if left else NotSent)(
        action=TRANSFER, reason=reason, error="reset by peer", status=201, attempts=2
    )
    assert (outcome.seconds, outcome.waited) == (1.5, 0.5)


def test_words_of_a_lost_connection_are_bounded() -> None:
    """A server that answers with a megabyte of garbage must not fill the log."""
    gone = NoAnswer(left=True, reason=Reason.UNREADABLE, detail="x" * 9_000)
    assert decode(TRANSFER, gone, now=lambda: NOW).error == "x" * 500
    silent = NoAnswer(left=True, reason=Reason.SILENT)
    assert decode(TRANSFER, silent, now=lambda: NOW).error is None


HEADERS = st.dictionaries(
    st.text(max_size=12) | st.sampled_from(["Retry-After", "retry-AFTER", "Date"]),
    st.text(max_size=40)
    | st.from_regex(r"[A-Z][a-z]{2,8},? ?[0-9]{1,9}[- :][0-9A-Za-z: +-]{0,30}"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.just("error"), inner)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    status=st.integers(-1, 1_100) | st.just(429),
    headers=HEADERS,
    body=st.binary() | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_any_answer_has_exactly_one_verdict(
    status: int, headers: Mapping[str, str], body: bytes
) -> None:
    """An exception here is a transfer whose outcome nobody will ever know."""
    outcome = read(status, body, headers)
    assert type(outcome) in {Accepted, Rejected, NotSent, InDoubt}
    assert outcome.status == status
    assert outcome.error is None or outcome.error.strip()
    if isinstance(outcome, NotSent):
        wait = outcome.retry_after
        assert status == 429
        assert wait is None or 0 <= wait < float("inf")
    repr(outcome).encode()


@settings(deadline=None)
@given(st.text() | st.from_regex(r"[0-9A-Za-z,: +-]{0,60}"))
def test_any_retry_after_is_seconds_or_nothing(value: str) -> None:
    """A header nobody foresaw must not stop the account."""
    wait = retry_after({"Retry-After": value, "Date": value}, now=lambda: NOW)
    assert wait is None or 0 <= wait < float("inf")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("7.", 7.0),
        ("-3", 0.0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("9" * 400, None),
        ("1e3", None),
        ("1_000", None),
        ("٣", None),
        ("7 seconds", None),
        ("\x00", None),
        ("Sun, 06 Nov 1994 08:49:99 GMT", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 99999999999 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:40 +9999", None),
    ],
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    """Waiting too short draws the next 429; waiting forever drops the caller."""
    wait = retry_after({"rEtRy-AfTeR": value}, now=lambda: NOW)
    assert wait == seconds
    outcome = read(429, b"", {"X": "1", "Retry-After": value})
    assert isinstance(outcome, NotSent)
    assert outcome.retry_after == seconds


def test_no_retry_after_asks_for_none() -> None:
    """Without the header the account's own pause counts."""
    assert retry_after({"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}, now=never) is None


def never() -> float:
    """Fail: this clock must not be asked."""
    pytest.fail("the clock was read")


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/New_York"])
def zone(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Set the machine's time zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


DATES = pytest.mark.parametrize(
    "date",
    [
        "Sun, 06 Nov 1994 08:49:47 GMT",
        "Sunday, 06-Nov-94 08:49:47 GMT",
        "Sun Nov  6 08:49:47 1994",
    ],
)


@DATES
@pytest.mark.parametrize(
    ("sent", "clock", "seconds"),
    [
        (None, lambda: NOW, 10.0),
        (None, lambda: NOW + 60, 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", never, 10.0),
        ("Sun Nov  6 08:49:40 1994", never, 7.0),
        ("Sunday, 06-Nov-94 08:50:00 GMT", never, 0.0),
        ("yesterday", lambda: NOW, 10.0),
        ("", lambda: NOW, 10.0),
    ],
    ids=["no_date", "past", "date", "other_form", "earlier", "garbage", "empty"],
)
def test_retry_after_as_a_date(
    date: str,
    sent: str | None,
    clock: Callable[[], float],
    seconds: float,
    zone: str,
) -> None:
    """A date read in the machine's own zone would stop the account for hours."""
    headers = {"Retry-After": date} | ({} if sent is None else {"DATE": sent})
    assert retry_after(headers, now=clock) == seconds, zone


@pytest.mark.parametrize(
    "headers",
    [
        {"x-request-id": "r-1"},
        {"Date": "today", "X-Request-ID": "r-1"},
        CIMultiDictProxy(CIMultiDict({"X-Request-Id": "r-1"})),
    ],
)
@pytest.mark.parametrize("status", [201, 404, 429, 500])
def test_request_id_is_on_every_outcome(
    headers: Mapping[str, str], status: int
) -> None:
    """It is what Plivo's support asks for, most of all where something failed."""
    answer = Answer(status, headers, b'{"api_id": "a", "error": ""}')
    assert decode(TRANSFER, answer, now=never).request_id == "r-1"


@pytest.mark.parametrize("text", ["", " ", "r" * 129, "a\x00b"])
def test_request_id_that_can_not_be_one_is_none(text: str) -> None:
    """A header is anybody's text, and goes to logs."""
    answer = Answer(201, {"X-Request-ID": text}, b"{}")
    assert decode(TRANSFER, answer, now=never).request_id is None


def test_failure_that_a_proxy_tells_of_keeps_its_name() -> None:
    """Who reads "unreadable" looks at the wrong end of an outage."""
    answer = Answer(502, {}, b"<h1>Bad Gateway</h1>", by_proxy=True)
    outcome = decode(GetPhlo(phlo_id="p"), answer, now=lambda: 0.0)
    assert isinstance(outcome, InDoubt)
    assert outcome.reason is Reason.SERVER_ERROR


@pytest.mark.parametrize("status", [200, 201, 400, 401, 404, 429])
def test_object_in_a_proxys_words_is_no_answer_of_plivos(status: int) -> None:
    """A gateway's `{"message": "ok"}` would pass for Plivo's yes, or for its no."""
    answer = Answer(status, {}, b'{"message":"no upstream"}', by_proxy=True)
    outcome = decode(TRANSFER, answer, now=lambda: 0.0)
    assert isinstance(outcome, InDoubt)
    assert outcome.reason is Reason.UNREADABLE
    words = attrs.evolve(answer, body=b'{"api_id":"a","error":null}')
    assert decode(TRANSFER, words, now=lambda: 0.0).verdict != "in_doubt"
