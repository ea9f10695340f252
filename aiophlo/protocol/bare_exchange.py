"""One exchange over aiohttp's connector and parser, without its session.

We write the bytes, so whether a request left is exact: between the connector
giving a connection and the request being written there is no await. What is
read of the answer, and whether its connection may be used again, is aiohttp's
and HTTP's own business.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from yarl import URL

from aiophlo.protocol.aiohttp_contract import (
    expect_answer,
    expect_nothing,
    take_body,
)
from aiophlo.protocol.answer_body import read_body, says_how_long
from aiophlo.protocol.codec import Answer, Request
from aiophlo.protocol.exchange_errors import was_lost
from aiophlo.protocol.kept_connections import Connections, StaleConnectionError
from aiophlo.protocol.response_timeout import ResponseTimeout, Waiting
from aiophlo.protocol.tracked_request import TrackedRequest

_BREAKS = frozenset("\r\n\0")  # what would end a header where it shouldn't


class BareExchange:
    """Exchanges of one account over a connector.

    Args:
        connector: Gives connections: DNS, proxies, TLS and all.
        base_url: Where the API is, without a trailing slash.
        template: Gives a GET as a session would send it, which tells the connector
            where to, and the headers of every request.
        connect: Seconds to get a connection.
        connections: Those that requests go out on.
        timer: Ends the wait for answers.
    """

    def __init__(
        self,
        connector: aiohttp.BaseConnector,
        base_url: str,
        template: Callable[[], Awaitable[aiohttp.ClientRequest]],
        *,
        connect: float,
        connections: Connections,
        timer: ResponseTimeout[Waiting],
    ) -> None:
        self._connector = connector
        self._base_url = URL(base_url, encoded=True)
        self._make_template = template
        self._destination: aiohttp.ClientRequest | None = None
        self._connect = connect
        self._timeout = aiohttp.ClientTimeout(connect=connect)
        self._connections = connections
        self._timer = timer
        self._loop = asyncio.get_running_loop()
        self._heads: _Heads | None = None

    async def answer(
        self, request: Request, tracked: TrackedRequest, within: float
    ) -> Answer:
        """Send `request` and return its answer.

        Args:
            request: What to send.
            tracked: Says afterwards whether it left.
            within: Seconds after which it need not leave any more.

        Raises:
            BaseException: There was none; aiohttp's own, mostly.
        """
        timeout = self._timeout
        if within < self._connect:
            timeout = aiohttp.ClientTimeout(connect=within)
        try:
            connection = await self._connector.connect(
                self._destination or await self._find_destination(), [], timeout
            )
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        try:
            # Up to the first await nothing else runs: not read, nor cancelled.
            protocol = self._leave(connection, request, tracked)
            message, content = await protocol.read()
            while message.code < 200 and message.code != 101:  # noqa: PLR2004 -- HTTP's interim answers
                message, content = await protocol.read()
            tracked.answered(message.code, content)
            headers = message.headers
            if "Keep-Alive" in headers or self._connections.note_all:
                self._connections.answered(protocol, headers, self._loop.time())
            body = take_body(content)
            if body is None:
                body = await read_body(content)
            if tracked.silent and not says_how_long(headers):
                raise TimeoutError  # noqa: TRY301 -- it ended as we ended the connection
        except BaseException as error:
            self._drop(connection, tracked, error)
            raise
        finally:
            self._timer.end(tracked)
        tracked.end()
        _release(connection, protocol)
        return Answer(message.code, headers, body)

    def _drop(
        self, connection: Connection, tracked: TrackedRequest, error: BaseException
    ) -> None:
        if was_lost(tracked, error):
            self._connections.lost(connection.protocol, self._loop.time())
        tracked.drop()
        connection.close()

    async def _find_destination(self) -> aiohttp.ClientRequest:
        destination = _Destination(await self._make_template())
        self._destination = cast("aiohttp.ClientRequest", destination)
        return self._destination

    def _leave(
        self, connection: Connection, request: Request, tracked: TrackedRequest
    ) -> ResponseHandler:
        """Write the request, and return what reads its answer.

        Raises:
            ConnectionAbortedError: It may not leave any more, or not on this
                connection.
        """
        protocol = connection.protocol
        assert protocol is not None  # noqa: S101 -- it was only just given
        try:
            self._connections.use(protocol, self._loop.time())
        except StaleConnectionError as error:
            tracked.stale = error
            raise
        tracked.check_may_leave()
        if self._heads is None:  # only now the request knows of a proxy's password
            assert self._destination is not None  # noqa: S101 -- it led to this connection
            self._heads = _Heads(self._destination, self._base_url, self._connector)
        data = self._heads.bytes_of(request)
        expect_answer(protocol)
        assert protocol.transport is not None  # noqa: S101 -- what has none is stale
        tracked.leave(protocol.transport, data)
        self._timer.begin(tracked)
        return protocol


def _release(connection: Connection, protocol: ResponseHandler) -> None:
    """Give a connection back whose answer was read, or close it if it can't be kept."""
    transport = protocol.transport
    if transport is not None and transport.get_write_buffer_size():
        transport.abort()  # answered before it was read: the rest is not wanted
        connection.close()
    elif expect_nothing(protocol):
        connection.release()  # which closes it, if HTTP says so
    else:
        connection.close()


class _Destination:
    """A request that only says where to, and computes once which connections fit."""

    def __init__(self, request: aiohttp.ClientRequest) -> None:
        self._request = request
        self.proxy = request.proxy
        self.connection_key = request.connection_key

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever it has
        return getattr(self._request, name)


class _Heads:
    """The heads of an account's requests, of which all but two lines are the same."""

    def __init__(
        self,
        request: aiohttp.ClientRequest,
        base_url: URL,
        connector: aiohttp.BaseConnector,
    ) -> None:
        is_told_host = request.proxy is not None and not request.is_ssl()
        base = str(base_url) if is_told_host else base_url.raw_path
        self._base = base.rstrip("/")  # without a path, yarl gives it one
        headers = dict(request.headers)
        if connector.force_close:
            headers["Connection"] = "close"
        if any(_BREAKS & {*name, *value} for name, value in headers.items()):
            raise ValueError("a header has a line break in it")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._get = f" HTTP/1.1\r\n{lines}\r\n"
        self._post = (
            f" HTTP/1.1\r\n{lines}Content-Type: application/json\r\nContent-Length: "
        )

    def bytes_of(self, request: Request) -> bytes:
        """Return all of a request.

        Raises:
            ValueError: Its path would end the first line, and be a request of its own.
        """
        path, body = request.path, request.body
        if not path.isprintable() or " " in path:
            raise ValueError("a path has a space or a line break in it")
        if body is None:
            return f"GET {self._base}{path}{self._get}".encode()
        return f"POST {self._base}{path}{self._post}{len(body)}\r\n\r\n".encode() + body
