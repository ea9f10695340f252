"""The command `aiophlo` while it is still importing."""

import signal
import subprocess
import sys

import pytest

from aiophlo.cli.exit_codes import Exit

# Stops at the first import that takes long, and says so.
SLOW = """
import sys, time
import aiophlo_command

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            print("importing", flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Slow())
sys.argv = ["aiophlo", "--version"]
"""
STARTS = {
    "aiophlo": "sys.exit(aiophlo_command.main())",
    "python -m aiophlo": (
        "import runpy; runpy.run_module('aiophlo', run_name='__main__')"
    ),
}
# Takes its time to end, after all was said.
LINGERS = """
import atexit
atexit.register(lambda: (print("ending", flush=True), sys.stdin.readline()))
"""


@pytest.mark.parametrize(
    ("start", "module"),
    [("aiophlo", "aiohttp"), ("aiophlo", "typer"), ("python -m aiophlo", "typer")],
)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_during_the_imports_is_an_interruption(
    name: str, start: str, module: str
) -> None:
    """Whoever presses Ctrl-C at once has to know that nobody is being called."""
    program = [sys.executable, "-c", SLOW.format(module=module) + STARTS[start]]
    with subprocess.Popen(  # noqa: S603 -- our own interpreter
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.Signals[name])
        _, said = process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert said == "aiophlo: interrupted; nothing was sent\n"


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_after_all_was_said_changes_no_exit_code(name: str, start: str) -> None:
    """A script that is told of a kill dials again what was accepted."""
    text = SLOW.format(module="no_such_module") + LINGERS + STARTS[start]
    with subprocess.Popen(  # noqa: S603 -- our own interpreter
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "ending\n":
            pass
        process.send_signal(signal.Signals[name])
        _, said = process.communicate("\n")
    assert (process.returncode, said) == (Exit.ACCEPTED, "")


@pytest.mark.parametrize("start", STARTS)
def test_command_runs_what_it_is_given(start: str) -> None:
    """The installed script is the first thing that a new user tries."""
    text = SLOW.format(module="no_such_module") + STARTS[start]
    program = [sys.executable, "-c", text]
    run = subprocess.run(  # noqa: S603 -- our own interpreter
        program, capture_output=True, text=True, check=False
    )
    assert run.returncode == Exit.ACCEPTED, run.stderr
    assert run.stdout.startswith("aiophlo ")
