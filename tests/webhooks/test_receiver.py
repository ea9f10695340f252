"""Receiving: an event must reach the service once, quickly, and from Plivo alone."""

import asyncio
import base64
import gzip
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Protocol
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from aiophlo.errors import InvalidInputError
from aiophlo.observed_events import ObservedEvent, WebhookReceived, WebhookResult
from aiophlo.webhooks.events import Event, MemberJoined, MemberLeft
from aiophlo.webhooks.receiver import Receiver
from aiophlo.webhooks.servers import Scope, aiohttp_handler, asgi_app, asgi_url
from aiophlo.webhooks.signature import NONCE_HEADER, NonceCache, sign

TOKEN = "MjM0NTY3ODkwYWJjZGVmZ2hpams"  # noqa: S105 -- a published test vector's token
LEFT = {"Event": "ConferenceExit", "To": "+14155550101", "ConferenceUUID": "c1"}
FORM = "application/x-www-form-urlencoded"
NONCE = "12345678901234567890"


class Sink:
    """Keeps what it is fed; fails while told to."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.failing = False

    def feed(self, event: Event) -> None:
        """Take one event."""
        if self.failing:
            raise LookupError("no such handover, +14155550101")
        self.events.append(event)


class Post(Protocol):
    """Sends one request to a handler and returns status and headers."""

    async def __call__(
        self,
        receiver: Receiver,
        *,
        method: str = "POST",
        target: str = "/phlo/events",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> tuple[int, Mapping[str, str]]:
        """Send it."""


HOST = "cc.example.com"


async def post_to_aiohttp(
    receiver: Receiver,
    *,
    method: str = "POST",
    target: str = "/phlo/events",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> tuple[int, Mapping[str, str]]:
    """Send a request over a real socket to a real aiohttp server."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", aiohttp_handler(receiver))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        head = {"Host": HOST, "Content-Length": str(len(body)), **(headers or {})}
        lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in head.items())]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        status_line, *answer = (
            (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        )
        writer.close()
        await writer.wait_closed()
    finally:
        await runner.cleanup()
    pairs = (line.partition(": ") for line in answer if line)
    return int(status_line.split()[1]), {k.lower(): v for k, _, v in pairs}


def scope_of(
    method: str, target: str, headers: Mapping[str, str], **more: object
) -> Scope:
    """Return the scope that an ASGI server makes of a request."""
    path, _, query = target.partition("?")
    given = {"Host": HOST, **headers}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode()) for k, v in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        **more,
    }


async def run_asgi(
    receiver: Receiver, scope: Scope, messages: list[dict[str, object]]
) -> list[MutableMapping[str, Any]]:
    """Drive the application with `messages` and return what it sent."""
    waiting = iter(messages)
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return next(waiting)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await asgi_app(receiver)(scope, receive, send)
    return sent


async def post_to_asgi(
    receiver: Receiver,
    *,
    method: str = "POST",
    target: str = "/phlo/events",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> tuple[int, Mapping[str, str]]:
    """Send a request, its body in three parts, to the ASGI application."""
    third = len(body) // 3 + 1
    parts: list[dict[str, object]] = [
        {"type": "http.request", "body": body[i : i + third], "more_body": True}
        for i in range(0, len(body), third)
    ]
    end: dict[str, object] = {"type": "http.request"}
    scope = scope_of(method, target, headers or {})
    start, last = await run_asgi(receiver, scope, [*parts, end])
    assert start["type"] == "http.response.start"
    assert last == {"type": "http.response.body", "body": b""}
    return start["status"], {k.decode(): v.decode() for k, v in start["headers"]}


@pytest.fixture(params=[post_to_aiohttp, post_to_asgi], ids=["aiohttp", "asgi"])
def post(request: pytest.FixtureRequest) -> Post:
    """Return each way in turn to send a request to a handler."""
    way: Post = request.param
    return way


@pytest.fixture
def sink() -> Sink:
    """Return a sink that is fed what a receiver lets pass."""
    return Sink()


def signed(
    params: Mapping[str, object] | None = None,
    *,
    method: str = "POST",
    target: str = "/phlo/events",
    content_type: str = FORM,
) -> dict[str, str]:
    """Return the headers that Plivo would send."""
    url = f"http://{HOST}{target}"
    return {
        "Content-Type": content_type,
        "X-Plivo-Signature-V3": sign(
            method, url, params, nonce=NONCE, auth_token=TOKEN
        ),
        "X-Plivo-Signature-V3-Nonce": NONCE,
    }


BODY = urlencode(LEFT).encode()


async def test_signed_form_reaches_the_sink(post: Post, sink: Sink) -> None:
    """A partner who left must be known to have left."""
    receiver = Receiver(sink.feed, auth_tokens=["old", TOKEN])
    status, _ = await post(receiver, headers=signed(LEFT), body=BODY)
    assert status == 200
    (event,) = sink.events
    assert isinstance(event, MemberLeft)
    assert event.to == "+14155550101"
    assert event.fields == LEFT


async def test_signed_json_reaches_the_sink(post: Post, sink: Sink) -> None:
    """Whether Plivo sends forms or JSON isn't documented."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    data = {**LEFT, "rate": 1.50, "members": [2, 1], "more": {"a": True}}
    headers = signed(data, content_type="application/json")
    status, _ = await post(receiver, headers=headers, body=json.dumps(data).encode())
    assert status == 200
    assert isinstance(sink.events[0], MemberLeft)


async def test_signed_get_reaches_the_sink(post: Post, sink: Sink) -> None:
    """The console lets people choose GET."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    target = f"/phlo/events?tenant=acme&{urlencode(LEFT)}"
    headers = signed(method="GET", target=target)
    status, _ = await post(receiver, method="GET", target=target, headers=headers)
    assert status == 200
    assert sink.events[0].fields == {"tenant": "acme", **LEFT}


def test_body_of_a_get_says_nothing(sink: Sink) -> None:
    """It isn't signed, so anybody between could have put it there."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    headers = signed(method="GET", target="/phlo/events?Event=Redirect")
    url = f"http://{HOST}/phlo/events?Event=Redirect"
    assert receiver.receive("GET", url, headers, BODY) == 200
    assert sink.events[0].fields == {"Event": "Redirect"}


async def test_own_query_comes_along(post: Post, sink: Sink) -> None:
    """Services tell their tenants apart by what they put into the URL."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    target = "/phlo/ev%65nts?tenant=acme&to=us"
    headers = signed(LEFT, target=target)
    status, _ = await post(receiver, target=target, headers=headers, body=BODY)
    assert status == 200
    assert sink.events[0].fields == {"tenant": "acme", **LEFT}


async def test_event_behind_a_proxy_needs_its_public_url(
    post: Post, sink: Sink
) -> None:
    """Nearly every service has a proxy that ends TLS and renames the host."""
    url = "https://public.example.com/hooks/events"
    headers = {
        **signed(),
        "X-Plivo-Signature-V3": sign("POST", url, LEFT, nonce=NONCE, auth_token=TOKEN),
    }
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    assert (await post(receiver, headers=headers, body=BODY))[0] == 403
    receiver = Receiver(sink.feed, auth_tokens=TOKEN, public_url=url)
    assert (await post(receiver, headers=headers, body=BODY))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": FORM},
        {**signed(LEFT), "X-Plivo-Signature-V3": "forged"},
        {**signed(LEFT), "X-Plivo-Signature-V3-Nonce": "1"},
        signed({**LEFT, "To": "+14155550102"}),
    ],
    ids=["unsigned", "forged", "other-nonce", "other-body"],
)
async def test_unproved_event_is_refused(
    post: Post,
    sink: Sink,
    caplog: pytest.LogCaptureFixture,
    headers: Mapping[str, str],
) -> None:
    """Anybody could make a handover hang up the agent."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    assert (await post(receiver, headers=headers, body=BODY))[0] == 403
    assert not sink.events
    assert "public_url" in caplog.text
    assert "4155550101" not in caplog.text


@pytest.mark.parametrize("tokens", [(), (TOKEN,)])
async def test_unsigned_event_passes_only_when_allowed(
    post: Post, sink: Sink, tokens: tuple[str, ...]
) -> None:
    """If Plivo turns out not to sign these, services must still be able to work."""
    receiver = Receiver(sink.feed, auth_tokens=tokens, allow_unsigned=True)
    unsigned = {"Content-Type": FORM}
    assert (await post(receiver, headers=unsigned, body=BODY))[0] == 200
    assert (await post(receiver, headers=signed(LEFT), body=BODY))[0] == 200
    assert len(sink.events) == 2


async def test_forged_event_is_refused_even_where_unsigned_ones_pass(
    post: Post, sink: Sink
) -> None:
    """A wrong signature is a sign of trouble that must not go unseen."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN, allow_unsigned=True)
    forged = {**signed(LEFT), "X-Plivo-Signature-V3": "forged"}
    assert (await post(receiver, headers=forged, body=BODY))[0] == 403
    assert not sink.events


async def test_duplicate_reaches_the_sink_when_nonces_are_not_kept(
    post: Post, sink: Sink
) -> None:
    """A repeated event is Plivo's habit or an attacker's: the service chooses."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN, nonces=None)
    twice = [await post(receiver, headers=signed(LEFT), body=BODY) for _ in "12"]
    assert [status for status, _ in twice] == [200, 200]
    assert len(sink.events) == 2


async def test_event_delivered_again_is_answered_but_not_fed(
    post: Post, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """A provider that is refused sends for ever; an attacker must get nothing."""
    caplog.set_level("INFO", "aiophlo")
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    thrice = [await post(receiver, headers=signed(LEFT), body=BODY) for _ in "123"]
    assert [status for status, _ in thrice] == [200, 200, 200]
    assert len(sink.events) == 1
    assert "came again" in caplog.text
    assert "4155550101" not in caplog.text


async def test_recorded_signature_is_refused_on_another_event(
    post: Post, sink: Sink
) -> None:
    """A known nonce must not open the door to what nobody signed."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN, nonces=NonceCache())
    assert (await post(receiver, headers=signed(LEFT), body=BODY))[0] == 200
    forged = BODY.replace(b"ConferenceExit", b"ConferenceEnter")
    assert forged != BODY
    assert (await post(receiver, headers=signed(LEFT), body=forged))[0] == 403
    assert len(sink.events) == 1


async def test_nonce_of_a_forgery_is_not_used_up(post: Post, sink: Sink) -> None:
    """Else whoever guesses nonces could have genuine events dropped."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN, nonces=NonceCache())
    forged = {**signed(LEFT), "X-Plivo-Signature-V3": "forged"}
    assert (await post(receiver, headers=forged, body=BODY))[0] == 403
    assert (await post(receiver, headers=signed(LEFT), body=BODY))[0] == 200
    assert len(sink.events) == 1


async def test_event_can_come_again_when_the_sink_failed(
    post: Post, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """An event lost to a short fault would leave its handover waiting."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN, nonces=NonceCache())
    sink.failing = True
    assert (await post(receiver, headers=signed(LEFT), body=BODY))[0] == 500
    assert "LookupError: no such handover, …01" in caplog.text
    assert "4155550101" not in caplog.text
    sink.failing = False
    assert (await post(receiver, headers=signed(LEFT), body=BODY))[0] == 200
    assert len(sink.events) == 1


def test_failing_sink_is_answered_500_when_nobody_checks_signatures() -> None:
    """A header that nobody asked for must not end in another error."""
    sink = Sink()
    sink.failing = True
    nonces = NonceCache()
    receiver = Receiver(sink.feed, allow_unsigned=True, nonces=nonces)
    headers = {"Content-Type": FORM, "X-Plivo-Signature-V3": "x"}
    body = urlencode(LEFT).encode()
    assert receiver.receive("POST", "http://x/y", headers, body) == 500


async def test_failing_sink_is_answered_500_without_nonces_too(
    post: Post, sink: Sink
) -> None:
    """The failure must not be hidden by the clean-up after it."""
    sink.failing = True
    receiver = Receiver(sink.feed, allow_unsigned=True)
    assert (await post(receiver, body=BODY))[0] == 500
    receiver = Receiver(sink.feed, allow_unsigned=True, nonces=NonceCache())
    assert (await post(receiver, body=BODY))[0] == 500


URL = f"http://{HOST}/phlo/events"


@pytest.mark.parametrize("method", ["post", "Post", "POST"])
def test_method_is_read_in_any_case(sink: Sink, method: str) -> None:
    """Gateways write it as they like."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    assert receiver.receive(method, URL, signed(LEFT), BODY) == 200
    assert len(sink.events) == 1


def test_text_and_nothing_are_bodies_too(sink: Sink) -> None:
    """Serverless gateways hand over text, or None."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    assert receiver.receive("POST", URL, signed(LEFT), BODY.decode()) == 200
    target = f"/phlo/events?{urlencode(LEFT)}"
    headers = {**signed(method="GET", target=target), NONCE_HEADER: NONCE}
    assert receiver.receive("get", f"http://{HOST}{target}", headers, None) == 200
    assert receiver.receive("POST", URL, None, None) == 403
    assert receiver.receive("POST", URL, signed(LEFT), "\ud800") == 400


def test_body_in_base64_is_decoded_when_it_is_said_to_be(sink: Sink) -> None:
    """AWS's gateway encodes whatever it takes for binary."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    encoded = base64.b64encode(BODY)
    for body in (encoded, encoded.decode()):
        receiver.receive("POST", URL, signed(LEFT), body, is_base64=True)
    assert len(sink.events) == 1
    headers = signed(LEFT)
    for junk in ("not it", encoded + b"!"):
        assert receiver.receive("POST", URL, headers, junk, is_base64=True) == 400
    assert receiver.receive("POST", URL, headers, None, is_base64=True) == 403


def test_headers_may_be_lists(sink: Sink) -> None:
    """AWS's `multiValueHeaders` are, and a nonce that comes twice is still refused."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    headers = {name: [value] for name, value in signed(LEFT).items()}
    twice = {**headers, NONCE_HEADER: [NONCE, NONCE]}
    assert receiver.receive("POST", URL, twice, BODY) == 403
    assert receiver.receive("POST", URL, headers, BODY) == 200


def test_multipart_form_is_refused_by_its_name(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """A 403 would send people to look for their proxy."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    headers = signed(LEFT, content_type="Multipart/Form-Data; boundary=x")
    assert receiver.receive("POST", URL, headers, b"--x\r\n") == 400
    assert "multipart" in caplog.text


def test_announced_body_that_is_missing_is_no_empty_event(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """A join that was lost on the way must not pass for nothing having happened."""
    receiver = Receiver(sink.feed, allow_unsigned=True)
    for headers in ({"Content-Length": "9"}, {"transfer-encoding": "chunked"}):
        assert receiver.receive("POST", URL, headers) == 500
    assert caplog.text.count("was read before") == 2
    assert receiver.receive("POST", URL, {"Content-Length": "0"}) == 200
    assert receiver.receive("GET", URL, {"Content-Length": "9"}) == 200


JUNK = st.none() | st.integers() | st.text() | st.binary() | st.lists(st.text())


@given(
    method=st.sampled_from(["POST", "GET"]) | JUNK,
    url=st.just(URL) | JUNK,
    headers=st.none()
    | st.dictionaries(
        st.sampled_from([*signed()])
        | JUNK.filter(lambda junk: not isinstance(junk, list)),
        JUNK,
    ),
    body=st.none() | st.text() | st.binary(),
    is_base64=st.booleans(),
    allow_unsigned=st.booleans(),
)
def test_junk_is_answered_without_an_exception(
    allow_unsigned: bool,
    **junk: Any,  # noqa: ANN401 -- junk on purpose
) -> None:
    """Anybody may post to a webhook; an exception would be theirs to cause."""
    receiver = Receiver(Sink().feed, auth_tokens=TOKEN, allow_unsigned=allow_unsigned)
    status = receiver.receive(
        junk["method"],
        junk["url"],
        junk["headers"],
        junk["body"],
        is_base64=junk["is_base64"],
    )
    assert status in {200, 400, 403, 405, 500}


async def test_path_prefix_that_a_proxy_strips_is_put_back(
    post: Post, sink: Sink
) -> None:
    """Behind such a proxy every genuine event would be refused."""
    headers = {
        "Content-Type": FORM,
        NONCE_HEADER: NONCE,
        "X-Plivo-Signature-V3": sign(
            "POST",
            "https://cc.example.com/plivo/phlo/events?a=b",
            LEFT,
            nonce=NONCE,
            auth_token=TOKEN,
        ),
    }
    public = {"public_url": "https://cc.example.com", "auth_tokens": TOKEN}
    for prefix, status in (("", 403), ("/plivo", 200)):
        receiver = Receiver(sink.feed, path_prefix=prefix, **public)  # type: ignore[arg-type]  # text both
        answer = await post(
            receiver, target="/phlo/events?a=b", headers=headers, body=BODY
        )
        assert answer[0] == status
    assert len(sink.events) == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS"])
async def test_other_method_is_refused(post: Post, sink: Sink, method: str) -> None:
    """Crawlers and scanners knock with anything."""
    status, headers = await post(Receiver(sink.feed, auth_tokens=TOKEN), method=method)
    assert status == 405
    assert headers["allow"] == "GET, POST"


async def test_body_is_bounded(post: Post, sink: Sink) -> None:
    """Anybody may post to the webhook; none may fill the memory."""
    receiver = Receiver(sink.feed, allow_unsigned=True)
    fits = b"event=" + b"x" * (64 * 1024 - 6)
    assert (await post(receiver, body=fits))[0] == 200
    assert (await post(receiver, body=fits + b"x"))[0] == 413
    assert receiver.receive("POST", "http://a/", {}, fits + b"x") == 413
    small = Receiver(sink.feed, allow_unsigned=True, max_body=3)
    assert (await post(small, body=b"a=1"))[0] == 200
    assert (await post(small, body=b"a=12"))[0] == 413


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"[]", "application/json"), (b"\xff", FORM), (b"{" * 9999, "application/json")],
    ids=["list", "not-utf8", "deep"],
)
async def test_undecodable_body_is_refused(
    post: Post, sink: Sink, body: bytes, content_type: str
) -> None:
    """Garbage must neither reach the service nor look like its fault."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    headers = signed(LEFT, content_type=content_type)
    assert (await post(receiver, headers=headers, body=body))[0] == 400
    assert not sink.events


async def test_endless_query_is_refused(post: Post, sink: Sink) -> None:
    """A URL must not cost more than a body."""
    receiver = Receiver(sink.feed, allow_unsigned=True)
    target = f"/phlo/events?{'a&' * 1001}"
    assert (await post(receiver, method="GET", target=target))[0] == 400


async def test_unusable_host_is_refused(post: Post, sink: Sink) -> None:
    """A header must not choose which exception the service meets."""
    receiver = Receiver(sink.feed, allow_unsigned=True)
    assert (await post(receiver, headers={"Host": "["}))[0] == 400


async def test_whole_url_in_the_request_line_is_understood(sink: Sink) -> None:
    """Some proxies write it so, as HTTP allows."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    path = "/phlo/ev%65nts"
    headers = signed(LEFT, target=path)
    status, _ = await post_to_aiohttp(
        receiver, target=f"http://{HOST}{path}", headers=headers, body=BODY
    )
    assert status == 200


async def test_compressed_body_is_bounded_once_unpacked(sink: Sink) -> None:
    """A thousand bytes must not unpack into a full memory."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    headers = {**signed(LEFT), "Content-Encoding": "gzip"}
    status, _ = await post_to_aiohttp(
        receiver, headers=headers, body=gzip.compress(BODY)
    )
    assert status == 200
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < receiver.max_body
    assert (await post_to_aiohttp(receiver, headers=headers, body=bomb))[0] == 413
    assert (await post_to_aiohttp(receiver, headers=headers, body=b"junk!"))[0] == 400


async def test_client_that_leaves_mid_body_feeds_nothing_to_aiohttp(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """Half an event is none, and no reason for an alarm."""
    ended = asyncio.Event()
    handler = aiohttp_handler(Receiver(sink.feed, allow_unsigned=True))

    async def watched(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        finally:
            ended.set()

    app = web.Application()
    app.router.add_post("/", watched)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nevent")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(10):
        await ended.wait()
    await runner.cleanup()
    assert not sink.events
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_client_that_leaves_mid_body_feeds_nothing_to_asgi(sink: Sink) -> None:
    """Half an event is none."""
    receiver = Receiver(sink.feed, allow_unsigned=True)
    messages: list[dict[str, object]] = [
        {"type": "http.request", "body": b"event", "more_body": True},
        {"type": "http.disconnect"},
    ]
    assert not await run_asgi(receiver, scope_of("POST", "/", {}), messages)
    assert not sink.events


async def test_asgi_scope_may_lack_what_is_optional(sink: Sink) -> None:
    """The specification lets servers leave much out."""
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    url = "http://127.0.0.1:80/a%20b"
    headers = {
        "X-Plivo-Signature-V3": sign("POST", url, LEFT, nonce=NONCE, auth_token=TOKEN),
        "X-Plivo-Signature-V3-Nonce": NONCE,
    }
    scope = scope_of("POST", "/a b", headers)
    for optional in ("raw_path", "query_string", "scheme"):
        del scope[optional]
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"host"]
    start, _ = await run_asgi(receiver, scope, [{"type": "http.request", "body": BODY}])
    assert start["status"] == 200
    whole = {**scope, "raw_path": b"/a%20b?c=d", "query_string": b"c=d"}
    assert asgi_url(whole) == "http://127.0.0.1:80/a%20b?c=d"
    no_server = {**scope, "server": None}
    start, _ = await run_asgi(
        receiver, no_server, [{"type": "http.request", "body": BODY}]
    )
    assert start["status"] == 403


async def test_repeated_aiohttp_headers_are_joined(sink: Sink) -> None:
    """A proxy may split the list of signatures over several header lines."""
    headers = {"x-plivo-signature-v3": "other", **signed(LEFT)}
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    assert (await post_to_aiohttp(receiver, headers=headers, body=BODY))[0] == 200
    behind = {**signed(LEFT), "x-plivo-signature-v3": "other"}
    assert (await post_to_aiohttp(receiver, headers=behind, body=BODY))[0] == 200


async def test_repeated_asgi_headers_are_joined(sink: Sink) -> None:
    """A proxy may split the list of signatures over several header lines."""
    scope = scope_of("POST", "/phlo/events", signed(LEFT))
    other = (b"x-plivo-signature-v3", b"other")
    scope["headers"] = [other, *scope["headers"], other]
    receiver = Receiver(sink.feed, auth_tokens=TOKEN)
    start, _ = await run_asgi(receiver, scope, [{"type": "http.request", "body": BODY}])
    assert start["status"] == 200


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_asgi_app_speaks_only_http(sink: Sink, kind: str) -> None:
    """Servers learn from the exception that there is nothing to wait for."""
    with pytest.raises(ValueError, match="HTTP"):
        await run_asgi(Receiver(sink.feed, auth_tokens=TOKEN), {"type": kind}, [])


async def test_many_events_at_once_all_arrive(sink: Sink) -> None:
    """A busy hour must lose nothing."""
    app = web.Application()
    app.router.add_post(
        "/events", aiohttp_handler(Receiver(sink.feed, allow_unsigned=True))
    )
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/events"

    async def send(number: int) -> int:
        data = {"event": "ConferenceEnter", "member_id": str(number)}
        async with session.post(url, data=data) as answer:
            return answer.status

    async with aiohttp.ClientSession() as session:
        statuses = await asyncio.gather(*map(send, range(200)))
    await runner.cleanup()
    assert set(statuses) == {200}
    assert {event.member_id for event in sink.events} == set(map(str, range(200)))
    assert all(isinstance(event, MemberJoined) for event in sink.events)


async def coroutine_sink(event: Event) -> None:
    """Never run: what is posted would be lost without a word."""


class CoroutineSink:
    """An object whose call is a coroutine."""

    async def __call__(self, event: Event) -> None:
        """Never run."""


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: Receiver(coroutine_sink, auth_tokens=TOKEN), "feed"),
        (lambda: Receiver(CoroutineSink(), auth_tokens=TOKEN), "feed"),
        (lambda: Receiver(None, auth_tokens=TOKEN), "feed"),  # type: ignore[arg-type]
        (lambda: Receiver(print), "auth_tokens"),
        (lambda: Receiver(print, auth_tokens=""), "auth_tokens"),
        (lambda: Receiver(print, auth_tokens=[TOKEN, ""]), "auth_tokens"),
        (
            lambda: Receiver(print, auth_tokens=TOKEN, public_url="cc.example.com"),
            "url",
        ),
        (lambda: Receiver(print, auth_tokens=TOKEN, max_body=0), "max_body"),
        (lambda: Receiver(print, auth_tokens=TOKEN, body_within=0), "body_within"),
        (lambda: Receiver(print, auth_tokens=TOKEN + "\n"), "auth_tokens"),
        (lambda: Receiver(print, auth_tokens=TOKEN, path_prefix="x"), "path_prefix"),
        (lambda: Receiver(print, auth_tokens=TOKEN, path_prefix="/x/"), "path_prefix"),
    ],
    ids=[
        "async",
        "async-call",
        "none",
        "no-token",
        "empty",
        "one-empty",
        "url",
        "size",
        "time",
        "newline",
        "prefix",
        "prefix-slash",
    ],
)
def test_wrong_setting_is_refused(build: Callable[[], Receiver], field: str) -> None:
    """A mistake must show at the start, not as events that never come."""
    with pytest.raises(InvalidInputError) as caught:
        build()
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("allow_unsigned", "false"),
        ("auth_tokens", 5),
        ("path_prefix", b"/plivo"),
        ("max_body", "65536"),
        ("max_body", 1.5),
        ("body_within", "10"),
        ("body_within", float("nan")),
    ],
)
def test_setting_of_another_type_is_refused(field: str, value: object) -> None:
    """ALLOW_UNSIGNED=false is text, and true: anybody could say who joined."""
    settings: dict[str, Any] = {"auth_tokens": TOKEN, field: value}
    with pytest.raises(InvalidInputError) as caught:
        Receiver(print, **settings)
    assert caught.value.field == field


def test_token_with_a_line_break_says_so() -> None:
    """A token read from a file ends with one, and every event would be refused."""
    with pytest.raises(InvalidInputError, match="without the line break") as caught:
        Receiver(print, auth_tokens=[TOKEN, f"{TOKEN}\n"])
    assert TOKEN not in str(caught.value)


def test_repr_hides_tokens() -> None:
    """Who has the token can dial on the account."""
    assert TOKEN not in repr(Receiver(print, auth_tokens=TOKEN))


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("aiophlo", "aiophlo.webhooks.receiver"),
        ("aiophlo.webhooks.servers", "aiohttp.web"),
    ],
)
def test_import_loads_nothing_unasked(module: str, absent: str) -> None:
    """Clients and command lines must not pay for a server that they don't run."""
    code = f"import sys, {module}; sys.exit({absent!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 -- ours


async def test_observers_hear_what_became_of_every_request(
    post: Post, sink: Sink
) -> None:
    """Whose wall shows no events must see whether none come or none are believed."""
    heard: list[ObservedEvent] = []
    receiver = Receiver(
        sink.feed, auth_tokens=TOKEN, max_body=100, observers=[heard.append]
    )
    sink.failing = True
    await post(receiver, headers=signed(LEFT), body=BODY)
    sink.failing = False
    await post(receiver, headers=signed(LEFT), body=BODY)
    await post(receiver, headers=signed(LEFT), body=BODY)
    await post(receiver, headers={"Content-Type": FORM}, body=BODY)
    await post(receiver, method="PUT")
    await post(receiver, headers={"Content-Type": "application/json"}, body=b"{")
    await post(receiver, headers=signed(LEFT), body=b"x" * 101)
    told = [one for one in heard if isinstance(one, WebhookReceived)]
    assert [(one.result, one.event is not None, one.id) for one in told] == [
        (WebhookResult.FAILED, True, "c1"),
        (WebhookResult.FED, True, "c1"),
        (WebhookResult.REPEATED, True, "c1"),
        (WebhookResult.REFUSED, False, ""),
        (WebhookResult.REFUSED, False, ""),
        (WebhookResult.UNREADABLE, False, ""),
        (WebhookResult.UNREADABLE, False, ""),
    ]
    assert {one.handovers for one in told} == {()}
    assert "14155550101" not in repr(told)


def test_observers_that_raise_change_no_answer(sink: Sink) -> None:
    """A dashboard that is down must not make an event that was fed come again."""

    def broken(_: object) -> None:
        raise LookupError

    receiver = Receiver(sink.feed, auth_tokens=TOKEN, observers=[broken])
    url = f"http://{HOST}/phlo/events"
    assert receiver.receive("POST", url, signed(LEFT), BODY) == 200
    assert len(sink.events) == 1


async def test_async_observer_of_a_receiver_is_named_as_such(sink: Sink) -> None:
    """It would never run, and its author would wait for what it should tell."""

    async def late(_: object) -> None: ...

    with pytest.raises(InvalidInputError, match=r"observers: .*late is async"):
        Receiver(sink.feed, auth_tokens=TOKEN, observers=[late])
