"""The floor: the same bytes over an asyncio protocol, no HTTP client at all."""

import asyncio
import base64
import json
import ssl
from collections.abc import Awaitable
from typing import cast
from urllib.parse import urlsplit

from benchmarks.harness.load import AGENT, AUTH_ID, AUTH_TOKEN, NODE_ID, Load, target

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"Content-Length: "
_ACCEPTED = b"HTTP/1.1 201"


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("hung up on"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, ended, body = self._buffer.partition(_HEAD_END)
        if not ended:
            return
        length = int(head.partition(_LENGTH)[2].split(b"\r\n", 1)[0])
        if len(body) >= length and self._answer is not None:
            answer, self._buffer = self._buffer, b""
            self._answer.set_result(answer)

    def request(self, data: bytes) -> Awaitable[bytes]:
        assert self._transport is not None  # noqa: S101 -- it is connected
        if self._transport.is_closing():
            raise ConnectionResetError("hung up on")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def run(base_url: str, load: Load) -> None:
    """Send over as many connections as transfers are in flight."""
    where = urlsplit(base_url)
    loop = asyncio.get_running_loop()
    tls = ssl.create_default_context() if where.scheme == "https" else None

    async def connect() -> _Connection:
        _, connection = await loop.create_connection(
            _Connection, "127.0.0.1", where.port or 80, ssl=tls
        )
        return connection

    free = [await connect() for _ in range(load.in_flight)]
    everyone = list(free)
    pair = base64.b64encode(f"{AUTH_ID}:{AUTH_TOKEN}".encode()).decode()

    async def send(phlo_id: str, number: int) -> None:
        body = json.dumps(
            {
                "action": "warm_transfer",
                "to": target(number),
                "role": "agent",
                "trigger_source": AGENT,
            }
        )
        request = (
            f"POST /v1/phlo/{phlo_id}/multi_party_call/{NODE_ID} HTTP/1.1\r\n"
            f"Host: {where.netloc}\r\nAuthorization: Basic {pair}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )
        connection = free.pop()
        answer = await connection.request(request.encode())
        free.append(connection)
        head, _, found = answer.partition(_HEAD_END)
        if not head.startswith(_ACCEPTED) or json.loads(found)["error"]:
            raise RuntimeError("not accepted")

    await load.by_workers(send)
    for connection in everyone:
        connection.close()
