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
sys.exit(aiophlo_command.main())
"""


@pytest.mark.parametrize("module", ["aiohttp", "typer"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_during_the_imports_is_an_interruption(name: str, module: str) -> None:
    """Whoever presses Ctrl-C at once has to know that nobody is being called."""
    program = [sys.executable, "-c", SLOW.format(module=module)]
    with subprocess.Popen(  # noqa: S603 -- our own interpreter
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.Signals[name])
        _, said = process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert said == "aiophlo: interrupted; nothing was sent\n"


def test_command_runs_what_it_is_given() -> None:
    """The installed script is the first thing that a new user tries."""
    program = [sys.executable, "-c", SLOW.format(module="no_such_module")]
    run = subprocess.run(  # noqa: S603 -- our own interpreter
        program, capture_output=True, text=True, check=False
    )
    assert run.returncode == Exit.ACCEPTED, run.stderr
    assert run.stdout.startswith("aiophlo ")
