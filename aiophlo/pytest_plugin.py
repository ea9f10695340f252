"""A pytest fixture for whoever tests code that transfers calls.

::

    def test_caller_is_transferred(phlo_simulator):
        simulator = phlo_simulator
        my_service.configure(simulator.account, base_url=simulator.base_url)
        my_service.transfer(to="+14152225555")
        assert phlo_simulator.ledger.dials(to="+14152225555") == 1
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from aiophlo.simulator import Simulator


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, so that strict runs know it."""
    config.addinivalue_line(
        "markers",
        "phlo_simulator(**options): arguments for this test's Simulator, such as "
        "quota=None or strict=True",
    )


@pytest.fixture
def phlo_simulator(request: pytest.FixtureRequest) -> Iterator["Simulator"]:
    """Give a PHLO API that rings nobody, in a thread of its own.

    It serves blocking and asynchronous code alike. A `phlo_simulator` marker gives
    the arguments of its `Simulator`.
    """
    from aiophlo.simulator import (  # noqa: PLC0415 -- most runs never need it
        Simulator,
        in_thread,
    )

    marker = request.node.get_closest_marker("phlo_simulator")
    with in_thread(Simulator(**(marker.kwargs if marker else {}))) as simulator:
        yield simulator
