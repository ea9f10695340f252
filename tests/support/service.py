"""The service of the page about workers, as it is deployed: gunicorn, three workers.

What is run is the program and the command of that page, to the letter but for the
address: here gunicorn inherits a socket.
"""

import asyncio
import contextlib
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import attrs
from aiohttp import ClientSession

from aiophlo.postgres import migrate
from aiophlo.simulator import Call, Callback, Simulator
from tests.support.postgres import Postgres

PHLO, NODE = "my-phlo", "my-node"
WORKERS: Final = 3
PAGE: Final = (Path(__file__).parents[2] / "docs" / "howto" / "workers.md").read_text()


def command(bind: str) -> tuple[list[str], dict[str, str]]:
    """Give what the page says to type, bound elsewhere, and what it says to export."""
    found = re.search(r"^\$ (gunicorn (?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
    assert found is not None
    exported = dict(re.findall(r"^\$ export (\w+)=(\w+)$", PAGE, re.MULTILINE))
    assert exported["WEB_CONCURRENCY"] == str(WORKERS)
    _, *arguments = shlex.split(found[1].replace("\\\n", ""))
    arguments[arguments.index("--bind") + 1] = bind
    return [sys.executable, "-m", "gunicorn", *arguments], exported


def write_program(folder: Path) -> None:
    """Write the page's program to a folder."""
    program = re.search(
        r"^\*\*cc\.py\*\*\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
    assert program is not None
    (folder / "cc.py").write_text(program[1])


def environment(
    simulator: Simulator, folder: Path, postgres: Postgres
) -> dict[str, str]:
    """Give what the page's program finds in its environment."""
    return {
        **os.environ,
        "HOME": str(folder),  # gunicorn leaves a socket there
        "PLIVO_AUTH_ID": simulator.auth_id,
        "PLIVO_AUTH_TOKEN": simulator.auth_token,
        "AIOPHLO_BASE_URL": simulator.base_url,
        "AIOPHLO_POSTGRES_URL": postgres.url,
    }


def children(pid: int) -> list[int]:
    """Give the children of a process."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()]


@attrs.frozen
class Service:
    """The service, running.

    Attributes:
        url: Where it answers.
        process: gunicorn.
        postgres: What its workers share.
        log: What they said.
    """

    url: str
    process: asyncio.subprocess.Process
    postgres: Postgres
    log: Path

    def workers(self) -> list[int]:
        """Give its workers."""
        return children(self.process.pid)

    async def worker_with_a_handover(self) -> int:
        """Give the worker that has the one open handover, by its connection."""
        ((port,),) = await self.postgres.rows(_PORT_OF_THE_OWNER)
        inode = _inode_of(port)
        (worker,) = [
            pid for pid in self.workers() if f"socket:[{inode}]" in _open_files(pid)
        ]
        return worker

    async def started(self, number: int) -> None:
        """Wait until so many workers have ever heard of each other."""
        counting = "SELECT count(*) FROM aiophlo.pools"
        async with asyncio.timeout(60):
            while (await self.postgres.rows(counting))[0][0] < number:
                assert self.process.returncode is None
                await asyncio.sleep(0.05)

    async def ask(self, what: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Ask for something; give status and document."""
        async with (
            ClientSession() as session,  # a connection of its own: any worker's
            session.post(f"{self.url}/{what}", json=asked) as answer,
        ):
            return answer.status, await answer.json()


# The worker's listening connection holds its pool's lock.
_PORT_OF_THE_OWNER: Final = """
    SELECT a.client_port FROM aiophlo.handovers h
        JOIN pg_locks l ON l.locktype = 'advisory' AND l.objsubid = 1
            AND l.classid::bigint = h.pool >> 32
            AND l.objid::bigint = h.pool & 4294967295
        JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE h.ended IS NULL"""


def _inode_of(port: int) -> str:
    """Give the number of the connected socket with this port of ours."""
    connected = rf":{port:04X} [0-9A-F]+:.{{4}} 01(?: +\S+){{5}} +(\d+)"
    (inode,) = re.findall(connected, Path("/proc/net/tcp").read_text())
    return str(inode)


def _open_files(pid: int) -> list[str]:
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.append(str(link.readlink()))
    return found


@contextlib.asynccontextmanager
async def service(
    simulator: Simulator, folder: Path, postgres: Postgres, workers: int = WORKERS
) -> AsyncIterator[Service]:
    """Run the page's program by the page's command, in a folder of its own."""
    write_program(folder)
    await postgres.rows("DROP SCHEMA IF EXISTS aiophlo CASCADE")
    await migrate(postgres.url)
    log = folder / "log"
    with socket.create_server(("127.0.0.1", 0)) as listening, log.open("wb") as said:
        arguments, exported = command(f"fd://{listening.fileno()}")
        process = await asyncio.create_subprocess_exec(
            *arguments,
            cwd=folder,
            env={
                **environment(simulator, folder, postgres),
                **exported,
                "WEB_CONCURRENCY": str(workers),
            },
            stdout=said,
            stderr=said,
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        running = Service(url, process, postgres, log)
        try:
            await running.started(workers)
            simulator.post_events(Callback(url=f"{url}/phlo/events"))
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its workers, too
            await process.wait()
            sys.stdout.write(log.read_text("utf-8"))


def numbers(prefix: str, many: int) -> list[str]:
    """Make up numbers."""
    return [f"+1415{prefix}{number:04}" for number in range(many)]


async def place_calls(
    simulator: Simulator, agents: list[str], customers: list[str | None]
) -> list[Call]:
    """Let agents talk to customers, and let that be heard of."""
    posts = len(simulator.posts)
    calls = [
        simulator.place_call(PHLO, NODE, agent=agent, customer=customer or "anonymous")
        for agent, customer in zip(agents, customers, strict=True)
    ]
    expected = posts + 2 * len(calls)
    await simulator.wait_for(lambda _: len(simulator.posts) >= expected, within=60)
    return calls
