"""Every code block of the README and of `docs/`, run as it stands.

What a block is says its language and its content:

- `python` with `asyncio.run(`: a whole program, run against the simulator;
- `python` with `def test_`: tests, run by pytest in a folder of their own;
- `python` with `app = ` at the start of a line: a service, which is built;
- any other `python`: run in the page's own namespace, in order, `await` included,
  with an open `pool` on a `simulator` without calls, and the handle of a `node`;
- `python` under a line `**name.py**`: a file of that name, for the page's commands;
- `console`: what follows each `$ ` is run by bash, all of a page as one script in a
  folder of its own, with credentials and base URL of the simulator. `console exit=3`
  says how its last command ends, and `console background port=8700` that it runs on,
  as in a terminal of its own, and that the page goes on once that port is open.
  A page that names `AIOPHLO_POSTGRES_URL` has a database there.
  Pages use ports from 8700 to 8799; free ones are put in their places, as somebody
  else on this machine may be running a page, too;
- `json`, `toml`, `csv`: read;
- `text`: what somebody sees, looked at by nobody.

`<!-- not run: why -->` above a block leaves it out, and `<!-- python` begins hidden
lines, run like those of a block, up to `-->`.
"""

import ast
import asyncio
import contextlib
import csv
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from aiophlo import Account, SessionPool
from aiophlo.simulator import Simulator
from tests.support.ports import free_port
from tests.support.postgres import Postgres

pytestmark = pytest.mark.long

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n|\*\*(?P<file>[\w.]+)\*\*\n\n?)?"
    r"(?:(?P<fence>`{3,})(?P<language>[a-z]+)(?P<options>[^\n]*)\n(?P<code>.*?)^(?P=fence)"
    r"|<!-- python\n(?P<hidden>.*?)^-->)",
    re.MULTILINE | re.DOTALL,
)
_READ: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "csv": lambda text: list(csv.reader(text.splitlines(), strict=True)),
}
_SHOWN = {"text"}  # what somebody sees, not what they type
_PORT = re.compile(r"\b87[0-9]{2}\b")
LONGEST = 300.0  # seconds for the commands of one page, on a machine that is busy
_UNTIL_OPEN = """until (exec 3<>/dev/tcp/127.0.0.1/{}) 2>/dev/null; do
    kill -0 $! || exit 98  # it has ended
    sleep 0.05
done"""


@attrs.frozen
class Block:
    """A code block of a page."""

    page: Path
    number: int
    language: str
    options: str
    code: str = attrs.field(repr=False)
    why_not: str | None = None
    file: str | None = None

    @property
    def kind(self) -> str:
        """What is done with it."""
        if self.why_not is not None:
            return "not run"
        if self.file is not None:
            return "file"
        if self.language != "python":
            return self.language
        if re.search(r"^ *(async )?def test_", self.code, re.MULTILINE):
            return "tests"
        if re.search(r"^app = ", self.code, re.MULTILINE):
            return "service"
        return "program" if "asyncio.run(" in self.code else "snippet"

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"{self.page.relative_to(ROOT)}:{self.number}"


def _blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text("utf-8")
        for found in _BLOCK.finditer(text):
            hidden = found["hidden"]
            yield Block(
                page,
                text.count("\n", 0, found.start()) + 1,
                "python" if hidden is not None else found["language"],
                found["options"] or "",
                found["code"] if hidden is None else hidden,
                found["why"],
                found["file"],
            )


BLOCKS = list(_blocks())


def of(*kinds: str) -> pytest.MarkDecorator:
    """Run a test for every block of these kinds."""
    blocks = [block for block in BLOCKS if block.kind in kinds]
    return pytest.mark.parametrize("block", blocks, ids=lambda block: block.name)


def name_of(page: Path) -> str:
    """Say where a page is."""
    return str(page.relative_to(ROOT))


@pytest.fixture
def environment(
    phlo_simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """Let what runs meet the simulator, in an empty folder."""
    monkeypatch.setenv("PLIVO_AUTH_ID", phlo_simulator.auth_id)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", phlo_simulator.auth_token)
    monkeypatch.setenv("AIOPHLO_BASE_URL", phlo_simulator.base_url)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_is_of_a_kind_that_is_run() -> None:
    """An example that nobody runs is wrong within a year."""
    kinds = {"console", "file", "not run", "program", "service", "snippet", "tests"}
    kinds |= _READ.keys() | _SHOWN
    assert not [block.name for block in BLOCKS if block.kind not in kinds]


@of("program")
def test_program_runs(
    block: Block,
    environment: Path,
    phlo_simulator: Simulator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever copies it must not have to mend it."""
    del environment
    exec(compile(block.code, block.name, "exec"), {"__name__": "__main__"})  # noqa: S102 -- our own page
    assert phlo_simulator.ledger.requests
    assert not phlo_simulator.ledger.rung_twice()
    assert "Error" not in capsys.readouterr().out


@of("service")
def test_service_is_built(
    block: Block, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever pastes it into a service must see that service start."""
    del environment
    # aiohttp's AppKey asks for a name, and Flask and Litestar for a module of it.
    module = types.ModuleType("service_of_a_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names = vars(module)
    exec(compile(block.code, block.name, "exec"), names)  # noqa: S102 -- our own page
    assert callable(names["app"]) or hasattr(names["app"], "router")


@of("tests")
def test_tests_run(block: Block, pytester: pytest.Pytester) -> None:
    """Whoever starts their own tests from it must see them pass."""
    pytester.makepyfile(block.code)
    assert pytester.runpytest_subprocess("-q").ret == pytest.ExitCode.OK


@pytest.fixture
def database(
    page: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name a database to a page that wants one."""
    if "AIOPHLO_POSTGRES_URL" in page.read_text("utf-8"):
        postgres: Postgres = request.getfixturevalue("postgres")
        monkeypatch.setenv("AIOPHLO_POSTGRES_URL", postgres.url)


_WITH_COMMANDS = sorted({block.page for block in BLOCKS if block.kind == "console"})


@pytest.mark.parametrize("page", _WITH_COMMANDS, ids=name_of)
def test_commands_of_a_page_run_in_order(
    page: Path, environment: Path, database: None
) -> None:
    """Whoever types them must see what the page promises."""
    del database
    script = ["trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    ports: dict[str, str] = {}
    for block in BLOCKS:
        if block.page == page and block.kind == "file":
            code = _with_free_ports(block.code, ports)
            (environment / str(block.file)).write_text(code, "utf-8")
        if block.page == page and block.kind == "console":
            script += [_with_free_ports(line, ports) for line in _commands_of(block)]
    with subprocess.Popen(  # noqa: S603 -- our own page
        ["/bin/bash", "-e", "-c", "\n".join(script)],
        cwd=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            said, _ = shell.communicate(timeout=LONGEST)
        finally:  # what runs in the background, too
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, said


def _with_free_ports(text: str, ports: dict[str, str]) -> str:
    """Replace the ports of a page by free ones, each by the same throughout."""
    return _PORT.sub(lambda found: ports.setdefault(found[0], str(free_port())), text)


def _commands_of(block: Block) -> list[str]:
    commands = re.findall(r"^\$ (.*(?:\n {4}.*)*)", block.code, re.MULTILINE)
    assert commands, f"{block.name}: expected commands after `$ `"
    if "background" in block.options:
        port = re.search(r"port=(\d+)", block.options)
        commands[-1] += " &"
        if port is not None:
            commands.append(_UNTIL_OPEN.format(port[1]))
    wanted = re.search(r"exit=(\d+)", block.options)
    if wanted is not None:
        commands[-1] = f"({commands[-1]}) && exit 99 || test $? = {wanted[1]}"
    return commands


@of(*_READ)
def test_data_can_be_read(block: Block) -> None:
    """Whoever copies a file's example must be able to use it."""
    assert _READ[block.kind](block.code)


_WITH_SNIPPETS = sorted({block.page for block in BLOCKS if block.kind == "snippet"})


@pytest.mark.parametrize("page", _WITH_SNIPPETS, ids=name_of)
async def test_snippets_of_a_page_run_in_order(
    page: Path,
    environment: Path,
    phlo_simulator: Simulator,
    database: None,
) -> None:
    """A page is read from the top, and each step must work after the one before."""
    del environment, database
    account = Account(phlo_simulator.auth_id, phlo_simulator.auth_token)
    async with SessionPool(account) as pool:
        names: dict[str, object] = {
            "__name__": "docs",
            "pool": pool,
            "node": pool.phlo("my-phlo").multi_party_call("my-node"),
            "simulator": phlo_simulator,
        }
        for block in BLOCKS:
            if block.page == page and block.kind == "snippet":
                async with asyncio.timeout(LONGEST):
                    await _run(block, names)


async def _run(block: Block, names: dict[str, object]) -> None:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(block.code, block.name, "exec", flags=flags)
    made: object = eval(code, names)  # noqa: S307 -- our own page
    if inspect.isawaitable(made):
        await made


README = (ROOT / "README.md").read_text("utf-8")


def test_readme_is_short_and_begins_with_what_can_be_tried() -> None:
    """Whoever looks for a minute must have seen it work, and then how it is called."""
    assert len(README.splitlines()) <= 200
    shown = re.findall(r"^```[a-z]+\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert "aiophlo demo" in shown[0]
    assert "pool.hand_over(" in shown[1]


def test_readme_has_one_command_for_the_tests_and_the_gate_runs_it() -> None:
    """Whoever types it must find it green."""
    commands = re.findall(r"^.*/pytest -n auto.*$", README, re.MULTILINE)
    assert len(commands) == 1
    assert commands[0] in (ROOT / ".ci" / "run").read_text("utf-8")


def test_architecture_names_only_what_is_there() -> None:
    """Who follows the map to a file that has moved stops trusting it."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = re.findall(r"`([a-z_0-9/]+(?:/|\.py))`", page)
    assert len(named) > 50
    elsewhere = ("tests/", "aiophlo/")
    roots = {
        name: ROOT if name.startswith(elsewhere) else ROOT / "aiophlo" for name in named
    }
    assert not [name for name, root in roots.items() if not (root / name).exists()]


def test_architecture_maps_every_package() -> None:
    """A package that is not on the map is found by nobody."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    packages = {path.parent.name for path in (ROOT / "aiophlo").glob("*/__init__.py")}
    assert not [
        name
        for name in packages
        if f"| `{name}/`" not in page and f"`{name}/`, " not in page
    ]


def test_readme_links_to_pages_of_the_documentation() -> None:
    """Who follows a link of the front page must not end at nothing.

    That the pages in the index are there, the build of the documentation says.
    """
    index = (ROOT / "docs" / "index.md").read_text("utf-8").splitlines()
    linked = set(re.findall(r"\]\(docs/([^)]+)\.md\)", README))
    assert len(linked) > 15
    assert not linked - set(index)
