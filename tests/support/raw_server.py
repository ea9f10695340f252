"""A server at socket level, for what no HTTP framework can be made to do.

It answers by a script, one run per connection, and records every whole
request that reached it, whatever the script did about it.
"""

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Self, cast

import attrs

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


async def steps(number: int) -> None:
    """Let the loop go round so often, which is all that loopback needs."""
    for _ in range(number):
        await asyncio.sleep(0)


@attrs.frozen
class Received:
    """One whole request.

    Attributes:
        head: Request line and headers, as they came.
        body: The bytes that followed.
    """

    head: bytes
    body: bytes

    @property
    def method(self) -> str:
        """The method."""
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        """What the request line asks for, byte for byte."""
        return self.head.split(b" ", 2)[1].decode()

    def header(self, name: str) -> list[str]:
        """Give every value that the request has for this header."""
        lines = self.head.decode().split("\r\n")[1:]
        pairs = [line.partition(":") for line in lines]
        return [value.strip() for key, _, value in pairs if key.lower() == name]


class Connection(asyncio.Protocol):
    """One connection, as a script handles it.

    Attributes:
        touched: Set once the first byte came.
        lost: Set once either side has ended it.
    """

    def __init__(self, server: "RawServer") -> None:
        self._server = server
        self._buffer = b""
        self._whole: asyncio.Queue[Received] = asyncio.Queue()
        self.touched = asyncio.Event()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the script."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's isn't one
        self._server.begin(self)

    def data_received(self, data: bytes) -> None:
        """Record what is whole by now."""
        self.touched.set()
        self._buffer += data
        while (request := self._take()) is not None:
            self._whole.put_nowait(request)
            self._server.record(request)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 -- asyncio's
        """Note that it is over."""
        self.lost.set()

    def _take(self) -> Received | None:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        match = _LENGTH.search(head)
        length = int(match[1]) if match else 0
        if not end or len(rest) < length:
            return None
        self._buffer = rest[length:]
        return Received(head, rest[:length])

    async def request(self) -> Received:
        """Wait for the next whole request."""
        return await self._whole.get()

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self._transport.write(data)

    def close(self) -> None:
        """End it in order, once all is sent."""
        self._transport.close()

    def abort(self) -> None:
        """End it at once, whatever is still to be sent."""
        self._transport.abort()

    def reset(self) -> None:
        """End it with a reset."""
        lingering = struct.pack("ii", 1, 0)
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
        self._transport.abort()


Script = Callable[[Connection], Awaitable[None]]


class RawServer:
    """Listens on a free port of the loopback.

    Args:
        script: What to do on every connection; it stays open afterwards.
        tls: Speak TLS, with this certificate.

    Attributes:
        requests: Every whole request, CONNECT apart, in order of arrival.
        connections: Every connection, in the same order.
    """

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self._tasks: list[asyncio.Task[None]] = []
        self.requests: list[Received] = []
        self.connections: list[Connection] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), "127.0.0.1", 0, ssl=self._tls
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        for connection in self.connections:
            connection.abort()
        await self.all_ended()
        await steps(50 if self._tls else 0)  # refused handshakes still end

    @property
    def base_url(self) -> str:
        """Where an API would be here."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1"

    def begin(self, connection: Connection) -> None:
        """Run the script on a new connection."""
        self.connections.append(connection)
        self._tasks.append(asyncio.ensure_future(self._run(connection)))

    async def _run(self, connection: Connection) -> None:
        await self._script(connection)

    def record(self, request: Received) -> None:
        """Note a whole request."""
        if request.method != "CONNECT":
            self.requests.append(request)

    async def all_ended(self) -> None:
        """Wait until no connection is open, and so nothing is under way to it."""
        for connection in self.connections:
            await connection.lost.wait()
