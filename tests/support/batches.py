"""What the tests of batches share: files of rows, and `aiophlo batch` as a process."""

import csv
import json
import os
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path

import pytest

from aiophlo.simulator import Simulator

AGENT = "+14155559999"
IDS = ("--phlo-id", "p", "--node-id", "n")
FIELDS = [
    *("key", "verdict", "reason", "status", "api_id", "attempts", "seconds", "error")
]


def number(row: int) -> str:
    """Give each row a number of its own."""
    return f"+1{4_150_000_000 + row}"


def write_rows(path: Path, rows: int, *, first: int = 0) -> Path:
    """Write a CSV file of sound rows with keys `row-0`, `row-1` and so on."""
    lines = [f"row-{n},{number(n)},{AGENT}" for n in range(first, first + rows)]
    path.write_text("\n".join(["key,to,trigger_source", *lines, ""]))
    return path


def environment(simulator: Simulator) -> dict[str, str]:
    """Return an environment that points the command at a simulator."""
    return {
        **os.environ,
        "PLIVO_AUTH_ID": simulator.auth_id,
        "PLIVO_AUTH_TOKEN": simulator.auth_token,
        "AIOPHLO_BASE_URL": simulator.base_url,
    }


def name_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name an account in this process's environment, and an API that nobody serves."""
    monkeypatch.setenv("PLIVO_AUTH_ID", "MA" + "X" * 18)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", "secret")
    monkeypatch.setenv("AIOPHLO_BASE_URL", "http://127.0.0.1:9/v1")


async def start_batch(
    simulator: Simulator, *arguments: object, before: Sequence[str] = ()
) -> Process:
    """Start `aiophlo batch`; `before` goes in front of the interpreter."""
    command = [*before, sys.executable, "-m", "aiophlo", "batch", *map(str, arguments)]
    return await create_subprocess_exec(
        *command, *IDS, env=environment(simulator), stdout=PIPE, stderr=PIPE
    )


def read_results(path: Path) -> dict[str, list[str]]:
    """Return the rows of a results file by key, each of them whole and single."""
    text = path.read_text()
    assert text.endswith("\n")
    header, *rows = list(csv.reader(text.splitlines()))
    assert header == FIELDS
    assert all(len(row) == len(FIELDS) for row in rows)
    found = {row[0]: row for row in rows}
    assert len(found) == len(rows)
    return found


def json_lines(text: str) -> list[dict[str, object]]:
    """Return what each line holds."""
    return [json.loads(line) for line in text.splitlines()]
