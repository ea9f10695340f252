"""What becomes of one exchange, by what a raw server does to it.

Every row below is one way in which an exchange can go wrong (or well), held
against what the server has: "not sent" must never be said of a request that
arrived whole. Each runs for a dialling POST, a setter and a GET, on the stock
event loop and on uvloop, bare and through the session, and over TLS.
"""

import asyncio
import base64
import contextlib
import functools
import gc
import logging
import math
import os
import re
import resource
import socket
import ssl
import time
import weakref
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
import attrs
import pytest
import trustme
import uvloop
from aioresponses import aioresponses

from aiophlo.model.actions import Action, GetPhlo, Hold, WarmTransfer
from aiophlo.model.outcomes import InDoubt, NotSent, Outcome, Reason, Rejected
from aiophlo.model.redaction import mask_text
from aiophlo.protocol.answer_body import LONGEST_BODY
from aiophlo.protocol.codec import Answer, NoAnswer, Request, decode, encode
from aiophlo.protocol.http_client import HttpClient
from aiophlo.protocol.kept_connections import Connections, StaleConnectionError
from aiophlo.protocol.session_exchange import TrackedBody
from aiophlo.protocol.tracked_request import TrackedRequest
from aiophlo.simulator import Simulator
from tests.support.calm_time import CalmLoop
from tests.support.ports import free_port
from tests.support.raw_server import Connection, RawServer, Received, Script, steps
from tests.support.virtual_time import run_virtually

TOKEN: Final = "c2VjcmV0LWNhbmFyeQ"  # noqa: S105 -- made up
HEADERS: Final = {"Authorization": f"Basic {TOKEN}", "Accept": "application/json"}
PASSWORD: Final = "hunter2-canary"  # noqa: S105 -- made up
NODE: Final[dict[str, Any]] = {"phlo_id": "p", "node_id": "n"}
ACTIONS: Final[dict[str, Action]] = {
    "dial": WarmTransfer(**NODE, trigger_source="+14152223333", to="+14152225555"),
    "setter": Hold(**NODE, member="+14152223333"),
    "get": GetPhlo(phlo_id="p"),
}
CANARIES: Final = ("4152223333", "4152225555", TOKEN, PASSWORD)
SOON: Final = 0.05  # seconds, where a row needs a timeout to expire
STALL: Final = 0.5  # seconds for which a busy machine may stand still
LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "stock": CalmLoop,
    "uvloop": uvloop.new_event_loop,
}


@attrs.frozen
class Way:
    """How a request gets to the server.

    Attributes:
        through_session: By aiohttp's session; else bare over its connector.
        tls: Over TLS, wherever the setting leaves that open.
    """

    through_session: bool
    tls: bool = False


WAYS: Final = {
    "bare": Way(through_session=False),
    "session": Way(through_session=True),
    "bare-tls": Way(through_session=False, tls=True),
    "session-tls": Way(through_session=True, tls=True),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Give each way in turn."""
    return WAYS[request.param]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Give a runner of coroutines on one kind of event loop."""

    def runner(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as loop_runner:
            loop_runner.run(asyncio.wait_for(main, 20))  # fail, where it would hang

    return runner


Run = Callable[[Coroutine[Any, Any, None]], None]


def sound(body: bytes = b'{"api_id":"a","error":""}', *headers: str) -> bytes:
    """Give the bytes of a good answer."""
    lines = ["HTTP/1.1 201 Created", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def begins(*headers: str) -> bytes:
    """Give the head of an answer that doesn't say how long it is."""
    return "\r\n".join(["HTTP/1.1 201 Created", *headers, "", ""]).encode()


class Bench:
    """One client before one server, and how the two are set up."""

    def __init__(self, stack: contextlib.AsyncExitStack, way: Way) -> None:
        self.stack = stack
        self.tls = way.tls
        self.server: RawServer | None = None
        self.base_url = ""
        self.connector: dict[str, Any] = {"limit": 0}
        self.traces: list[aiohttp.TraceConfig] = []
        self.options: dict[str, Any] = {
            "through_session": way.through_session,
            "connect": 5.0,
            "answer_within": 5.0,
            "connections": Connections(),
        }
        self.within = math.inf
        self.kept = False
        self.before: Callable[[], Awaitable[None]] | None = None
        self.during: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        self.cancels = False  # the caller goes away after `meanwhile`
        self.earlier = 0  # requests that are not the one in question

    async def serve(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        """Have a server that follows this script."""
        if tls is None and self.tls:
            tls = server_tls()
            self.options["tls"] = context = ssl.create_default_context()
            CA.configure_trust(context)
        self.server = await self.stack.enter_async_context(RawServer(script, tls=tls))
        self.base_url = self.server.base_url

    async def open(self) -> None:
        """Make the session and client, with a used connection if wanted."""
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(**self.connector),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=self.traces,
        )
        self.stack.push_async_callback(self.session.close)
        self.client = HttpClient(
            self.session, self.base_url, HEADERS, lent=False, **self.options
        )
        if self.kept:
            assert isinstance(await self.exchange_patiently(ACTIONS["get"]), Answer)
        if self.before is not None:
            await self.before()
        self.earlier = len(self.server.requests) if self.server else 0

    async def exchange(
        self, request: Request, tracked: TrackedRequest
    ) -> Answer | NoAnswer:
        """Exchange once."""
        return await self.client.exchange(request, tracked, within=self.within)

    async def exchange_patiently(self, action: Action) -> Answer | NoAnswer:
        """Exchange what is not in question, and whose time must not run out."""
        options = self.options | {"connect": 5.0, "answer_within": 20.0}
        client = HttpClient(self.session, self.base_url, HEADERS, lent=False, **options)
        return await exchange(client, action)

    async def attempt(self, action: Action) -> Outcome:
        """Give the verdict on one attempt at `action`, as a sender has it."""
        request = encode(action, auth_id="MA")
        tracked = TrackedRequest()
        task = asyncio.ensure_future(self.exchange(request, tracked))
        try:
            if self.meanwhile is not None:
                await self.meanwhile()
            if self.cancels:
                task.cancel()
            with self.during:
                answer = await task
        except asyncio.CancelledError:
            answer = NoAnswer(tracked.left, Reason.CANCELLED)
        if isinstance(answer, NoAnswer):
            assert not any(secret in answer.detail for secret in CANARIES)
        return decode(action, answer, now=lambda: 0.0)

    async def arrived(self) -> int:
        """Count the requests in question that the server has, now that all ended."""
        await self.session.close()
        if self.server is None:
            return 0
        await self.server.all_ended()
        return len(self.server.requests) - self.earlier


@contextlib.asynccontextmanager
async def bench_of(setting: "Setting", way: Way = WAYS["bare"]) -> AsyncIterator[Bench]:
    """Give a bench that is set up and open."""
    async with contextlib.AsyncExitStack() as stack:
        bench = Bench(stack, way)
        await setting(bench)
        await bench.open()
        yield bench


Setting = Callable[[Bench], Awaitable[None]]


async def hold(connection: Connection) -> None:
    """Take requests and never answer."""
    await connection.lost.wait()


def answers(*chunks: bytes, end: str = "close", kept: bool = False) -> Setting:
    """Set up a server that answers a request with these bytes, then ends it so.

    With `kept`, the request comes on a connection that had a good exchange.
    """

    async def script(connection: Connection) -> None:
        assert bench.server is not None
        if kept and connection is bench.server.connections[0]:
            await connection.request()
            connection.send(sound())
        await connection.request()
        for chunk in chunks:
            connection.send(chunk)
        if end != "hold":
            getattr(connection, end)()

    bench: Bench

    async def setting(a_bench: Bench) -> None:
        nonlocal bench
        bench = a_bench
        bench.kept = kept
        if end == "hold":
            bench.options["answer_within"] = 2 * SOON
        await bench.serve(script)

    return setting


def drips(head: bytes) -> Setting:
    """Set up a server that never ends its answer, nor falls silent."""

    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(head)
        while not connection.lost.is_set():
            connection.send(b"x")
            await asyncio.sleep(SOON / 4)

    async def setting(bench: Bench) -> None:
        bench.options |= {"connect": STALL, "answer_within": SOON}
        await bench.serve(script)

    return setting


async def refuses_soon(bench: Bench) -> None:
    """Nobody listens, and there is less time than `connect`."""
    await refuses(bench)
    bench.within = 4.0


async def refuses(bench: Bench) -> None:
    """Nobody listens."""
    bench.base_url = f"http://127.0.0.1:{free_port()}/v1"


class NoName(aiohttp.abc.AbstractResolver):
    """A resolver that knows no host."""

    async def resolve(
        self, *_: object, **__: object
    ) -> list[aiohttp.abc.ResolveResult]:
        """Know nothing."""
        raise OSError(socket.EAI_NONAME, "Name or service not known")

    async def close(self) -> None:
        """Have nothing to close."""


async def unknown_host(bench: Bench) -> None:
    """The host's name leads nowhere."""
    bench.base_url = "http://phlo.invalid/v1"
    bench.connector["resolver"] = NoName()


async def deaf(bench: Bench) -> None:
    """A listener whose queue is full takes no connection."""
    listener = bench.stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(4):
        filler = bench.stack.enter_context(socket.socket())
        filler.settimeout(0)
        filler.connect_ex(listener.getsockname())
    bench.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    bench.options["connect"] = SOON


async def deaf_too_long(bench: Bench) -> None:
    """The same, where it is the time to send in that is up."""
    await deaf(bench)
    bench.options["connect"] = 5.0
    bench.within = SOON


async def late(bench: Bench) -> None:
    """The time to send in is up before the first step."""
    await answers(sound())(bench)
    bench.within = 0.0


async def crowded(bench: Bench) -> None:
    """The one connection there may be is taken."""
    await bench.serve(hold)
    bench.connector["limit"] = 1
    bench.options["connect"] = SOON

    async def occupy() -> None:
        task = asyncio.ensure_future(bench.exchange_patiently(ACTIONS["dial"]))
        bench.stack.callback(task.cancel)
        assert bench.server is not None
        while not bench.server.requests:  # noqa: ASYNC110 -- the loop's own steps, no time
            await asyncio.sleep(0)

    bench.before = occupy


async def closed_while_waiting(bench: Bench) -> None:
    """The session is closed while the request waits for a connection."""
    await crowded(bench)
    bench.options["connect"] = 5.0

    async def close() -> None:
        await steps(50)
        await bench.session.close()

    bench.meanwhile = close


def handshake(script: Script, connect: float = 5.0) -> Setting:
    """Speak TLS to a server that doesn't."""

    async def setting(bench: Bench) -> None:
        bench.tls = False
        await bench.serve(script)
        bench.base_url = bench.base_url.replace("http:", "https:")
        bench.options["connect"] = connect

    return setting


async def hang_up(connection: Connection) -> None:
    """Close at the first byte."""
    await connection.touched.wait()
    connection.close()


async def reset_at_once(connection: Connection) -> None:
    """Reset at the first byte."""
    await connection.touched.wait()
    connection.reset()


async def plain_text(connection: Connection) -> None:
    """Answer a TLS greeting in plain HTTP."""
    await connection.touched.wait()
    connection.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    connection.close()


CA: Final = trustme.CA()


def server_tls() -> ssl.SSLContext:
    """Give the TLS of a server that is what it says."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    CA.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def untrusted(bench: Bench) -> None:
    """The server's certificate is signed by nobody we trust."""
    await bench.serve(hold, tls=server_tls())


async def wrong_fingerprint(bench: Bench) -> None:
    """The server's certificate is not the one that was pinned."""
    await bench.serve(hold, tls=server_tls())
    bench.connector["ssl"] = aiohttp.Fingerprint(b"\0" * 32)


async def proxy_refuses(bench: Bench) -> None:
    """A proxy wants credentials other than those in its URL."""
    bench.tls = False

    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        connection.close()

    await bench.serve(script)
    assert bench.server is not None
    bench.base_url = "https://phlo.invalid/v1"
    bench.connector["resolver"] = NoName()
    bench.options["proxy"] = f"http://user:{PASSWORD}@127.0.0.1:{bench.server.port}"


async def proxied(bench: Bench) -> None:
    """A proxy takes what is for a host that only it knows."""
    bench.tls = False
    await answers(sound())(bench)
    assert bench.server is not None
    bench.base_url = "http://phlo.invalid/v1"
    bench.connector["resolver"] = NoName()
    bench.options["allow_plaintext"] = True
    bench.options["proxy"] = f"http://user:{PASSWORD}@127.0.0.1:{bench.server.port}"


async def proxy_down(bench: Bench) -> None:
    """Nobody listens where the proxy should be."""
    bench.base_url = "http://phlo.invalid/v1"
    bench.connector["resolver"] = NoName()
    bench.options["allow_plaintext"] = True
    bench.options["proxy"] = f"http://user:{PASSWORD}@127.0.0.1:{free_port()}"


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open no further file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def no_descriptor(bench: Bench) -> None:
    """The process is out of file descriptors."""
    await bench.serve(hold)
    bench.during = no_more_files()


async def closed_session(bench: Bench) -> None:
    """The session was closed by its owner."""
    await bench.serve(hold)

    async def close() -> None:
        await bench.session.close()

    bench.before = close


async def closing_before_the_body(bench: Bench) -> None:
    """The kept connection is found closing when the request is to be written."""
    await answers(sound(), kept=True)(bench)
    trace = aiohttp.TraceConfig()

    async def server_ends_it(*_: object) -> None:
        assert bench.server is not None
        if bench.server.requests:
            bench.server.connections[0].close()
            await steps(50)

    trace.on_request_headers_sent.append(server_ends_it)
    bench.traces = [trace]


async def idle_close_seen(bench: Bench) -> None:
    """The kept connection was closed, and we have seen it."""

    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(sound())

    async def close() -> None:
        assert bench.server is not None
        bench.server.connections[0].close()
        await steps(50)

    await bench.serve(script)
    bench.kept = True
    bench.before = close


async def answer_all(connection: Connection) -> None:
    """Say yes to every request."""
    while True:
        await connection.request()
        connection.send(sound())


def obliging(*, kept: bool = False) -> Setting:
    """Set up a server that says yes to everything."""
    return answering(answer_all, kept=kept)


def answering(script: Script, *, kept: bool = False) -> Setting:
    """Set up a server that answers by `script`."""

    async def setting(bench: Bench) -> None:
        bench.kept = kept
        await bench.serve(script)

    return setting


def unasked(stray: bytes, *, read: bool = True) -> Setting:
    """Have the server say something on the idle connection, just before we write.

    What it says to the request itself, on whatever connection, is yes; without
    `read`, the client's loop has had no time to read it.
    """

    async def setting(bench: Bench) -> None:
        await obliging(kept=True)(bench)

        async def say() -> None:
            assert bench.server is not None
            bench.server.connections[0].send(stray)
            if read:
                await steps(50)

        bench.before = say

    return setting


async def cancelled_before(bench: Bench) -> None:
    """The caller goes away while there is no connection yet."""
    await deaf(bench)
    bench.options["connect"] = 5.0
    bench.meanwhile = lambda: steps(50)
    bench.cancels = True


async def cancelled_after(bench: Bench) -> None:
    """The caller goes away while the server has the request."""
    await bench.serve(hold)

    async def until_it_arrived() -> None:
        assert bench.server is not None
        while not bench.server.requests:  # noqa: ASYNC110 -- the loop's own steps, no time
            await asyncio.sleep(0)

    bench.meanwhile = until_it_arrived
    bench.cancels = True


async def closed_in_flight(bench: Bench) -> None:
    """The session is closed while the server has the request."""
    await cancelled_after(bench)
    bench.cancels = False
    arrived = bench.meanwhile
    assert arrived is not None

    async def close() -> None:
        await arrived()
        await bench.session.close()

    bench.meanwhile = close


def redirect(status: int) -> Setting:
    """Send the client elsewhere, to a place that would say yes."""
    head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: /v1/elsewhere\r\n"
    return answers(f"{head}Content-Length: 0\r\n\r\n".encode(), end="close")


async def echo(bench: Bench) -> None:
    """The server is none of HTTP: it sends back what it gets."""

    async def script(connection: Connection) -> None:
        request = await connection.request()
        connection.send(request.head + b"\r\n\r\n" + request.body)
        connection.close()

    await bench.serve(script)


AS_LONG_AS_MAY_BE: Final = b"{" + b" " * (LONGEST_BODY - 2) + b"}"
TOO_LONG: Final = AS_LONG_AS_MAY_BE + b" "
GZIP_BOMB: Final = zlib.compress(TOO_LONG, wbits=31)
CHUNKED: Final = "Transfer-Encoding: chunked"
NUMBER: Final = "+14152225555"  # in what a server says
NO: Final = sound(b'{"error":"no"}').replace(b"201 Created", b"401 Unauthorized")


@attrs.frozen
class Row:
    """One way an exchange can go.

    Attributes:
        setting: Brings it about.
        verdict: What is then said, its reason, and the status if it is known.
        of_get: The same of a GET, where it differs.
    """

    setting: Setting
    verdict: str
    of_get: str = ""


ROWS: Final = {
    # Nobody gets it.
    "refused": Row(refuses, "not_sent unreachable"),
    "refused, little time": Row(refuses_soon, "not_sent unreachable"),
    "dns failure": Row(unknown_host, "not_sent misconfigured"),
    "fin in handshake": Row(handshake(hang_up), "not_sent unreachable"),
    "reset in handshake": Row(handshake(reset_at_once), "not_sent unreachable"),
    "tls to plaintext": Row(handshake(plain_text), "not_sent unreachable"),
    "handshake hangs": Row(handshake(hold, SOON), "not_sent unreachable"),
    "bad certificate": Row(untrusted, "not_sent misconfigured"),
    "wrong fingerprint": Row(wrong_fingerprint, "not_sent misconfigured"),
    "connect timeout": Row(deaf, "not_sent unreachable"),
    "connect too late": Row(deaf_too_long, "not_sent expired"),
    "too late": Row(late, "not_sent expired"),
    "connections in use": Row(crowded, "not_sent unreachable"),
    "proxy refuses": Row(proxy_refuses, "not_sent misconfigured"),
    "proxy down": Row(proxy_down, "not_sent unreachable"),
    "out of descriptors": Row(no_descriptor, "not_sent out_of_files"),
    "closed session": Row(closed_session, "not_sent closed"),
    "closed while waiting": Row(closed_while_waiting, "not_sent closed"),
    "cancelled before": Row(cancelled_before, "not_sent cancelled"),
    # It left, and no clear answer comes.
    "silence": Row(answers(end="hold"), "in_doubt silent"),
    "silence, kept": Row(answers(end="hold", kept=True), "in_doubt silent"),
    "drip in headers": Row(drips(b"HTTP/1.1 201 Created\r\nX: "), "in_doubt silent"),
    "drip in body": Row(drips(begins("Content-Length: 9999")), "in_doubt silent 201"),
    "stall in body": Row(
        answers(begins("Content-Length: 9"), b"{", end="hold"), "in_doubt silent 201"
    ),
    "stall in body, no length": Row(
        answers(begins(), b'{"api_id":"a"}', end="hold"), "in_doubt silent 201"
    ),
    "stall in refusal, no length": Row(
        answers(b"HTTP/1.1 400 Bad Request\r\n\r\n{", end="hold"),
        "in_doubt silent 400",
    ),
    "drip in body, no length": Row(drips(begins()), "in_doubt silent 201"),
    "close": Row(answers(), "in_doubt disconnected"),
    "close, kept": Row(answers(kept=True), "in_doubt disconnected"),
    "close in status": Row(answers(b"HTTP/1.1 20"), "in_doubt disconnected"),
    "close in headers": Row(
        answers(f"HTTP/1.1 201 Created\r\nX: {NUMBER}".encode()),
        "in_doubt disconnected",
    ),
    "reset": Row(answers(end="reset"), "in_doubt disconnected"),
    "reset, kept": Row(answers(end="reset", kept=True), "in_doubt disconnected"),
    "body short": Row(
        answers(begins("Content-Length: 9"), b"{"), "in_doubt unreadable 201"
    ),
    "chunks cut": Row(answers(begins(CHUNKED), b"5\r\n{"), "in_doubt unreadable 201"),
    "chunks garbled": Row(
        answers(begins(CHUNKED), f"{NUMBER}\r\n".encode()), "in_doubt unreadable"
    ),
    "bad gzip": Row(
        answers(sound(b"nonsense", "Content-Encoding: gzip")),
        "in_doubt unreadable 201",
    ),
    "garbage": Row(answers(b"\x16\x03\x01\0\0\r\n\r\n"), "in_doubt unreadable"),
    "garbage headers": Row(
        answers(f"HTTP/1.1 201 Created\r\n\0{NUMBER}\r\n\r\n".encode()),
        "in_doubt unreadable",
    ),
    "long header": Row(answers(begins(f"X: {NUMBER * 1000}")), "in_doubt unreadable"),
    "echo": Row(echo, "in_doubt unreadable"),
    "truncated": Row(answers(begins(), b'{"api_id":'), "in_doubt unreadable 201"),
    "body too long": Row(answers(sound(TOO_LONG)), "in_doubt unreadable 201"),
    "body too long, unsaid": Row(
        answers(begins(), TOO_LONG), "in_doubt unreadable 201"
    ),
    "gzip bomb": Row(
        answers(sound(GZIP_BOMB, "Content-Encoding: gzip")),
        "in_doubt unreadable 201",
    ),
    "closed in flight": Row(closed_in_flight, "in_doubt disconnected"),
    "cancelled after": Row(cancelled_after, "in_doubt cancelled"),
    "301": Row(redirect(301), "in_doubt redirected 301"),
    "302": Row(redirect(302), "in_doubt redirected 302"),
    "303": Row(redirect(303), "in_doubt redirected 303"),
    # A clear answer.
    "307": Row(redirect(307), "rejected 307"),
    "308": Row(redirect(308), "rejected 308"),
    "yes": Row(answers(sound()), "accepted 201"),
    "yes, kept": Row(answers(sound(), kept=True), "accepted 201"),
    "yes through a proxy": Row(proxied, "accepted 201"),
    "yes, idle close seen": Row(idle_close_seen, "accepted 201"),
    "yes, after a 408": Row(
        unasked(b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"), "accepted 201"
    ),
    "yes, after a stray no": Row(unasked(NO), "accepted 201"),
    "yes, after an unread no": Row(unasked(NO, read=False), "accepted 201"),
    "yes, after a 103": Row(
        unasked(b"HTTP/1.1 103 Early Hints\r\n\r\n"), "accepted 201"
    ),
    "yes, after garbage": Row(unasked(b"\x16\x03\x01\0\0\r\n\r\n"), "accepted 201"),
    "yes, closing before body": Row(
        closing_before_the_body, "accepted 201", "in_doubt disconnected"
    ),
    "yes, no length": Row(answers(begins(), b'{"api_id":"a"}'), "accepted 201"),
    "yes, chunked": Row(
        answers(begins(CHUNKED), b"2\r\n{}\r\n0\r\n\r\n"), "accepted 201"
    ),
    "yes, after 103": Row(
        answers(b"HTTP/1.1 103 Early Hints\r\n\r\n", sound()), "accepted 201"
    ),
    "yes, as long as may be": Row(answers(sound(AS_LONG_AS_MAY_BE)), "accepted 201"),
}


def told(outcome: Outcome) -> str:
    """Write an outcome as the table does."""
    reason = outcome.reason if isinstance(outcome, NotSent | InDoubt) else None
    known = (outcome.verdict, reason, outcome.status)
    return " ".join(str(part) for part in known if part is not None)


# Over TLS, one kind tells what there is to tell.
KINDS: Final = [
    (kind, way)
    for way, how in WAYS.items()
    for kind in ACTIONS
    if kind == "dial" or not how.tls
]


@pytest.mark.parametrize(("kind", "by"), KINDS)
@pytest.mark.parametrize("name", ROWS)
def test_verdict_agrees_with_the_server_when_this_happens(
    name: str, kind: str, by: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """A caller who is told wrong rings a second phone, or nobody's."""
    row, action, way = ROWS[name], ACTIONS[kind], WAYS[by]
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with bench_of(row.setting, way) as bench:
            outcome = await bench.attempt(action)
            arrived = await bench.arrived()
        of_get = row.of_get if kind == "get" else ""
        assert told(outcome) == (of_get or row.verdict)
        if isinstance(outcome, NotSent):
            assert arrived == 0
        elif kind != "get" or not (way.through_session or bench.traces):
            assert arrived == 1  # aiohttp's session may send a GET twice, or never

    run(main())
    assert not any(secret in caplog.text for secret in CANARIES)


PART_OF_AN_ANSWER: Final = [b"H", NO[:10], NO[:25], NO[:30], NO[:-6]]


@pytest.mark.parametrize("read", [False, True], ids=["unread", "read"])
def test_connection_is_left_when_part_of_an_answer_came_on_it_idle(
    read: bool, way: Way, run: Run
) -> None:
    """The transfer would be in doubt, and its caller afraid to dial again."""

    async def main() -> None:
        for stray in [*PART_OF_AN_ANSWER, b"garbage"]:
            for kind in ("dial", "get"):
                async with bench_of(unasked(stray, read=read), way) as bench:
                    outcome = await bench.attempt(ACTIONS[kind])
                    assert bench.server is not None
                    assert len(bench.server.connections) == 2, stray
                assert told(outcome).startswith("accepted"), stray

    run(main())


def test_connection_is_left_when_an_answer_ends_in_part_of_another(
    way: Way, run: Run
) -> None:
    """What began in the same packet would be read before the true answer."""

    async def main() -> None:
        for stray in PART_OF_AN_ANSWER:

            async def script(connection: Connection, stray: bytes = stray) -> None:
                while True:
                    await connection.request()
                    connection.send(sound() + stray)

            async with bench_of(answering(script), way) as bench:
                for kind in ("dial", "get", "dial"):
                    outcome = await bench.attempt(ACTIONS[kind])
                    assert told(outcome).startswith("accepted"), stray
                assert bench.server is not None
                assert len(bench.server.connections) == 3, stray

    run(main())


@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "kept"])
def test_body_has_not_arrived_when_it_is_cancelled_before_leaving(
    kept: bool, way: Way, run: Run
) -> None:
    """A caller told that nothing left dials again: at no step may that be wrong."""
    request = encode(ACTIONS["dial"], auth_id="MA")

    async def cancelled_at(step: int) -> tuple[bool, bool, int]:
        async with bench_of(obliging(kept=kept), way) as bench:
            tracked = TrackedRequest()
            task = asyncio.ensure_future(bench.exchange(request, tracked))
            await steps(step)
            task.cancel()
            result = (await asyncio.gather(task, return_exceptions=True))[0]
            return isinstance(result, Answer), tracked.left, await bench.arrived()

    async def main() -> None:
        seen = set()
        for step in range(2_000):
            done, left, arrived = await cancelled_at(step)
            assert arrived == 0 or (left and arrived == 1)
            seen.add((left, arrived))
            if done:
                break
        assert seen >= {(False, 0), (True, 1)}

    run(main())


def test_waiting_ends_when_the_server_falls_silent_or_drips(way: Way, run: Run) -> None:
    """An agent stares at a spinner for as long as this is late."""
    patience, tick = 0.5, 0.01
    settings = (
        answers(end="hold"),
        answers(end="hold", kept=True),
        answers(begins("Content-Length: 9"), b"{", end="hold"),
        drips(b"HTTP/1.1 201 Created\r\nX: "),
        drips(begins("Content-Length: 9999")),
    )

    async def seconds(setting: Setting) -> tuple[float, float]:
        async def patient(bench: Bench) -> None:
            await setting(bench)
            bench.options |= {"connect": 5.0, "answer_within": patience}

        loop = asyncio.get_running_loop()
        async with bench_of(patient, way) as bench:
            began, ticked = loop.time(), ticks
            outcome = await bench.attempt(ACTIONS["dial"])
            whole, without_stalls = loop.time() - began, (ticks - ticked) * tick
        assert isinstance(outcome, InDoubt)
        assert outcome.reason is Reason.SILENT
        return whole, without_stalls

    ticks = 0

    async def count() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(tick)
            ticks += 1

    async def main() -> None:
        counting = asyncio.ensure_future(count())
        waits = await asyncio.gather(*map(seconds, settings))
        counting.cancel()
        for whole, without_stalls in waits:
            assert whole >= patience - 0.05
            assert without_stalls <= patience + 0.2

    run(main())


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_answer_is_an_answer_when_the_loop_stood_still(
    loop: Callable[[], asyncio.AbstractEventLoop], way: Way
) -> None:
    """A service that was busy for long must not doubt what it had been told."""

    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(sound())
        time.sleep(2 * SOON)  # noqa: ASYNC251 -- the whole loop is to stand still

    async def setting(bench: Bench) -> None:
        bench.options["answer_within"] = SOON
        await bench.serve(script)

    async def main() -> None:
        async with bench_of(setting, way) as bench:
            outcome = await bench.attempt(ACTIONS["dial"])
        assert told(outcome) == "accepted 201"

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [(sound(), "accepted 201"), (begins() + b"{}", "in_doubt silent 201")],
    ids=["says how long", "does not"],
)
async def test_answer_is_an_answer_when_it_is_whole_though_late(
    answer: bytes, verdict: str, way: Way
) -> None:
    """The timer may fire in the very moment in which the answer comes."""
    request = encode(ACTIONS["dial"], auth_id="MA")
    async with bench_of(answers(answer), way) as bench:
        tracked = TrackedRequest()
        tracked.silent = True  # as it is then
        result = await bench.exchange(request, tracked)
    assert told(decode(ACTIONS["dial"], result, now=lambda: 0.0)) == verdict


MEMBERS: Final = (
    "+14152223333",
    "sip:user@phone.plivo.com",
    "sips:a%20b;x=1@phone.plivo.com:5061;transport=tls",
    "sip:../../x?y#z/@h".replace("#", "%23"),
    "sip:o'brien!~*()&=+$,@[::1]",
)
BORROWED: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "raises": {"raise_for_status": True},
    "base_url": {"base_url": "http://elsewhere.invalid/v9/"},
    "impatient": {"timeout": aiohttp.ClientTimeout(total=1e-9)},
    "headers": {
        "headers": {
            "authorization": "Basic other",
            "content-type": "text/plain",
            "X-Trace": "t",
        }
    },
    "skips": {"skip_auto_headers": ["Content-Type"]},
    "http/1.0": {"version": aiohttp.HttpVersion10},
    "trust_env": {"trust_env": True},
}


@contextlib.asynccontextmanager
async def lent(
    script: Script,
    **options: Any,  # noqa: ANN401 -- a session's
) -> AsyncIterator[tuple[RawServer, HttpClient]]:
    """Give a transport over a session of somebody else's making."""
    async with RawServer(script) as server, aiohttp.ClientSession(**options) as session:
        yield server, HttpClient(session, f"{server.base_url}/%7Egw", HEADERS)


async def exchange(http_client: HttpClient, action: Action) -> Answer | NoAnswer:
    """Exchange `action` once, with all the time in the world."""
    request = encode(action, auth_id="MA")
    return await http_client.exchange(request, TrackedRequest(), within=math.inf)


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("session", BORROWED)
async def test_request_arrives_byte_for_byte_when_a_session_is_lent(
    session: str, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that is rewritten on the way holds or hangs up somebody else."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    action = Hold(**NODE, member=member)
    async with lent(answer_all, **BORROWED[session]) as (server, client):
        answer = await exchange(client, action)
        [received] = server.requests
    assert isinstance(answer, Answer)
    request = encode(action, auth_id="MA")
    assert received.target == f"/v1/%7Egw{request.path}"
    assert (received.method, received.body) == ("POST", request.body)
    assert received.header("authorization") == [HEADERS["Authorization"]]
    assert received.header("content-type") == ["application/json"]


async def test_waiting_ends_when_a_lent_session_is_busy_with_its_own() -> None:
    """Whatever its owner has it do before a request leaves, a caller waits."""
    trace = aiohttp.TraceConfig()

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    trace.on_request_headers_sent.append(hang)
    async with (
        RawServer(answer_all) as server,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
    ):
        client = HttpClient(
            session, server.base_url, HEADERS, connect=SOON, answer_within=SOON
        )
        async with asyncio.timeout(20):  # fail, where it would hang
            answer = await exchange(client, ACTIONS["dial"])
        assert not server.requests
    assert isinstance(answer, NoAnswer)
    assert (answer.left, answer.reason) == (False, Reason.UNREACHABLE)


async def test_get_has_no_body_when_it_is_sent() -> None:
    """Some gateways refuse a GET that says what its content is."""
    async with lent(answer_all) as (server, client):
        assert isinstance(await exchange(client, ACTIONS["get"]), Answer)
        [received] = server.requests
    assert (received.method, received.body) == ("GET", b"")
    assert not received.header("content-type")
    assert not received.header("content-length")


async def test_refusal_is_an_answer_when_the_session_raises_for_status() -> None:
    """The caller must hear Plivo's no, not that something is in doubt."""
    refusal = sound(b'{"error":"no such node"}').replace(b"201 Created", b"404 Not")

    async def refuse(connection: Connection) -> None:
        await connection.request()
        connection.send(refusal)

    async with lent(refuse, raise_for_status=True) as (_, client):
        answer = await exchange(client, ACTIONS["dial"])
    outcome = decode(ACTIONS["dial"], answer, now=lambda: 0.0)
    assert isinstance(outcome, Rejected)
    assert (outcome.status, outcome.error) == (404, "no such node")


async def test_request_is_sent_once_when_the_session_has_a_middleware() -> None:
    """A middleware that repeats what fails would ring a second phone."""

    async def again(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        await handler(request)
        return await handler(request)

    async with lent(answer_all, middlewares=(again,)) as (server, client):
        assert isinstance(await exchange(client, ACTIONS["dial"]), Answer)
        assert len(server.requests) == 1


async def test_account_is_the_one_asked_for_when_netrc_has_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever has a netrc entry for the host could send nothing at all."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login x password {PASSWORD}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with lent(answer_all, trust_env=True) as (server, client):
        for action in ACTIONS.values():
            assert isinstance(await exchange(client, action), Answer)
    for request in server.requests:
        assert request.header("authorization") == [HEADERS["Authorization"]]


async def proxy_of_environment(
    monkeypatch: pytest.MonkeyPatch, *, allow_plaintext: bool
) -> tuple[list[Received], Answer | NoAnswer]:
    """Send over a lent session whose environment has a proxy, to http://."""
    async with RawServer(answer_all) as proxy:
        url = f"http://user:{PASSWORD}@127.0.0.1:{proxy.port}"
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with aiohttp.ClientSession(trust_env=True) as session:
            client = HttpClient(
                session,
                "http://phlo.invalid/v1",
                HEADERS,
                allow_plaintext=allow_plaintext,
            )
            answer = await exchange(client, ACTIONS["setter"])
    return proxy.requests, answer


async def test_request_goes_through_the_proxy_when_the_environment_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A service behind a proxy can't reach Plivo otherwise."""
    [received], answer = await proxy_of_environment(monkeypatch, allow_plaintext=True)
    assert isinstance(answer, Answer)
    assert answer.by_proxy
    path = encode(ACTIONS["setter"], auth_id="MA").path
    assert received.target == f"http://phlo.invalid/v1{path}"


async def test_nothing_goes_to_a_proxy_that_could_read_the_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who has the token can ring anybody at the account's expense."""
    received, answer = await proxy_of_environment(monkeypatch, allow_plaintext=False)
    assert received == []
    assert isinstance(answer, NoAnswer)
    assert (answer.left, answer.reason) == (False, Reason.MISCONFIGURED)
    assert "would read the credentials" in answer.detail
    assert PASSWORD not in answer.detail


EXACT: Final[dict[str, tuple[Exception, Reason]]] = {
    "broken pipe": (aiohttp.ClientOSError(32, "Broken pipe"), Reason.DISCONNECTED),
    "tls in mid-air": (ssl.SSLError(1, "bad record mac"), Reason.DISCONNECTED),
    "bare os error": (OSError(5, "Input/output error"), Reason.DISCONNECTED),
    "server timeout": (aiohttp.ServerTimeoutError(), Reason.SILENT),
    "bare timeout": (TimeoutError(), Reason.SILENT),
    "wrong type": (TypeError("from a trace of the user's"), Reason.UNKNOWN),
    "no memory": (MemoryError(), Reason.UNKNOWN),
    "early end": (asyncio.IncompleteReadError(b"", 1), Reason.UNKNOWN),
    "client error": (aiohttp.ClientError("?"), Reason.UNKNOWN),
    "connection error": (aiohttp.ClientConnectionError("?"), Reason.DISCONNECTED),
}


@pytest.mark.parametrize("left", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", EXACT)
async def test_verdict_goes_by_what_left_when_this_is_raised(
    name: str, left: bool, mocked_answers: aioresponses
) -> None:
    """An exception that proves nothing must not decide whether to dial again."""
    error, reason = EXACT[name]
    request = encode(ACTIONS["dial"], auth_id="MA")
    url = f"http://phlo.invalid/v1{request.path}"

    def leave(_: object, *, data: TrackedBody, **__: object) -> None:
        data.tracked.left = left

    mocked_answers.post(url, exception=error, callback=leave, repeat=True)
    async with aiohttp.ClientSession() as session:
        client = HttpClient(session, "http://phlo.invalid/v1", HEADERS)
        answer = await exchange(client, ACTIONS["dial"])
    assert isinstance(answer, NoAnswer)
    assert answer.left is left
    ended = isinstance(error, aiohttp.ClientOSError)
    is_foreseen = isinstance(error, aiohttp.ClientError | OSError)
    not_sent = Reason.UNREACHABLE if is_foreseen else Reason.UNKNOWN
    if ended:
        not_sent = Reason.STALE_CONNECTION
    assert answer.reason is (reason if left else not_sent)
    assert left or ended or answer.detail.startswith(type(error).__name__)


async def test_answer_is_told_when_it_is_mocked(mocked_answers: aioresponses) -> None:
    """Users mock aiohttp in tests of their own; that must go on working."""
    request = encode(ACTIONS["dial"], auth_id="MA")
    url = f"http://phlo.invalid/v1{request.path}"
    mocked_answers.post(url, status=201, payload={"api_id": "a", "error": ""})
    async with aiohttp.ClientSession() as session:
        client = HttpClient(session, "http://phlo.invalid/v1", HEADERS)
        answer = await exchange(client, ACTIONS["dial"])
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (201, b'{"api_id": "a", "error": ""}')


TEXTS: Final = {
    "refused": (refuses, r"cannot connect to 127\.0\.0\.1:\d+ \(Connection refused\)"),
    "dns failure": (unknown_host, r"cannot find phlo\.invalid:80 \(.*not known\)"),
    "bad certificate": (
        untrusted,
        r"cannot connect to 127\.0\.0\.1:\d+ \(its certificate: unable to get.*\)",
    ),
    "tls to plaintext": (
        handshake(plain_text),
        r"cannot connect to 127\.0\.0\.1:\d+ \(.*wrong version number\)",
    ),
    "connect timeout": (deaf, r"no connection to 127\.0\.0\.1:\d+ in time"),
    "proxy refuses": (
        proxy_refuses,
        r"the proxy 127\.0\.0\.1:\d+ refused to connect, status 407",
    ),
    "proxy down": (
        proxy_down,
        r"cannot connect to the proxy 127\.0\.0\.1:\d+ \(Connection refused\)",
    ),
    "wrong fingerprint": (
        wrong_fingerprint,
        r"127\.0\.0\.1:\d+ has another certificate",
    ),
    "out of descriptors": (
        no_descriptor,
        r"cannot connect to 127\.0\.0\.1:\d+ \(Too many open files\)",
    ),
}


@pytest.mark.parametrize("by", ["bare", "session"])
@pytest.mark.parametrize("name", TEXTS)
def test_detail_names_who_could_not_be_reached(name: str, by: str, run: Run) -> None:
    """At night, on call, the text of the error is all there is to go by."""
    setting, text = TEXTS[name]
    request = encode(ACTIONS["dial"], auth_id="MA")

    async def main() -> None:
        async with bench_of(setting, WAYS[by]) as bench:
            with bench.during:
                answer = await bench.exchange(request, TrackedRequest())
        assert isinstance(answer, NoAnswer)
        words = mask_text(answer.detail)
        assert re.fullmatch(rf"\w+: {text}", words), words
        assert "object at" not in words

    run(main())


PRIVATE: Final = {
    "url": f"Can not write to https://h/v1/phlo/p/members/{NUMBER}",
    "sip url": "Connection timeout to http://h/v1/members/sip:o'brien@host",
    "number": f"no route for {NUMBER}",
    "proxy": f"bad proxy http://user:{PASSWORD}@proxy:3128/ given",
    "userinfo": f"bad proxy user:{PASSWORD}@proxy:3128",
    "account": "lost https://h/v1/account/MAXXXXXXXXXXXXXXXXXX/phlo/p",
}


@pytest.mark.parametrize("name", PRIVATE)
async def test_detail_says_nothing_private_when_an_exception_does(
    name: str, mocked_answers: aioresponses
) -> None:
    """What is logged of a failure must not hold people's numbers or passwords."""
    url = f"http://phlo.invalid/v1{encode(ACTIONS['dial'], auth_id='MA').path}"
    mocked_answers.post(url, exception=OSError(PRIVATE[name] + " - so there"))
    async with aiohttp.ClientSession() as session:
        client = HttpClient(session, "http://phlo.invalid/v1", HEADERS)
        answer = await exchange(client, ACTIONS["dial"])
    assert isinstance(answer, NoAnswer)
    secrets = (*CANARIES, "brien", "MAXX")
    assert not any(secret in answer.detail for secret in secrets)
    assert answer.detail.endswith("so there")


@pytest.mark.parametrize(
    "name", ["yes", "close", "cancelled after", "closed in flight"]
)
async def test_nothing_is_kept_of_a_request_when_it_is_over(
    name: str, way: Way
) -> None:
    """A pool that sends for weeks must not remember, for seconds, all it sent."""
    request = encode(ACTIONS["dial"], auth_id="MA")
    async with bench_of(ROWS[name].setting, way) as bench:
        tracked = TrackedRequest()
        task = asyncio.ensure_future(bench.exchange(request, tracked))
        if bench.meanwhile is not None:
            await bench.meanwhile()
        if bench.cancels:
            task.cancel()
        await asyncio.wait([task])
        assert tracked.left
        await bench.arrived()
        kept = weakref.ref(tracked)
        del tracked, task
        gc.collect()
        assert kept() is None


async def test_lent_connection_is_left_alone_when_its_owner_is_slow() -> None:
    """What the owner does once an answer is there must not end another's request."""
    trace, begun = aiohttp.TraceConfig(), asyncio.Event()

    async def dawdle(*_: object) -> None:
        begun.set()
        await asyncio.sleep(4 * SOON)

    trace.on_request_end.append(dawdle)
    async with (
        RawServer(answer_all) as server,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
    ):
        client = HttpClient(session, server.base_url, HEADERS, answer_within=SOON)
        slow = asyncio.ensure_future(exchange(client, ACTIONS["dial"]))
        await begun.wait()
        [connection] = server.connections
        await asyncio.sleep(2 * SOON)
        assert not connection.lost.is_set()
        await slow


async def test_detail_is_short_when_an_exception_is_not(
    mocked_answers: aioresponses,
) -> None:
    """One failure must not fill a log."""
    url = f"http://phlo.invalid/v1{encode(ACTIONS['dial'], auth_id='MA').path}"
    mocked_answers.post(url, exception=OSError("so long " * 1_000))
    async with aiohttp.ClientSession() as session:
        client = HttpClient(session, "http://phlo.invalid/v1", HEADERS)
        answer = await exchange(client, ACTIONS["dial"])
    assert isinstance(answer, NoAnswer)
    assert len(answer.detail) == 300


async def test_nothing_leaves_when_it_may_not_any_more() -> None:
    """A repeated Hold must not follow the Unhold begun while it connected."""
    hold = Hold(phlo_id="p", node_id="n", member="+14155550100")
    request = encode(hold, auth_id="MA")
    async with Simulator() as simulator, aiohttp.ClientSession() as session:
        pair = f"{simulator.auth_id}:{simulator.auth_token}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        client = HttpClient(session, simulator.base_url, headers)
        for may_leave in (False, True, False, True):  # on a new and a kept connection
            tracked = TrackedRequest()
            tracked.may_leave = functools.partial(bool, may_leave)
            answer = await client.exchange(request, tracked, within=3.0)
            assert isinstance(answer, Answer) is may_leave
            assert tracked.left is may_leave
            assert isinstance(answer, Answer) or not answer.left
        assert len(simulator.ledger.requests) == 2


@pytest.mark.filterwarnings("ignore:Sending a large body")  # larger than all buffers
async def test_rest_of_a_request_stays_here_when_a_lent_session_gives_it_up() -> None:
    """A phone must not ring for a request that was given up half sent."""
    size, began, may_read = 1 << 26, asyncio.Event(), asyncio.Event()
    arrived = asyncio.get_running_loop().create_future()

    async def read_late(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        began.set()
        await may_read.wait()
        got = 0
        with contextlib.suppress(OSError):
            while chunk := await reader.read(1 << 20):
                got += len(chunk)
        writer.close()
        arrived.set_result(got)

    server = await asyncio.start_server(read_late, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    request = attrs.evolve(encode(ACTIONS["dial"], auth_id="MA"), body=bytes(size))
    async with server, aiohttp.ClientSession() as session:
        client = HttpClient(session, f"http://{host}:{port}", HEADERS)
        tracked = TrackedRequest()
        task = asyncio.ensure_future(client.exchange(request, tracked, within=3.0))
        await began.wait()
        while not tracked.left:  # noqa: ASYNC110 -- the loop's own steps, no time
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        may_read.set()
        async with asyncio.timeout(20):
            assert await arrived < size / 2  # what the kernel had by then


async def test_get_may_have_left_when_it_is_cancelled_unwatched(
    mocked_answers: aioresponses,
) -> None:
    """Where a session doesn't say what it sends, the worst is assumed."""
    request, asked = encode(ACTIONS["get"], auth_id="MA"), asyncio.Event()

    async def hang(*_: object, **__: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    mocked_answers.get(f"http://phlo.invalid/v1{request.path}", callback=hang)
    async with aiohttp.ClientSession() as session:
        client = HttpClient(session, "http://phlo.invalid/v1", HEADERS)
        tracked = TrackedRequest()
        task = asyncio.ensure_future(client.exchange(request, tracked, within=3.0))
        await asked.wait()
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert tracked.left


@pytest.mark.parametrize(
    ("new", "withins", "reason"),
    [
        (False, [2.5, 1.5, 0.5], Reason.EXPIRED),  # the next one may be sound
        (None, [2.5, 1.5], Reason.STALE_CONNECTION),
        (True, [2.5], Reason.STALE_CONNECTION),
    ],
)
def test_stale_connection_is_left_for_another_only_within_the_time_to_leave(
    new: bool | None, withins: list[float], reason: Reason
) -> None:
    """A transfer would ring a phone long after its agent was told that it won't."""
    asked: list[float] = []

    class Stale:
        async def answer(
            self, _: Request, tracked: TrackedRequest, within: float
        ) -> Answer:
            asked.append(within)
            assert len(asked) < 10
            await asyncio.sleep(1.0)
            tracked.stale = StaleConnectionError("closed", new=new)
            raise tracked.stale

    async def main() -> Answer | NoAnswer:
        async with aiohttp.ClientSession() as session:
            client = HttpClient(session, "http://phlo.invalid/v1", HEADERS)
            client._through_session = cast("Any", Stale())  # noqa: SLF001 -- the way that is taken
            request = encode(ACTIONS["dial"], auth_id="MA")
            return await client.exchange(request, TrackedRequest(), within=2.5)

    answer = run_virtually(main())
    assert isinstance(answer, NoAnswer)
    assert (answer.left, answer.reason) == (False, reason)
    assert asked == pytest.approx(withins)
