"""What is needed of aiohttp that it doesn't document, name by name."""

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, Final
from unittest import mock

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from aiophlo import SessionPool
from aiophlo.protocol.aiohttp_contract import (
    GenuineSession,
    broken_promise,
    expect_answer,
    expect_nothing,
    has_part_of_a_message,
    take_body,
)
from aiophlo.simulator import Simulator
from tests.support.doubles import account_of

ANSWER: Final = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
async def protocol() -> ResponseHandler:
    """Give what reads the answers of one connection."""
    handler = ResponseHandler(asyncio.get_running_loop())
    handler.connection_made(asyncio.Transport())
    return handler


async def test_aiohttp_does_all_that_is_needed_of_it() -> None:
    """Every transfer would cost twice as much, for a name that has changed."""
    assert broken_promise(asyncio.get_running_loop()) == ""


async def test_connector_gives_a_connection_that_can_be_given_back() -> None:
    """Each transfer would need a connection of its own."""

    async def say_nothing(_: object, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    kept: list[aiohttp.ClientRequest] = []

    async def keep(request: aiohttp.ClientRequest, _: object) -> Any:  # noqa: ANN401 -- never returned
        kept.append(request)
        raise RuntimeError

    async with server, aiohttp.ClientSession() as session:
        with pytest.raises(RuntimeError):
            await session.get(f"http://{host}:{port}", middlewares=(keep,))
        assert session.connector is not None
        connect = functools.partial(
            session.connector.connect, kept[0], [], aiohttp.ClientTimeout(connect=3.0)
        )
        connection = await connect()
        protocol = connection.protocol
        assert isinstance(protocol, ResponseHandler)
        assert protocol.transport is not None
        connection.release()
        connection = await connect()
        assert connection.protocol is protocol
        connection.close()
        connection = await connect()
        assert connection.protocol is not protocol
        connection.close()


async def test_answer_is_read_when_it_was_expected(protocol: ResponseHandler) -> None:
    """The caller waits for this very answer."""
    expect_answer(protocol)
    reading = asyncio.ensure_future(protocol.read())
    for byte in ANSWER:
        protocol.data_received(bytes([byte]))
    message, content = await reading
    assert (message.code, message.headers["content-length"]) == (201, "2")
    assert await content.readany() == b"{}"
    assert content.at_eof()
    assert not protocol.should_close


async def test_answer_may_end_with_its_connection(protocol: ResponseHandler) -> None:
    """An answer that doesn't say how long it is would be an empty one."""
    expect_answer(protocol)
    protocol.data_received(b"HTTP/1.1 201 Created\r\n\r\n{")
    _, content = await protocol.read()
    assert await content.readany() == b"{"
    protocol.connection_lost(None)
    assert await content.readany() == b""
    assert content.at_eof()


async def test_reader_is_woken_when_an_exception_is_set(
    protocol: ResponseHandler,
) -> None:
    """A caller would wait for ever for the rest of an answer."""
    expect_answer(protocol)
    protocol.data_received(ANSWER[:-1])
    _, content = await protocol.read()
    assert await content.readany() == b"{"
    reading = asyncio.ensure_future(content.readany())
    await asyncio.sleep(0)
    content.set_exception(TimeoutError())
    with pytest.raises(TimeoutError):
        await reading


@pytest.mark.parametrize("stray", [ANSWER, ANSWER[:1], ANSWER[:30], b"\r\n"])
async def test_connection_is_unusable_when_anything_came_on_it_idle(
    protocol: ResponseHandler, stray: bytes
) -> None:
    """It would be taken for the answer to the next request."""
    expect_answer(protocol)
    protocol.data_received(ANSWER)
    await protocol.read()
    assert expect_nothing(protocol)
    assert not protocol.should_close
    protocol.data_received(stray)
    assert protocol.should_close


@pytest.mark.parametrize("pieces", [1, 2, 3])
async def test_body_is_taken_once_it_is_all_there(
    protocol: ResponseHandler, pieces: int
) -> None:
    """Half of an answer is no answer."""
    expect_answer(protocol)
    head = ANSWER[: 1 - pieces] if pieces > 1 else ANSWER
    protocol.data_received(head)
    _, content = await protocol.read()
    for byte in ANSWER[len(head) :]:
        assert take_body(content) is None
        protocol.data_received(bytes([byte]))
    assert take_body(content) == b"{}"


async def test_no_body_is_taken_where_there_is_none(protocol: ResponseHandler) -> None:
    """A 204 says yes."""
    expect_answer(protocol)
    protocol.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
    _, content = await protocol.read()
    assert take_body(content) == b""


async def test_body_is_left_to_be_read_when_it_is_long_or_broken(
    protocol: ResponseHandler,
) -> None:
    """What aiohttp paused has to be resumed, and what is broken be told of."""
    for size, head in ((1 << 20, b""), (3, b"Content-Encoding: gzip\r\n")):
        expect_answer(protocol)
        length = b"Content-Length: %d\r\n" % size
        protocol.data_received(b"HTTP/1.1 201 x\r\n" + length + head + b"\r\n")
        _, content = await protocol.read()
        protocol.data_received(b"x" * size)
        assert take_body(content) is None


@pytest.mark.parametrize("more", [ANSWER, ANSWER[:1], ANSWER[:30]])
async def test_connection_is_unusable_when_more_came_with_the_answer(
    protocol: ResponseHandler, more: bytes
) -> None:
    """It would be taken for the answer to the next request."""
    expect_answer(protocol)
    protocol.data_received(ANSWER + more)
    await protocol.read()
    assert not expect_nothing(protocol) or protocol.should_close


@pytest.mark.parametrize("more", [ANSWER[:1], ANSWER[:30]])
async def test_part_of_a_message_is_seen_when_a_session_reads(
    protocol: ResponseHandler, more: bytes
) -> None:
    """A session replaces its parser before it writes."""
    expect_answer(protocol)
    protocol.data_received(ANSWER)
    assert not has_part_of_a_message(protocol)
    protocol.data_received(more)
    expect_answer(protocol)
    assert has_part_of_a_message(protocol)


MISSING: Final = [
    (aiohttp.BaseConnector, "connect"),
    (Connection, "protocol"),
    (Connection, "release"),
    (ResponseHandler, "set_response_params"),
    (ResponseHandler, "should_close"),
]


@pytest.mark.parametrize(("owner", "name"), MISSING)
async def test_name_is_missed_when_it_is_gone(
    owner: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update of aiohttp must not leave a service unable to send."""
    monkeypatch.delattr(owner, name)
    assert (
        broken_promise(asyncio.get_running_loop()) == f"{owner.__name__} has no {name}"
    )


async def _hang(self: object) -> None:
    del self
    await asyncio.sleep(1)


async def _other(self: object) -> tuple[Any, ...]:
    del self
    content = aiohttp.StreamReader(mock.Mock(), 2**16, loop=asyncio.get_running_loop())
    content.feed_eof()
    return mock.Mock(code=201, headers={"content-length": "2"}), content


DIFFERENT: Final[dict[str, tuple[type, str, object, str]]] = {
    "read waits": (ResponseHandler, "read", _hang, "waited for"),
    "read gives another": (ResponseHandler, "read", _other, "read as another"),
    "read fails": (ResponseHandler, "read", None, "TypeError"),
    "connect is another": (aiohttp.BaseConnector, "connect", _hang, "TypeError"),
    "never kept": (ResponseHandler, "should_close", True, "not kept"),
    "always kept": (ResponseHandler, "should_close", False, "is not seen"),
}


@pytest.mark.parametrize("name", DIFFERENT)
async def test_promise_is_broken_when_aiohttp_does_otherwise(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that stays and means something else is worse than none."""
    owner, attribute, value, said = DIFFERENT[name]
    monkeypatch.setattr(owner, attribute, value)
    assert said in broken_promise(asyncio.get_running_loop())


async def test_session_serves_when_a_name_has_changed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Phones must ring with an aiohttp that this version didn't know."""
    connect = aiohttp.BaseConnector.connect

    async def renamed(
        self: aiohttp.BaseConnector,
        req: aiohttp.ClientRequest,
        *,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- aiohttp's own
    ) -> Connection:
        return await connect(self, req, traces, timeout)

    monkeypatch.setattr(aiohttp.BaseConnector, "connect", renamed)
    async with (
        Simulator() as simulator,
        SessionPool(
            account_of(simulator, quota=None), base_url=simulator.base_url
        ) as pool,
    ):
        node = pool.phlo("p").multi_party_call("n")
        await node.warm_transfer(to="+14155550100", trigger_source="+14155550101")
        assert len(simulator.ledger.requests) == 1
    caught = [it for it in caplog.records if it.name.startswith("aiophlo")]
    [told] = [it for it in caught if it.levelno >= logging.WARNING]
    assert "goes through its session" in told.message


async def _recorded(
    *args: Any,  # noqa: ANN401 -- aiohttp's own
    **options: Any,  # noqa: ANN401 -- aiohttp's own
) -> aiohttp.ClientResponse:
    return await GENUINE(*args, **options)


GENUINE: Final = aiohttp.ClientSession._request  # noqa: SLF001 -- what recorders replace
REPLACED: Final[dict[str, Callable[[], Any]]] = {
    "a recorder's function": lambda: _recorded,
    "a wrapped function": lambda: functools.wraps(GENUINE)(_recorded),
    "a mock": mock.AsyncMock,
    "an autospec": lambda: mock.create_autospec(GENUINE),
    "nothing": lambda: None,
}


@pytest.mark.parametrize("name", ["request", "_request"])
@pytest.mark.parametrize("by", REPLACED)
async def test_session_is_not_genuine_while_its_requests_are_replaced(
    by: str, name: str
) -> None:
    """A test of a user's own would ring real phones."""
    async with aiohttp.ClientSession() as session:
        genuine = GenuineSession(session)
        assert genuine
        with mock.patch.object(aiohttp.ClientSession, name, REPLACED[by]()):
            assert not genuine
            assert not GenuineSession(session)
        assert genuine


async def test_session_is_not_genuine_when_its_class_is_another() -> None:
    """What a service's own class does with each request must go on being done."""

    class Own:
        """Sends in its own way."""

        async def request(self) -> None:
            """Send."""

    assert not GenuineSession(Own())  # type: ignore[arg-type]
