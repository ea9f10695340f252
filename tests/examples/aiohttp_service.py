"""A service that hands calls over: one endpoint for agents, one for Plivo's events."""

from collections.abc import AsyncIterator

from aiohttp import web

from aiophlo import (
    CustomerOnHoldError,
    EventRouter,
    Journal,
    NobodyAnsweredError,
    SessionPool,
)
from aiophlo.webhooks import Receiver, aiohttp_handler

POOL = web.AppKey("POOL", SessionPool)
JOURNAL = web.AppKey("JOURNAL", Journal)
ROUTER = web.AppKey("ROUTER", EventRouter)


async def transfer(request: web.Request) -> web.Response:
    """Hand a call over: the agent is asked nothing more until somebody is there."""
    app, asked = request.app, await request.json()
    try:
        async with app[POOL].consult(
            app[POOL].phlo(asked["phlo_id"]).multi_party_call(asked["node_id"]),
            agent=asked["agent"],
            customer=asked["customer"],
            to=asked["to"],
            router=app[ROUTER],
            journal=app[JOURNAL],
        ) as consult:
            partner = await consult.complete()
    except NobodyAnsweredError as error:
        return web.json_response({"tried": len(error.tried)}, status=504)
    except CustomerOnHoldError as error:
        return web.json_response({"help_now": str(error)}, status=500)
    return web.json_response({"partner": partner})


def application(pool: SessionPool, journal: Journal, token: str) -> web.Application:
    """Make the service; `token` is the account's, which signs the events."""
    app = web.Application()
    app[POOL], app[JOURNAL], app[ROUTER] = pool, journal, EventRouter()
    receiver = Receiver(app[ROUTER].feed, auth_tokens=token)
    app.router.add_route("*", "/phlo/events", aiohttp_handler(receiver))
    app.router.add_post("/transfers", transfer)

    async def opened(app: web.Application) -> AsyncIterator[None]:
        async with app[JOURNAL], app[POOL]:
            await app[POOL].recover_handovers(app[JOURNAL])  # of a crash before
            yield

    app.cleanup_ctx.append(opened)
    return app
