"""Whatever happens in whatever order, nobody is forgotten."""

import random

import pytest

from tests.support.handover_scenes import drive, stage

pytestmark = pytest.mark.long

NUMBER, AT_ONCE = 90, 45


async def test_nobody_is_forgotten() -> None:
    """Three requests in ten go wrong, people do as they please, events as they can."""
    seed = random.randrange(10**6)  # noqa: S311 -- another one each time
    async with stage(seed=seed, told_within=2.0, bring_back_within=5.0) as it:
        errors = await drive(it, NUMBER, at_once=AT_ONCE, seed=seed, shrink=True)
        await it.pool.close()
        table = it.table()
    for error in errors:
        error.add_note(f"seed {seed}\n{table}")
        raise error
    assert not table.violated, f"seed {seed}: {table.worst}\n{table}"
    assert table.handovers >= NUMBER
