"""What the tests of handovers share: a call, its events, and a pool."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import attrs
from aiohttp import web

from aiophlo import Consult, EventRouter, SessionPool
from aiophlo.coordination import Coordinator
from aiophlo.handles import MultiPartyCall
from aiophlo.observed_events import Observer
from aiophlo.sending.retry import RetryPolicy
from aiophlo.simulator import Call, Callback, Habit, Simulator, State
from aiophlo.webhooks.receiver import Receiver
from aiophlo.webhooks.servers import aiohttp_handler
from tests.support.doubles import account_of, pool_of

PHLO, NODE = "p", "n"
AGENT: Final = "+14152223333"
CUSTOMER: Final = "+14152224444"
FIRST: Final = "+14152225555"
SECOND: Final = "+14152226666"
TALKING, ON_HOLD, LEFT = State.TALKING, State.ON_HOLD, State.LEFT
RINGING, CONSULTING = State.RINGING, State.CONSULTING


@attrs.frozen
class Stage:
    """A call in which agent and customer talk, and what may be done about it.

    Attributes:
        simulator: Where it takes place.
        pool: Sends to it.
        router: Hears its events.
        call: The call.
        alarms: What was logged as CRITICAL.
    """

    simulator: Simulator
    pool: SessionPool
    router: EventRouter
    call: Call
    alarms: list[logging.LogRecord]

    @property
    def node(self) -> MultiPartyCall:
        """Where the call is."""
        return self.pool.phlo(PHLO).multi_party_call(NODE)

    def options(self, **options: Any) -> dict[str, Any]:  # noqa: ANN401 -- consult's own
        """Return what a handover of this call needs, and is not patient."""
        return {
            "agent": AGENT,
            "customer": CUSTOMER,
            "to": [FIRST],
            "router": self.router,
            "ring_for": 0.25,
            "told_within": 0.15,
            **options,
        }

    def consult(self, **options: Any) -> Consult:  # noqa: ANN401 -- consult's own
        """Return a handover of this call."""
        return self.pool.consult(self.node, **self.options(**options))

    def people_are(self, reaction: str, *addresses: str, **habit: float) -> None:
        """Say how some take calls."""
        for address in addresses:
            self.simulator.set_habit(Habit(reaction, **habit), address=address)

    def states(self) -> tuple[State | None, ...]:
        """Say what agent, customer, first and second are doing."""
        members = self.call.members
        return tuple(
            members[one].state if one in members else None
            for one in (AGENT, CUSTOMER, FIRST, SECOND)
        )

    @property
    def customer_is_with_agent(self) -> bool:
        """Whether these two talk, and nobody else is there."""
        return self.states()[:2] == (TALKING, TALKING) and self.reached == set()

    @property
    def reached(self) -> set[str]:
        """Those on the line or being rung besides agent and customer."""
        members = self.call.members.values()
        return {one.address for one in members if one.present} - {AGENT, CUSTOMER}

    @property
    def rung(self) -> list[str]:
        """Those who were rung, in order."""
        return [record.to for record in self.simulator.ledger.dialled]

    async def until(self, *states: State | None) -> None:
        """Wait until agent, customer, first and second are doing so."""
        width = len(states)
        await self.simulator.wait_for(lambda _: self.states()[:width] == states)


class _Alarms(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.CRITICAL)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@asynccontextmanager
async def webhook(
    router: EventRouter, token: str, observers: Sequence[Observer] = ()
) -> AsyncIterator[str]:
    """Listen for a simulator's events; gives the URL."""
    app = web.Application()
    receiver = Receiver(router.feed, auth_tokens=token, observers=observers)
    app.router.add_route("*", "/events", aiohttp_handler(receiver))
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def set_stage(
    *,
    returns_customer: bool = True,
    delay: float = 0.0,
    observers: Sequence[Observer] = (),
    coordinator: Coordinator | None = None,
    caller_ids: Sequence[str] = (),
) -> AsyncIterator[Stage]:
    """Place a call; its events come late by `delay` seconds."""
    router, alarms = EventRouter(), _Alarms()
    logger = logging.getLogger("aiophlo")
    logger.addHandler(alarms)
    async with AsyncExitStack() as stack:
        stack.callback(logger.removeHandler, alarms)
        simulator = await stack.enter_async_context(
            Simulator(quota=None, strict=True, returns_customer=returns_customer)
        )
        url = await stack.enter_async_context(
            webhook(router, simulator.auth_token, observers)
        )
        simulator.post_events(Callback(url=url, delay=delay))
        call = simulator.place_call(PHLO, NODE, agent=AGENT, customer=CUSTOMER)
        await simulator.wait_for(lambda _: len(simulator.posts) == 2)
        pool = pool_of(
            simulator,
            account_of(simulator),
            answer_within=1.0,
            retry=RetryPolicy(first_wait=0.01),
            observers=observers,
            caller_ids=caller_ids,
            coordinator=coordinator,
        )
        await stack.enter_async_context(pool)
        yield Stage(simulator, pool, router, call, alarms.records)
