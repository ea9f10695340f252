"""Counts instructions by valgrind: what no neighbour on the machine disturbs."""

import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.harness.lab import ENVIRONMENT, LONGEST, ROOT, say

PROGRAM = "valgrind"
_COUNT = re.compile(r"Collected : (\d+)")
_CONTROL = "callgrind_control"


def version() -> str | None:
    """Return valgrind's version, if it is installed."""
    if shutil.which(PROGRAM) is None or shutil.which(_CONTROL) is None:
        return None
    words = [PROGRAM, "--version"]
    told = subprocess.run(words, capture_output=True, text=True, check=True)  # noqa: S603 -- it asks for a version
    return told.stdout.strip().removeprefix("valgrind-")


def switch(*, on: bool) -> None:
    """Begin or end the counting of this process, which valgrind runs."""
    words = [_CONTROL, "-i", "on" if on else "off", str(os.getpid())]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 -- valgrind's own


def count(words: Sequence[str], *, profile: str | Path = os.devnull) -> float:
    """Run a load under valgrind, and count what each of its transfers needs.

    Args:
        words: The arguments to Python.
        profile: Where callgrind writes what spent them.

    Raises:
        RuntimeError: It failed.
    """
    valgrind = (PROGRAM, "--tool=callgrind", "--instr-atstart=no")
    done = subprocess.run(  # noqa: S603 -- our own modules
        [*valgrind, f"--callgrind-out-file={profile}", sys.executable, *words],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    found = _COUNT.search(done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"{' '.join(words)}\n{done.stderr}")
    measured = json.loads(done.stdout.splitlines()[-1])
    return int(found[1]) / int(measured["transfers"])


def count_all(programs: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Count several loads, as many at once as there are cores."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        found = dict(zip(programs, threads.map(count, programs.values()), strict=True))
    shown = ", ".join(f"{name} {number:,.0f}" for name, number in found.items())
    say(f"  instructions counted: {shown}")
    return found
