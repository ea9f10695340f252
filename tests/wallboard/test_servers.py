"""The page over HTTP: mounted anywhere, behind a proxy, strict, and read-only."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import attrs
import pytest
import uvicorn
from aiohttp import web
from starlette.applications import Starlette

from aiophlo import SessionPool
from aiophlo.simulator import Simulator
from aiophlo.wallboard import Wallboard, aiohttp_app, asgi_app, servers
from aiophlo.wallboard.access import COOKIE, cookie_of
from aiophlo.wallboard.feed import Feed
from tests.support.doubles import pool_of
from tests.support.ports import free_port

BROWSERS: Final = {"Connection": "keep-alive"}
FROM_HERE: Final = b"Host: localhost\r\nConnection: keep-alive"
TOKEN: Final = "a token/that nobody&guesses%41"  # noqa: S105 -- made up


@attrs.frozen
class Site:
    """A wallboard that is served.

    Attributes:
        url: Where, with a slash at its end.
        board: The wallboard.
        session: Asks it.
    """

    url: str
    board: Wallboard
    session: aiohttp.ClientSession

    async def get(self, path: str = "", **options: Any) -> aiohttp.ClientResponse:  # noqa: ANN401 -- aiohttp's own
        """Return an answer, read to its end."""
        options.setdefault("allow_redirects", False)
        async with self.session.get(self.url + path, **options) as answer:
            await answer.read()
            return answer


@contextlib.asynccontextmanager
async def by_aiohttp(board: Wallboard, token: str | None) -> AsyncIterator[str]:
    """Serve it below a path of an aiohttp application."""
    app = web.Application()
    app.add_subapp("/team/wall", aiohttp_app(board, token=token))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/team/wall/"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def by_uvicorn(board: Wallboard, token: str | None) -> AsyncIterator[str]:
    """Serve it below a path of a Starlette application."""
    app = Starlette()
    app.mount("/team/wall", asgi_app(board, token=token))
    port = free_port()
    config = uvicorn.Config(app, port=port, log_level="error")
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:  # noqa: ASYNC110 -- uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}/team/wall/"
    finally:
        server.should_exit = True
        await serving


SERVERS: Final = pytest.mark.parametrize("serve", [by_aiohttp, by_uvicorn])


@pytest.fixture
async def open_pool(simulator: Simulator) -> AsyncIterator[SessionPool]:
    """Give a pool."""
    async with pool_of(simulator) as pool:
        yield pool


@contextlib.asynccontextmanager
async def served(
    serve: Callable[..., Any], pool: SessionPool, token: str | None = None
) -> AsyncIterator[Site]:
    """Serve a pool's wallboard."""
    board = Wallboard(pool)
    jar = aiohttp.CookieJar(unsafe=True)  # of an IP address, too
    async with (
        serve(board, token) as url,
        aiohttp.ClientSession(cookie_jar=jar, headers=BROWSERS) as session,
    ):
        yield Site(url, board, session)


@SERVERS
async def test_page_comes_with_its_files_and_no_other_host(
    serve: Callable[..., Any], open_pool: SessionPool
) -> None:
    """A wall in a locked network shows all the same."""
    async with served(serve, open_pool) as site:
        for path, kind in (
            ("", "text/html"),
            ("wallboard.css", "text/css"),
            ("wallboard.js", "text/javascript"),
        ):
            answer = await site.get(path)
            text = await answer.text()
            assert (answer.status, answer.content_type) == (200, kind)
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "//" not in text.replace("http://www.w3.org/2000/svg", "").replace(
                "// ", ""
            )
            assert "style=" not in text
            assert "innerHTML" not in text


@SERVERS
async def test_snapshots_come_by_themselves(
    serve: Callable[..., Any], open_pool: SessionPool
) -> None:
    """Nobody presses a key on a wall."""
    async with (
        served(serve, open_pool) as site,
        site.session.get(f"{site.url}events") as answer,
    ):
        assert answer.content_type == "text/event-stream"
        assert answer.headers["X-Accel-Buffering"] == "no"
        assert await answer.content.readuntil(b"\n\n") == b"retry: 1000\n\n"
        times = []
        for _ in range(2):
            event = await answer.content.readuntil(b"\n\n")
            times.append(json.loads(event.removeprefix(b"data: "))["at"])
        assert 0.5 < times[1] - times[0] < 2.5


@SERVERS
async def test_watcher_that_leaves_is_forgotten(
    serve: Callable[..., Any], open_pool: SessionPool
) -> None:
    """A wall that reconnects for weeks would fill the process."""
    async with served(serve, open_pool) as site:
        async with site.session.get(f"{site.url}events") as answer:
            await answer.content.readuntil(b"data")
            assert site.board.feed.watchers == 1
        async with asyncio.timeout(5.0):
            while site.board.feed.watchers:  # noqa: ASYNC110 -- until it is noticed
                await asyncio.sleep(0.01)


async def test_watcher_that_reads_nothing_is_owed_no_more_than_a_little(
    open_pool: SessionPool,
) -> None:
    """A phone that sleeps for an hour must not cost an hour of snapshots."""
    made = 0

    def big() -> dict[str, Any]:
        nonlocal made
        made += 1
        return {"number": made, "filled": "x" * 100_000}

    board = Wallboard(open_pool)
    board.feed = Feed(big, every=0.01)
    app = web.Application()
    app.add_subapp("/wall", aiohttp_app(board))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0][:2], limit=1)
    writer.write(b"GET /wall/events HTTP/1.1\r\n%s\r\n\r\n" % FROM_HERE)
    async with asyncio.timeout(60.0):
        while made < 30:  # noqa: ASYNC110 -- 3 MB, if nothing held them back
            await asyncio.sleep(0.05)
    assert runner.server is not None
    (connection,) = runner.server.connections
    assert connection.transport is not None
    assert connection.transport.get_write_buffer_size() < 300_000
    writer.transport.abort()
    del reader
    await runner.cleanup()


_SNAPSHOT: Final = 10_000_000  # bytes: more than the kernel keeps


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Give what is set once ASGI's answer is to end, as nobody reads it."""
    event, end = asyncio.Event(), servers._end_when_read  # noqa: SLF001 -- when it is called

    async def note(*about: Any) -> None:  # noqa: ANN401 -- its own arguments
        event.set()
        await end(*about)

    monkeypatch.setattr(servers, "_end_when_read", note)
    return event


@pytest.mark.parametrize(("serve", "counted"), [(by_aiohttp, 0), (by_uvicorn, 1)])
async def test_watcher_that_reads_nothing_is_let_go_or_counted(
    serve: Callable[..., Any],
    counted: int,
    open_pool: SessionPool,
    given_up: asyncio.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else connections of tablets that sleep use up the files that dials need."""
    monkeypatch.setattr("aiophlo.wallboard.servers._WRITE_WITHIN", 0.2)
    board = Wallboard(open_pool)
    board.feed = Feed(lambda: {"filled": "x" * _SNAPSHOT}, every=0.2)
    async with serve(board, None) as url:
        port = int(url.split(":")[2].partition("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(b"GET /team/wall/events HTTP/1.1\r\n%s\r\n\r\n" % FROM_HERE)
        try:
            async with asyncio.timeout(20.0):
                while not board.feed.watchers:  # noqa: ASYNC110 -- until it has come
                    await asyncio.sleep(0.01)
                while board.feed.watchers and not given_up.is_set():  # noqa: ASYNC110 -- or let go
                    await asyncio.sleep(0.01)
                while board.feed.watchers != counted:  # noqa: ASYNC110 -- from one watch to the next
                    await asyncio.sleep(0.01)
            assert await _is_ended(reader, whole=counted > 0)
        finally:
            writer.transport.abort()


async def test_reader_that_sleeps_keeps_no_answer_open_when_uvicorn_stops(
    open_pool: SessionPool, given_up: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deploy would wait for somebody's tablet."""
    monkeypatch.setattr("aiophlo.wallboard.servers._WRITE_WITHIN", 0.05)
    board = Wallboard(open_pool)
    board.feed = Feed(dict, every=0.05)
    written = 0

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal written
        written += message["type"] == "http.response.body"
        if written > 1:
            await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/events",
        "query_string": f"token={quote(TOKEN)}".encode(),
    }
    app = asgi_app(board, token=TOKEN)
    answering = asyncio.ensure_future(app(scope, receive, send))
    async with asyncio.timeout(5.0):
        await given_up.wait()
        while not board.feed.watchers:  # noqa: ASYNC110 -- from one watch to the next
            await asyncio.sleep(0.01)
        monkeypatch.setattr(
            "aiophlo.wallboard.servers._is_uvicorn_stopping", lambda: True
        )
        await answering
    assert board.feed.watchers == 0


async def _is_ended(reader: asyncio.StreamReader, *, whole: bool) -> bool:
    """Read on as a tablet that wakes: its browser has to see that it must come again.

    Args:
        reader: Of its connection.
        whole: Whether the answer ends in order; else its rest is lost.
    """
    read, last = 0, b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10.0):
            while content := await reader.read(1_000_000):
                read, last = read + len(content), (last + content)[-5:]
                if last == b"0\r\n\r\n":
                    return whole
    return read < _SNAPSHOT and not whole


@SERVERS
async def test_page_is_read_only_and_has_no_other_pages(
    serve: Callable[..., Any], open_pool: SessionPool
) -> None:
    """Whoever finds it can change nothing by it."""
    async with served(serve, open_pool) as site:
        async with site.session.post(site.url) as answer:
            assert answer.status == 405
        assert (await site.get("../../etc/passwd")).status == 404
        assert (await site.get("board.py")).status == 404
        snapshot = await (await site.get("snapshot")).json()
        assert snapshot["troubles"] == []
        async with site.session.head(f"{site.url}events") as answer:
            assert answer.status == 200


async def test_path_without_its_slash_leads_to_the_page(open_pool: SessionPool) -> None:
    """Its files are beside it, also behind a proxy that adds to the path."""
    async with served(by_aiohttp, open_pool, TOKEN) as site:
        url = site.url.rstrip("/")
        async with site.session.get(
            url, params={"token": TOKEN}, allow_redirects=False
        ) as answer:
            assert answer.headers["Location"].startswith("wall/?token=")
        async with site.session.get(url, params={"token": TOKEN}) as answer:
            assert (answer.status, str(answer.url)) == (200, site.url)


async def test_application_runs_by_itself_too(open_pool: SessionPool) -> None:
    """Mounted nowhere, it led from the page to the page."""
    runner = web.AppRunner(aiohttp_app(open_pool, token=TOKEN), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    jar = aiohttp.CookieJar(unsafe=True)
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with (
        aiohttp.ClientSession(cookie_jar=jar) as session,
        session.get(url, params={"token": TOKEN}) as answer,
    ):
        assert (answer.status, str(answer.url)) == (200, url)
        assert "wallboard.js" in await answer.text()
    await runner.cleanup()


@SERVERS
async def test_token_becomes_a_cookie_and_leaves_the_url(
    serve: Callable[..., Any], open_pool: SessionPool
) -> None:
    """What is in a URL is in histories, logs and on the wall."""
    async with served(serve, open_pool, TOKEN) as site:
        for path in ("", "events", "snapshot", "wallboard.js"):
            assert (await site.get(path)).status == 403
        answer = await site.get("", params={"token": TOKEN})
        assert (answer.status, answer.headers["Location"]) == (302, "./")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert TOKEN not in cookie
        assert (await site.get("snapshot")).status == 200


async def test_cookies_that_come_one_by_one_are_all_read(
    open_pool: SessionPool,
) -> None:
    """Over HTTP/2 a browser may send each cookie in a header of its own."""
    app, sent = asgi_app(open_pool, token=TOKEN), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    ours = f"{COOKIE}={cookie_of(TOKEN)}".encode()
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "http_version": "2",
        "headers": [(b"cookie", ours), (b"cookie", b"session=1")],
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 200


@SERVERS
async def test_bearer_may_ask_too(
    serve: Callable[..., Any], open_pool: SessionPool
) -> None:
    """`aiophlo top` has no cookies."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with served(serve, open_pool, TOKEN) as site:
        assert (await site.get("snapshot", headers=headers)).status == 200
        wrong = {"Authorization": "Bearer no"}
        assert (await site.get("snapshot", headers=wrong)).status == 403


@SERVERS
async def test_request_of_a_proxy_is_refused_without_a_token(
    serve: Callable[..., Any], open_pool: SessionPool
) -> None:
    """It speaks for the world, from this machine."""
    headers = {"X-Forwarded-For": "192.0.2.1"}
    async with served(serve, open_pool) as site:
        answer = await site.get("", headers=headers)
        assert answer.status == 403
        assert "token" in await answer.text()


@SERVERS
async def test_server_that_stops_waits_for_no_wall(
    serve: Callable[..., Any], open_pool: SessionPool
) -> None:
    """A wall is never closed: a deploy would wait until the process is killed."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(8.0), aiohttp.ClientSession() as session:
        async with serve(Wallboard(open_pool), None) as url:
            answer = await session.get(f"{url}events")
            await answer.content.readuntil(b"data")
            began = loop.time()
        assert loop.time() - began < 3.0  # with the page still open
