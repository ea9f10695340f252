"""Handlers that carry requests to a `Receiver`: aiohttp.web, ASGI, and WSGI's URLs.

aiohttp's server is loaded only when its handler is asked for.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from aiophlo.webhooks.receiver import METHODS, Receiver

if TYPE_CHECKING:
    from aiohttp import web
else:

    class _Web:
        """aiohttp.web, a server that few need, loaded when it is first asked for."""

        def __getattr__(self, name: str) -> object:
            return getattr(import_module("aiohttp.web"), name)

    web = _Web()

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
WSGIEnviron: TypeAlias = Mapping[str, Any]

_UNREAD = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def aiohttp_handler(
    receiver: Receiver,
) -> "Callable[[web.Request], Awaitable[web.StreamResponse]]":
    """Return a handler for aiohttp.web that carries requests to `receiver`.

    `app.router.add_route("*", "/phlo/events", …)` takes it.
    """

    async def handle(request: web.Request) -> web.StreamResponse:
        body: bytes | None = b""
        if request.method == "POST":
            try:
                async with asyncio.timeout(receiver.body_within):
                    body = await _aiohttp_body(request, receiver.max_body)
            except TimeoutError:
                receiver.not_received(HTTPStatus.REQUEST_TIMEOUT)
                return await _answer_and_close(request)
            except (ConnectionError, web.RequestPayloadError):  # gone, or badly packed
                status = receiver.not_received(HTTPStatus.BAD_REQUEST)
                return web.Response(status=status)
        if body is None:
            status = receiver.not_received(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return web.Response(status=status)
        status = receiver.receive(
            request.method, _aiohttp_url(request), _aiohttp_headers(request), body
        )
        return web.Response(status=status, headers=_answer_headers(status))

    return handle


def asgi_app(receiver: Receiver) -> ASGIApp:
    """Return an ASGI application that carries requests to `receiver`.

    Returns:
        What Starlette's `Route("/phlo/events", endpoint=…)`, also in FastAPI's
        `app.router.routes`, Litestar's `asgi("/phlo/events")(…)` or an ASGI server
        takes. `add_route` of both takes it, too, though it is typed for a function
        of a request. `Mount("/phlo", app=…)` takes it too, for every path
        below `/phlo/`; a `Mount` of the very path that Plivo calls answers 307,
        and its events are lost. It raises `ValueError` for anything but HTTP, as
        the ASGI specification asks of it.
    """
    return _ASGIApp(receiver)


class _ASGIApp:
    """An object, for Starlette takes a function for something else."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError("expected HTTP")
        try:
            status = await self._status(scope, receive)
        except ConnectionError:
            self._receiver.not_received(HTTPStatus.BAD_REQUEST)
            return
        await _asgi_answer(scope, send, status)

    async def _status(self, scope: Scope, receive: Receive) -> HTTPStatus:
        body: bytes | None = b""
        if scope["method"] == "POST":
            try:
                async with asyncio.timeout(self._receiver.body_within):
                    body = await _read(_asgi_body(receive), self._receiver.max_body)
            except TimeoutError:
                return self._receiver.not_received(HTTPStatus.REQUEST_TIMEOUT)
        if body is None:
            return self._receiver.not_received(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        headers = _asgi_headers(scope)
        return self._receiver.receive(scope["method"], asgi_url(scope), headers, body)


def asgi_url(scope: Mapping[str, Any]) -> str:
    """Return the URL of an ASGI request as it came, for `Receiver.receive`.

    Args:
        scope: The request's scope, such as Quart's `request.scope`.

    Returns:
        The URL with its query, its path encoded as it was.
    """
    host, port = scope.get("server") or ("localhost", None)
    hosts = [value for name, value in scope["headers"] if name.lower() == b"host"]
    given = hosts[-1].decode("latin-1") if hosts else ""
    netloc = given or (f"{host}:{port}" if port else host)
    # Optional in the specification, though every known server gives it.
    raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
    query = scope.get("query_string", b"").decode("latin-1")
    # Some servers have the query in raw_path as well.
    path = raw_path.decode("latin-1").partition("?")[0]
    url = f"{scope.get('scheme', 'http')}://{netloc}{path}"
    return f"{url}?{query}" if query else url


def wsgi_url(environ: WSGIEnviron) -> str:
    """Return the URL of a WSGI request as it came, for `Receiver.receive`.

    Args:
        environ: The request's environment: Flask's `request.environ`, Django's
            `request.META`.

    Returns:
        The URL with its query. Its path is encoded as it was, where the server
        says how (gunicorn, uWSGI, mod_wsgi, werkzeug); else as is usual.

    Source:
        PEP 3333, "URL Reconstruction".
    """
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if not target:
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        query = environ.get("QUERY_STRING", "")
        target = quote(path, encoding="latin-1") + (f"?{query}" if query else "")
    if not target.startswith("/"):
        return str(target)
    name, port = environ["SERVER_NAME"], environ["SERVER_PORT"]
    netloc = environ.get("HTTP_HOST") or f"{name}:{port}"
    return f"{environ['wsgi.url_scheme']}://{netloc}{target}"


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
        return {"Allow": ", ".join(METHODS)}
    return {}


async def _aiohttp_body(request: "web.Request", max_body: int) -> bytes | None:
    if not request.content.at_eof():
        return await _read(request.content.iter_any(), max_body)
    return await request.read()  # what a middleware's read() or post() has kept


def _aiohttp_headers(request: "web.Request") -> Mapping[str, object]:
    return {name: request.headers.getall(name) for name in request.headers}


def _aiohttp_url(request: "web.Request") -> str:
    # As it came: a URL that was parsed and written again may differ from the
    # signed one.
    if request.raw_path.startswith("/"):
        return f"{request.scheme}://{request.host}{request.raw_path}"
    return request.raw_path


async def _answer_and_close(request: "web.Request") -> "web.StreamResponse":
    """Answer 408 and close; else the server would hear the client out for longer."""
    from aiohttp import web  # noqa: PLC0415 -- loaded by now

    response = web.Response(status=HTTPStatus.REQUEST_TIMEOUT)
    response.force_close()
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        await response.write_eof()
    if request.transport is not None:
        request.transport.close()
    return response


async def _asgi_body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client is gone")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def _asgi_headers(scope: Scope) -> dict[str, object]:
    headers: dict[str, list[str]] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").lower()
        headers.setdefault(name, []).append(raw_value.decode("latin-1"))
    return {**headers}


async def _asgi_answer(scope: Scope, send: Send, status: HTTPStatus) -> None:
    headers = {"Content-Length": "0", **_answer_headers(status)}
    is_http_1 = scope.get("http_version", "1.1").startswith("1")
    if status in _UNREAD and is_http_1:
        headers["Connection"] = "close"  # what is left of the body is not wanted
    pairs = [(name.lower().encode(), v.encode()) for name, v in headers.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": pairs})
    await send({"type": "http.response.body", "body": b""})
