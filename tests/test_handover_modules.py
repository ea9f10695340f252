"""How the parts of a handover fit together."""

import ast
import pickle
import re
from pathlib import Path

import pytest

import aiophlo
from aiophlo import Ending, OpenHandover, Recovered, Recovery, Tried, handover

FOLDER = Path(handover.__file__).parent
ORDER = re.findall(r"^`(\w+)`", handover.__doc__ or "", re.MULTILINE)
OPEN = OpenHandover(
    account="MA",
    phlo_id="p",
    node_id="n",
    agent="+14152223333",
    customer="…44",
    targets="…55",
)


def test_every_module_is_explained() -> None:
    """Someone new looks for a behaviour there first."""
    names = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert set(ORDER) == names


@pytest.mark.parametrize("name", ORDER)
def test_module_imports_only_those_above_it(name: str) -> None:
    """What knows of each other can't be understood or changed one by one."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text("utf-8"))
    imported = {
        (node.module or "").removeprefix("aiophlo.handover.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("aiophlo.handover")
    }
    assert imported <= set(ORDER[: ORDER.index(name)])


@pytest.mark.parametrize(
    "thing",
    [
        Ending.LEFT,
        Tried("+14155550101", Ending.LEFT),
        OPEN,
        Recovery.UNKNOWN,
        Recovered(OPEN, Recovery.UNKNOWN),
        aiophlo.NobodyAnsweredError("x", tried=(Tried("+14155550101", Ending.LEFT),)),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_public_value_survives_pickling(thing: object) -> None:
    """Workers hand these to each other."""
    twin = pickle.loads(pickle.dumps(thing))  # noqa: S301 -- our own bytes
    assert repr(twin) == repr(thing)
    assert type(twin) is type(thing)
