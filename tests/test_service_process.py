"""The service of the documentation, as it is deployed: gunicorn, three workers.

What is run is the program and the command of the page about workers, to the letter but
for the address: here gunicorn inherits a socket.
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
import pytest
from aiohttp import ClientSession

from aiophlo.postgres import migrate
from aiophlo.simulator import Call, Callback, Habit, Simulator
from tests.support.handover_stage import (
    AGENT,
    CUSTOMER,
    FIRST,
    LEFT,
    SECOND,
    TALKING,
)
from tests.support.postgres import Postgres

PHLO, NODE = "my-phlo", "my-node"
WORKERS: Final = 3
PAGE = (Path(__file__).parent.parent / "docs" / "howto" / "workers.md").read_text()
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def _command() -> tuple[list[str], dict[str, str]]:
    """Give what the page says to type, and what it says to export."""
    found = re.search(r"^\$ (gunicorn (?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
    assert found is not None
    exported = dict(re.findall(r"^\$ export (\w+)=(\w+)$", PAGE, re.MULTILINE))
    assert exported["WEB_CONCURRENCY"] == str(WORKERS)
    return shlex.split(found[1].replace("\\\n", "")), exported


@attrs.frozen
class Service:
    """The service, running.

    Attributes:
        url: Where it answers.
        process: gunicorn.
        postgres: What its workers share.
    """

    url: str
    process: asyncio.subprocess.Process
    postgres: Postgres

    def workers(self) -> list[int]:
        """Give its workers."""
        pid = self.process.pid
        listed = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(child) for child in listed.read_text().split()]

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
    simulator: Simulator, folder: Path, postgres: Postgres
) -> AsyncIterator[Service]:
    """Run the page's program by the page's command, in a folder of its own."""
    program = re.search(
        r"^\*\*cc\.py\*\*\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
    assert program is not None
    (folder / "cc.py").write_text(program[1])
    (gunicorn, *arguments), exported = _command()
    await postgres.rows("DROP SCHEMA IF EXISTS aiophlo CASCADE")
    await migrate(postgres.url)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        at = arguments.index("--bind") + 1
        arguments[at] = f"fd://{listening.fileno()}"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", gunicorn, *arguments),
            cwd=folder,
            env={
                **os.environ,
                **exported,
                "HOME": str(folder),  # gunicorn leaves a socket there
                "PLIVO_AUTH_ID": simulator.auth_id,
                "PLIVO_AUTH_TOKEN": simulator.auth_token,
                "AIOPHLO_BASE_URL": simulator.base_url,
                "AIOPHLO_POSTGRES_URL": postgres.url,
            },
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        running = Service(url, process, postgres)
        try:
            await running.started(WORKERS)
            simulator.post_events(Callback(url=f"{url}/phlo/events"))
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its workers, too
            await process.wait()


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


async def test_whichever_worker_is_asked_hands_over_until_all_have_ended(
    simulator: Simulator, tmp_path: Path, postgres: Postgres
) -> None:
    """With three workers, two of three partners who answered were cut off."""
    many = 9
    agents, partners = numbers("222", many), numbers("333", many)
    customers = numbers("444", many)
    async with service(simulator, tmp_path, postgres) as running:
        calls = await place_calls(simulator, agents, [*customers])
        answers = await asyncio.gather(
            *(
                running.ask(
                    "handovers",
                    {"agent": agent, "customer": customer, "partners": [partner]},
                )
                for agent, customer, partner in zip(
                    agents, customers, partners, strict=True
                )
            )
        )
        assert answers == [(200, {"partner": partner}) for partner in partners]
        for call, agent, customer, partner in zip(
            calls, agents, customers, partners, strict=True
        ):
            assert call[customer].state is TALKING
            assert call[partner].state is TALKING
            assert call[agent].state is LEFT
        rung = {"agent": numbers("555", 1)[0], "partner": numbers("666", 1)[0]}
        status, told = await running.ask("transfers", rung)
        assert (status, set(told)) == (200, {"api_id"})
        assert not simulator.ledger.rung_twice()
        simulator.set_habit(Habit("answers", after=1.5), address=FIRST)
        (call,) = await place_calls(simulator, [AGENT], [CUSTOMER])
        asked = {"agent": AGENT, "customer": CUSTOMER, "partners": [FIRST]}
        dials = simulator.ledger.dials()
        asking = asyncio.create_task(running.ask("handovers", asked))
        await simulator.wait_for(dials=dials + 1)
        running.process.send_signal(signal.SIGTERM)  # whoever is rung may answer yet
        assert await asking == (200, {"partner": FIRST})
        assert call[CUSTOMER].state is TALKING
        assert call[FIRST].state is TALKING
        async with asyncio.timeout(60):
            assert await running.process.wait() == 0
    assert {post.status for post in simulator.ledger.posts} == {200}


async def test_what_goes_wrong_is_told_apart(
    simulator: Simulator, tmp_path: Path, postgres: Postgres
) -> None:
    """A caller must know whether to ask again, and whether a customer is alone."""
    simulator.set_habit(Habit("busy"), address=FIRST)
    async with service(simulator, tmp_path, postgres) as running:
        (call,) = await place_calls(simulator, [AGENT], [None])
        asked = {"agent": AGENT, "conference_uuid": call.conference_uuid}
        status, told = await running.ask(
            "handovers", {**asked, "partners": [FIRST], "ring_for": 0.5}
        )
        assert (status, told["error"]) == (424, "NobodyAnsweredError")
        assert told["tried"] in (["no_answer"], ["busy"])
        status, told = await running.ask("handovers", {**asked, "partners": ["5"]})
        assert (status, told["error"]) == (422, "InvalidAddressError")
        simulator.drop_next_answer()
        ring = {"agent": AGENT, "partner": SECOND}
        status, told = await running.ask("transfers", ring)
        assert (status, told["error"]) == (504, "InDoubtError")
        status, told = await second_click(running, simulator)
        assert (status, told["error"]) == (409, "EngagedError")


async def second_click(
    running: Service, simulator: Simulator
) -> tuple[int, dict[str, Any]]:
    """Ask twice for a handover, whichever worker gets it."""
    agent, customer, partner = (numbers(one, 1)[0] for one in ("777", "888", "999"))
    simulator.set_habit(Habit("ignores", after=1000.0), address=partner)
    await place_calls(simulator, [agent], [customer])
    asked = {"agent": agent, "customer": customer, "partners": [partner]}
    dials = simulator.ledger.dials()
    asking = asyncio.create_task(running.ask("handovers", asked))
    await simulator.wait_for(dials=dials + 1)
    try:
        return await running.ask("handovers", asked)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_customer_is_brought_back_after_a_worker_was_killed(
    simulator: Simulator, tmp_path: Path, postgres: Postgres
) -> None:
    """The other workers must leave nobody on hold."""
    simulator.set_habit(Habit("ignores", after=1000.0))
    async with service(simulator, tmp_path, postgres) as running:
        (call,) = await place_calls(simulator, [AGENT], [CUSTOMER])
        asked = {"agent": AGENT, "customer": CUSTOMER, "partners": [FIRST]}
        asking = asyncio.create_task(running.ask("handovers", asked))
        await simulator.wait_for(dials=1)
        assert call[CUSTOMER].state != TALKING
        os.kill(await running.worker_with_a_handover(), signal.SIGKILL)
        await asyncio.gather(asking, return_exceptions=True)
        await simulator.wait_for(lambda _: call[CUSTOMER].state is TALKING, within=60)
        assert call[AGENT].state is TALKING
        assert simulator.ledger.dials() == 1
        await running.started(WORKERS + 1)
        simulator.set_habit(Habit("answers"))
        again = {**asked, "partners": [SECOND]}
        assert await running.ask("handovers", again) == (200, {"partner": SECOND})
        still_open = "SELECT id FROM aiophlo.handovers WHERE ended IS NULL"
        assert await postgres.rows(still_open) == []
