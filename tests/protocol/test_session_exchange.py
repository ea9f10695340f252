"""What a request's body notes when aiohttp's session sends it."""

import asyncio
import copy
import math
from typing import Final
from unittest.mock import create_autospec

import aiohttp
import pytest
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter

from aiophlo.model.actions import Hold
from aiophlo.protocol.codec import encode
from aiophlo.protocol.kept_connections import Connections, StaleConnectionError
from aiophlo.protocol.response_timeout import ResponseTimeout
from aiophlo.protocol.session_exchange import SessionExchange, TrackedBody
from aiophlo.protocol.tracked_request import TrackedRequest
from tests.support.raw_server import Connection, RawServer

REQUEST: Final = encode(
    Hold(phlo_id="p", node_id="n", member="+14152223333"), auth_id="MA"
)


async def answer_all(connection: Connection) -> None:
    """Say yes to every request."""
    while True:
        await connection.request()
        connection.send(b"HTTP/1.1 201 x\r\nContent-Length: 2\r\n\r\n{}")


def exchange_over(
    session: aiohttp.ClientSession, base_url: str = "http://phlo.invalid/v1"
) -> SessionExchange:
    """Give exchanges through a session of the pool's own."""
    return SessionExchange(
        session,
        base_url,
        {},
        lent=False,
        connect=3.0,
        answer_within=10.0,
        options={},
        allow_plaintext=False,
        connections=Connections(),
        timer=ResponseTimeout(asyncio.get_running_loop(), 10.0),
    )


async def test_departure_stays_when_a_later_write_fails() -> None:
    """What was once sent can't be unsent by a second attempt at it."""
    tracked, loop = TrackedRequest(), asyncio.get_running_loop()
    writer = StreamWriter(ResponseHandler(loop), loop)  # which has no connection
    async with aiohttp.ClientSession() as session:
        body = TrackedBody.of(REQUEST, tracked, exchange_over(session))
        with pytest.raises(StaleConnectionError):
            await body.write_with_length(writer, None)
        assert not tracked.left
        tracked.left = True
        with pytest.raises(StaleConnectionError):
            await body.write_with_length(writer, None)
        assert tracked.left


async def test_departure_is_noted_when_the_writer_is_not_known() -> None:
    """Where nothing can be seen of the connection, the worst is assumed."""
    tracked = TrackedRequest()
    async with aiohttp.ClientSession() as session:
        body = TrackedBody.of(REQUEST, tracked, exchange_over(session))
        writer = create_autospec(AbstractStreamWriter, instance=True)
        await body.write_with_length(writer, None)
    assert tracked.left


async def test_request_can_be_copied_when_aioresponses_keeps_it() -> None:
    """Tests of a user's own must not trip over what a request holds."""
    async with aiohttp.ClientSession() as session:
        body = TrackedBody.of(REQUEST, TrackedRequest(), exchange_over(session))
        copied = copy.deepcopy(body)
    assert copied.decode() == body.decode() == (REQUEST.body or b"").decode()
    assert copied.content_type == body.content_type == "application/json"


async def test_connection_is_left_alone_when_its_answer_is_complete() -> None:
    """A timer that fires as the answer comes must not end another's request."""
    bodies = []

    class Watched(SessionExchange):
        """Keeps what it waits for."""

        def await_answer(self, body: TrackedBody) -> None:
            """Keep it."""
            super().await_answer(body)
            bodies.append(body)

    async with RawServer(answer_all) as server, aiohttp.ClientSession() as session:
        exchange = exchange_over(session, server.base_url)
        exchange.__class__ = Watched
        for _ in range(2):
            tracked = TrackedRequest()
            await exchange.answer(REQUEST, tracked, math.inf)
            bodies[0].give_up()
            assert not tracked.silent
        assert len(server.connections) == 1
