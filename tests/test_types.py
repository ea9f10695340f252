"""Types and help: what an editor, a type checker and `help()` show of the library."""

import inspect
import pkgutil
import pydoc
import subprocess
import sys
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import attrs
import pytest

import aiophlo
import aiophlo.simulator
import aiophlo.webhooks
from aiophlo import Accepted, InDoubt, NotSent, Rejected

pytestmark = pytest.mark.long

SUPPORT: Final = Path(__file__).parent / "support"
MODULES: Final = [
    "aiophlo",
    "aiophlo.errors",
    "aiophlo.webhooks.events",
    "aiophlo.journal.journal",
    "aiophlo.model.outcomes",
    "aiophlo.pytest_plugin",
    "aiophlo.webhooks.receiver",
    "aiophlo.webhooks.servers",
    "aiophlo.handover.event_router",
    "aiophlo.handover.watch",
    "aiophlo.simulator",
    "aiophlo.webhooks.signature",
]
PUBLIC: Final = (aiophlo, aiophlo.webhooks, aiophlo.simulator)
# What the library's own parts ask of each other, and is in no documentation.
INTERNAL: Final = {
    "EventRouter.agent_had_left",
    "EventRouter.agent_is_elsewhere",
    "EventRouter.follow",
    "EventRouter.forget",
    "EventRouter.remember",
    "EventRouter.warn_not_seen",
    "EventRouter.watch",
    "JournalReader.after",
    "JournalReader.find",
    "JournalReader.find_default",
}
CHECKERS: Final = {
    "mypy": ["mypy", "--strict", "--config-file=", "--no-incremental"],
    "basedpyright": [
        "basedpyright",
        "--level",
        "error",
        "--pythonpath",
        sys.executable,
    ],
}
FORGETS_ONE: Final = """
from typing import assert_never
from aiophlo import Accepted, NotSent, Outcome, Rejected

def read(outcome: Outcome) -> str:
    match outcome:
        case Accepted() | Rejected() | NotSent():
            return outcome.verdict
    assert_never(outcome)
"""


def public_things() -> Iterator[tuple[str, Any]]:
    """Yield every public class, method and function by its name."""
    for module_name in MODULES:
        module = import_module(module_name)
        names = getattr(module, "__all__", None) or [
            name
            for name, thing in vars(module).items()
            if not name.startswith("_")
            and getattr(thing, "__module__", None) == module_name
        ]
        for name in names:
            thing = getattr(module, name)
            if inspect.isfunction(thing):
                yield f"{module_name}.{name}", thing
            if isinstance(thing, type):
                yield f"{module_name}.{name}", thing
                for inner, member in inspect.getmembers(thing):
                    if inner.startswith("_") and not inner.endswith("__"):
                        continue
                    called = member.fget if isinstance(member, property) else member
                    if inspect.isroutine(called) and hasattr(called, "__annotations__"):
                        yield f"{module_name}.{name}.{inner}", called


@pytest.mark.parametrize("thing", [pytest.param(t, id=n) for n, t in public_things()])
def test_annotations_can_be_resolved(thing: object) -> None:
    """Frameworks that inject, validate or document by annotations read them so."""
    typing.get_type_hints(thing)


@pytest.mark.parametrize("module", [aiophlo, aiophlo.webhooks])
def test_what_is_public_is_typed_by_what_is_public(module: ModuleType) -> None:
    """Who writes a function around one of ours must be able to annotate it."""
    public = [getattr(one, name) for one in PUBLIC for name in one.__all__]
    private = {
        f"{name}: {found.__qualname__}"
        for name, hints in _public_hints(module)
        for hint in hints
        for found in _classes_in(hint)
        if found.__module__.startswith("aiophlo.") and found not in public
    }
    assert not private


def _public_hints(module: ModuleType) -> Iterator[tuple[str, list[object]]]:
    """Yield what is in the annotations of functions, methods and attributes."""
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isfunction(thing):
            yield name, list(typing.get_type_hints(thing).values())
        if not isinstance(thing, type):
            continue
        hints = typing.get_type_hints(thing)
        yield name, [hint for key, hint in hints.items() if not key.startswith("_")]
        for inner, method in inspect.getmembers(thing, inspect.isfunction):
            if not inner.startswith("_") and f"{name}.{inner}" not in INTERNAL:
                yield f"{name}.{inner}", list(typing.get_type_hints(method).values())


def _classes_in(hint: object) -> Iterator[type]:
    if isinstance(hint, type) and not typing.get_args(hint):
        yield hint
    for inner in hint if isinstance(hint, list) else typing.get_args(hint):
        yield from _classes_in(inner)


def test_annotations_can_be_resolved_before_anything_else_is_loaded() -> None:
    """What is loaded when it is first asked for must be found by then."""
    code = (
        "import typing, aiophlo;"
        "typing.get_type_hints(aiophlo.WebhookReceived);"
        "typing.get_type_hints(aiophlo.SessionPool.__init__);"
        "hints = typing.get_type_hints(aiophlo.SessionPool.stream);"
        "typing.get_type_hints(aiophlo.SessionPool.hand_over);"
        "print(hints['return'].__name__)"
    )
    told = subprocess.check_output([sys.executable, "-c", code], text=True)  # noqa: S603 -- ours
    assert told == "Stream\n"


def test_every_module_can_be_imported_first() -> None:
    """Modules that need each other must not need an order that nobody knows."""
    names = {"errors", "handover", "journal", "model.outcomes", "model.redaction"}
    names |= {"pool", "sending.delivery", "sending.sender", "simulator", "webhooks"}
    modules = pkgutil.walk_packages(aiophlo.__path__, "aiophlo.")
    assert {module.name.removeprefix("aiophlo.") for module in modules} > names
    for name in sorted(names):
        command = [sys.executable, "-c", f"import aiophlo.{name}"]
        subprocess.run(command, check=True)  # noqa: S603 -- ours


def test_dir_is_what_is_public() -> None:
    """What an editor offers after `aiophlo.` is taken for what one may use."""
    assert dir(aiophlo) == sorted(aiophlo.__all__)


@pytest.mark.parametrize(
    "kind",
    [
        *(Accepted, Rejected, NotSent, InDoubt),
        *(aiophlo.WarmTransfer, aiophlo.ColdTransfer, aiophlo.AddUser),
    ],
)
def test_help_shows_the_fields(kind: type[attrs.AttrsInstance]) -> None:
    """Who types `help(Accepted)` wants to know what is in it."""
    told = pydoc.plain(pydoc.render_doc(kind)).partition("Method resolution")[0]
    for field in attrs.fields(kind):
        assert f"{field.name}: " in told.partition("Attributes:")[2]


@pytest.mark.parametrize("checker", CHECKERS)
def test_sample_program_is_accepted(checker: str) -> None:
    """Users run strict type checkers, and each has its own idea of ours."""
    command = [sys.executable, "-m", *CHECKERS[checker], "sample_program.py"]
    done = subprocess.run(  # noqa: S603 -- ours
        command, cwd=SUPPORT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("checker", CHECKERS)
def test_forgotten_verdict_is_found(checker: str, tmp_path: Path) -> None:
    """A `match` without InDoubt leaves a ringing phone to nobody."""
    (tmp_path / "program.py").write_text(FORGETS_ONE)
    command = [sys.executable, "-m", *CHECKERS[checker], "program.py"]
    done = subprocess.run(  # noqa: S603 -- ours
        command, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "InDoubt" in done.stdout
