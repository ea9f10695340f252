"""Small servers on uvloop, each in its own process, that are no bottleneck.

`python -m benchmarks.harness.servers` prints the base URL of one, serves until its
standard input ends, and then prints what it counted as JSON.
"""

import argparse
import asyncio
import json
import random
import ssl
import sys
from asyncio import sslproto
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Any, cast

import uvloop

from aiophlo.simulator.quota import MovingWindow
from benchmarks.harness.answers import ACCEPTED, DESCRIBED
from benchmarks.harness.machine import raise_file_limit

_REFUSED = b'{"error":"too many requests"}'
_BACKLOG = 16_384
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_HELD = b"/phlo/held-"
_HANDSHAKE = 600.0  # seconds; ten thousand at once, of a client that is often stopped
_TLS_BUFFER = 16 * 1024  # bytes per connection: a record, where 256 KiB are usual


def _answer(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d"
    return head % (status, len(body)) + _HEAD_END + body


_OK = _answer(b"200 OK", DESCRIBED)
_TOO_MANY = _answer(b"429 Too Many Requests", _REFUSED)


class Connection(asyncio.Protocol):
    """Cuts requests off what arrives and hands their heads on.

    Args:
        serve: Given this connection and the head of each request.
    """

    def __init__(self, serve: "Callable[[Connection, bytes], None]") -> None:
        self._serve = serve
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Serve every request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(_HEAD_END)) >= 0:
            head = self._buffer[:end]
            stop = end + len(_HEAD_END) + _body_length(head)
            if len(self._buffer) < stop:
                return
            self._buffer = self._buffer[stop:]
            self._serve(self, head)

    def write(self, data: bytes) -> None:
        """Write, unless the client has gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def accept(self) -> None:
        """Say yes, with an id that no other answer has."""
        self.write(_answer(b"201 Created", ACCEPTED.format(token_hex(16)).encode()))


def _body_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(_LENGTH)
    if at < 0:
        return 0
    return int(lower[at + len(_LENGTH) :].split(b"\r\n", 1)[0])


class Answers:
    """Says yes, at once or after a while.

    Requests for a PHLO named `held-N` are answered once N of them wait, so
    that a client can be brought to have N connections open.

    Args:
        delay: Seconds before each answer.
    """

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._held: list[Connection] = []
        self._requests = 0

    def serve(self, connection: Connection, head: bytes) -> None:
        """Answer one request."""
        self._requests += 1
        if _HELD in head:
            self._hold(connection, head)
        elif head.startswith(b"GET"):
            connection.write(_OK)
        elif self._delay:
            loop = asyncio.get_running_loop()
            loop.call_later(self._delay, connection.accept)
        else:
            connection.accept()

    def counted(self) -> dict[str, Any]:
        """Return how many requests came."""
        return {"requests": self._requests}

    def _hold(self, connection: Connection, head: bytes) -> None:
        wanted = int(head.split(_HELD, 1)[1].split(b"/", 1)[0])
        self._held.append(connection)
        if len(self._held) == wanted:
            held, self._held = self._held, []
            for waiting in held:
                waiting.accept()


class StrictWindow:
    """Admits no more than the quota in any period, counting on late arrival.

    Args:
        limit: Requests admitted per period.
        per: Seconds.
        jitter: Each request is counted up to so many seconds after it came,
            as if the network had held it.
        seed: Of that chance.
    """

    def __init__(self, limit: int, per: float, jitter: float, seed: int) -> None:
        self._window = MovingWindow(limit, per)
        self._jitter = jitter
        self._random = random.Random(seed)  # noqa: S311 -- a network, not a secret
        self._admitted: list[float] = []
        self._refused: list[float] = []

    def serve(self, connection: Connection, head: bytes) -> None:
        """Count one request once it has arrived, and answer it."""
        del head
        if self._jitter:
            late = self._random.random() * self._jitter
            asyncio.get_running_loop().call_later(late, self._count, connection)
        else:
            self._count(connection)

    def counted(self) -> dict[str, Any]:
        """Return when requests were admitted and refused, in seconds."""
        return {"admitted": self._admitted, "refused": self._refused}

    def _count(self, connection: Connection) -> None:
        now = asyncio.get_running_loop().time()
        if self._window.admit(now):
            self._refused.append(now)
            connection.write(_TOO_MANY)
        else:
            self._admitted.append(now)
            connection.accept()


async def _serve(answers: Answers | StrictWindow, tls: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(answers.serve),
        "127.0.0.1",
        0,
        backlog=_BACKLOG,
        ssl=tls,
        ssl_handshake_timeout=None if tls is None else _HANDSHAKE,
    )
    port = server.sockets[0].getsockname()[1]
    scheme = "http" if tls is None else "https"
    print(f"{scheme}://127.0.0.1:{port}/v1", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps(answers.counted()), flush=True)
    server.close()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harness.servers")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds")
    parser.add_argument("--quota", nargs=2, type=float, metavar=("LIMIT", "PER"))
    parser.add_argument("--jitter", type=float, default=0.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--certificate", type=Path, help="with its key: speaks TLS")
    given = parser.parse_args()
    raise_file_limit()
    answers: Answers | StrictWindow = Answers(given.delay)
    if given.quota:
        limit, per = given.quota
        answers = StrictWindow(int(limit), per, given.jitter, given.seed)
    if given.certificate is None:
        uvloop.run(_serve(answers, None))
    else:  # on asyncio, which can be told to take less memory
        sslproto.SSLProtocol.max_size = _TLS_BUFFER
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(given.certificate)
        asyncio.run(_serve(answers, tls))


if __name__ == "__main__":
    main()
