"""Handovers that meet everything at once: people, faults, and witnesses.

The simulator's calls know where everybody is; what was said of each customer is
held against them.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from http import HTTPStatus
from typing import Final

import attrs
from aiohttp import web

from aiophlo import (
    Account,
    Consult,
    CustomerOnHoldError,
    EventRouter,
    PhloError,
    RetryPolicy,
    SessionPool,
)
from aiophlo.events import Event, MemberLeft
from aiophlo.nodes import MultiPartyCall
from aiophlo.receiving import Receiver, aiohttp_handler
from aiophlo.simulator import (
    AUTH_ID,
    AUTH_TOKEN,
    Call,
    Callback,
    Fault,
    Habit,
    Member,
    Reaction,
    Simulator,
    State,
)

PHLO, NODE = "p", "n"
TROUBLE: Final = 0.3  # share of requests that go wrong


class Deed(StrEnum):
    """What the one who hands over does, or what happens to them."""

    COMPLETE = "complete"
    RETURN = "return"
    RAISE = "raise"
    TIMEOUT = "timeout"
    CANCEL = "cancel"
    CANCEL_TWICE = "cancel_twice"
    HAND_OVER = "hand_over"
    DECLINE = "decline"
    AGENT_LEAVES = "agent_leaves"
    CUSTOMER_LEAVES = "customer_leaves"


@attrs.frozen
class Scenario:
    """One handover.

    Attributes:
        number: Makes everybody's address.
        habits: Of those to be reached.
        deed: What is done.
        moment: Seconds until it is, where it isn't done by the block.
        ring_for: Seconds for which each may ring.
    """

    number: int
    habits: Sequence[Habit]
    deed: Deed
    moment: float
    ring_for: float = 0.4

    @property
    def agent(self) -> str:
        """Address of the agent."""
        return f"+1415{self.number:06}0"

    @property
    def customer(self) -> str:
        """Address of the customer."""
        return f"+1415{self.number:06}1"

    @property
    def targets(self) -> list[str]:
        """Addresses of those to be reached."""
        return [f"+1415{self.number:06}{2 + one}" for one in range(len(self.habits))]


@attrs.define
class Witness:
    """Looks at one call whenever something in it has changed.

    Attributes:
        scenario: Whose call.
        call: The call, which knows where everybody is.
        alarm: Whether somebody was told that the customer may be on hold.
        two_joined: Whether two targets were ever inside at once.
        was_joined: Whether the customer talked to a partner once the agent had left.
        ended: How it ended for the one who handed over.
        handover: Its id.
    """

    scenario: Scenario
    call: Call
    alarm: bool = False
    two_joined: bool = False
    was_joined: bool = False
    ended: str = ""
    handover: str = ""

    def look(self) -> None:
        """Take note of who is where."""
        members = self.call.members
        inside = [
            members[one]
            for one in self.scenario.targets
            if one in members and members[one].inside
        ]
        self.two_joined |= len(inside) > 1
        agent, customer = members[self.scenario.agent], members[self.scenario.customer]
        if not agent.present and inside and customer.state is State.TALKING:
            self.was_joined = True

    @property
    def customer(self) -> str:
        """Where the customer is: `well`, `gone`, `on_hold` or `alone`."""
        members = self.call.members
        customer = members[self.scenario.customer]
        if not customer.inside:
            return "gone"
        if customer.state is State.ON_HOLD:
            return "on_hold"
        others = [one for one in members.values() if one is not customer and one.inside]
        return "well" if others or self.was_joined else "alone"


class _Watched:
    """The world of a call, with a witness in it."""

    def __init__(self, call: Call, witness: Witness, lags: "Lags") -> None:
        self._world = call._world  # noqa: SLF001 -- the simulator's own hook has one user
        self._witness = witness
        self._lags = lags

    def habit_of(self, address: str) -> Habit:
        return self._world.habit_of(address)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._world.later(seconds, callback)

    def entered(self, call: Call, member: Member) -> None:
        self._world.entered(call, member)
        self._witness.look()

    def exited(self, call: Call, member: Member) -> None:
        self._world.exited(call, member)
        self._lags.left(member.call_uuid)

    def changed(self, call: Call) -> None:
        self._world.changed(call)
        self._witness.look()


class Lags:
    """Measures how late it is told that somebody has left.

    Attributes:
        longest: Seconds, until somebody's leaving was heard of first.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._left: dict[str | None, float] = {}

    def left(self, call_uuid: str) -> None:
        """Note that somebody leaves now."""
        self._left[call_uuid] = time.monotonic()

    def told(self, event: Event) -> None:
        """Note that an event has come."""
        if isinstance(event, MemberLeft):
            lag = time.monotonic() - self._left.pop(event.call_uuid, time.monotonic())
            self.longest = max(self.longest, lag)


class Alarms(logging.Handler):
    """Collects the ids of the handovers that were cried out about."""

    def __init__(self) -> None:
        super().__init__(logging.CRITICAL)
        self.ids: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        self.ids.add(getattr(record, "phlo_handover", ""))


class Stage:
    """A simulator that posts its events here, and a pool.

    Args:
        simulator: The simulator.
        pool: The pool.
        router: What the events are fed to.
        told_within: Seconds by which they may be late.
    """

    def __init__(
        self,
        simulator: Simulator,
        pool: SessionPool,
        router: EventRouter,
        told_within: float,
    ) -> None:
        self.simulator = simulator
        self.pool = pool
        self.router = router
        self.told_within = told_within
        self.alarms = Alarms()
        self.lags = Lags()

    @property
    def node(self) -> MultiPartyCall:
        """The node in which all happens."""
        return self.pool.phlo(PHLO).multi_party_call(NODE)

    async def play(self, scenario: Scenario) -> Witness:
        """Play one scenario to its end."""
        for address, habit in zip(scenario.targets, scenario.habits, strict=True):
            self.simulator.set_habit(habit, address=address)
        call = self.simulator.place_call(
            PHLO, NODE, agent=scenario.agent, customer=scenario.customer
        )
        witness = Witness(scenario, call)
        call._world = _Watched(call, witness, self.lags)  # noqa: SLF001 -- as above
        consult = self.pool.consult(
            self.node,
            agent=scenario.agent,
            customer=scenario.customer,
            to=scenario.targets,
            ring_for=scenario.ring_for,
            router=self.router,
            told_within=self.told_within,
        )
        task = asyncio.ensure_future(_do(scenario, consult))
        await self._interfere(scenario, call, task)
        witness.ended = await _how_it_ended(task)
        witness.handover = consult.id
        return witness

    async def _interfere(
        self, scenario: Scenario, call: Call, task: "asyncio.Future[None]"
    ) -> None:
        if scenario.deed in {
            Deed.CANCEL,
            Deed.CANCEL_TWICE,
            Deed.AGENT_LEAVES,
            Deed.CUSTOMER_LEAVES,
        }:
            await asyncio.wait({task}, timeout=scenario.moment)
        if task.done():
            return
        match scenario.deed:
            case Deed.AGENT_LEAVES:
                call.leave(call[scenario.agent])
            case Deed.CUSTOMER_LEAVES:
                call.leave(call[scenario.customer])
            case Deed.CANCEL | Deed.CANCEL_TWICE:
                task.cancel()
        if scenario.deed is Deed.CANCEL_TWICE:
            await asyncio.wait({task}, timeout=scenario.moment / 2)
            task.cancel()


class _OnPurposeError(Exception):
    """The block's own."""


async def _do(scenario: Scenario, consult: Consult) -> None:
    if scenario.deed in {Deed.HAND_OVER, Deed.DECLINE}:

        async def accept(consult: Consult) -> bool:
            await asyncio.sleep(0.01)
            first = consult.partner == scenario.targets[0]
            return scenario.deed is Deed.HAND_OVER or not first

        await consult.hand_over(accept)
        return
    within = scenario.moment if scenario.deed is Deed.TIMEOUT else None
    async with asyncio.timeout(within), consult:
        await asyncio.sleep(scenario.moment)
        match scenario.deed:
            case Deed.RETURN:
                return
            case Deed.RAISE:
                raise _OnPurposeError
        await consult.complete()


async def _how_it_ended(task: "asyncio.Future[None]") -> str:
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    except (_OnPurposeError, PhloError, TimeoutError) as error:
        return type(error).__name__
    return "returned"


@asynccontextmanager
async def stage(
    *, seed: int, returns_customer: bool, told_within: float
) -> AsyncIterator[Stage]:
    """Set everything up, with events late, twice and out of order."""
    router, lags = EventRouter(), Lags()

    def feed(event: Event) -> None:
        lags.told(event)
        router.feed(event)

    # A request is spared by each of the faults in turn.
    each = 1 - (1 - TROUBLE) ** (1 / len(Fault))
    simulator = Simulator(
        quota=None,
        strict=True,
        seed=seed,
        faults=dict.fromkeys(Fault, each),
        returns_customer=returns_customer,
    )
    async with simulator, webhook(feed) as url:
        simulator.post_events(
            Callback(url=url, delay=0.005, late=0.3, late_by=0.05, twice=0.3)
        )
        pool = SessionPool(
            Account(AUTH_ID, AUTH_TOKEN, quota=None),
            base_url=simulator.base_url,
            answer_within=1.0,
            retry=RetryPolicy(first_wait=0.02),
        )
        async with pool:
            it = Stage(simulator, pool, router, told_within)
            it.lags = lags
            logging.getLogger("aiophlo").addHandler(it.alarms)
            try:
                yield it
            finally:
                logging.getLogger("aiophlo").removeHandler(it.alarms)


@asynccontextmanager
async def webhook(feed: Callable[[Event], object]) -> AsyncIterator[str]:
    """Listen for events, and feed them to a router; gives the URL."""
    app = web.Application()
    receiver = Receiver(feed, auth_tokens=AUTH_TOKEN)
    app.router.add_route("*", "/phlo/events", aiohttp_handler(receiver))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/phlo/events"
    finally:
        await runner.cleanup()


def some_scenario(number: int, chance: random.Random) -> Scenario:
    """Make up a scenario."""
    habits = [
        Habit(
            chance.choice([*Reaction, *[Reaction.ANSWERS] * 5]),
            after=chance.choice([0.0, 0.02, 0.1, 0.2, 0.39, 0.6]),
            stays=chance.choice([*[None] * 9, 0.0, 0.05, 0.2, 1.0]),
        )
        for _ in range(chance.randint(1, 3))
    ]
    moment = chance.choice([0.0, 0.001, 0.01, 0.05, 0.2, 0.5])
    return Scenario(number, habits, chance.choice(list(Deed)), moment)


@attrs.define
class Table:
    """What became of everybody; the first four lines must be 0."""

    handovers: int = 0
    on_hold_unsaid: int = 0
    rung_twice: int = 0
    two_joined: int = 0
    alone_unsaid: int = 0
    alarms: int = 0
    false_alarms: int = 0
    endings: Counter[str] = attrs.field(factory=Counter)
    customers: Counter[str] = attrs.field(factory=Counter)
    longest_lag: float = 0.0
    events_missed: int = 0
    worst: list[Witness] = attrs.field(factory=list)
    cried_wolf: list[Witness] = attrs.field(factory=list)

    @property
    def violations(self) -> int:
        """How much of what must never happen has happened."""
        return (
            self.on_hold_unsaid + self.rung_twice + self.two_joined + self.alone_unsaid
        )

    def add(self, witness: Witness, simulator: Simulator) -> None:
        """Count one handover."""
        before = self.violations
        where = witness.customer
        self.handovers += 1
        self.endings[f"{witness.scenario.deed}: {witness.ended}"] += 1
        self.customers[where] += 1
        self.on_hold_unsaid += where == "on_hold" and not witness.alarm
        self.alone_unsaid += where == "alone" and not witness.alarm
        self.two_joined += witness.two_joined
        dials = [simulator.ledger.dials(to=one) for one in witness.scenario.targets]
        self.rung_twice += any(number > 1 for number in dials)
        self.alarms += witness.alarm
        self.false_alarms += witness.alarm and where in {"well", "gone"}
        if self.violations > before:
            self.worst.append(witness)
        elif witness.alarm and where in {"well", "gone"}:
            self.cried_wolf.append(witness)

    def __str__(self) -> str:
        lines = [
            ("handovers", self.handovers),
            ("customers left on hold without an error", self.on_hold_unsaid),
            ("targets rung twice", self.rung_twice),
            ("two targets joined", self.two_joined),
            ("customers alone without an alarm", self.alone_unsaid),
            ("alarms", self.alarms),
            (
                "  of these, the customer is well, was joined or is gone",
                self.false_alarms,
            ),
            ("events that never came", self.events_missed),
            ("latest event of a leaving, ms", round(self.longest_lag * 1e3)),
            *((f"customer {where}", n) for where, n in self.customers.most_common()),
            *sorted(self.endings.items()),
        ]
        return "\n".join(f"{name:<55}{number:>8,}" for name, number in lines)


async def play(
    scenarios: Sequence[Scenario],
    *,
    seed: int,
    returns_customer: bool,
    table: Table,
    at_once: int,
    told_within: float,
) -> None:
    """Play scenarios, so many at once, and count what became of them."""
    places = asyncio.Semaphore(at_once)

    async def play_one(it: Stage, scenario: Scenario) -> Witness:
        async with places:
            return await it.play(scenario)

    async with stage(
        seed=seed, returns_customer=returns_customer, told_within=told_within
    ) as it:
        witnesses = await asyncio.gather(*(play_one(it, one) for one in scenarios))
        await it.pool.close()  # which waits for what two cancellations left
        posts = it.simulator.posts
        table.longest_lag = max(table.longest_lag, it.lags.longest)
        table.events_missed += sum(post.status != HTTPStatus.OK for post in posts)
        for witness in witnesses:
            raised = witness.ended == CustomerOnHoldError.__name__
            witness.alarm = raised or witness.handover in it.alarms.ids
            table.add(witness, it.simulator)
