"""What a bare exchange needs of aiohttp that its documentation doesn't promise.

`BaseConnector.connect(request, traces, timeout)`, the `Connection` that it gives,
with `protocol`, `release` and `close`, and of that protocol, a `ResponseHandler`,
and its parser, what is used below. If one day one of these is missing, or does
otherwise, every request goes through a session, which is dearer and needs none of
them.
"""

import asyncio
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import aiohttp
from aiohttp import client
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_parser import (
    HttpParser,
    HttpResponseParser,
    HttpResponseParserPy,
    RawResponseMessage,
)

_NAMES: dict[type, tuple[str, ...]] = {
    aiohttp.BaseConnector: ("connect", "force_close"),
    Connection: ("protocol", "release", "close"),
    ResponseHandler: ("read", "set_response_params", "should_close"),
    aiohttp.StreamReader: (
        "readany",
        "is_eof",
        "at_eof",
        "exception",
        "set_exception",
    ),
    aiohttp.ClientRequest: ("is_ssl", "connection_key"),
}
# Between two messages a parser skips it; any part of a message it makes whole or bad.
_BLANK_LINES = b"\r\n\r\n"
_IS_PURE_PYTHON = HttpResponseParser is HttpResponseParserPy  # aiohttp, not compiled
_LAST_PARSER = "aiophlo: parser of the last exchange"  # in a protocol's own namespace
_NEVER_PAUSED = 1 << 14  # bytes, far below where aiohttp stops reading
_ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"


def expect_answer(protocol: ResponseHandler) -> None:
    """Have what comes now read as one answer."""
    protocol.set_response_params(read_until_eof=True)


def expect_nothing(protocol: ResponseHandler) -> bool:
    """Have whatever comes from now on make the connection unusable.

    Returns:
        Whether no part of another message came after the answer.
    """
    parser = protocol._parser  # noqa: SLF001 -- no other way
    if parser is None or _is_within_message(parser):
        return False
    protocol._parser = None  # noqa: SLF001 -- what comes then makes `should_close` true
    return True


def take_body(content: aiohttp.StreamReader) -> bytes | None:
    """Return a short body that is all there; None where it has to be read.

    Reading it would resume aiohttp's reading and parsing, which were never paused: a
    twentieth of what a transfer costs.
    """
    if (
        content.is_eof()
        and content.total_bytes < _NEVER_PAUSED
        and content.exception() is None
    ):
        return b"".join(getattr(content, "_buffer", ()))  # an empty one has no buffer
    return None


def has_part_of_a_message(protocol: ResponseHandler) -> bool:
    """Say whether what came after the last answer was the beginning of another.

    `should_close` tells of whole messages only. A session has a new parser by the
    time that it writes, and what the last one had read is lost with it.
    """
    parser = getattr(protocol, "_parser", None)
    own = vars(protocol)
    last, own[_LAST_PARSER] = own.get(_LAST_PARSER), parser
    if last is not None and last is not parser and _is_within_message(last):
        return True
    return parser is not None and _is_within_message(parser)


def _is_within_message(parser: HttpParser[RawResponseMessage]) -> bool:
    if _IS_PURE_PYTHON:  # asked once: isinstance() is slow with an abstract class
        return bool(parser._tail or parser._lines)  # noqa: SLF001 -- it has no other
    try:
        messages, _, _ = parser.feed_data(_BLANK_LINES)
    except Exception:  # noqa: BLE001 -- whatever it is, it isn't the end of a message
        return True
    return bool(messages)


def broken_promise(loop: asyncio.AbstractEventLoop) -> str:
    """Say what a bare exchange needs and doesn't find; empty if it finds all."""
    for owner, names in _NAMES.items():
        for name in names:
            if not hasattr(owner, name):
                return f"{owner.__name__} has no {name}"
    rehearsal = _rehearse(loop)
    try:
        inspect.signature(aiohttp.BaseConnector.connect).bind(None, None, [], None)
        rehearsal.send(None)
    except StopIteration as done:
        return str(done.value)
    except Exception as error:  # noqa: BLE001 -- whatever it is, a session serves
        return f"{type(error).__name__}: {error}"
    finally:
        rehearsal.close()
    return "an answer that is there is waited for"


async def _rehearse(loop: asyncio.AbstractEventLoop) -> str:
    """Read an answer that came on no connection."""
    protocol = ResponseHandler(loop)
    protocol.connection_made(asyncio.Transport())
    expect_answer(protocol)
    protocol.data_received(_ANSWER)
    message, content = await protocol.read()
    told = (message.code, message.headers["content-length"])
    taken, read = take_body(content), await content.readany()
    if (*told, taken, read, content.at_eof()) != (201, "2", b"{}", b"{}", True):
        return "an answer is read as another"
    if not expect_nothing(protocol) or protocol.should_close:
        return "a connection is not kept"
    protocol.data_received(_ANSWER[:1])
    if not protocol.should_close:
        return "half of an answer that nobody asked for is not seen"
    return ""


class GenuineSession:
    """Whether a session's requests are sent by aiohttp itself.

    Tests, recorders and tracers replace what sends them, some for a while only.

    Where they are replaced to begin with, it stays untrue.

    Args:
        session: The session.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._kind: Any = type(session)
        self._request = _aiohttps_own(self._kind, "request")
        self._inner = _aiohttps_own(self._kind, "_request")
        if self._request is None or self._inner is None:
            self._kind, self._inner = _Replaced, _aiohttps_own

    def __bool__(self) -> bool:
        return (
            self._kind._request is self._inner and self._kind.request is self._request  # noqa: SLF001 -- what they replace
        )


class _Replaced:
    _request = request = None


def _aiohttps_own(kind: type, name: str) -> Callable[..., Any] | None:
    found = getattr(kind, name, None)
    is_own = type(found) is FunctionType and found.__globals__ is vars(client)
    return found if is_own else None
