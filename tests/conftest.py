"""Fixtures that more than one module's tests need."""

from collections.abc import AsyncIterator

import pytest

from aiophlo.simulator import Simulator


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Give a simulator without a quota, for tests that aren't about pace."""
    async with Simulator(quota=None) as simulator:
        yield simulator
