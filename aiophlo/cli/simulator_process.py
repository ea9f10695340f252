"""The simulator in a process of its own, which never outlives this one."""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import attrs

from aiophlo.cli.exit_codes import UnusableError
from aiophlo.model.accounts import ID_VARIABLE, TOKEN_VARIABLE, Account, Quota

_START_WITHIN = 30.0
_STOP_WITHIN = 5.0


@attrs.frozen
class Served:
    """A simulator that runs.

    Attributes:
        pid: Its process.
        base_url: Where its API is.
        account: Who may ask.
    """

    pid: int
    base_url: str
    account: Account

    @property
    def ledger_url(self) -> str:
        """Where its ledger is."""
        return f"{self.base_url.removesuffix('/v1')}/_simulator/ledger"


@contextlib.asynccontextmanager
async def simulator_process(quota: Quota | None) -> AsyncIterator[Served]:
    """Run `aiophlo simulate` with made-up credentials for the length of the block.

    It ends when its standard input does, so even if this process is killed.

    Args:
        quota: What it grants, and what its account keeps to; None for no limit.

    Raises:
        UnusableError: It did not start.
    """
    limits = f"{quota.limit}/{quota.per}" if quota else "none"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "aiophlo", "simulate"),
        *("--quota", limits, "--until-stdin-closes"),
        stdin=PIPE,
        stdout=PIPE,
        env=_environment(),
        start_new_session=True,  # Ctrl-C is for this process, which then ends that one
    )
    try:
        base_url, account = await _greeting(process, quota)
        yield Served(process.pid, base_url, account)
    finally:
        await _stop(process)


def _environment() -> dict[str, str]:
    """Return an environment with this process's code and nobody's credentials."""
    mine = {ID_VARIABLE, TOKEN_VARIABLE}
    environment = {name: text for name, text in os.environ.items() if name not in mine}
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return environment | {"PYTHONPATH": path}


async def _greeting(process: Process, quota: Quota | None) -> tuple[str, Account]:
    try:
        async with asyncio.timeout(_START_WITHIN):
            lines = await _lines(process, 3)
    except TimeoutError as error:
        raise UnusableError("the simulator did not start in time") from error
    if not lines[-1]:
        raise UnusableError("the simulator did not start")
    base_url, auth_id, auth_token = lines
    account = Account(
        auth_id.removeprefix(f"{ID_VARIABLE}="),
        auth_token.removeprefix(f"{TOKEN_VARIABLE}="),
        quota=quota,
    )
    return base_url, account


async def _lines(process: Process, number: int) -> list[str]:
    assert process.stdout is not None  # noqa: S101 -- it is a pipe
    return [(await process.stdout.readline()).decode().strip() for _ in range(number)]


async def _stop(process: Process) -> None:
    assert process.stdin is not None  # noqa: S101 -- it is a pipe
    process.stdin.close()
    try:
        async with asyncio.timeout(_STOP_WITHIN):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
