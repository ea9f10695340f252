"""A service that hands customers over, under a real server, to be told to stop.

Arguments: the server (aiohttp, uvicorn or gunicorn), seconds to drain. The simulator's
base URL and token come from the environment. Prints its own base URL. It and its
workers, one process group, end with the test that holds its standard input.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from aiophlo import Account, EventRouter, PhloError, SessionPool
from aiophlo.draining import drain_on_signal
from aiophlo.simulator import AUTH_ID
from aiophlo.webhooks.receiver import Receiver
from aiophlo.webhooks.servers import aiohttp_handler, asgi_app
from tests.support.handover_stage import AGENT, CUSTOMER, FIRST, NODE, PHLO
from tests.support.ports import free_port

TOKEN = os.environ.get("TOKEN", "")
WITHIN = float(os.environ.get("WITHIN", "60"))


class Service:
    """What both servers serve.

    Attributes:
        receiver: Takes the events.
        pool: Sends.
    """

    def __init__(self) -> None:
        threading.Thread(target=end_with_the_test, daemon=True).start()
        self.router = EventRouter()
        self.receiver = Receiver(self.router.feed, auth_tokens=TOKEN)
        account = Account(AUTH_ID, TOKEN, quota=None)
        self.pool = SessionPool(account, base_url=os.environ["BASE_URL"])
        self.clicked = asyncio.Event()

    async def transfer(self) -> str:
        """Hand the customer over, once the agent has clicked."""
        try:
            async with self.pool.consult(
                self.pool.phlo(PHLO).multi_party_call(NODE),
                agent=AGENT,
                customer=CUSTOMER,
                to=FIRST,
                router=self.router,
                told_within=0.1,
            ) as consult:
                ended = asyncio.ensure_future(consult.ended())
                clicked = asyncio.ensure_future(self.clicked.wait())
                await asyncio.wait({ended, clicked}, return_when="FIRST_COMPLETED")
                if clicked.done():
                    await consult.complete()
                    return "completed"
                return "ended"
        except PhloError as error:
            return type(error).__name__


def end_with_the_test() -> None:
    """Kill this process group once the test has closed our standard input."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


async def serve_aiohttp() -> None:
    """Serve as a program that handles signals itself."""
    service = Service()
    routes = web.RouteTableDef()

    @routes.post("/transfers")
    async def transfer(_: web.Request) -> web.Response:
        return web.json_response(await service.transfer())

    @routes.post("/click")
    async def click(_: web.Request) -> web.Response:
        service.clicked.set()
        return web.json_response("clicked")

    app = web.Application()
    app.add_routes(routes)
    app.router.add_route("*", "/events", aiohttp_handler(service.receiver))
    async with service.pool:
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)  # noqa: T201
        await stop.wait()
        await service.pool.drain(within=WITHIN)  # while events still arrive
        await runner.cleanup()


def starlette() -> Starlette:
    """Make what uvicorn serves, also below gunicorn."""
    service = Service()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with service.pool:
            with drain_on_signal(service.pool, within=WITHIN):
                print(f"http://127.0.0.1:{os.environ['PORT']}", flush=True)  # noqa: T201
                yield

    async def transfer(_: Request) -> JSONResponse:
        return JSONResponse(await service.transfer())

    async def click(_: Request) -> JSONResponse:
        service.clicked.set()
        return JSONResponse("clicked")

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/transfers", transfer, methods=["POST"]),
            Route("/click", click, methods=["POST"]),
            Route("/events", asgi_app(service.receiver), methods=["POST"]),
        ],
    )


def main(server: str) -> None:
    """Serve until a signal comes."""
    port = str(free_port())
    os.environ["PORT"] = port
    match server:
        case "aiohttp":
            asyncio.run(serve_aiohttp())
        case "uvicorn":
            uvicorn.run(starlette, factory=True, port=int(port), log_level="warning")
        case "gunicorn":
            os.execv(  # noqa: S606 -- as a service manager starts it
                sys.executable,
                [
                    *(sys.executable, "-m", "gunicorn", "drain_child:starlette()"),
                    *("--worker-class", "uvicorn_worker.UvicornWorker"),
                    *("--bind", f"127.0.0.1:{port}", "--graceful-timeout", "100"),
                    *("--log-level", "warning"),
                ],
            )


if __name__ == "__main__":
    main(sys.argv[1])
