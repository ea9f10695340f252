"""Whatever happens, in whatever order, and whoever hears of it: nobody is forgotten."""

import random

import pytest

from aiophlo.postgres import PostgresCoordinator
from tests.support.handover_scenes import drive, stage
from tests.support.postgres import Postgres

pytestmark = pytest.mark.long

NUMBER, AT_ONCE = 60, 30


async def test_nobody_is_forgotten_whichever_process_hears_of_them(
    postgres: Postgres, namespace: str
) -> None:
    """Three requests in ten go wrong, and each event comes to any of three workers."""
    seed = random.randrange(10**6)  # noqa: S311 -- another one each time
    coordinators = [
        PostgresCoordinator(postgres.url, namespace=namespace) for _ in range(3)
    ]
    async with stage(
        seed=seed, told_within=2.0, bring_back_within=5.0, coordinators=coordinators
    ) as it:
        errors = await drive(it, NUMBER, at_once=AT_ONCE, seed=seed, shrink=False)
        await it.pool.close()
        table = it.table()
    for error in errors:
        error.add_note(f"seed {seed}\n{table}")
        raise error
    assert not table.violated, f"seed {seed}: {table.worst}\n{table}"
    assert table.handovers >= NUMBER
