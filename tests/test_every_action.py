"""Every action is complete: exported, sent by a handle, and known to the simulator."""

import ast
import inspect

import pytest

import aiophlo
from aiophlo import Account, Action, handles
from aiophlo.model import actions
from aiophlo.simulator import Simulator
from aiophlo.simulator.api import DIALLING, READING
from tests.support.doubles import account_of, act, outcome_of, pool_of


def concrete_kinds() -> list[type[Action]]:
    """Return the classes of `aiophlo.model.actions` that no other one there extends."""
    kinds = [
        value
        for value in vars(actions).values()
        if isinstance(value, type) and issubclass(value, Action)
    ]
    return [
        kind for kind in kinds if not any(kind in other.__mro__[1:] for other in kinds)
    ]


KINDS = pytest.mark.parametrize(
    "kind", concrete_kinds(), ids=lambda kind: kind.__name__
)


@KINDS
def test_action_can_be_imported_from_the_package(kind: type[Action]) -> None:
    """Whoever reads of it in the changelog types `from aiophlo import …`."""
    assert kind.__name__ in aiophlo.__all__


@KINDS
def test_action_has_a_method_of_a_handle(kind: type[Action]) -> None:
    """Handles are what the documentation shows first: what they lack isn't found."""
    code = ast.parse(inspect.getsource(handles))
    named = {node.id for node in ast.walk(code) if isinstance(node, ast.Name)}
    assert kind.__name__ in named


@KINDS
async def test_simulator_carries_the_action_out(kind: type[Action]) -> None:
    """Users test against the simulator: what it refuses, they can't try."""
    async with Simulator(quota=None) as simulator:
        account: Account = account_of(simulator)
        async with pool_of(simulator, account) as pool:
            outcome = await outcome_of(pool.send(act(kind)))
        assert outcome.verdict == "accepted", outcome
        assert list(simulator.ledger.disagreements([outcome])) == []
        [record] = simulator.ledger.requests
        assert record.applied != kind.reads
        assert record.dialled == kind.dials
    assert (record.action in READING) == kind.reads
    assert (record.action in DIALLING) == kind.dials
