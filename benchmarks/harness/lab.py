"""Starts servers and clients, each in its own process, and takes turns."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import nginx

ROOT = Path(__file__).resolve().parents[2]
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
LONGEST = 1_200  # seconds of one piece of work
Measurement = dict[str, Any]
# As installed packages are: compiled once, not at every import.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != _NO_BYTECODE
}


class Server:
    """A server in a process of its own.

    Attributes:
        base_url: Where its API is.
    """

    def __init__(self, options: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 -- our own module
            [sys.executable, "-m", "benchmarks.harness.servers", *options],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None  # noqa: S101 -- it is a pipe
        self.base_url = self._process.stdout.readline().strip()

    def stop(self) -> Measurement:
        """End it and return what it counted; once."""
        counted, _ = self._process.communicate(timeout=30)
        found: Measurement = json.loads(counted)
        return found

    def end(self) -> None:
        """End it, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


class Lab:
    """Where measurements are taken.

    Args:
        quick: Take fewer and smaller ones.

    Attributes:
        quick: As given.
    """

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick

    @contextlib.contextmanager
    def server(self, **options: object) -> Iterator[Server]:
        """Run a server; see `benchmarks.harness.servers` for the options."""
        given = [
            word
            for name, value in options.items()
            for word in (f"--{name}", *str(value).split())
        ]
        server = Server(tuple(given))
        try:
            yield server
        finally:
            server.end()

    @contextlib.contextmanager
    def prompt_server(self, certificate: Path | None = None) -> Iterator[str]:
        """Run a server that answers at once; gives its base URL.

        nginx, where it is installed; else our own. With a certificate, it speaks TLS.
        """
        command = nginx.path()
        if command is None:
            options: dict[str, object] = {}
            if certificate is not None:
                options["certificate"] = certificate
            with self.server(**options) as server:
                yield server.base_url
        else:
            with nginx.serving(command, certificate) as base_url:
                yield base_url

    def work(self, module: str, /, **arguments: object) -> Measurement:
        """Run `work(**arguments)` of a module in a process of its own.

        Raises:
            RuntimeError: It failed.
        """
        return self.run_python(*words_for(module, **arguments))

    def run_python(self, *words: str) -> Measurement:
        """Run Python on its own and return the JSON in its last line.

        Raises:
            RuntimeError: It failed.
        """
        done = subprocess.run(  # noqa: S603 -- our own modules
            [sys.executable, *words],
            cwd=ROOT,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        if done.returncode:
            shown = " ".join(words)
            raise RuntimeError(f"{shown}\n{done.stderr}")
        found: Measurement = json.loads(done.stdout.splitlines()[-1])
        return found

    def take_turns(
        self, trials: Mapping[str, Callable[[], Measurement]], *, rounds: int
    ) -> list[Measurement]:
        """Run each trial once per round, each round beginning with another one.

        Args:
            trials: What to run, by the client's name.
            rounds: How often.

        Returns:
            A row per run, with `client` and `round`.
        """
        rows = []
        order = list(trials)
        for number in range(rounds):
            for client in order:
                row = {"client": client, "round": number, **trials[client]()}
                rows.append(row)
                say(f"  {number + 1}/{rounds} {client}: {_shown(row)}")
            order.append(order.pop(0))
        rows.sort(key=lambda row: list(trials).index(row["client"]))
        return rows


def words_for(module: str, /, **arguments: object) -> tuple[str, ...]:
    """Return what to tell Python to run `work(**arguments)` of a module."""
    return "-m", "benchmarks.harness.work", module, json.dumps(arguments)


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)


def _shown(row: Measurement) -> str:
    return ", ".join(
        f"{name} {value:.4g}"
        for name, value in row.items()
        if name not in {"client", "round"} and isinstance(value, int | float)
    )
