"""The reference is complete: what there is stands there, and once."""

import inspect
import re
import textwrap
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import aiophlo
import aiophlo.errors
import aiophlo.postgres
import aiophlo.simulator
import aiophlo.telemetry
import aiophlo.wallboard
import aiophlo.webhooks
from aiophlo.cli.app import app
from aiophlo.cli.exit_codes import Exit
from aiophlo.simulator.http_control import describe_routes

pytestmark = pytest.mark.long

DOCS = Path(__file__).parent.parent / "docs"
REFERENCE = DOCS / "reference"


def page(name: str) -> str:
    """Return a page's text."""
    return (REFERENCE / name).read_text("utf-8")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (aiophlo, "aiophlo.md"),
        (aiophlo.webhooks, "webhooks.md"),
        (aiophlo.simulator, "simulator.md"),
        (aiophlo.postgres, "postgres.md"),
        (aiophlo.telemetry, "telemetry.md"),
        (aiophlo.wallboard, "wallboard.md"),
    ],
)
def test_every_public_name_is_documented_once(module: ModuleType, name: str) -> None:
    """A name that isn't there isn't found; one that is there twice differs one day."""
    text = page(name)
    assert f".. currentmodule:: {module.__name__}\n" in text
    directives = re.findall(r"^\.\. auto\w+:: (\w+)(?:\(\))?$", text, re.MULTILINE)
    assert Counter(directives) == Counter(module.__all__)


def test_every_route_of_the_control_api_is_documented() -> None:
    """Whoever tests in Go reads this page, and no Python."""
    text = page("simulator.md")
    shown = re.findall(r"^\| `([A-Z]+ /_simulator\S*)` \|", text, re.MULTILINE)
    assert Counter(shown) == Counter([*describe_routes(), "GET /_simulator"])


def test_every_field_of_a_route_is_documented() -> None:
    """A field that isn't there is never used."""
    rows = dict(
        re.findall(
            r"^\| `(\S+ /_simulator\S*)` \| (.*) \|$",
            page("simulator.md"),
            re.MULTILINE,
        )
    )
    for route, described in describe_routes().items():
        if route != "POST /_simulator/answers":  # `the rest as for faults`
            shown = re.findall(r"`(\w+)`", rows[route])
            assert set(described["fields"]) <= set(shown), route


def test_tree_of_errors_is_the_code_s() -> None:
    """An error that the tree leaves out is caught by nobody."""
    drawn = inspect.getdoc(aiophlo.errors)
    assert drawn is not None
    tree = textwrap.dedent(drawn.partition("::\n\n")[2])
    assert f"```text\n{tree}\n```\n" in page("aiophlo.md")


_GROUP: Any = typer.main.get_command(app)  # typer keeps its classes to itself


_COMMANDS: dict[str, Any] = {
    f"{name} {inner}".rstrip(): command
    for name, group in _GROUP.commands.items()
    for inner, command in getattr(group, "commands", {"": group}).items()
}


def _default(parameter: Any) -> str:  # noqa: ANN401 -- the same
    if parameter.required:
        return "required"
    default = parameter.default
    return "" if default in (None, "") or default is False else f"`{default}`"


_ARGUMENTS = {"file": "FILE", "url": "URL"}


def _rows(command: str) -> list[str]:
    """Return the rows of a command's table, as the command itself describes them."""
    rows = []
    for parameter in _COMMANDS[command].params:
        if not getattr(parameter, "hidden", False):
            is_option = parameter.opts[0].startswith("-")
            name = parameter.opts[0] if is_option else _ARGUMENTS[parameter.name]
            cells = f"`{name}`", _default(parameter), parameter.help
            rows.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return rows


def test_every_command_and_option_is_documented() -> None:
    """Whoever reads an option here must be able to type it, and misses none."""
    text = page("commands.md")
    sections = dict(
        re.findall(r"^## ([a-z ]+)$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    )
    assert sections.keys() == _COMMANDS.keys()
    for command in _COMMANDS:
        shown = re.findall(
            r"^\| `(?:--[a-z-]+|FILE|URL)`.*$", sections[command], re.MULTILINE
        )
        assert shown == _rows(command)


def test_every_exit_code_is_documented() -> None:
    """A script that meets a code must find what it says."""
    table = page("commands.md").partition("## Exit codes")[2].partition("\n## ")[0]
    assert re.findall(r"^\| (\d+) \|", table, re.MULTILINE) == [
        f"{code:d}" for code in Exit
    ]
