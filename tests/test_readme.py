"""The README's examples, run as they stand."""

import re
from pathlib import Path

import pytest
from aiohttp import web

from aiophlo import SessionPool
from aiophlo.simulator import Simulator

pytest_plugins = ["pytester"]

pytest_plugins = ["pytester"]

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
OTHERS = [block for block in BLOCKS if "app = web.Application()" in block]
TESTS = [block for block in BLOCKS if "def test_" in block]
PROGRAMS = [block for block in BLOCKS if "asyncio.run(" in block and block not in TESTS]


def test_first_example_is_complete_by_line_40() -> None:
    """Whoever looks for a minute must have seen what it is like."""
    head = TEXT.splitlines()[:40]
    assert "asyncio.run(main())" in head
    assert PROGRAMS[0].splitlines()[0] == "import asyncio"


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_program_runs(
    number: int,
    phlo_simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever copies it must not have to mend it."""
    monkeypatch.setenv("PLIVO_AUTH_ID", phlo_simulator.auth_id)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", phlo_simulator.auth_token)
    monkeypatch.chdir(tmp_path)
    defaults = SessionPool.__init__.__kwdefaults__ or {}
    monkeypatch.setitem(defaults, "base_url", phlo_simulator.base_url)
    code = compile(PROGRAMS[number], f"README.md, program {number}", "exec")
    exec(code, {"__name__": "__main__"})  # noqa: S102 -- our own README
    assert phlo_simulator.ledger.requests
    assert not phlo_simulator.ledger.rung_twice()
    assert "Error" not in capsys.readouterr().out


def test_every_example_is_run() -> None:
    """An example that nobody runs is wrong within a year."""
    assert len(PROGRAMS) + len(TESTS) + len(OTHERS) == len(BLOCKS)
    assert TESTS
    assert OTHERS


@pytest.mark.parametrize("number", range(len(OTHERS)))
def test_application_is_built(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever pastes it into a service must see that service start."""
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", "a-token")
    names: dict[str, object] = {"__name__": "readme"}  # which AppKey asks for
    exec(compile(OTHERS[number], "README.md", "exec"), names)  # noqa: S102 -- ours
    assert isinstance(names["app"], web.Application)


@pytest.mark.parametrize("number", range(len(TESTS)))
def test_test_runs(number: int, pytester: pytest.Pytester) -> None:
    """Whoever starts their own tests from it must see them pass."""
    pytester.makepyfile(TESTS[number])
    assert pytester.runpytest_subprocess("-q").ret == pytest.ExitCode.OK
