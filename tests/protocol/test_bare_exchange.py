"""What is written and read over the connector, held against what a session does."""

import asyncio
import contextlib
import gzip
import math
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

import aiohttp
import attrs
import pytest
import uvloop
from aiohttp.client_proto import ResponseHandler
from hypothesis import given
from hypothesis import strategies as st

from aiophlo import InvalidInputError, Parameters
from aiophlo.model.actions import Action, GetPhlo, Hold, RunPhlo, WarmTransfer
from aiophlo.model.outcomes import Reason
from aiophlo.protocol.codec import Answer, NoAnswer, Request, encode
from aiophlo.protocol.http_client import HttpClient
from aiophlo.protocol.kept_connections import Connections
from aiophlo.protocol.tracked_request import TrackedRequest
from tests.support.raw_server import Connection, RawServer, Script, steps

HEADERS: Final = {
    "Authorization": "Basic eDp5",
    "User-Agent": "aiophlo/0",
    "Accept": "application/json",
}
PASSWORD: Final = "hunter2"  # noqa: S105 -- made up
NODE: Final[dict[str, Any]] = {"phlo_id": "p", "node_id": "n"}
HOLD: Final = encode(Hold(**NODE, member="+14155550100"), auth_id="MA")
GET: Final = encode(GetPhlo(phlo_id="p"), auth_id="MA")
YES: Final = b"HTTP/1.1 201 x\r\nContent-Length: 2\r\n\r\n{}"
BARE_OR_NOT: Final = pytest.mark.parametrize(
    "through_session", [False, True], ids=["bare", "session"]
)
LOOPS: Final = pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["stock", "uvloop"]
)
Loop = Callable[[], asyncio.AbstractEventLoop]


def says(*answers: bytes, end: bool = False) -> Script:
    """Answer every request with these, one after the other, then close if asked."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            for answer in answers:
                connection.send(answer)
            if end:
                connection.close()

    return script


@contextlib.asynccontextmanager
async def client_before(
    script: Script,
    *,
    connector: aiohttp.BaseConnector | None = None,
    base_url: str = "",
    **options: Any,  # noqa: ANN401 -- HttpClient's own
) -> AsyncIterator[tuple[RawServer, HttpClient]]:
    """Give a server, and a client of it over a session as the pool makes them."""
    async with (
        RawServer(script) as server,
        aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar()
        ) as session,
    ):
        base_url = (base_url or server.base_url).format(port=server.port)
        if "proxy" in options:
            options["proxy"] = options["proxy"].format(port=server.port)
        yield (
            server,
            HttpClient(session, base_url, HEADERS, lent=False, **options),
        )


async def send(client: HttpClient, request: Request) -> Answer | NoAnswer:
    """Exchange once."""
    return await client.exchange(request, TrackedRequest(), within=math.inf)


WHERE: Final[dict[str, dict[str, Any]]] = {
    "straight": {},
    "base path": {"base_url": "http://127.0.0.1:{port}/%7Egw/v1"},
    "no base path": {"base_url": "http://127.0.0.1:{port}"},
    "name in capitals": {"base_url": "http://LOCALHOST:{port}/v1"},
    "http proxy": {
        "base_url": "http://PHLO.invalid:80/v1",
        "proxy": "http://127.0.0.1:{port}",
        "allow_plaintext": True,
    },
    "http proxy, no base path": {
        "base_url": "http://phlo.invalid",
        "proxy": "http://127.0.0.1:{port}",
        "allow_plaintext": True,
    },
    "http proxy with password": {
        "base_url": "http://phlo.invalid:8080/v1",
        "proxy": f"http://user:{PASSWORD}@127.0.0.1:{{port}}",
        "allow_plaintext": True,
    },
}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("request_", [HOLD, GET], ids=["post", "get"])
@pytest.mark.parametrize("force_close", [False, True], ids=["kept", "closing"])
async def test_request_is_what_a_session_would_send(
    where: str, request_: Request, force_close: bool
) -> None:
    """Whatever stands on the way has been tried out with those."""
    seen = []
    for through_session in (False, True):
        async with client_before(
            says(YES),
            connector=aiohttp.TCPConnector(force_close=force_close),
            through_session=through_session,
            **WHERE[where],
        ) as (server, client):
            for _ in range(2):
                assert isinstance(await send(client, request_), Answer)
            first, second = server.requests
            assert first == second
            line, *lines = first.head.replace(b"%d" % server.port, b"port").split(
                b"\r\n"
            )
            seen.append((line, sorted(lines), first.body))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("with_password", [False, True], ids=["open", "password"])
async def test_proxy_is_told_what_a_session_would_tell_it(with_password: bool) -> None:
    """Who has the token can ring anybody at the account's expense."""
    seen = []
    userinfo = f"user:{PASSWORD}@" if with_password else ""
    for through_session in (False, True):
        heads: list[list[bytes]] = []

        async def refuse(
            connection: Connection, heads: list[list[bytes]] = heads
        ) -> None:
            received = await connection.request()
            heads.append(sorted(received.head.split(b"\r\n")))
            connection.send(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
            connection.close()

        async with client_before(
            refuse,
            base_url="https://phlo.invalid/v1",
            proxy=f"http://{userinfo}127.0.0.1:{{port}}",
            through_session=through_session,
        ) as (_, client):
            for _ in range(2):
                answer = await send(client, HOLD)
                assert isinstance(answer, NoAnswer)
                assert (answer.left, answer.reason) == (False, Reason.MISCONFIGURED)
        assert not any(b"eDp5" in line for head in heads for line in head)
        assert len(heads) == 2
        seen.append(heads)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("through_session", [False, True])
async def test_name_that_no_host_can_have_is_a_lasting_fault(
    through_session: bool,
) -> None:
    """Four tries and a traceback for each say less than the name does."""
    async with client_before(
        says(YES),
        base_url=f"https://{'x' * 64}.invalid/v1",
        through_session=through_session,
    ) as (_, client):
        answer = await send(client, HOLD)
    assert isinstance(answer, NoAnswer)
    assert (answer.left, answer.reason) == (False, Reason.MISCONFIGURED)


async def test_handshake_that_ends_without_a_word_is_named() -> None:
    """A server that wants a newer TLS hangs up, and "no reason" leads nobody there."""

    async def hang_up(connection: Connection) -> None:
        await connection.touched.wait()
        connection.close()

    base_url = "https://127.0.0.1:{port}/v1"
    async with client_before(hang_up, base_url=base_url) as (_, client):
        answer = await send(client, HOLD)
    assert isinstance(answer, NoAnswer)
    assert "(ConnectionResetError)" in answer.detail


async def test_nothing_goes_to_a_proxy_that_could_read_the_credentials() -> None:
    """Who has the token can ring anybody at the account's expense."""
    async with client_before(
        says(YES),
        base_url="http://phlo.invalid/v1",
        proxy="http://127.0.0.1:{port}",
    ) as (server, client):
        for request in (HOLD, GET):
            answer = await send(client, request)
            assert isinstance(answer, NoAnswer)
            assert (answer.left, answer.reason) == (False, Reason.MISCONFIGURED)
            assert "would read the credentials" in answer.detail
        assert server.connections == []


TEXTS: Final = st.text(max_size=20) | st.sampled_from(
    ["p\r\nX: y", "p HTTP/1.1\r\n\r\nPOST /", "\n", "p\0", "p ", "%0d%0a", "p\x85", "ß"]
)


@given(phlo_id=TEXTS, node_id=TEXTS, member=TEXTS, value=TEXTS)
def test_request_is_one_request_whatever_is_in_it(
    phlo_id: str, node_id: str, member: str, value: str
) -> None:
    """What a caller's form holds must not ring whom it likes."""
    makers: list[Callable[[], Action]] = [
        lambda: Hold(phlo_id=phlo_id, node_id=node_id, member=member),
        lambda: Hold(**NODE, member=member),
        lambda: Hold(**NODE, member=f"sip:{member}@phone.plivo.com"),
        lambda: WarmTransfer(**NODE, trigger_source=member, to=value),
        lambda: GetPhlo(phlo_id=phlo_id),
        lambda: RunPhlo(phlo_id="p", parameters=Parameters({value: member})),
    ]
    for make in makers:
        try:
            request = encode(make(), auth_id="MA")
        except InvalidInputError:
            continue
        assert request.path.isascii()
        assert request.path.isprintable()
        assert " " not in request.path


SPLITS: Final = ["/a\r\nX: y", "/a HTTP/1.1\r\n\r\nPOST /b", "/a\n", "/a\0", "/a b"]


@pytest.mark.parametrize("path", SPLITS)
@pytest.mark.parametrize("body", [b"{}", None], ids=["post", "get"])
async def test_path_that_would_be_two_requests_is_not_sent(
    path: str, body: bytes | None
) -> None:
    """A second line of defence, should an id ever come by unchecked."""
    async with client_before(says(YES)) as (server, client):
        answer = await send(client, Request("POST" if body else "GET", path, body))
        assert isinstance(answer, NoAnswer)
        assert not answer.left
        assert server.requests == []


@BARE_OR_NOT
@pytest.mark.parametrize("value", ["a\r\nX: y", "a\n\n", "a\0"])
async def test_header_that_would_be_two_is_not_sent(
    value: str, through_session: bool
) -> None:
    """What somebody calls their service must not become another request."""
    async with RawServer(says(YES)) as server, aiohttp.ClientSession() as session:
        client = HttpClient(
            session,
            server.base_url,
            {**HEADERS, "User-Agent": value},
            lent=False,
            through_session=through_session,
        )
        answer = await send(client, HOLD)
        assert isinstance(answer, NoAnswer)
        assert not answer.left
        assert server.requests == []


@attrs.frozen
class Behaviour:
    """What a server says, and whether it ends the connection then."""

    answers: tuple[bytes, ...]
    end: bool = False


def headed(*lines: str, body: bytes = b"{}", version: str = "1.1") -> bytes:
    """Give an answer with these header lines."""
    head = "\r\n".join([f"HTTP/{version} 201 x", *lines, "", ""])
    return head.encode() + body


LENGTH: Final = "Content-Length: 2"
CHUNKED: Final = "Transfer-Encoding: chunked"
CHUNKS: Final = b"1\r\n{\r\n1\r\n}\r\n0\r\n"
PACKED: Final = gzip.compress(b"{}")
BEHAVIOURS: Final = {
    "length": Behaviour((headed(LENGTH),)),
    "length, pieces": Behaviour((headed(LENGTH, body=b""), b"{", b"}")),
    "chunked": Behaviour((headed(CHUNKED, body=CHUNKS + b"\r\n"),)),
    "chunked, extensions": Behaviour(
        (headed(CHUNKED, body=b"2;a=b\r\n{}\r\n0\r\n\r\n"),)
    ),
    "chunked, trailers": Behaviour((headed(CHUNKED, body=CHUNKS + b"X: y\r\n\r\n"),)),
    "gzip": Behaviour(
        (
            headed(
                f"Content-Length: {len(PACKED)}", "Content-Encoding: gzip", body=PACKED
            ),
        )
    ),
    "says close": Behaviour((headed(LENGTH, "Connection: close"),)),
    "says close, and does": Behaviour((headed(LENGTH, "Connection: close"),), end=True),
    "closes unsaid": Behaviour((headed(LENGTH),), end=True),
    "1.0": Behaviour((headed(LENGTH, version="1.0"),)),
    "1.0, keep-alive": Behaviour(
        (headed(LENGTH, "Connection: keep-alive", version="1.0"),)
    ),
    "1.0, no length": Behaviour((headed(version="1.0"),), end=True),
    "no length": Behaviour((headed(),), end=True),
    "no body, 204": Behaviour((b"HTTP/1.1 204 x\r\n\r\n",)),
    "no body, 304": Behaviour((b"HTTP/1.1 304 x\r\n\r\n",)),
    "body of a 204": Behaviour((b"HTTP/1.1 204 x\r\nContent-Length: 2\r\n\r\n{}",)),
    "empty": Behaviour((headed("Content-Length: 0", body=b""),)),
    "100 first": Behaviour((b"HTTP/1.1 100 Continue\r\n\r\n", headed(LENGTH))),
    "102 and 103 first": Behaviour(
        (
            b"HTTP/1.1 102 x\r\n\r\nHTTP/1.1 103 x\r\nLink: y\r\n\r\n",
            headed(LENGTH),
        )
    ),
    "101": Behaviour(
        (b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n",), end=True
    ),
    "keep-alive": Behaviour((headed(LENGTH, "Keep-Alive: timeout=1"),)),
    "two at once": Behaviour((headed(LENGTH) + headed(LENGTH),)),
    "one and a bit": Behaviour((headed(LENGTH) + b"HTTP/1.1 4",)),
    "one and garbage": Behaviour((headed(LENGTH) + b"\x16\x03",)),
    "blank line after": Behaviour((headed(LENGTH) + b"\r\n",)),
    "header twice": Behaviour((headed(LENGTH, "X: 1", "X: 2"),)),
    "header folded": Behaviour((headed(LENGTH, "X: 1", " 2"),)),
    "length twice": Behaviour((headed(LENGTH, LENGTH),)),
    "length and chunked": Behaviour((headed(LENGTH, CHUNKED, body=CHUNKS + b"\r\n"),)),
    "negative length": Behaviour((headed("Content-Length: -2"),), end=True),
    "no reason": Behaviour((b"HTTP/1.1 201\r\nContent-Length: 2\r\n\r\n{}",)),
    "bare line feeds": Behaviour((b"HTTP/1.1 201 x\nContent-Length: 2\n\n{}",)),
    "status of four digits": Behaviour((b"HTTP/1.1 2010 x\r\n\r\n",), end=True),
    "199": Behaviour((b"HTTP/1.1 199 x\r\n\r\n", headed(LENGTH))),
    "599": Behaviour((b"HTTP/1.1 599 x\r\nContent-Length: 2\r\n\r\n{}",)),
}


async def results_of(name: str, *, through_session: bool) -> list[object]:
    """Send twice to a server that behaves so; tell what came, and on what."""
    behaviour, told = BEHAVIOURS[name], list[object]()
    async with client_before(
        says(*behaviour.answers, end=behaviour.end),
        through_session=through_session,
        answer_within=5.0,
    ) as (server, client):
        for request in (HOLD, GET, HOLD):
            answer = await send(client, request)
            if isinstance(answer, Answer):
                told.append((answer.status, dict(answer.headers), answer.body))
            else:
                told.append((answer.left, answer.reason, answer.status))
            await steps(20)  # what came late is there before the next
        told.append(len(server.connections))
    return told


@LOOPS
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_answer_and_connection_are_what_a_session_makes_of_them(
    name: str, loop: Loop
) -> None:
    """A caller must be told the same whichever way a request goes."""

    async def main() -> None:
        bare = await results_of(name, through_session=False)
        assert bare == await results_of(name, through_session=True)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), 30))


PIECES: Final = (
    b"HTTP/1.1 201 x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"10\r\n0123456789abcdef\r\n3\r\nxyz\r\n0\r\n\r\n"
)


@BARE_OR_NOT
@LOOPS
def test_answer_is_the_same_in_however_many_pieces_it_comes(
    loop: Loop, through_session: bool
) -> None:
    """A network cuts where it likes."""
    cuts = iter(range(1, len(PIECES)))

    async def cut_somewhere(connection: Connection) -> None:
        for cut in cuts:
            await connection.request()
            connection.send(PIECES[:cut])
            await steps(8)
            connection.send(PIECES[cut:])
        while True:
            await connection.request()
            for byte in PIECES:
                connection.send(bytes([byte]))
                await steps(2)

    async def main() -> None:
        async with client_before(cut_somewhere, through_session=through_session) as (
            server,
            client,
        ):
            for _ in range(len(PIECES) + 1):
                answer = await send(client, HOLD)
                assert isinstance(answer, Answer)
                assert answer.body == b"0123456789abcdefxyz"
            assert len(server.connections) == 1

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), 30))


@LOOPS
def test_connection_is_left_when_it_was_answered_before_it_was_read(
    loop: Loop,
) -> None:
    """The rest of a large request would arrive after its verdict."""
    size = 1 << 26  # larger than all buffers
    got: list[int] = []

    async def answer_early(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(YES.replace(b"201", b"413"))
        await writer.drain()
        await answered.wait()
        number = 0
        with contextlib.suppress(OSError):
            while chunk := await reader.read(1 << 20):
                number += len(chunk)
        got.append(number)
        writer.close()

    answered: asyncio.Event

    async def main() -> None:
        nonlocal answered
        answered = asyncio.Event()
        server = await asyncio.start_server(answer_early, "127.0.0.1")
        host, port = server.sockets[0].getsockname()
        async with server, aiohttp.ClientSession() as session:
            client = HttpClient(session, f"http://{host}:{port}", HEADERS, lent=False)
            answer = await send(client, attrs.evolve(HOLD, body=bytes(size)))
            assert isinstance(answer, Answer)
            assert answer.status == 413
            answered.set()
            while not got:  # noqa: ASYNC110 -- the loop's own steps, no time
                await asyncio.sleep(0)
        assert got[0] < size / 2

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("asked", [HOLD, GET], ids=["post", "get"])
async def test_connection_is_left_alone_when_its_answer_was_read(
    asked: Request,
) -> None:
    """A timer that fires as the answer comes must not end another's request."""
    async with client_before(says(YES)) as (server, client):
        tracked = TrackedRequest()
        assert isinstance(
            await client.exchange(asked, tracked, within=math.inf), Answer
        )
        tracked.give_up()
        tracked.drop()
        assert not tracked.silent
        assert isinstance(await send(client, asked), Answer)
        assert len(server.connections) == 1


async def test_get_is_given_up_when_its_time_is_up_though_it_drips() -> None:
    """Who asks whether a phone rings waits no longer than who has it rung."""

    async def drip(connection: Connection) -> None:
        await connection.request()
        connection.send(b"HTTP/1.1 200 x\r\nContent-Length: 9999\r\n\r\n")
        while not connection.lost.is_set():
            connection.send(b"x")
            await asyncio.sleep(0.01)

    async with client_before(drip, connect=60.0, answer_within=0.1) as (_, client):
        async with asyncio.timeout(20):  # fail, where it would take `connect` more
            answer = await send(client, GET)
        assert isinstance(answer, NoAnswer)
        assert (answer.left, answer.reason) == (True, Reason.SILENT)


async def test_no_session_is_asked_when_nothing_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every transfer would cost twice as much."""
    sent = []
    send_it = aiohttp.ClientRequest.send

    def count(
        self: aiohttp.ClientRequest, connection: aiohttp.connector.Connection
    ) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        sent.append(self)
        return send_it(self, connection)

    monkeypatch.setattr(aiohttp.ClientRequest, "send", count)
    for through_session in (False, True):
        async with client_before(says(YES), through_session=through_session) as (
            _,
            client,
        ):
            for request in (HOLD, GET, HOLD):
                assert isinstance(await send(client, request), Answer)
        assert len(sent) == (3 if through_session else 0)


@BARE_OR_NOT
async def test_request_goes_over_ipv6(through_session: bool) -> None:
    """Some networks have nothing else."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    heads = []

    async def say_yes(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(YES)
        writer.close()

    try:
        server = await asyncio.start_server(say_yes, "::1")
    except OSError:
        pytest.skip("no IPv6 here")
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession() as session:
        client = HttpClient(
            session,
            f"http://[::1]:{port}/v1",
            HEADERS,
            lent=False,
            through_session=through_session,
        )
        assert isinstance(await send(client, GET), Answer)
    assert f"\r\nHost: [::1]:{port}\r\n".encode() in heads[0]
    assert heads[0].startswith(b"GET /v1/phlo/p HTTP/1.1\r\n")


async def test_connection_may_be_either_ways_in_turn() -> None:
    """A recorder may come and go while a pool is open."""
    connections = Connections()
    async with RawServer(says(YES)) as server, aiohttp.ClientSession() as session:
        clients = [
            HttpClient(
                session,
                server.base_url,
                HEADERS,
                lent=False,
                through_session=through_session,
                connections=connections,
            )
            for through_session in (False, True, False, True)
        ]
        for client in clients * 2:
            assert isinstance(await send(client, HOLD), Answer)
        assert len(server.connections) == 1


async def test_reader_has_no_parser_while_its_connection_is_idle() -> None:
    """What comes then must have nothing that reads it as an answer."""
    used: list[ResponseHandler] = []

    class Spy(Connections):
        """Keeps what is used."""

        def use(self, protocol: ResponseHandler, now: float) -> None:
            """Keep it."""
            super().use(protocol, now)
            used.append(protocol)

    async with client_before(says(YES), connections=Spy()) as (server, client):
        assert isinstance(await send(client, HOLD), Answer)
        server.connections[0].send(b"H")
        await steps(20)
        assert used[0].should_close
