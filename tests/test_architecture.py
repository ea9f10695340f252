"""The order of the package's parts: each imports only from those above it."""

import ast
import graphlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

import aiophlo
from aiophlo import cli, handover, postgres, simulator, wallboard, webhooks

PACKAGE: Final = Path(aiophlo.__file__).parent
# A unit is a package or module of the top level. Not in alphabetical order, but what
# is built on something stands below it: values first, what people call last.
UNITS: Final = (
    "_version",
    "model",
    "simulator",  # so it can't share code with protocol or sending, which it judges
    "errors",  # carries outcomes and handover records of `model`
    "logs",
    "loop_guard",
    "shielding",
    "protocol",
    "observed_events",
    "instrumentation",
    "webhooks",
    "journal",
    "coordination",
    "sending",
    "looking",
    "batch",
    "handles",
    "handover",
    "pool",
    "on_hold",
    "telemetry",
    "wallboard",
    "postgres",
    "draining",
    "pytest_plugin",
    "cli",
    "__main__",
    "aiophlo",  # the package's own names, which come from everywhere
)
BENCHMARKS: Final = (
    *("harness", "clients", "questions", "soak", "cluster", "day", "__main__"),
    "benchmarks",
)
# These name what is loaded later, for annotations alone: see their `import aiophlo`.
NAMES_ANYTHING: Final = {"pool", "instrumentation", "observed_events"}
# WebhookReceived names an event, which a receiver tells observers of.
ANNOTATED: Final = ("aiophlo.observed_events", "aiophlo.webhooks")


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


SOURCES: Final = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
EXPLAINED: Final = {
    package.__name__: re.findall(r"^`(\w+)`", package.__doc__ or "", re.MULTILINE)
    for package in (cli, handover, postgres, simulator, wallboard, webhooks)
}


def imports_in(source: str, known: Mapping[str, object] = SOURCES) -> Iterator[str]:
    """Yield the modules of ours that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in known else node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def unit_of(module: str) -> str:
    """Return the unit that a module is in."""
    return module.split(".")[1] if "." in module else module


def upward(module: str, source: str) -> list[str]:
    """Return what a module imports from units that are not above its own."""
    unit = unit_of(module)
    wrong = []
    for name in imports_in(source):
        if not re.match(r"aiophlo\b", name) or unit_of(name) == unit:
            continue
        if name == "aiophlo" and unit in NAMES_ANYTHING:
            continue
        if (module, name) == ANNOTATED:
            continue
        if UNITS.index(unit_of(name)) > UNITS.index(unit):
            wrong.append(name)
    return wrong


def test_every_part_has_its_place() -> None:
    """What isn't in the order isn't held to it."""
    assert {unit_of(module) for module in SOURCES} == set(UNITS)


@pytest.mark.parametrize("module", SOURCES)
def test_module_imports_only_from_above(module: str) -> None:
    """What knows of each other can't be understood or changed one by one."""
    assert upward(module, SOURCES[module].read_text("utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import aiophlo.pool",
        "from aiophlo.sending.retry import RetryPolicy",
        "from aiophlo.cli import app",
        "def late():\n    from aiophlo.pool import SessionPool",
        "if TYPE_CHECKING:\n    from aiophlo.handover import consult",
        "import aiophlo",
    ],
)
def test_upward_import_is_found(source: str) -> None:
    """A test that finds nothing would let the next circle in."""
    assert upward("aiophlo.model.planted", source)


def test_no_module_is_in_a_circle() -> None:
    """Whoever reads one module of a circle has to read them all."""
    graph = {
        module: {
            name
            for name in imports_in(path.read_text("utf-8"))
            if name in SOURCES and name not in {"aiophlo", module}
            if (module, name) != ANNOTATED
        }
        for module, path in SOURCES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_webhooks_are_named_by_observed_events_for_annotations_alone() -> None:
    """Loading them would let every import pay for webhooks."""
    source = SOURCES["aiophlo.observed_events"].read_text("utf-8")
    assert "\nif TYPE_CHECKING:\n    import aiophlo.webhooks\n" in source
    assert source.count("import aiophlo.webhooks") == 1


def test_journal_alone_speaks_sql() -> None:
    """A schema that others read by themselves can't be changed in one place."""
    speak = {m for m, path in SOURCES.items() if "sqlite3" in path.read_text("utf-8")}
    speak |= {m for m in SOURCES if "aiophlo.journal.database" in _imported(m)}
    assert {unit_of(module) for module in speak} == {"journal"}


def _imported(module: str) -> set[str]:
    return set(imports_in(SOURCES[module].read_text("utf-8")))


def test_benchmarks_have_an_order_too() -> None:
    """A measurement that needs all the others can't be changed or run alone."""
    root = PACKAGE.parent
    sources = {
        _name(path): path.read_text("utf-8")
        for path in sorted((root / "benchmarks").rglob("*.py"))
    }
    graph = {
        module: {name for name in imports_in(source, sources) if name in sources}
        for module, source in sources.items()
    }
    graphlib.TopologicalSorter(graph).prepare()
    for module, names in graph.items():
        for name in names - {module, "benchmarks"}:
            above, below = unit_of(name), unit_of(module)
            assert BENCHMARKS.index(above) <= BENCHMARKS.index(below), (module, name)


@pytest.mark.parametrize("package", EXPLAINED)
def test_every_module_of_a_large_package_is_explained(package: str) -> None:
    """Someone new looks for a behaviour there first."""
    folder = PACKAGE / package.removeprefix("aiophlo.")
    names = {path.stem for path in folder.glob("*.py")}
    assert sorted(EXPLAINED[package]) == sorted(names - {"__init__"})


@pytest.mark.parametrize(
    ("package", "name"),
    [(package, name) for package, names in EXPLAINED.items() for name in names],
)
def test_explained_module_imports_only_those_above_it(package: str, name: str) -> None:
    """The table in its package's docstring is read as an order."""
    order = EXPLAINED[package]
    source = SOURCES[f"{package}.{name}"].read_text("utf-8")
    inside = {
        module.removeprefix(f"{package}.")
        for module in imports_in(source)
        if module.startswith(f"{package}.")
    }
    assert inside <= set(order[: order.index(name)])
