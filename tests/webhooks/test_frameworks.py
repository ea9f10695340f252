"""Every documented way to put a receiver into a web framework, over real sockets."""

import asyncio
import contextlib
import functools
import logging
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
import django.conf
import fastapi
import flask
import litestar
import litestar.middleware
import pytest
import quart
import starlette.applications
import starlette.datastructures
import starlette.middleware
import starlette.middleware.base
import starlette.requests
import starlette.responses
import starlette.routing
import uvicorn
import werkzeug.datastructures
import werkzeug.serving
from aiohttp import web
from django.http import QueryDict
from yarl import URL

from aiophlo.webhooks.events import Event, MemberLeft, parse_event
from aiophlo.webhooks.receiver import Receiver
from aiophlo.webhooks.servers import (
    ASGIApp,
    aiohttp_handler,
    asgi_app,
    asgi_url,
    wsgi_url,
)
from aiophlo.webhooks.signature import sign, verify_signature

TOKEN = "MjM0NTY3ODkwYWJjZGVmZ2hpams"  # noqa: S105 -- a published test vector's token
LEFT = {"Event": "ConferenceExit", "To": "+14155550101", "ConferenceUUID": "c1"}
PATH = "/phlo/ev%65nts"  # spelt as nobody would write it again after decoding it
QUERY = "?tenant=a%20b&x=%C3%A9"
PUBLIC_URL = "https://cc.example.com"


@pytest.fixture
def events() -> list[Event]:
    """Give a list for what gets through."""
    return []


@pytest.fixture
def receiver(events: list[Event]) -> Receiver:
    """Give a receiver behind a proxy, as most are."""
    return Receiver(events.append, auth_tokens=TOKEN, public_url=PUBLIC_URL)


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:  # noqa: ANN401 -- any framework's
    """Serve an ASGI application with uvicorn; give its base URL."""
    config = uvicorn.Config(app, ws="none", log_config=None, timeout_keep_alive=60)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


async def post(base_url: str, path: str = PATH + QUERY, *, method: str = "POST") -> int:
    """Post an event as Plivo would, following no redirect; give the status."""
    body = LEFT if method == "POST" else {}
    nonce = "12345678901234567890"
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Plivo-Signature-V3": sign(
            method, PUBLIC_URL + path, body, nonce=nonce, auth_token=TOKEN
        ),
        "X-Plivo-Signature-V3-Nonce": nonce,
    }
    url = URL(base_url + path, encoded=True)
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method,
            url,
            data=urlencode(body) if body else None,
            headers=headers,
            allow_redirects=False,
        ) as answer,
    ):
        return answer.status


def starlette_route(receiver: Receiver) -> ASGIApp:
    """Make a Starlette application with a route."""
    route = starlette.routing.Route(
        "/phlo/events", endpoint=asgi_app(receiver), methods=["GET", "POST"]
    )
    return starlette.applications.Starlette(routes=[route])


def starlette_mount(receiver: Receiver) -> ASGIApp:
    """Make a Starlette application that has everything below a path mounted."""
    mount = starlette.routing.Mount("/phlo", app=asgi_app(receiver))
    return starlette.applications.Starlette(routes=[mount])


def fastapi_route(receiver: Receiver) -> ASGIApp:
    """Make a FastAPI application with a route."""
    app = fastapi.FastAPI()
    route = starlette.routing.Route(
        "/phlo/events", endpoint=asgi_app(receiver), methods=["GET", "POST"]
    )
    app.router.routes.append(route)
    return app


def fastapi_add_route(receiver: Receiver) -> ASGIApp:
    """Make a FastAPI application with a route, added by a method typed for views."""
    app = fastapi.FastAPI()
    app.add_route("/phlo/events", asgi_app(receiver))
    return app


def fastapi_mount(receiver: Receiver) -> ASGIApp:
    """Make a FastAPI application that has everything below a path mounted."""
    app = fastapi.FastAPI()
    app.mount("/phlo", asgi_app(receiver))
    return app


def fastapi_function(receiver: Receiver) -> ASGIApp:
    """Make a FastAPI application that calls the receiver itself."""
    app = fastapi.FastAPI()

    @app.api_route("/phlo/events", methods=["GET", "POST"])
    async def phlo_events(request: fastapi.Request) -> fastapi.Response:
        body = await request.body()
        url = asgi_url(request.scope)
        status = receiver.receive(request.method, url, request.headers, body)
        return fastapi.Response(status_code=status)

    return app


def litestar_asgi(receiver: Receiver) -> ASGIApp:
    """Make a Litestar application with an ASGI route handler."""
    app: ASGIApp = litestar.Litestar(
        [litestar.asgi("/phlo/events", copy_scope=True)(asgi_app(receiver))]
    )
    return app


def litestar_function(
    receiver: Receiver, *middlewares: litestar.middleware.ASGIMiddleware
) -> ASGIApp:
    """Make a Litestar application that calls the receiver itself."""

    @litestar.route("/phlo/events", http_method=["GET", "POST"])
    async def phlo_events(
        request: litestar.Request[Any, Any, Any],
    ) -> litestar.Response[None]:
        body = await request.body()
        url = asgi_url(request.scope)
        status = receiver.receive(request.method, url, request.headers, body)
        return litestar.Response(None, status_code=status)

    app: ASGIApp = litestar.Litestar([phlo_events], middleware=middlewares)
    return app


def quart_function(receiver: Receiver) -> ASGIApp:
    """Make a Quart application that calls the receiver itself."""
    app = quart.Quart(__name__)

    @app.route("/phlo/events", methods=["GET", "POST"])
    async def phlo_events() -> tuple[str, int]:
        request = quart.request
        body = await request.get_data()
        url = asgi_url(request.scope)
        return "", receiver.receive(request.method, url, request.headers, body)

    return app


def bare(receiver: Receiver) -> ASGIApp:
    """Give the application itself, which a server takes as well."""
    return asgi_app(receiver)


@pytest.mark.parametrize(
    "make",
    [
        bare,
        starlette_route,
        starlette_mount,
        fastapi_route,
        fastapi_add_route,
        fastapi_mount,
        fastapi_function,
        litestar_asgi,
        litestar_function,
        quart_function,
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_event_arrives_through_asgi_frameworks(
    make: Callable[[Receiver], ASGIApp],
    method: str,
    receiver: Receiver,
    events: list[Event],
) -> None:
    """A handover without events takes every partner for one who didn't answer."""
    path = PATH + QUERY
    if method == "GET":
        path += "&" + urlencode(LEFT)
    async with served(make(receiver)) as base_url:
        assert await post(base_url, path, method=method) == 200
    (event,) = events
    assert isinstance(event, MemberLeft)
    assert event.fields == {"tenant": "a b", "x": "é", **LEFT}


@contextlib.asynccontextmanager
async def served_by_aiohttp(
    receiver: Receiver,
    *middlewares: Any,  # noqa: ANN401 -- aiohttp's type is generic
) -> AsyncIterator[str]:
    """Serve a receiver with aiohttp; give its base URL."""
    app = web.Application(middlewares=middlewares)
    app.router.add_route("*", "/phlo/events", aiohttp_handler(receiver))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_event_arrives_through_aiohttp(
    receiver: Receiver, events: list[Event]
) -> None:
    """The same, for aiohttp's own server."""
    async with served_by_aiohttp(receiver) as base_url:
        assert await post(base_url) == 200
    assert isinstance(events[0], MemberLeft)


@contextlib.contextmanager
def served_by_werkzeug(app: flask.Flask) -> Iterator[str]:
    """Serve a WSGI application in a thread; give its base URL."""
    server = werkzeug.serving.make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def plain_wsgi_url(environ: dict[str, Any]) -> str:
    """Do as on a server that doesn't say how the path was written."""
    hidden = {"RAW_URI", "REQUEST_URI"}
    return wsgi_url({k: v for k, v in environ.items() if k not in hidden})


@pytest.mark.parametrize(
    ("find_url", "path"),
    [(wsgi_url, PATH + QUERY), (plain_wsgi_url, "/phlo/events/%C3%A9%20" + QUERY)],
)
async def test_event_arrives_through_flask(
    find_url: Callable[[dict[str, Any]], str],
    path: str,
    receiver: Receiver,
    events: list[Event],
) -> None:
    """Flask's `request.url` isn't what was requested, so signatures don't fit it."""
    app = flask.Flask(__name__)

    @app.route("/<path:path>", methods=["GET", "POST"])
    def phlo_events(path: str) -> tuple[str, int]:
        assert path
        request = flask.request
        url = find_url(request.environ)
        status = receiver.receive(
            request.method, url, request.headers, request.get_data()
        )
        return "", status

    with served_by_werkzeug(app) as base_url:
        assert await post(base_url, path) == 200
    assert isinstance(events[0], MemberLeft)


def test_wsgi_url_without_a_host_header_names_the_server() -> None:
    """HTTP/1.0 clients send none, and a KeyError would be theirs to cause."""
    environ = {"wsgi.url_scheme": "http", "SERVER_NAME": "a", "SERVER_PORT": "80"}
    assert wsgi_url({**environ, "PATH_INFO": "/x"}) == "http://a:80/x"
    whole = "http://b/x?y"
    assert wsgi_url({**environ, "REQUEST_URI": whole}) == whole


async def test_mount_of_the_very_path_is_redirected_by_starlette(
    receiver: Receiver, events: list[Event]
) -> None:
    """The documentation warns of it; once this fails, it need not any more."""
    app = fastapi.FastAPI()
    app.mount("/phlo/events", asgi_app(receiver))
    async with served(app) as base_url:
        assert await post(base_url, "/phlo/events") == 307
    assert not events


Call = Callable[[starlette.requests.Request], Awaitable[Any]]


async def read_body(request: starlette.requests.Request) -> object:
    """Read the body as bytes."""
    return await request.body()


async def read_json(request: starlette.requests.Request) -> object:
    """Read the body as JSON, which it isn't."""
    with contextlib.suppress(ValueError):
        return await request.json()
    return None


async def read_form(request: starlette.requests.Request) -> object:
    """Read the body as a form, which Starlette then keeps to itself."""
    return await request.form()


async def read_body_and_form(request: starlette.requests.Request) -> object:
    """Read the bytes first, which Starlette keeps for all."""
    await request.body()
    return await request.form()


def with_middleware(receiver: Receiver, read: Call) -> ASGIApp:
    """Make an application with a middleware that reads the body."""

    async def dispatch(
        request: starlette.requests.Request,
        call_next: starlette.middleware.base.RequestResponseEndpoint,
    ) -> starlette.responses.Response:
        await read(request)
        return await call_next(request)

    middleware = starlette.middleware.Middleware(
        starlette.middleware.base.BaseHTTPMiddleware, dispatch=dispatch
    )
    route = starlette.routing.Route("/phlo/events", endpoint=asgi_app(receiver))
    return starlette.applications.Starlette(routes=[route], middleware=[middleware])


@pytest.mark.parametrize("read", [read_body, read_json, read_body_and_form])
async def test_body_that_starlette_kept_is_used(
    read: Call, receiver: Receiver, events: list[Event]
) -> None:
    """A middleware that logs bodies would cost every event."""
    async with served(with_middleware(receiver, read)) as base_url:
        assert await post(base_url) == 200
    assert isinstance(events[0], MemberLeft)


class LitestarReads(litestar.middleware.ASGIMiddleware):  # type: ignore[misc]
    """Reads the body before the route does."""

    def __init__(self, read: str) -> None:
        self._read = read

    async def handle(self, scope: Any, receive: Any, send: Any, next_app: Any) -> None:  # noqa: ANN401 -- ASGI's
        """Read, then go on."""
        await getattr(litestar.Request(scope, receive), self._read)()
        await next_app(scope, receive, send)


@pytest.mark.parametrize("read", ["body", "form"])
async def test_body_that_litestar_kept_is_used(
    read: str, receiver: Receiver, events: list[Event]
) -> None:
    """A middleware that logs bodies would cost every event."""
    app = litestar_function(receiver, LitestarReads(read))
    async with served(app) as base_url:
        assert await post(base_url) == 200
    assert isinstance(events[0], MemberLeft)


@pytest.mark.parametrize("read", ["get_data", "form", "values"])
async def test_body_that_quart_kept_is_used(
    read: str, receiver: Receiver, events: list[Event]
) -> None:
    """A hook that logs bodies would cost every event."""
    app: Any = quart_function(receiver)

    @app.before_request
    async def look() -> None:
        found = getattr(quart.request, read)
        await (found() if callable(found) else found)

    async with served(app) as base_url:
        assert await post(base_url) == 200
    assert isinstance(events[0], MemberLeft)


@pytest.mark.parametrize("allow_unsigned", [False, True])
async def test_body_that_a_middleware_has_eaten_is_named_as_such(
    allow_unsigned: bool, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever looks for a proxy's fault looks in the wrong place, and for hours."""
    receiver = Receiver(
        events.append,
        auth_tokens=() if allow_unsigned else TOKEN,
        allow_unsigned=allow_unsigned,
        public_url=PUBLIC_URL,
    )
    async with served(with_middleware(receiver, read_form)) as base_url:
        assert await post(base_url) == 500
    assert not events
    assert "was read before" in caplog.text
    assert "public_url" not in caplog.text


async def test_body_that_was_taken_from_the_server_is_named_too(
    events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """A bare ASGI middleware leaves nothing, not even an end, to wait for."""
    receiver = Receiver(events.append, auth_tokens=TOKEN, body_within=0.05)
    app = asgi_app(receiver)

    async def middleware(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 -- ASGI's
        await starlette.requests.Request(scope, receive).body()
        await app(scope, receive, send)

    async with served(middleware) as base_url:
        assert await post(base_url) == 408
    assert not events
    assert "was read by something else before" in caplog.text


def reading_middleware(read: str) -> Any:  # noqa: ANN401 -- aiohttp's type is generic
    """Make a middleware of aiohttp that reads the body by the method `read`."""

    @web.middleware
    async def middleware(
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        if read == "stream":
            await request.content.read()
        else:
            await getattr(request, read)()
        return await handler(request)

    return middleware


@pytest.mark.parametrize("read", ["read", "post", "text"])
async def test_body_that_aiohttp_kept_is_used(
    read: str, receiver: Receiver, events: list[Event]
) -> None:
    """A middleware that logs bodies would cost every event."""
    async with served_by_aiohttp(receiver, reading_middleware(read)) as base_url:
        assert await post(base_url) == 200
    assert isinstance(events[0], MemberLeft)


async def test_body_that_aiohttp_kept_is_bounded(events: list[Event]) -> None:
    """What may come directly and what may come by a middleware are the same."""
    receiver = Receiver(
        events.append, auth_tokens=TOKEN, public_url=PUBLIC_URL, max_body=3
    )
    async with served_by_aiohttp(receiver, reading_middleware("read")) as base_url:
        assert await post(base_url) == 413
    assert not events


async def test_body_that_aiohttp_did_not_keep_is_named_as_such(
    receiver: Receiver, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever looks for a proxy's fault looks in the wrong place, and for hours."""
    async with served_by_aiohttp(receiver, reading_middleware("stream")) as base_url:
        assert await post(base_url) == 500
    assert not events
    assert "was read before" in caplog.text
    assert "public_url" not in caplog.text


async def test_body_that_drips_is_not_waited_for_by_uvicorn(
    events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody could keep a thousand connections open, a byte at a time."""
    receiver = Receiver(events.append, allow_unsigned=True, body_within=0.1)
    async with served(asgi_app(receiver)) as base_url:
        assert await drip(base_url) == 408
    assert not events
    assert "did not come within 0.1 s" in caplog.text


async def test_body_that_drips_is_not_waited_for_by_aiohttp(
    events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody could keep a thousand connections open, a byte at a time."""
    receiver = Receiver(events.append, allow_unsigned=True, body_within=0.1)
    async with served_by_aiohttp(receiver) as base_url:
        assert await drip(base_url) == 408
    assert not events
    assert [r.levelno for r in caplog.records if r.levelno >= logging.WARNING] == [
        logging.WARNING
    ]


async def drip(base_url: str) -> int:
    """Send a body byte by byte until the server has closed; give its status."""
    host, _, port = base_url.removeprefix("http://").rpartition(":")
    loop, answer = asyncio.get_running_loop(), b""
    with socket.socket() as client:
        client.setblocking(False)  # noqa: FBT003 -- its only parameter
        await loop.sock_connect(client, (host, int(port)))
        head = b"POST /phlo/events HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n"
        await loop.sock_sendall(client, head)

        async def drop() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await loop.sock_sendall(client, b"x")
                    await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drop())
        with contextlib.suppress(ConnectionError):  # a reset, for bytes left unread
            async with asyncio.timeout(5):  # aiohttp would linger for ten
                while chunk := await loop.sock_recv(client, 4096):
                    answer += chunk
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
    assert b"connection: close" in answer.lower()
    return int(answer.split()[1])


REPEATED = [("Digits", "1"), ("Name", "a"), ("Digits", "2")]


def query_dict() -> QueryDict:
    """Make what Django keeps forms in."""
    if not django.conf.settings.configured:
        django.conf.settings.configure()
    return QueryDict(urlencode(REPEATED))


@pytest.mark.parametrize(
    "make",
    [
        lambda: starlette.datastructures.FormData([*REPEATED]),
        functools.partial(starlette.datastructures.QueryParams, REPEATED),
        functools.partial(werkzeug.datastructures.MultiDict, REPEATED),
        functools.partial(werkzeug.datastructures.ImmutableMultiDict, REPEATED),
        query_dict,
    ],
    ids=["FormData", "QueryParams", "MultiDict", "ImmutableMultiDict", "QueryDict"],
)
def test_repeated_fields_of_a_framework_are_all_read(make: Callable[[], Any]) -> None:
    """Each leaves some out of `items()`, and the signature wouldn't fit the rest."""
    url, nonce = f"{PUBLIC_URL}/phlo/events", "1"
    fields = {"Digits": ["1", "2"], "Name": "a"}
    signature = sign("POST", url, fields, nonce=nonce, auth_token=TOKEN)
    headers = {
        "X-Plivo-Signature-V3": signature,
        "X-Plivo-Signature-V3-Nonce": nonce,
    }
    assert verify_signature("POST", url, headers, make(), auth_tokens=TOKEN)
    assert parse_event(make()).fields == fields
