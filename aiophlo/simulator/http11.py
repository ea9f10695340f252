"""HTTP/1.1 of a server, written byte by byte, so that faults can be written, too."""

import asyncio
import enum
import http
import json
import socket
import struct
from collections.abc import Mapping
from typing import Final, Protocol, cast

import attrs

MAX_HEAD: Final = 65_536
MAX_BODY: Final = 1_048_576
_IDLE_FOR: Final = 0.005  # seconds between an answer and an unannounced close
_RST_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 seconds
_HEAD_END: Final = b"\r\n\r\n"


class MalformedError(Exception):
    """These bytes are no request that this server takes.

    Attributes:
        status: The 4xx to answer.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@attrs.define
class Request:
    """One request as it arrived.

    Attributes:
        method: In capitals, as sent.
        path: Still percent-encoded, without its query.
        headers: Values by lower-case name; the last of a repeated name.
        body: Whole.
        keep_alive: Whether the client wants the connection afterwards.
        query: What follows the path's `?`, still percent-encoded.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool
    query: str = ""


@attrs.define
class Answer:
    """One answer, before anything goes wrong with it.

    Attributes:
        status: HTTP status code.
        body: Whole, as bytes.
        headers: Added to Content-Type and Content-Length, or in their place.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def of_json(
        cls, status: int, document: object, headers: Mapping[str, str] | None = None
    ) -> "Answer":
        """Give the answer that carries `document` as JSON."""
        return cls(status, json.dumps(document).encode(), headers or {})

    def head(self, *, length: int | None = None, **framing: str) -> bytes:
        """Write the status line and headers.

        Args:
            length: Content-Length to claim; None leaves the header out.
            framing: More headers, underscores standing for hyphens.
        """
        headers = {"Content-Type": "application/json"}
        if length is not None:
            headers["Content-Length"] = str(length)
        headers |= {name.replace("_", "-"): text for name, text in framing.items()}
        headers |= self.headers
        lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
        return f"{self.status_line()}\r\n{lines}\r\n".encode("latin-1")

    def status_line(self) -> str:
        """Write the first line, without its end."""
        return f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, 'Unknown')}"

    def whole(self) -> bytes:
        """Write everything, as a sound server does."""
        if self.status in _BODILESS:
            return f"{self.status_line()}\r\n\r\n".encode()
        return self.head(length=len(self.body)) + self.body


_PHRASES: Final = {status.value: status.phrase for status in http.HTTPStatus}
_BODILESS: Final = frozenset({204, 304})


class BodyEnd(enum.Enum):
    """What becomes of a connection after an answer, or instead of one."""

    KEEP = enum.auto()
    CLOSE = enum.auto()
    RESET = enum.auto()
    SILENT = enum.auto()
    FORGET = enum.auto()  # reads nothing more, as if idle, and closes a moment later


def take_request(buffer: bytearray) -> Request | None:
    """Cut the first request off `buffer`.

    Returns:
        The request, or None while it isn't complete.

    Raises:
        MalformedError: It never will be.
    """
    end = buffer.find(_HEAD_END)
    if end < 0:
        if len(buffer) > MAX_HEAD:
            raise MalformedError("the head is too long", status=431)
        return None
    method, target, version, headers = _parse_head(bytes(buffer[:end]))
    start = end + len(_HEAD_END)
    stop = start + _body_length(headers)
    if len(buffer) < stop:
        return None
    body = bytes(buffer[start:stop])
    del buffer[:stop]
    path, _, query = target.partition("?")
    keep = _wants_keep_alive(version, headers.get("connection", ""))
    return Request(method, path, headers, body, keep, query)


def _parse_head(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):  # noqa: PLR2004 -- method, target, version
        raise MalformedError("no HTTP/1 request line")
    headers = {}
    for line in lines:
        name, colon, text = line.partition(":")
        if not colon:
            raise MalformedError("a header has no colon")
        headers[name.lower()] = text.strip()
    return parts[0], parts[1], parts[2], headers


def _body_length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise MalformedError("send a Content-Length", status=411)
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise MalformedError("Content-Length is no number")
    length = int(text)
    if length > MAX_BODY:
        raise MalformedError("the body is too long", status=413)
    return length


def _wants_keep_alive(version: str, connection: str) -> bool:
    options = connection.lower()
    if version == "HTTP/1.0":
        return "keep-alive" in options
    return "close" not in options


class Service(Protocol):
    """What answers the requests of connections."""

    def opened(self, connection: "Connection") -> None:
        """Note a new connection."""

    def closed(self, connection: "Connection") -> None:
        """Forget one."""

    def serve(self, connection: "Connection", request: Request) -> None:
        """Answer a request by the connection's `reply`, now or later."""

    def refuse(self, error: MalformedError) -> Answer:
        """Make the answer to bytes that are no request."""


class Connection(asyncio.Protocol):
    """One client's connection: requests in, bytes out, one after the other.

    Args:
        service: What answers.
    """

    transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self._service = service
        self._buffer = bytearray()
        self._busy = False
        self._keep_alive = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the new connection."""
        self.transport = cast("asyncio.Transport", transport)

        self._service.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it; an answer still under way finds it closed."""
        del exc
        self._service.closed(self)

    @property
    def peer(self) -> str:
        """The client's IP address."""
        return str(self.transport.get_extra_info("peername")[0])

    @property
    def is_open(self) -> bool:
        """Whether anything can still be written."""
        return not self.transport.is_closing()

    def data_received(self, data: bytes) -> None:
        """Collect bytes; serve the request that they complete."""
        self._buffer += data
        if not self._busy:
            self._serve_next()

    def _serve_next(self) -> None:
        try:
            request = take_request(self._buffer)
        except MalformedError as error:
            self._busy = True  # what follows can't be read either
            self.reply(self._service.refuse(error).whole(), BodyEnd.CLOSE)
            return
        if request is None:
            self._invite_body()
            return
        self._busy = True
        self._keep_alive = request.keep_alive
        self._service.serve(self, request)

    def _invite_body(self) -> None:
        head, ended, body = self._buffer.partition(_HEAD_END)
        if ended and not body and b"100-continue" in head.lower():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def write(self, data: bytes) -> None:
        """Write a part of an answer."""
        if self.is_open:
            self.transport.write(data)

    def reply(self, data: bytes, ending: BodyEnd, last_words: bytes = b"") -> None:
        """Write the rest of an answer, and keep, close or abandon the connection.

        Args:
            data: What is left to write.
            ending: What becomes of the connection.
            last_words: Written just before a forgotten connection closes.
        """
        if not self.is_open:
            return
        if data:
            self.transport.write(data)
        if ending is BodyEnd.RESET:
            self._reset()
        elif ending is BodyEnd.FORGET:
            self._forget(last_words)
        elif ending is BodyEnd.CLOSE or (
            ending is BodyEnd.KEEP and not self._keep_alive
        ):
            self.transport.close()
        elif ending is BodyEnd.KEEP:
            self._busy = False
            if self._buffer:
                self._serve_next()

    def _forget(self, last_words: bytes) -> None:
        self.transport.pause_reading()
        loop = asyncio.get_running_loop()
        loop.call_later(_IDLE_FOR, self.reply, last_words, BodyEnd.CLOSE)

    def _reset(self) -> None:
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        self.transport.abort()
