"""Handovers that meet everything at once, made up and driven by hypothesis.

Many threads each let hypothesis draw one handover after the other; all of them are
played on one event loop, at the same time, and hypothesis hears how each one ended.
"""

import asyncio
import logging
import random
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from http import HTTPStatus
from itertools import count

import attrs
import hypothesis
from aiohttp import web
from hypothesis.errors import HypothesisDeprecationWarning

from aiophlo import (
    Account,
    Consult,
    CustomerOnHoldError,
    EventRouter,
    PhloError,
    RetryPolicy,
    SessionPool,
)
from aiophlo.coordination import Coordinator
from aiophlo.handles import MultiPartyCall
from aiophlo.simulator import AUTH_ID, AUTH_TOKEN, Call, Callback, Simulator
from aiophlo.webhooks.events import Event
from aiophlo.webhooks.receiver import Receiver
from aiophlo.webhooks.servers import aiohttp_handler
from tests.support.handover_scenarios import Deed, Fates, Scenario, scenarios
from tests.support.handover_witness import Alarms, Lags, Table, Watched, Witness

PHLO, NODE = "p", "n"


class Stage:
    """A simulator that posts its events here, and a pool.

    Args:
        simulator: The simulator.
        pool: The pool.
        router: What the events are fed to.
        told_within: Seconds by which they may be late.
        bring_back_within: Seconds for which an abort is tried again.
        lags: Measures how late they are.

    Attributes:
        witnesses: Of all that was played.
    """

    def __init__(
        self,
        simulator: Simulator,
        pool: SessionPool,
        router: EventRouter,
        *,
        told_within: float,
        bring_back_within: float,
        lags: Lags,
    ) -> None:
        self.simulator = simulator
        self.pool = pool
        self.router = router
        self.told_within = told_within
        self.bring_back_within = bring_back_within
        self.lags = lags
        self.alarms = Alarms()
        self.witnesses: list[Witness] = []
        self._numbers = count()
        self._fates = Fates()
        simulator._handler._chances = self._fates  # noqa: SLF001 -- faults are drawn here, not there

    @property
    def node(self) -> MultiPartyCall:
        """The node in which all happens."""
        return self.pool.phlo(PHLO).multi_party_call(NODE)

    async def play(self, drawn: Scenario) -> Witness:
        """Play one scenario to its end."""
        scenario = attrs.evolve(drawn, number=next(self._numbers))
        witness = self._prepare(scenario)
        self.witnesses.append(witness)
        consult = self.pool.consult(
            self.node,
            agent=scenario.agent,
            customer=scenario.customer,
            to=scenario.targets,
            ring_for=scenario.ring_for,
            router=self.router,
            told_within=self.told_within,
            bring_back_within=self.bring_back_within,
        )
        witness.handover = consult.id
        task = asyncio.ensure_future(_do(scenario, consult))
        await self._interfere(scenario, witness.call, task)
        witness.ended = await _how_it_ended(task)
        await _see_it_end(consult)
        witness.ended_at = self.lags.clock()
        witness.alarm = consult.id in self.alarms.ids
        await asyncio.sleep(witness.too_early)
        await self.lags.all_told(witness.call, self.told_within)
        return witness

    def _prepare(self, scenario: Scenario) -> Witness:
        self._fates.expect(scenario)
        for address, habit in zip(scenario.targets, scenario.habits, strict=True):
            self.simulator.set_habit(habit, address=address)
        call = self.simulator.place_call(
            PHLO, NODE, agent=scenario.agent, customer=scenario.customer
        )
        call._returns_customer = scenario.returns_customer  # noqa: SLF001 -- of each call, not of all
        witness = Witness(scenario, call, self.lags, self.told_within)
        call._world = Watched(witness)  # noqa: SLF001 -- its hook has one user
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

    def table(self) -> Table:
        """Count what has become of everybody by now."""
        table = Table(longest_lag=self.lags.longest)
        missed = (post.status != HTTPStatus.OK for post in self.simulator.posts)
        table.events_missed = sum(missed)
        table.add_requests(self.simulator)
        for witness in self.witnesses:
            table.add(witness, self.simulator)
        return table


class _OnPurposeError(Exception):
    """The block's own."""


async def _do(scenario: Scenario, consult: Consult) -> None:
    if scenario.deed in {Deed.HAND_OVER, Deed.DECLINE}:

        async def accept(consult: Consult) -> bool:
            await asyncio.sleep(0.01)
            first = consult.partner == scenario.targets[0]
            return scenario.deed is Deed.HAND_OVER or not first

        await consult.hand_over(accept, accept_within=None)
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


async def _see_it_end(consult: Consult) -> None:
    """Wait for what a second cancellation left to the pool."""
    with suppress(CustomerOnHoldError):  # the alarm was logged as well
        await consult.abort()


@asynccontextmanager
async def stage(
    *,
    seed: int,
    told_within: float,
    bring_back_within: float = 30.0,
    coordinators: Sequence[Coordinator | None] = (None,),
) -> AsyncIterator[Stage]:
    """Set everything up, with events late, twice and out of order.

    Each coordinator has a pool and a router, as in a process of its own. The first's
    handovers are played; each event comes to any of them.
    """
    chance, lags = random.Random(seed), Lags()  # noqa: S311 -- a test's
    routers = [EventRouter(coordinator=one) for one in coordinators]

    def feed(event: Event) -> None:
        lags.tell(event)
        chance.choice(routers).feed(event)

    simulator = Simulator(quota=None, strict=True, seed=seed)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(simulator)
        pools = [
            await stack.enter_async_context(
                SessionPool(
                    Account(AUTH_ID, AUTH_TOKEN, quota=None),
                    base_url=simulator.base_url,
                    answer_within=1.0,
                    retry=RetryPolicy(first_wait=0.02),
                    coordinator=coordinator,
                )
            )
            for coordinator in coordinators
        ]
        url = await stack.enter_async_context(webhook(feed))
        simulator.post_events(
            Callback(url=url, delay=0.005, late=0.3, late_by=0.05, twice=0.3)
        )
        it = Stage(
            simulator,
            pools[0],
            routers[0],
            told_within=told_within,
            bring_back_within=bring_back_within,
            lags=lags,
        )
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


async def drive(
    it: Stage, number: int, *, at_once: int, seed: int, shrink: bool
) -> list[Exception]:
    """Let hypothesis make up handovers and play them, so many at once.

    Args:
        it: Where.
        number: How many are made up; what hypothesis repeats comes on top.
        at_once: How many are open at the same time.
        seed: Of what is made up.
        shrink: Whether hypothesis looks for the simplest one that fails.

    Returns:
        What hypothesis found.
    """
    loop = asyncio.get_running_loop()
    workers = min(number, at_once)
    stopped = threading.Event()

    def play(scenario: Scenario) -> Witness:
        if stopped.is_set():
            raise KeyboardInterrupt  # which hypothesis doesn't take for a finding
        return asyncio.run_coroutine_threadsafe(it.play(scenario), loop).result()

    def work(which: int) -> None:
        share = number // workers + (which < number % workers)
        explore = _explorer(play, it.simulator, share, shrink=shrink)
        hypothesis.seed(seed * workers + which)(explore)()

    threads = ThreadPoolExecutor(workers)
    with warnings.catch_warnings():
        # One thread draws while the pool, on another, uses `random` for its jitter.
        warnings.simplefilter("ignore", HypothesisDeprecationWarning)
        try:
            results = await asyncio.gather(
                *(loop.run_in_executor(threads, work, one) for one in range(workers)),
                return_exceptions=True,
            )
        finally:
            stopped.set()
            threads.shutdown(wait=False)  # whose last plays need this loop to end
    return [one for one in results if isinstance(one, Exception)]


def _explorer(
    play: Callable[[Scenario], Witness],
    simulator: Simulator,
    number: int,
    *,
    shrink: bool,
) -> Callable[[], None]:
    """Return what draws, plays and judges one handover after the other."""

    @hypothesis.settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate, *[hypothesis.Phase.shrink] * shrink],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(scenarios())
    def nobody_is_forgotten(scenario: Scenario) -> None:
        witness = play(scenario)
        found = witness.violations(simulator)
        assert not found, f"{', '.join(found)}: {witness}"

    return nobody_is_forgotten
