"""When a kept connection is used again, and when another one is made."""

import asyncio
import contextlib
import gc
import inspect
import math
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiohttp
import pytest
import uvloop
from aiohttp.client_proto import ResponseHandler

from aiophlo import SessionPool
from aiophlo.model.actions import GetPhlo, Hold, WarmTransfer
from aiophlo.model.outcomes import Reason
from aiophlo.protocol.codec import Answer, NoAnswer, Request, encode
from aiophlo.protocol.http_client import HttpClient
from aiophlo.protocol.kept_connections import (
    DEFAULT_KEEPALIVE,
    Connections,
    StaleConnectionError,
)
from aiophlo.protocol.tracked_request import TrackedRequest
from tests.support.doubles import act
from tests.support.raw_server import Connection, RawServer, Script, steps

HEADERS: Final = {"Authorization": "Basic x"}
HOLD: Final = encode(
    Hold(phlo_id="p", node_id="n", member="+14152223333"), auth_id="MA"
)
GET: Final = encode(GetPhlo(phlo_id="p"), auth_id="MA")


def says(head: str = "", body: bytes = b'{"error":""}') -> Script:
    """Answer every request so."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            lines = f"HTTP/1.1 201 x\r\nContent-Length: {len(body)}\r\n{head}\r\n"
            connection.send(lines.encode() + body)

    return script


@pytest.fixture(params=[False, True], ids=["bare", "session"])
def through_session(request: pytest.FixtureRequest) -> bool:
    """Give each way in turn."""
    return bool(request.param)


@contextlib.asynccontextmanager
async def before(
    script: Script,
    through_session: bool,
    *,
    lifetime: float = math.inf,
    **options: Any,  # noqa: ANN401 -- HttpClient's own
) -> AsyncIterator[tuple[RawServer, aiohttp.ClientSession, HttpClient]]:
    """Give a server, and a session and transport before it."""
    async with RawServer(script) as server, aiohttp.ClientSession() as session:
        transport = HttpClient(
            session,
            server.base_url,
            HEADERS,
            lent=False,
            through_session=through_session,
            connections=Connections(lifetime),
            **options,
        )
        yield server, session, transport


async def send(http_client: HttpClient, request: Request = HOLD) -> Answer | NoAnswer:
    """Exchange once."""
    return await http_client.exchange(request, TrackedRequest(), within=math.inf)


def test_idle_connection_is_given_up_before_most_servers_close_it() -> None:
    """A transfer on a connection that the server closes just then is in doubt."""
    default = inspect.signature(SessionPool).parameters["keepalive"].default
    assert default == DEFAULT_KEEPALIVE == 4.0


@pytest.mark.parametrize(
    ("header", "connections"),
    [
        ("", 1),
        ("Keep-Alive: timeout=60\r\n", 1),
        ("Keep-Alive: max=5, timeout = 60\r\n", 1),
        ("Keep-Alive: 60\r\n", 1),
        ("Keep-Alive: timeout=soon\r\n", 1),
        ("Keep-Alive: timeout=1\r\n", 3),
        ("Keep-Alive: timeout=0\r\n", 3),
        ("keep-alive: max=5, timeout=1\r\n", 3),
    ],
)
@pytest.mark.parametrize("asked", [HOLD, GET], ids=["post", "get"])
async def test_connection_is_kept_as_long_as_the_server_says(
    header: str, connections: int, asked: Request, through_session: bool
) -> None:
    """A request that meets the server's closing is in doubt for no reason."""
    async with before(says(header), through_session) as (server, _, transport):
        for _ in range(3):
            assert isinstance(await send(transport, asked), Answer)
        assert len(server.connections) == connections
        assert len(server.requests) == 3


async def test_server_that_closes_at_once_is_found_out(through_session: bool) -> None:
    """A fourth of all phones were rung with nobody told, by a server in a hurry."""
    asked = [encode(act(WarmTransfer, n), auth_id="MA") for n in range(1_000)]
    loop, dice = asyncio.get_running_loop(), random.Random(1)  # noqa: S311 -- no secret

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            connection.send(b"HTTP/1.1 201 x\r\nContent-Length: 2\r\n\r\n{}")
            loop.call_later(0.002, connection.close)

    async with before(script, through_session) as (server, _, transport):
        answers: list[Answer | NoAnswer] = []
        requests = iter(asked)

        async def work() -> None:
            for request in requests:
                await asyncio.sleep(dice.uniform(0, 0.004))
                tracked = TrackedRequest()
                answers.append(await transport.exchange(request, tracked, within=60.0))

        await asyncio.gather(*(work() for _ in range(10)))
        received = Counter(request.body for request in server.requests)
    # Those that never left are sent again by whoever asked.
    left = [it for it in answers if not (isinstance(it, NoAnswer) and not it.left)]
    lost = [it for it in left if isinstance(it, NoAnswer)]
    assert len(left) > 900
    assert len(lost) <= 60  # 4 to 9 as a rule, 26 with eight others per core
    assert max(received.values()) == 1
    assert len(received) >= len(left) - len(lost)


async def test_loss_shortens_what_is_kept_and_is_forgiven_in_time() -> None:
    """One bad moment must not cost a handshake for every call of the year."""
    loop = asyncio.get_running_loop()
    async with RawServer(says()) as server:
        transport, protocol = await loop.create_connection(
            lambda: ResponseHandler(loop), "127.0.0.1", server.port
        )
        connections = Connections()

        def may_be_used(now: float) -> bool:
            try:
                connections.use(protocol, now)
            except StaleConnectionError:
                return False
            return True

        assert may_be_used(0.0)
        assert may_be_used(1e3)
        connections.lost(None, 1e3)  # on another one
        assert not may_be_used(1e3)  # nobody knows how long it was idle
        connections.answered(protocol, {}, 1e3)
        assert may_be_used(1.1e3)
        connections.answered(protocol, {}, 1.1e3)
        connections.lost(protocol, 1.1e3 + 4.0)
        assert [may_be_used(1.1e3 + idle) for idle in (1.9, 2.1)] == [True, False]
        connections.answered(protocol, {"Keep-Alive": "timeout=9"}, 1.2e3)
        assert [may_be_used(1.2e3 + idle) for idle in (1.9, 2.1)] == [True, False]
        assert connections.note_all
        connections.answered(protocol, {}, 1.8e3)
        assert not connections.note_all
        assert may_be_used(1e6)
        transport.close()
        await server.all_ended()


async def test_busy_connection_is_left_when_it_is_old(through_session: bool) -> None:
    """A pool that is never idle would never see that the API has moved."""
    async with before(says(), through_session, lifetime=1e-9) as (server, _, transport):
        for _ in range(4):
            assert isinstance(await send(transport), Answer)
        # The first request on each makes it known; the second is its last.
        assert len(server.connections) == 2


async def test_request_finds_another_connection_when_all_kept_are_stale(
    through_session: bool,
) -> None:
    """Behind a proxy that closes unannounced, half of all transfers failed."""
    async with before(says("Keep-Alive: timeout=1\r\n"), through_session) as (
        server,
        _,
        transport,
    ):
        answers = await asyncio.gather(*(send(transport) for _ in range(20)))
        assert all(isinstance(it, Answer) for it in answers)
        assert len(server.connections) == 20
        assert isinstance(await send(transport), Answer)
        assert len(server.connections) == 21


async def test_connections_are_forgotten_when_they_are_gone(
    through_session: bool,
) -> None:
    """A pool that runs for weeks must not remember all that it ever had."""
    connections = Connections()
    async with RawServer(says("Keep-Alive: timeout=1\r\n")) as server:
        async with aiohttp.ClientSession() as session:
            transport = HttpClient(
                session,
                server.base_url,
                HEADERS,
                lent=False,
                through_session=through_session,
                connections=connections,
            )
            for _ in range(5):
                assert isinstance(await send(transport), Answer)
        await server.all_ended()
        await steps(10)
        gc.collect()
    assert len(server.connections) == 5
    assert len(connections) == 0


async def test_server_that_speaks_first_gets_no_request(through_session: bool) -> None:
    """What it says is no answer, and it would be taken for one."""

    async def speak(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 201 x\r\nContent-Length: 2\r\n\r\n{}")
        await connection.lost.wait()

    async with before(speak, through_session) as (server, _, transport):
        for request in (HOLD, GET):
            answer = await send(transport, request)
            assert isinstance(answer, NoAnswer)
            assert (answer.left, answer.reason) == (False, Reason.STALE_CONNECTION)
        assert server.requests == []
        assert len(server.connections) <= 4


async def hold_body(connection: Connection) -> None:
    """Begin an answer and never end it."""
    await connection.request()
    connection.send(b"HTTP/1.1 201 x\r\nContent-Length: 9\r\n\r\n{")
    await connection.lost.wait()


@pytest.mark.parametrize("asked", [HOLD, GET], ids=["post", "get"])
@pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["stock", "uvloop"]
)
def test_exchange_ends_when_its_connector_is_closed_under_it(
    loop: Callable[[], asyncio.AbstractEventLoop], asked: Request, through_session: bool
) -> None:
    """The agent would wait for an answer for ever."""

    async def main() -> None:
        async with before(
            hold_body, through_session, connect=0.1, answer_within=0.2
        ) as (
            server,
            session,
            transport,
        ):
            tracked = TrackedRequest()
            task = asyncio.ensure_future(
                transport.exchange(asked, tracked, within=math.inf)
            )
            while tracked.status is None:  # noqa: ASYNC110 -- the loop's own steps
                await asyncio.sleep(0)
            await steps(10)
            assert session.connector is not None
            await session.connector.close()
            async with asyncio.timeout(10):
                answer = await task
            assert isinstance(answer, NoAnswer)
            assert answer.left
            assert len(server.requests) == 1

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("asked", [HOLD, GET], ids=["post", "get"])
async def test_connection_is_reset_when_it_is_closed(
    asked: Request, through_session: bool
) -> None:
    """What the kernel still holds would be delivered after the verdict."""
    seen = []

    class Spy(Connections):
        """Looks at the sockets."""

        def use(self, protocol: ResponseHandler, now: float) -> None:
            """Look at one."""
            super().use(protocol, now)
            assert protocol.transport is not None
            sock = protocol.transport.get_extra_info("socket")
            seen.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))

    async with RawServer(says()) as server, aiohttp.ClientSession() as session:
        transport = HttpClient(
            session,
            server.base_url,
            HEADERS,
            lent=False,
            through_session=through_session,
            connections=Spy(),
        )
        assert isinstance(await send(transport, asked), Answer)
    assert seen == [struct.pack("ii", 1, 0)]
