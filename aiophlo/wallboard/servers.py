"""Adapters of a wallboard: for aiohttp, and for any ASGI server."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs

from aiohttp import web

from aiophlo.pool import SessionPool
from aiophlo.wallboard.access import Asked
from aiophlo.wallboard.board import Wallboard
from aiophlo.wallboard.feed import MOST, Feed, TooManyError
from aiophlo.wallboard.site import FIRST, Answer, Site

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_WRITE_WITHIN: Final = 30.0  # seconds; who reads nothing for so long has gone
_Write: TypeAlias = Callable[[bytes], Awaitable[None]]


def aiohttp_app(
    pool: SessionPool | Wallboard, *, token: str | None = None
) -> web.Application:
    """Return the wallboard as an aiohttp application, to run or to mount.

    ::

        app.add_subapp("/wall", aiohttp_app(pool, token=secret))

    Args:
        pool: Whose; or a `Wallboard` that receivers tell of webhooks, too.
        token: What who sees it must know: 16 characters or more. None shows it to
            this machine alone, and to nobody through a proxy.

    Raises:
        InvalidInputError: An argument can't be right.
    """
    site = Site(_board(pool), token)

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = site.answer(_asked_of_aiohttp(request))
        if answer.body is not None:
            return web.Response(
                status=answer.status, headers=answer.headers, body=answer.body
            )
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        if request.method == "HEAD":
            return response
        if site.board.feed.watchers >= MOST:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        await response.prepare(request)
        try:
            await _pass_on(site.board.feed, response.write)
        except TimeoutError:  # closed in order, it would wait for the reader, too
            if request.transport is not None:
                request.transport.abort()
        except (ConnectionError, TooManyError):
            pass
        return response

    async def close(_: web.Application) -> None:
        site.board.feed.close()

    app = web.Application()
    app.router.add_route("*", "", handle)
    app.router.add_route("*", "/{path:.*}", handle)
    app.on_shutdown.append(close)
    return app


def asgi_app(pool: SessionPool | Wallboard, *, token: str | None = None) -> AsgiApp:
    """Return the wallboard as an ASGI application, to run or to mount.

    ::

        app.mount("/wall", asgi_app(pool, token=secret))  # Starlette, FastAPI

    Args:
        pool: As for `aiohttp_app`.
        token: As for `aiohttp_app`.

    Raises:
        InvalidInputError: An argument can't be right.
    """
    site = Site(_board(pool), token)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send, site.board.feed)
        elif scope["type"] == "http":
            answer = site.answer(_asked_of_asgi(scope))
            await _answer_asgi(answer, site.board.feed, scope, receive, send)

    return app


def _board(pool: SessionPool | Wallboard) -> Wallboard:
    return pool if isinstance(pool, Wallboard) else Wallboard(pool)


async def _pass_on(feed: Feed, write: _Write) -> None:
    await write(FIRST)
    async with contextlib.aclosing(feed.watch()) as snapshots:
        async for snapshot in snapshots:
            async with asyncio.timeout(_WRITE_WITHIN):
                await write(b"data: %s\n\n" % snapshot)


def _asked_of_aiohttp(request: web.Request) -> Asked:
    path = request.match_info.get("path")
    is_below_nothing = path is None and request.path != "/"  # mounted, without a slash
    return Asked(
        method=request.method,
        path="" if is_below_nothing else f"/{path or ''}",
        headers=_joined(request.headers.items()),
        token=request.query.get("token"),
        peer=_peer(request.transport),
        http=f"{request.version.major}.{request.version.minor}",
        secure=request.secure,
        name=request.path.rpartition("/")[2],
    )


def _peer(transport: asyncio.BaseTransport | None) -> str | None:
    peer = None if transport is None else transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else None


def _asked_of_asgi(scope: Scope) -> Asked:
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    name = path.rpartition("/")[2]
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    client = scope.get("client")
    return Asked(
        method=scope["method"],
        path=path,
        headers=_headers_of(scope),
        token=query["token"][0] if query.get("token") else None,
        peer=client[0] if client else None,
        http=scope.get("http_version", "1.1"),
        secure=scope.get("scheme") == "https",
        name=name,
    )


def _headers_of(scope: Scope) -> Mapping[str, str]:
    pairs = scope.get("headers", ())
    return _joined((one.decode("latin-1"), two.decode("latin-1")) for one, two in pairs)


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by name; over HTTP/2 each cookie may have one of its own."""
    headers: dict[str, str] = {}
    for mixed_case, value in pairs:
        name = mixed_case.lower()
        between = "; " if name == "cookie" else ", "
        headers[name] = f"{headers[name]}{between}{value}" if name in headers else value
    return headers


async def _answer_asgi(
    answer: Answer, feed: Feed, scope: Scope, receive: Receive, send: Send
) -> None:
    status, headers = answer.status, dict(answer.headers)
    streams = answer.body is None and scope["method"] != "HEAD"
    if streams and feed.watchers >= MOST:
        status, headers, streams = HTTPStatus.SERVICE_UNAVAILABLE, {}, False
    body = answer.body or b""
    if not streams:
        headers["Content-Length"] = str(len(body))
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": pairs})
    if not streams:
        await send(_body(b"" if scope["method"] == "HEAD" else body))
        return
    await _stream_asgi(feed, receive, send)


async def _stream_asgi(feed: Feed, receive: Receive, send: Send) -> None:
    """Send events until the browser has gone, which ASGI tells in its own way."""

    async def write(content: bytes) -> None:
        if _is_uvicorn_stopping():
            feed.close()
            return
        await send(_body(content, more=True))

    async def pass_on() -> None:
        try:
            await _pass_on(feed, write)
            await send(_body(b""))
        except TimeoutError:
            await _end_when_read(feed, send)
        except (OSError, TooManyError):
            pass

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = {asyncio.ensure_future(pass_on()), asyncio.ensure_future(until_gone())}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_uvicorn_stopping() -> bool:
    """Say whether uvicorn was told to stop, which it tells once all answers have ended.

    Its handler of signals is a method of the server, whose `should_exit` it sets.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", None) is True


async def _end_when_read(feed: Feed, send: Send) -> None:
    """End an answer that nobody reads; then its browser, if it wakes, comes again.

    ASGI can't abort it, so it counts as a watcher for as long as it is open.
    """
    ending = asyncio.ensure_future(send(_body(b"")))
    try:
        async with contextlib.aclosing(feed.watch()) as snapshots:
            async for _ in snapshots:
                if ending.done() or _is_uvicorn_stopping():
                    return
    finally:
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)


def _body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def _live(receive: Receive, send: Send, feed: Feed) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            feed.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
