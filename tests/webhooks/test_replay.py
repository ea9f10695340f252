"""Replays: whoever recorded one webhook must not be able to make another of it.

V3 signs `base string + "." + nonce` without marking where a field, the query, the
body or the nonce begins. So one signature fits many requests. These tests cut a
recorded request anew in every place, and send what comes of it.
"""

import itertools
import json
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from aiophlo.webhooks.events import Event, UnknownEvent
from aiophlo.webhooks.receiver import Receiver
from aiophlo.webhooks.signature import NonceCache, hides_an_id, sign, verify_signature

TOKEN = "MjM0NTY3ODkwYWJjZGVmZ2hpams"  # noqa: S105 -- a published test vector's token
URL = "https://cc.example.com/phlo/events"
NONCE = "12345678901234567890"
FORM = "application/x-www-form-urlencoded"
JOINED = {
    "call_uuid": "c0ffee00-1111-2222-3333-444455556666",
    "direction": "outbound",
    "event": "ConferenceEnter",
    "to": "sip:sup@phone.plivo.com",
    "to_name": "x.y",
}


class Request(NamedTuple):
    """What `Receiver.receive` takes."""

    method: str
    url: str
    nonce: str
    signature: str
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The headers that Plivo would send."""
        return {
            "Content-Type": FORM,
            "X-Plivo-Signature-V3": self.signature,
            "X-Plivo-Signature-V3-Nonce": self.nonce,
        }

    @property
    def says(self) -> tuple[object, ...]:
        """What is told apart: the same fields in another order are the same."""
        _, _, query = self.url.partition("?")
        body = parse_qsl(self.body.decode(), keep_blank_values=True)
        query_fields = parse_qsl(query, keep_blank_values=True)
        return self.method, sorted(query_fields), self.nonce, sorted(body)


class Webhook:
    """A receiver and what it has been fed."""

    def __init__(self) -> None:
        self.fed: list[Event] = []
        self.failing = False
        self.receiver = Receiver(
            self.feed, auth_tokens=TOKEN, nonces=NonceCache(lambda: 0.0)
        )

    def feed(self, event: Event) -> None:
        """Take an event, unless it is failing."""
        if self.failing:
            raise LookupError("no such handover")
        self.fed.append(event)

    def send(self, request: Request) -> int:
        """Send a request and return the status of its answer."""
        return self.receiver.receive(
            request.method, request.url, request.headers, request.body
        )


def signed(
    method: str,
    query: list[tuple[str, str]],
    body: Mapping[str, str],
    nonce: str = NONCE,
) -> Request:
    """Return a genuine request."""
    url = f"{URL}?{urlencode(query)}" if query else URL
    params = body if method == "POST" else {}
    signature = sign(method, url, params, nonce=nonce, auth_token=TOKEN)
    return Request(method, url, nonce, signature, urlencode(params).encode())


def message_of(request: Request) -> str:
    """Return the text whose signature the request bears."""
    _, _, query = request.url.partition("?")
    written_query = "&".join(
        f"{key}={value}"
        for key, value in sorted(parse_qsl(query, keep_blank_values=True))
    )
    pairs = sorted(parse_qsl(request.body.decode(), keep_blank_values=True))
    written_body = "".join(key + value for key, value in pairs)
    tail = ".".join(filter(None, [written_query, written_body]))
    return f"{URL}?{tail}.{request.nonce}" if tail else f"{URL}.{request.nonce}"


def positions(text: str, mark: str) -> list[int]:
    """Return where `mark` stands in `text`."""
    return [index for index, character in enumerate(text) if character == mark]


@st.composite
def mergers(
    draw: st.DrawFn, pairs: list[tuple[str, str]], between: str, after: str
) -> list[tuple[str, str]]:
    """Draw fields that run together to the same text, some hidden in values."""
    merged = sorted(pairs)
    numbers = st.integers(1, max(len(merged) - 1, 1))
    hidden = sorted(draw(st.sets(numbers, max_size=3)), reverse=True)
    for number in hidden:
        if number < len(merged):
            (key, value), (name, text) = merged[number - 1 : number + 1]
            whole = f"{value}{after}{name}{between}{text}"
            merged[number - 1 : number + 1] = [(key, whole)]
    return merged


@st.composite
def recuts_of_fields(draw: st.DrawFn, request: Request) -> Request:
    """Draw a request whose fields alone are cut anew."""
    _, _, query = request.url.partition("?")
    if request.method == "GET":
        fields = draw(mergers(parse_qsl(query), "=", "&"))
        return request._replace(url=f"{URL}?{urlencode(fields)}")
    fields = draw(mergers(parse_qsl(request.body.decode()), "", ""))
    return request._replace(body=urlencode(fields).encode())


@st.composite
def recuts(draw: st.DrawFn, request: Request) -> Request:
    """Draw a request that has the same text signed, cut in other places."""
    message = message_of(request)
    dots = positions(message, ".")
    dot = draw(st.sampled_from(dots[-1:] * 2 + [d for d in dots if d > len(URL)]))
    base, nonce = message[:dot], message[dot + 1 :]
    _, _, tail = base.partition("?")
    method = draw(st.sampled_from(["GET", "POST"]))
    query, body = tail, ""
    if method == "POST" and tail:
        cuts = positions(tail, ".")
        cut = draw(st.sampled_from([-1, *cuts]))
        query, body = (tail[:cut], tail[cut + 1 :]) if cut >= 0 else ("", tail)
    pairs = [part.partition("=")[::2] for part in query.split("&") if query]
    url = f"{URL}?{urlencode(pairs)}" if pairs else URL
    fields: list[tuple[str, str]] = []
    if body:
        size = len(body)
        ends = draw(st.lists(st.integers(0, size), min_size=1, max_size=7))
        bounds = [0, *sorted(ends), size]
        pieces = [body[a:b] for a, b in itertools.pairwise(bounds)]
        pieces += [""] * (len(pieces) % 2)
        fields = list(zip(pieces[::2], pieces[1::2], strict=True))
    spaced = draw(st.sampled_from(["{}", " {}", "{} "]))
    return Request(
        method,
        url,
        spaced.format(nonce),
        request.signature,
        urlencode(fields).encode(),
    )


TEXT = st.text(st.sampled_from("ab.=&?-_1Z /é"), max_size=6)
BODIES = st.dictionaries(TEXT, TEXT, max_size=4) | st.just(JOINED)
QUERIES = st.lists(st.tuples(TEXT, TEXT), max_size=2)
NONCES = st.text(st.sampled_from("0123456789aZ_-"), min_size=1, max_size=8)
REQUESTS = st.builds(signed, st.sampled_from(["GET", "POST"]), QUERIES, BODIES, NONCES)


@given(st.data(), REQUESTS)
def test_no_recut_of_a_recorded_request_is_fed(
    data: st.DataObject, request: Request
) -> None:
    """An old join without its call id would pass for a partner who takes a caller."""
    webhook = Webhook()
    assert webhook.send(request) == 200
    assert len(webhook.fed) == 1
    for recut in data.draw(st.lists(recuts(request), min_size=1, max_size=8)):
        matches = verify_signature(
            recut.method,
            recut.url,
            recut.headers,
            dict(parse_qsl(recut.body.decode(), keep_blank_values=True)),
            auth_tokens=TOKEN,
        )
        event(f"signature fits: {matches}")
        webhook.send(recut)
    assert len(webhook.fed) == 1


@given(st.data(), REQUESTS)
def test_one_signature_feeds_one_event_whichever_comes_first(
    data: st.DataObject, request: Request
) -> None:
    """Who can delay a request must not get two events out of it."""
    webhook = Webhook()
    for recut in data.draw(st.lists(recuts(request), min_size=1, max_size=8)):
        webhook.send(recut)
    webhook.send(request)
    assert len(webhook.fed) == 1


@given(st.data(), REQUESTS)
def test_no_recut_is_fed_after_the_service_failed_on_the_original(
    data: st.DataObject, request: Request
) -> None:
    """What may come again is that request, not another with its signature."""
    webhook = Webhook()
    webhook.failing = True
    assert webhook.send(request) == 500
    webhook.failing = False
    for recut in data.draw(st.lists(recuts(request), min_size=1, max_size=8)):
        stripped = recut._replace(nonce=recut.nonce.strip())
        if stripped.says != request.says:
            webhook.send(recut)
    assert not webhook.fed
    assert webhook.send(request) == 200
    assert len(webhook.fed) == 1


def test_get_in_place_of_a_post_that_failed_is_no_repeat() -> None:
    """What failed may come again as it was, and as nothing else."""
    webhook = Webhook()
    request = signed("POST", [("event", "Redirect")], {})
    webhook.failing = True
    assert webhook.send(request) == 500
    webhook.failing = False
    assert webhook.send(request._replace(method="GET")) == 200
    assert not webhook.fed
    assert webhook.send(request) == 200
    assert len(webhook.fed) == 1


def test_recut_at_an_earlier_dot_is_refused() -> None:
    """The rest of the fields would hide in a nonce that no cache has seen."""
    webhook = Webhook()
    request = signed("POST", [], JOINED)
    message = message_of(request)
    base, _, nonce = message.partition("phone.plivo.")
    shorter = base.removeprefix(f"{URL}?") + "phone.plivo"
    recut = request._replace(nonce=nonce, body=urlencode({shorter: ""}).encode())
    assert webhook.send(recut) == 403
    assert webhook.send(request) == 200
    assert len(webhook.fed) == 1


CONFERENCE = "0ddba11c-1111-2222-3333-444455556666"
DOCUMENTED = {
    **JOINED,
    "bill_rate": "0.0085",
    "call_status": "in-progress",
    "caller_name": "Ann",
    "conference_name": "n",
    "conference_uuid": CONFERENCE,
    "from": "+14155550100",
    "member_id": "7",
}


def pascal(name: str) -> str:
    """Spell a name as Plivo's Voice API does."""
    words = name.split("_")
    return "".join(w.upper() if w == "uuid" else w.title() for w in words)


@pytest.mark.parametrize("spell", [str, pascal, str.upper])
@pytest.mark.parametrize("method", ["GET", "POST"])
@given(data=st.data())
def test_recut_that_reaches_another_process_still_bears_its_ids(
    spell: Callable[[str], str], method: str, data: st.DataObject
) -> None:
    """A worker that has not seen the nonce would take an old join for a new one."""
    fields = {spell(name): value for name, value in DOCUMENTED.items()}
    query = list(fields.items()) if method == "GET" else [("tenant", "acme")]
    request = signed(method, query, fields)
    original = Webhook()
    assert original.send(request) == 200
    another_process = Webhook()
    another_process.send(data.draw(recuts_of_fields(request)))
    for fed in another_process.fed:
        if not isinstance(fed, UnknownEvent):
            assert fed.conference_uuid == CONFERENCE
            assert fed.call_uuid == JOINED["call_uuid"]


@pytest.mark.parametrize(
    "fields",
    [
        {"call_status": f"in-progresscall_uuid{CONFERENCE}", "event": "Redirect"},
        {f"CallUUID{CONFERENCE}Conference": "", "event": "Redirect"},
        {"conference_uuid": f"{CONFERENCE}direction", "event": "Redirect"},
        {"": {"call_uuid": CONFERENCE}, "event": "Redirect"},
        {"a": f"1call_uuid{CONFERENCE}", "call_uuid_of": CONFERENCE},
    ],
)
def test_id_that_is_no_field_any_more_is_seen(fields: dict[str, object]) -> None:
    """The customer would be joined to somebody who has long hung up."""
    assert hides_an_id({}, fields)


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ({}, DOCUMENTED),
        (DOCUMENTED, {}),
        ({"conference_uuid": CONFERENCE}, DOCUMENTED),
        ({}, {"parent_call_uuid": CONFERENCE, "ALegCallUUID": [CONFERENCE] * 2}),
        ({}, {"url": f"https://a/{CONFERENCE}.mp3", "call_uuid": f"{CONFERENCE}@a"}),
        ({"next": f"https://a/?uuid={CONFERENCE}"}, {"note": "call_uuid"}),
        ({}, {"call_uuid": "abc", "conference_uuid": ""}),
    ],
)
def test_genuine_event_hides_no_id(
    query: dict[str, object], body: dict[str, object]
) -> None:
    """A genuine event that is refused leaves a handover waiting for nothing."""
    assert not hides_an_id(query, body)


def test_recut_without_its_id_is_refused_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever runs the service must learn that somebody replays its traffic."""
    request = signed(
        "POST", [], {"a": "1", "call_uuid": CONFERENCE, "event": "Redirect"}
    )
    merged = {"a": f"1call_uuid{CONFERENCE}", "event": "Redirect"}
    webhook = Webhook()
    assert webhook.send(request._replace(body=urlencode(merged).encode())) == 403
    assert "cut anew" in caplog.text
    assert webhook.send(request) == 200, "a refused one uses up no nonce"


def test_unknown_document_may_have_ids_anywhere() -> None:
    """What aiophlo doesn't know, a service may; it must get all of it."""
    document = {"data": {"call_uuid": CONFERENCE}}
    signature = sign("POST", URL, document, nonce=NONCE, auth_token=TOKEN)
    headers = {
        "X-Plivo-Signature-V3": signature,
        "X-Plivo-Signature-V3-Nonce": NONCE,
    }
    webhook = Webhook()
    body = json.dumps(document)
    assert webhook.receiver.receive("POST", URL, headers, body) == 200
