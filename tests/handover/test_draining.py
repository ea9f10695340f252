"""A deployment in the middle of a ring or a talk costs nobody their partner."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest

from aiophlo import InvalidInputError, NotSentError, SessionPool
from aiophlo.draining import drain_on_signal
from aiophlo.handover.registry import HandoverRegistry
from aiophlo.simulator import Call, Callback, Habit, Simulator, State
from tests.handover.test_registry import Endless
from tests.support.doubles import pool_of
from tests.support.handover_stage import (
    AGENT,
    CONSULTING,
    CUSTOMER,
    FIRST,
    LEFT,
    NODE,
    ON_HOLD,
    PHLO,
    RINGING,
    SECOND,
    TALKING,
    Stage,
    set_stage,
)

CHILD = Path(__file__).parents[1] / "support" / "drain_child.py"
SERVERS = ["aiohttp", "uvicorn", "gunicorn"]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Give a call whose agent wants to hand the customer over."""
    async with set_stage() as stage:
        yield stage


@asynccontextmanager
async def service(
    server: str, simulator: Simulator, *, within: float = 60.0
) -> AsyncIterator[tuple[Process, str]]:
    """Run the service; give its process and its URL."""
    environ = {
        **os.environ,
        "BASE_URL": simulator.base_url,
        "TOKEN": simulator.auth_token,
        "WITHIN": str(within),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, CHILD, server),
        stdin=PIPE,  # held open: it ends with us
        stdout=PIPE,
        env=environ,
        cwd=CHILD.parent,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 60.0)
        yield process, line.decode().strip()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers, too
        await process.wait()


async def ask(client: aiohttp.ClientSession, url: str) -> str:
    """Post, on a connection of its own; say what was answered."""
    async with client.post(url, headers={"Connection": "close"}) as response:
        return str(await response.json())


async def listening(client: aiohttp.ClientSession, url: str) -> None:
    """Wait until a service whose lifespan has just begun listens."""
    async with asyncio.timeout(10.0):
        while True:
            with suppress(aiohttp.ClientConnectorError):
                await ask(client, url)
                return
            await asyncio.sleep(0.01)


@attrs.frozen
class Deployed:
    """A service with a call, a transfer of it under way.

    Attributes:
        simulator: Where the call is.
        call: The call.
        process: The service.
        url: Where it listens.
        client: Asks it.
        transfer: What becomes of the transfer.
    """

    simulator: Simulator
    call: Call
    process: Process
    url: str
    client: aiohttp.ClientSession
    transfer: asyncio.Task[str]

    async def ask(self, path: str) -> str:
        """Ask the service for something."""
        return await ask(self.client, f"{self.url}{path}")

    async def stop(self) -> None:
        """Tell it to stop, and wait until it begins no more handovers."""
        self.process.terminate()
        while await self.ask("/transfers") != "NotSentError":
            pass  # before, the agent is engaged

    async def until(self, *states: State) -> None:
        """Wait until agent, customer and partner are doing so."""
        members = self.call.members
        await self.simulator.wait_for(
            lambda _: (
                tuple(
                    members[one].state
                    for one in (AGENT, CUSTOMER, FIRST)
                    if one in members
                )
                == states
            )
        )


@asynccontextmanager
async def deployed(
    server: str, *, within: float = 60.0, answers_after: float = 0.0
) -> AsyncIterator[Deployed]:
    """Run a service that hands a customer over."""
    async with (
        Simulator(quota=None, strict=True) as simulator,
        service(server, simulator, within=within) as (process, url),
        aiohttp.ClientSession() as client,
    ):
        simulator.post_events(Callback(url=f"{url}/events"))
        simulator.set_habit(Habit("answers", after=answers_after), address=FIRST)
        await listening(client, f"{url}/transfers")  # of nobody: there is no call yet
        call = simulator.place_call(PHLO, NODE, agent=AGENT, customer=CUSTOMER)
        await simulator.wait_for(lambda _: len(simulator.posts) == 2)
        transfer = asyncio.ensure_future(ask(client, f"{url}/transfers"))
        it = Deployed(simulator, call, process, url, client, transfer)
        await it.until(
            CONSULTING, ON_HOLD, CONSULTING if answers_after == 0 else RINGING
        )
        yield it
        assert await asyncio.wait_for(process.wait(), 20.0) in {0, -signal.SIGTERM}
        await transfer


@pytest.mark.parametrize("server", SERVERS)
async def test_answer_is_heard_by_a_service_that_was_told_to_stop(server: str) -> None:
    """The supervisor says hello to nobody, and the customer to hold music."""
    async with deployed(server, answers_after=1.0) as it:
        await it.stop()
        await it.until(CONSULTING, ON_HOLD, CONSULTING)
        assert await it.ask("/click") == "clicked"
        assert await it.transfer == "completed"
    assert it.call[CUSTOMER].state is TALKING
    assert it.call[FIRST].state is TALKING
    assert it.call[AGENT].state is LEFT


@pytest.mark.parametrize("server", SERVERS)
async def test_talk_goes_on_in_a_service_that_was_told_to_stop(server: str) -> None:
    """A deployment at noon ends every talk of agents and supervisors."""
    async with deployed(server) as it:
        await it.stop()
        await it.until(CONSULTING, ON_HOLD, CONSULTING)
        assert await it.ask("/click") == "clicked"
        assert await it.transfer == "completed"
    assert it.call[CUSTOMER].state is it.call[FIRST].state is TALKING


@pytest.mark.parametrize("server", SERVERS)
async def test_customer_is_back_when_the_talk_is_too_long(server: str) -> None:
    """A talk without an end must not keep the old version running for ever."""
    async with deployed(server, within=0.2) as it:
        it.process.terminate()
        assert await it.transfer == "ended"
    assert it.call[CUSTOMER].state is it.call[AGENT].state is TALKING
    assert it.call[FIRST].state is LEFT


# In one process.


async def test_drained_pool_begins_no_handover(stage: Stage) -> None:
    """Nobody would see it through; what needs no event is sent as ever."""
    await stage.pool.drain(within=1.0)
    with pytest.raises(NotSentError, match=r"\(closed\): the pool is draining"):
        await stage.consult().__aenter__()
    assert stage.rung == []
    await stage.node.member(AGENT).mute()
    await stage.pool.close()
    await stage.pool.drain()


async def test_next_one_is_rung_while_drained(stage: Stage) -> None:
    """The first supervisor is busy: that is no reason to give up."""
    stage.people_are("busy", FIRST)
    handing = asyncio.ensure_future(
        stage.pool.hand_over(
            stage.node, **stage.options(to=[FIRST, SECOND]), accept=taken
        )
    )
    await stage.simulator.wait_for(dials=1)
    await stage.pool.drain(within=10.0)
    assert await handing == SECOND
    assert stage.states() == (LEFT, TALKING, LEFT, TALKING)


async def taken(_: object) -> bool:
    """Take the call."""
    return True


async def test_customer_is_back_when_draining_took_too_long(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Draining returns to a service that is about to be deaf."""
    async with stage.consult():
        await stage.pool.drain(within=0.05)
        assert stage.customer_is_with_agent
    assert "ending handovers that are still open: 1" in caplog.text


async def test_draining_is_given_up_when_a_handover_never_ends() -> None:
    """The next version waits for this one to be gone."""
    care = HandoverRegistry()
    handover = Endless(care)
    care.begin(handover)
    await asyncio.wait_for(care.drain(0.01, 0.01), 5.0)
    assert len(care) == 1
    await care.close(0.01)


@pytest.mark.parametrize("within", [0, "60", float("nan")])
async def test_time_to_drain_must_be_seconds(stage: Stage, within: Any) -> None:  # noqa: ANN401 -- not what it takes
    """It would fail when the service is told to stop."""
    with pytest.raises(InvalidInputError, match="within"):
        await stage.pool.drain(within=within)


async def test_pool_that_was_never_open_can_not_be_drained(stage: Stage) -> None:
    """Somebody drains another pool than the one that sends."""
    with pytest.raises(InvalidInputError, match="open"):
        await pool_of(stage.simulator).drain()


@pytest.mark.parametrize("fails", [True, False])
async def test_second_signal_goes_to_the_server_at_once(
    stage: Stage, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who presses Ctrl-C twice doesn't want to wait for a talk to end."""
    got: list[int] = []
    heard = asyncio.Event()

    def server(number: int, _: object) -> None:
        got.append(number)
        heard.set()

    async def broken(_: SessionPool, *, within: float) -> None:
        raise ZeroDivisionError(within)

    before = signal.signal(signal.SIGUSR1, server)
    try:
        if fails:
            monkeypatch.setattr(SessionPool, "drain", broken)
        consult = await stage.consult().__aenter__()
        with drain_on_signal(stage.pool, signals=[signal.SIGUSR1]):
            os.kill(os.getpid(), signal.SIGUSR1)
            if not fails:
                await asyncio.sleep(0)
                assert got == []
                os.kill(os.getpid(), signal.SIGUSR1)
                assert got == [signal.SIGUSR1]
                heard.clear()
                await consult.complete()  # which ends what the first one waits for
                await consult.abort()
            await asyncio.wait_for(heard.wait(), 5.0)
        assert set(got) == {signal.SIGUSR1}
        assert signal.getsignal(signal.SIGUSR1) is server
        monkeypatch.undo()
        await consult.abort()
    finally:
        signal.signal(signal.SIGUSR1, before)
