"""Everything that happens in the day's timetable."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import aiohttp

from aiophlo.simulator import Fault
from benchmarks.day.agents import Agent
from benchmarks.day.campaign import Campaign
from benchmarks.day.centre import Centre
from benchmarks.day.evidence import Kind

STRANGER: Final = "stranger"  # the PHLO that foreign traffic asks for
_AWAY: Final = 2.0, 5.0  # seconds that a crashed database is away

# Entered at its time; what ends, is over when it is left. With it, how long it lasts.
Deed = Callable[[Centre, float], AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def agents_work(centre: Centre, _: float) -> AsyncIterator[None]:
    """Have all agents take calls; at the end each finishes the one they are in."""
    closed = asyncio.Event()
    with centre.marked(Kind.AGENTS):
        async with asyncio.TaskGroup() as group:
            for number in range(centre.options.agents):
                group.create_task(Agent(centre, number).work(closed))
            try:
                yield
            finally:
                closed.set()


@contextlib.asynccontextmanager
async def a_campaign_is_worked(centre: Centre, lasts: float) -> AsyncIterator[None]:
    """Have a list sent from the queue, by a worker on each host."""
    with centre.marked(Kind.CAMPAIGN):
        async with Campaign(centre, lasts).working():
            yield


@contextlib.asynccontextmanager
async def a_worker_is_killed(centre: Centre, _: float) -> AsyncIterator[None]:
    """Kill one of the six workers."""
    host = centre.chance.choice(centre.hosts)
    with centre.marked(Kind.KILL, host.name), contextlib.suppress(ProcessLookupError):
        os.kill(centre.chance.choice(host.workers()), signal.SIGKILL)
    yield


@contextlib.asynccontextmanager
async def a_campaign_worker_is_killed(centre: Centre, _: float) -> AsyncIterator[None]:
    """Kill one of those that work the campaign, if there is any at present."""
    workers = centre.campaign_workers
    if workers:
        host = centre.chance.choice(sorted(workers))
        with centre.marked(Kind.CAMPAIGN_KILL, host):
            workers[host].kill()
    yield


@contextlib.asynccontextmanager
async def a_version_is_rolled_out(centre: Centre, _: float) -> AsyncIterator[None]:
    """Renew one host after the other, each out of rotation meanwhile."""
    for host in centre.hosts:
        with centre.marked(Kind.DEPLOY, host.name), centre.balancer.without(host):
            await host.renew()
    yield


@contextlib.asynccontextmanager
async def the_database_is_restarted(centre: Centre, _: float) -> AsyncIterator[None]:
    """Restart the database in order."""
    with centre.marked(Kind.DATABASE):
        await asyncio.to_thread(centre.postgres.stop)
        await asyncio.to_thread(centre.postgres.start)
    yield


@contextlib.asynccontextmanager
async def the_database_crashes(centre: Centre, _: float) -> AsyncIterator[None]:
    """Kill the database, and start it again after some seconds."""
    with centre.marked(Kind.DATABASE):
        await asyncio.to_thread(centre.postgres.kill)
        await asyncio.sleep(centre.chance.uniform(*_AWAY))
        await asyncio.to_thread(centre.postgres.start)
    yield


@contextlib.asynccontextmanager
async def plivo_answers_5xx(centre: Centre, _: float) -> AsyncIterator[None]:
    """Let Plivo carry out everything, and answer 502."""
    with centre.marked(Kind.FAILING):
        centre.simulator.answer_next(502, times=None)
        try:
            yield
        finally:
            centre.simulator.clear_script()


@contextlib.asynccontextmanager
async def plivo_says_nothing(centre: Centre, _: float) -> AsyncIterator[None]:
    """Let Plivo carry out everything, and answer nothing."""
    with centre.marked(Kind.SILENT):
        centre.simulator.fault_next(Fault.SILENCE, times=None)
        try:
            yield
        finally:
            centre.simulator.clear_script()


@contextlib.asynccontextmanager
async def strangers_use_the_account(centre: Centre, _: float) -> AsyncIterator[None]:
    """Let another program send requests on the same account, as fast as it likes."""
    with centre.marked(Kind.FOREIGN):
        asking = asyncio.create_task(_ask_as_a_stranger(centre))
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.wait({asking})


async def _ask_as_a_stranger(centre: Centre) -> None:
    simulator = centre.simulator
    url = f"{simulator.base_url}/account/{simulator.auth_id}/phlo/{STRANGER}/"
    auth = aiohttp.BasicAuth(simulator.auth_id, simulator.auth_token)
    connector = aiohttp.TCPConnector(ssl=centre.trusted)

    async def ask(session: aiohttp.ClientSession) -> None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(url) as answer:
                await answer.read()

    async with (
        aiohttp.ClientSession(auth=auth, connector=connector) as session,
        asyncio.TaskGroup() as group,
    ):
        due = centre.now()
        while True:  # keeping to its pace however late it is woken
            group.create_task(ask(session))
            due += 1 / centre.options.strangers
            await asyncio.sleep(due - centre.now())
