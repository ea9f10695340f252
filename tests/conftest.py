"""Fixtures that more than one module's tests need."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses
from hypothesis import HealthCheck, settings

from aiophlo.simulator import Simulator
from tests.support.calm_time import CalmLoop
from tests.support.ports import free_port
from tests.support.postgres import Postgres, given_postgres

# A busy machine is no failure.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")


def pytest_asyncio_loop_factories() -> dict[
    str, Callable[[], asyncio.AbstractEventLoop]
]:
    """Run the tests that are coroutines where a stall makes no timer run out."""
    return {"calm": CalmLoop}


def pytest_xdist_auto_num_workers() -> int:
    """Run two at once on each core: most of a test's time is waiting."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Undo what a benchmark's main function sets: others look at what is logged."""
    logger = logging.getLogger("aiophlo")
    level, propagate = logger.level, logger.propagate
    yield
    logger.setLevel(level)
    logger.propagate = propagate


@pytest.fixture(autouse=True)
def unmeasured_if_long(request: pytest.FixtureRequest) -> Iterator[None]:
    """Count no coverage where that doubles minutes of work."""
    coverage = sys.modules.get("coverage")
    running = coverage.Coverage.current() if coverage else None
    if running is None or request.node.get_closest_marker("long") is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patched:
        for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
            patched.delenv(name, raising=False)  # of processes that it starts
        running.stop()
        yield
        running.start()


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> Iterator[None]:
    """Let commands be stopped, even where a script or nohup ignores signals for us."""
    handlers: dict[int, Callable[..., Any] | signal.Handlers] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.getsignal(number) for number in handlers}
    for number, taken in handlers.items():
        if before[number] is signal.SIG_IGN:
            signal.signal(number, taken)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Give the database server that all tests share that don't harm it."""
    yield from given_postgres()


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Give a simulator without a quota, for tests that aren't about pace."""
    async with Simulator(quota=None) as simulator:
        yield simulator


@pytest.fixture
async def stoppable_simulator() -> AsyncIterator[Simulator]:
    """Give one whose port nobody else's server is given once it has stopped."""
    async with Simulator(quota=None, port=free_port()) as simulator:
        yield simulator


class _MockedResponse(aiohttp.ClientResponse):
    """An answer as aioresponses 0.7.9 builds it, made to suit aiohttp 3.14.

    To be deleted when https://github.com/pnuckowski/aioresponses/issues/289 ships.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 -- aiohttp's
        kwargs.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **kwargs)


@pytest.fixture
def mocked_answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    """Answer in aiohttp's stead, for exceptions that no socket produces."""
    with aioresponses() as mocked:
        add = partial(mocked.add, response_class=_MockedResponse)
        monkeypatch.setattr(mocked, "add", add)
        yield mocked
