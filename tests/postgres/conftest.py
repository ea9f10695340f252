"""A real Postgres, and pools that share it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

from aiophlo import Account, Action, Outcome, SessionPool
from aiophlo.postgres import PostgresCoordinator, migrate
from aiophlo.simulator import Simulator
from tests.support.doubles import outcome_of, pool_of
from tests.support.postgres import Postgres, given_postgres
from tests.support.queues import account_of, shared_by

_numbers = itertools.count()


def pytest_asyncio_loop_factories() -> dict[
    str, Callable[[], asyncio.AbstractEventLoop]
]:
    """Run these tests by the real clock, which the server's is held against."""
    return {"asyncio": asyncio.new_event_loop}


DatabaseConnection = psycopg.AsyncConnection[Any] | psycopg.Connection[Any]


@pytest.fixture(autouse=True)
def connections() -> Iterator[list[DatabaseConnection]]:
    """Give all that are made meanwhile, and fail the test that leaves one open.

    Else the garbage collector closes it, and a later test fails, of its warning.
    """
    made: list[DatabaseConnection] = []
    with pytest.MonkeyPatch.context() as patch:
        for kind in (psycopg.AsyncConnection, psycopg.Connection):
            patch.setattr(kind, "__init__", _noted(kind.__init__, made))
        yield made
    assert [one for one in made if not one.closed] == []


def _noted(init: Callable[..., None], made: list[Any]) -> Callable[..., None]:
    def noted(self: object, *arguments: object, **options: object) -> None:
        init(self, *arguments, **options)
        made.append(self)

    return noted


SharedPool = Callable[..., Coroutine[Any, Any, SessionPool]]


async def send(pool: SessionPool, action: Action, **options: Any) -> Outcome:  # noqa: ANN401 -- send's own
    """Return what comes of an action."""
    return await outcome_of(pool.send(action, **options))


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """Give a server that may be killed."""
    yield from given_postgres()


@pytest.fixture
async def namespace(postgres: Postgres) -> str:
    """Make a schema that no other test uses, and return its name."""
    name = f"test_{next(_numbers)}"
    await migrate(postgres.url, namespace=name)
    return name


@pytest.fixture
async def shared_pool(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> AsyncIterator[SharedPool]:
    """Give what opens one more pool that shares the database with the others."""
    async with AsyncExitStack() as stack:

        async def open_pool(
            *,
            accounts: Sequence[Account] = (),
            **options: Any,  # noqa: ANN401 -- SessionPool's own
        ) -> SessionPool:
            coordinator = PostgresCoordinator(postgres.url, namespace=namespace)
            pool = pool_of(simulator, *accounts, coordinator=coordinator, **options)
            return await stack.enter_async_context(pool)

        yield open_pool


@pytest.fixture
async def pool(
    postgres: Postgres, namespace: str, simulator: Simulator
) -> AsyncIterator[SessionPool]:
    """Give a pool that may have a worker, without a quota."""
    shared = PostgresCoordinator(
        postgres.url, namespace=namespace, lease=3.0, secret="s" * 16
    )
    async with SessionPool(
        account_of(simulator), base_url=simulator.base_url, coordinator=shared
    ) as pool:
        yield pool


@pytest.fixture
def queue(pool: SessionPool) -> PostgresCoordinator:
    """Return the coordinator of that pool."""
    return shared_by(pool)
