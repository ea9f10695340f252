"""Ready handlers for the events that Plivo posts: aiohttp.web, ASGI, anything else.

A `Receiver` decides about one request without I/O; the handlers carry requests
to it and its answers back. Nothing here is imported by the rest of aiophlo, and
aiohttp's server only when its handler is asked for.
"""

import inspect
import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    MutableMapping,
)
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

import attrs

from aiophlo.addresses import mask_error
from aiophlo.errors import InvalidInputError
from aiophlo.events import Event, decode_body, decode_query, join_fields, parse_event
from aiophlo.webhooks import (
    NonceCache,
    find_nonce,
    is_signed,
    split_url,
    verify_signature,
)

if TYPE_CHECKING:
    from aiohttp import web

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_METHODS = ("GET", "POST")
_logger = logging.getLogger("aiophlo")


def _sink(value: Callable[[Event], object]) -> Callable[[Event], object]:
    call = getattr(value, "__call__", None)  # noqa: B004 -- looked at, not called
    if not callable(value) or any(map(inspect.iscoroutinefunction, (value, call))):
        message = "feed: expected a plain function; a coroutine would never be awaited"
        raise InvalidInputError(message, field="feed")
    return value


def _tokens(value: str | Iterable[str]) -> tuple[str, ...]:
    tokens = (value,) if isinstance(value, str) else tuple(value)
    if not all(isinstance(token, str) and token for token in tokens):
        message = "auth_tokens: expected text, and none of it empty"
        raise InvalidInputError(message, field="auth_tokens")
    return tokens


def _public_url(value: str | None) -> str | None:
    if value is not None:
        split_url(value)
    return value


@attrs.frozen
class Receiver:
    """Checks, reads and passes on one request after the other.

    Attributes:
        feed: Gets each event, before the request is answered: a plain function
            that returns at once, such as a router's `feed`. If it raises, Plivo
            is answered 500 and may send the event again.
        auth_tokens: Token, or tokens, of the accounts whose events come here.
        allow_unsigned: Also accept requests that bear no signature at all: then
            anybody who knows the URL can say who joined and left.
        public_url: The URL that Plivo calls, where a proxy changes it on the way;
            `https://cc.example.com` alone if the path stays.
        nonces: Recognises requests that were accepted before. They are answered
            200, so that nobody sends them again, and not fed: whoever recorded a
            request learns what they know already, and nothing happens.
        max_body: Bytes that a request's body may have.

    Raises:
        InvalidInputError: A setting can't be right: `feed` is a coroutine
            function, or nothing could ever be accepted.

    Source:
        Assumed: whether event callbacks are signed isn't documented, hence
        `allow_unsigned`; and so is that Plivo repeats what was answered 500.
    """

    feed: Callable[[Event], object] = attrs.field(converter=_sink)
    auth_tokens: tuple[str, ...] = attrs.field(
        default=(),
        converter=_tokens,
        kw_only=True,
        repr=lambda tokens: f"<{len(tokens)}>",
    )
    allow_unsigned: bool = attrs.field(default=False, kw_only=True)
    public_url: str | None = attrs.field(
        default=None, converter=_public_url, kw_only=True
    )
    nonces: NonceCache | None = attrs.field(default=None, kw_only=True)
    max_body: int = attrs.field(default=64 * 1024, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not self.auth_tokens and not self.allow_unsigned:
            message = "auth_tokens: expected one at least, or allow_unsigned=True"
            raise InvalidInputError(message, field="auth_tokens")
        if self.max_body < 1:
            raise InvalidInputError("max_body: expected more than 0", field="max_body")

    def receive(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes = b""
    ) -> HTTPStatus:
        """Pass a request's event on, and say how to answer.

        For web frameworks that neither handler fits.

        Args:
            method: The request's method.
            url: Its URL with query, as it was received.
            headers: Its headers, names in any case.
            body: Its body, decompressed.

        Returns:
            200 once the event is passed on, or if it was before; 400 for a body
            or query that is neither form nor JSON object, 403 without a valid
            signature, 405 for other methods than GET and POST, 413 for too large a
            body, 500 if `feed` raised.
        """
        if method not in _METHODS:
            return HTTPStatus.METHOD_NOT_ALLOWED
        if len(body) > self.max_body:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        try:
            query = decode_query(split_url(url).query)
            params = _params(method, headers, body)
        except InvalidInputError:
            return HTTPStatus.BAD_REQUEST
        nonce = ""
        if not self.allow_unsigned or (self.auth_tokens and is_signed(headers)):
            if not self._is_genuine(method, url, headers, params):
                return HTTPStatus.FORBIDDEN
            nonce = find_nonce(headers)
        return self._pass_on_once(parse_event(join_fields(query, params)), nonce)

    def _is_genuine(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        params: Mapping[str, object],
    ) -> bool:
        if verify_signature(
            method,
            url,
            headers,
            params,
            auth_tokens=self.auth_tokens,
            public_url=self.public_url,
        ):
            return True
        _logger.warning(
            "an event was refused: its V3 signature is missing or wrong"
            " (behind a proxy, give the receiver its public_url)"
        )
        return False

    def _pass_on_once(self, event: Event, nonce: str) -> HTTPStatus:
        """Pass an event on, unless its nonce, if it was signed, is known."""
        nonces = self.nonces if nonce else None
        if nonces is not None and not nonces.add(nonce):
            _logger.info("an event came again, and is not fed twice: %r", event)
            return HTTPStatus.OK
        try:
            self.feed(event)
        except Exception as error:  # noqa: BLE001 -- it is logged, and asked for again
            told = mask_error(error)
            _logger.error("%r could not be handled: %s", event, told)  # noqa: TRY400 -- its traceback is masked
            if nonces is not None:
                nonces.forget(nonce)  # it may come again
            return HTTPStatus.INTERNAL_SERVER_ERROR
        return HTTPStatus.OK


def aiohttp_handler(
    receiver: Receiver,
) -> "Callable[[web.Request], Awaitable[web.StreamResponse]]":
    """Return a handler for aiohttp.web that carries requests to `receiver`.

    Args:
        receiver: Decides about them.

    Returns:
        What `app.router.add_route("*", "/phlo/events", …)` takes.
    """
    from aiohttp import web  # noqa: PLC0415 -- a server, which clients needn't load

    async def handle(request: web.Request) -> web.StreamResponse:
        body: bytes | None = b""
        if request.method == "POST":
            try:
                body = await _read(request.content.iter_any(), receiver.max_body)
            except (ConnectionError, web.RequestPayloadError):  # gone, or badly packed
                return web.Response(status=HTTPStatus.BAD_REQUEST)
        if body is None:
            return web.Response(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        status = receiver.receive(
            request.method, _aiohttp_url(request), request.headers, body
        )
        return web.Response(status=status, headers=_answer_headers(status))

    return handle


def asgi_app(receiver: Receiver) -> ASGIApp:
    """Return an ASGI application that carries requests to `receiver`.

    Args:
        receiver: Decides about them.

    Returns:
        What Starlette's `Mount("/phlo/events", app=…)`, FastAPI's `app.mount` or
        an ASGI server takes. It raises `ValueError` for anything but HTTP, as
        the ASGI specification asks of it.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError("expected HTTP")
        body: bytes | None = b""
        if scope["method"] == "POST":
            try:
                body = await _read(_asgi_body(receive), receiver.max_body)
            except ConnectionError:
                return
        if body is None:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        else:
            headers = _asgi_headers(scope)
            url = _asgi_url(scope, headers)
            status = receiver.receive(scope["method"], url, headers, body)
        await _asgi_answer(send, status)

    return app


def _params(method: str, headers: Mapping[str, str], body: bytes) -> dict[str, object]:
    if method == "GET" or not body:
        return {}
    types = [value for name, value in headers.items() if name.lower() == "content-type"]
    return decode_body(body, types[0] if types else "")


async def _read(chunks: AsyncIterator[bytes], max_body: int) -> bytes | None:
    """Return the body, or None once it is larger than `max_body`."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_body:
            return None
    return bytes(body)


def _answer_headers(status: HTTPStatus) -> dict[str, str]:
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return {"Allow": ", ".join(_METHODS)}
    return {}


def _aiohttp_url(request: "web.Request") -> str:
    # As it came: a URL that was parsed and written again may differ from the
    # signed one.
    if request.raw_path.startswith("/"):
        return f"{request.scheme}://{request.host}{request.raw_path}"
    return request.raw_path


async def _asgi_body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client is gone")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def _asgi_headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _asgi_url(scope: Scope, headers: Mapping[str, str]) -> str:
    host, port = scope.get("server") or ("localhost", None)
    netloc = headers.get("host") or (f"{host}:{port}" if port else host)
    # Optional in the specification, though every known server gives it.
    raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
    query = scope.get("query_string", b"").decode("latin-1")
    url = f"{scope.get('scheme', 'http')}://{netloc}{raw_path.decode('latin-1')}"
    return f"{url}?{query}" if query else url


async def _asgi_answer(send: Send, status: HTTPStatus) -> None:
    headers = {"Content-Length": "0", **_answer_headers(status)}
    pairs = [(name.lower().encode(), v.encode()) for name, v in headers.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": pairs})
    await send({"type": "http.response.body", "body": b""})
