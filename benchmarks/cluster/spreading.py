"""A balancer for events: passes each on to any of some URLs."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import aiohttp
import attrs
from aiohttp import web

_TIMEOUT: Final = aiohttp.ClientTimeout(total=30.0)


@attrs.define
class Spreader:
    """What passes events on.

    Attributes:
        choose: Gives the URLs of the next one: the first that can be reached has it.
        url: Where it takes them.
        passed: How many it passed on.
        lost: How many of them nobody answered.
    """

    choose: Callable[[], list[str]]
    url: str = ""
    passed: int = 0
    lost: int = 0

    async def pass_on(
        self, session: aiohttp.ClientSession, request: web.Request
    ) -> web.Response:
        """Pass one on, with the headers as they came, Host among them: it is signed."""
        body = await request.read()
        self.passed += 1
        for url in self.choose():
            try:
                async with session.post(
                    url, data=body, headers=request.headers
                ) as answer:
                    return web.Response(status=answer.status)
            except aiohttp.ClientConnectorError:
                continue  # it has got nothing
            except (aiohttp.ClientError, TimeoutError):
                break
        self.lost += 1
        return web.Response(status=502)


@contextlib.asynccontextmanager
async def spreading(
    choose: Callable[[], list[str]], path: str
) -> AsyncIterator[Spreader]:
    """Pass each post on; each on a connection of its own, so that any process has it.

    Args:
        choose: Gives the URLs of the next one, in the order in which to try them.
        path: Theirs, which is signed: its own is the same.
    """
    spreader = Spreader(choose)
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:

        async def take(request: web.Request) -> web.Response:
            return await spreader.pass_on(session, request)

        app = web.Application()
        app.router.add_post(path, take)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            spreader.url = f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
            yield spreader
        finally:
            await runner.cleanup()
