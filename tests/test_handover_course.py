"""What has begun in a handover ends, whoever waits for it or doesn't."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from handover_stage import FIRST, Stage, set_stage

from aiophlo import Consult, Journal, NotFoundError


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Give a call whose agent wants to hand the customer over."""
    async with set_stage() as stage:
        yield stage


async def answered(consult: Consult) -> None:
    """Wait until the router has seen the partner."""
    async with asyncio.timeout(2.0):
        while "consulting" not in repr(consult):
            await asyncio.sleep(0.01)


async def test_handover_ends_when_started_by_hand_with_a_router(
    stage: Stage, tmp_path: Path
) -> None:
    """The agent could never hand anybody over again."""
    async with Journal(tmp_path / "journal") as journal:
        consult = stage.consult(journal=journal)
        await consult.start()
        await answered(consult)
        assert await consult.complete() == FIRST
    async with Journal(tmp_path / "journal") as journal:
        assert journal.handovers.left_open() == []
    with pytest.raises(NotFoundError):  # not refused as engaged: the call is over
        await stage.consult().start()
