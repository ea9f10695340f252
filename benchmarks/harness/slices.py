"""Lets several processes run side by side, but only one at any moment.

A shared machine's speed changes from one second to the next by more than what is
to be told apart. So all are under way at once, and each in its turn is let run for
some milliseconds: whatever the machine does, it does to all that are not done yet.
What such a run tells is CPU time; who waits here also waits for the others' turns.
"""

import collections
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from benchmarks.harness.lab import ENVIRONMENT, LONGEST, ROOT, Lab, Measurement, say

_ALONE = ("per_second", "p50_ms", "p99_ms", "peak_mib")
_TURN = 0.05  # seconds
# asyncio reads into 256 KiB anew each time. If these happen to lie at the end of the
# heap, glibc returns them to the system after every read: two page faults, up to a
# fifth of a request. Over TLS, as in production, they never do; here they shan't.
_STEADY_HEAP = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
}


class _Runner:
    """Python in a process of its own, which runs only in its turns."""

    def __init__(self, words: Sequence[str], said: IO[str], told: IO[str]) -> None:
        self._words = words
        self._said = said
        self._told = told
        self._process = subprocess.Popen(  # noqa: S603 -- our own modules
            [sys.executable, *words],
            cwd=ROOT,
            env=ENVIRONMENT | _STEADY_HEAP,
            stdout=said,
            stderr=told,
            text=True,
        )
        self._process.send_signal(signal.SIGSTOP)

    def take_turn(self) -> bool:
        """Run for a moment; say whether there is more to do."""
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(_TURN)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGSTOP)
            return True
        return False

    def result(self) -> Measurement:
        """Return the JSON in its last line."""
        for output in (self._said, self._told):
            output.seek(0)
        if self._process.returncode:
            raise RuntimeError(f"{' '.join(self._words)}\n{self._told.read()}")
        found: Measurement = json.loads(self._said.read().splitlines()[-1])
        return found

    def end(self) -> None:
        """End it, if it hasn't."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def _running(words: Sequence[str]) -> Iterator[_Runner]:
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as told:
        runner = _Runner(words, said, told)
        try:
            yield runner
        finally:
            runner.end()


def side_by_side(programs: Mapping[str, Sequence[str]]) -> dict[str, Measurement]:
    """Run Python programs in turns until all have ended.

    Args:
        programs: The arguments to Python of each, by its name.

    Returns:
        The JSON in the last line of each, by its name.

    Raises:
        RuntimeError: One failed.
        TimeoutError: They don't come to an end.
    """
    with contextlib.ExitStack() as stack:
        runners = {
            name: stack.enter_context(_running(words))
            for name, words in programs.items()
        }
        waiting = collections.deque(runners.values())
        last = time.monotonic() + LONGEST * len(runners)
        while waiting:
            runner = waiting.popleft()
            if runner.take_turn():
                waiting.append(runner)
            if time.monotonic() > last:
                raise TimeoutError("the programs don't come to an end")
        return {name: runner.result() for name, runner in runners.items()}


def rounds_side_by_side(
    programs: Mapping[str, Sequence[str]], *, rounds: int
) -> list[Measurement]:
    """Run programs side by side, several times.

    Returns:
        The CPU time and memory of each in each round: what else they tell is of
        a process that was often stopped.
    """
    rows: list[Measurement] = []
    for number in range(rounds):
        found = side_by_side(programs)
        rows += (
            {
                "client": name,
                "round": number,
                "cpu_us": it["cpu_us"],
                "peak_mib": it["peak_mib"],
            }
            for name, it in found.items()
        )
        shown = ", ".join(f"{name} {it['cpu_us']:.4g}" for name, it in found.items())
        say(f"  {number + 1}/{rounds} side by side, cpu_us: {shown}")
    return rows


def add_alone(
    lab: Lab, rows: Sequence[Measurement], programs: Mapping[str, Sequence[str]]
) -> None:
    """Run each program alone, once, and add what that tells to its first row."""
    for name, program in programs.items():
        found = lab.run_python(*program)
        [row] = (r for r in rows if (r["client"], r["round"]) == (name, 0))
        row |= {key: found[key] for key in _ALONE}
        say(f"  {name} alone: {found['per_second']:,.0f}/s, {found['cpu_us']:.4g} us")
