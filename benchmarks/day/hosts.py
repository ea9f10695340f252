"""Two hosts behind a balancer, each with gunicorn and three workers."""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import attrs

from aiophlo.simulator import Simulator
from benchmarks.day.network import Place
from benchmarks.day.records import RECORDS
from benchmarks.harness.lab import ROOT
from tests.support.postgres import Postgres
from tests.support.service import (
    WORKERS,
    children,
    command,
    environment,
    write_program,
)

QUEUE_RECORDS: Final = "queue-records"  # a host's file of what its queue's workers log
EVENTS: Final = "/phlo/events"
_STARTING: Final = 120.0  # seconds that workers may take to start, and old ones to end
_LONGEST: Final = aiohttp.ClientTimeout(total=180.0, sock_connect=10.0)


@attrs.frozen
class Answer:
    """What came of a request.

    Attributes:
        host: Name of the host that had it.
        status: HTTP status; None if there was no answer.
        document: What it said.
        error: The error's name that it said, or how the connection ended.
    """

    host: str
    status: int | None
    document: Mapping[str, Any] = attrs.field(factory=dict)
    error: str = ""


@attrs.define(eq=False)
class Host:
    """A host.

    Attributes:
        place: Where it is.
        folder: Its files.
        process: gunicorn.
    """

    place: Place
    folder: Path
    process: asyncio.subprocess.Process

    @property
    def name(self) -> str:
        """Its name."""
        return self.place.name

    def workers(self) -> list[int]:
        """Return its workers."""
        return children(self.process.pid)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield what its workers have logged, and marked as `queued` the queue's."""
        for name in ("records", QUEUE_RECORDS):
            path = self.folder / name
            if path.exists():
                for line in path.read_text("utf-8").splitlines():
                    yield json.loads(line) | {"queued": name == QUEUE_RECORDS}

    def tracebacks(self) -> int:
        """Count the tracebacks that its processes have printed."""
        return (self.folder / "log").read_text("utf-8", "replace").count("Traceback (")

    async def renew(self) -> None:
        """Replace its workers by new ones, the old ones ending in order."""
        old = set(self.workers())
        self.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(_STARTING):
            while old & set(self.workers()):  # noqa: ASYNC110 -- other processes'
                await asyncio.sleep(0.2)
        await self.answering()

    async def answering(self) -> None:
        """Wait until all of its workers are there, and one answers."""
        async with asyncio.timeout(_STARTING), aiohttp.ClientSession() as session:
            while len(self.workers()) < WORKERS or not await self._answers(session):
                if self.process.returncode is not None:
                    raise RuntimeError((self.folder / "log").read_text("utf-8"))
                await asyncio.sleep(0.2)

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.place.url}/openapi.json") as answer:
                return answer.status == 200  # noqa: PLR2004 -- HTTP's
        except aiohttp.ClientError:
            return False


@contextlib.asynccontextmanager
async def started(
    place: Place, folder: Path, simulator: Simulator, postgres: Postgres
) -> AsyncIterator[Host]:
    """Run the page's program on a host, by the page's command."""
    write_program(folder)
    arguments, exported = command(f"{place.address}:{place.port}")
    arguments[arguments.index("cc:app")] = "benchmarks.day.worker:app"
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(*place.inside, *arguments),
            cwd=folder,
            env={
                **environment(simulator, folder, postgres),
                **exported,
                "PYTHONPATH": f"{folder}:{ROOT}",
                RECORDS: str(folder / "records"),
            },
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    host = Host(place, folder, process)
    try:
        await host.answering()
        yield host
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers, too
        await process.wait()


class Balancer:
    """Spreads requests over the hosts that are in rotation.

    Args:
        hosts: All hosts.
        chance: Which one is next.
    """

    def __init__(self, hosts: list[Host], chance: random.Random) -> None:
        self._hosts = hosts
        self._out: set[str] = set()
        self._chance = chance

    async def __aenter__(self) -> Self:
        """Open it."""
        connector = aiohttp.TCPConnector(force_close=True, limit=0)  # any worker's
        self._session = aiohttp.ClientSession(connector=connector, timeout=_LONGEST)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self._session.close()

    @contextlib.contextmanager
    def without(self, host: Host) -> Iterator[None]:
        """Take a host out of rotation."""
        self._out.add(host.name)
        try:
            yield
        finally:
            self._out.discard(host.name)

    def urls(self) -> list[str]:
        """Return where the next event may go, in the order in which to try."""
        return [f"{host.place.url}{EVENTS}" for host in self._next()]

    def _next(self) -> list[Host]:
        found = [host for host in self._hosts if host.name not in self._out]
        return self._chance.sample(found, len(found))

    async def ask(self, what: str, asked: Mapping[str, Any]) -> Answer:
        """Ask the service for something, any of its workers."""
        hosts = self._next()
        for host in hosts:
            try:
                return await self._ask(host, what, asked)
            except aiohttp.ClientConnectorError:
                continue  # it has got nothing
            except (aiohttp.ClientError, TimeoutError) as error:
                return Answer(host.name, None, error=type(error).__name__)
        return Answer(hosts[0].name, None, error="nobody listens")

    async def _ask(self, host: Host, what: str, asked: Mapping[str, Any]) -> Answer:
        url = f"{host.place.url}/{what}"
        async with self._session.post(url, json=asked) as answer:
            try:
                document = await answer.json()
            except ValueError:
                return Answer(host.name, answer.status, error="no JSON")
            error = document.get("error", "")
            return Answer(host.name, answer.status, document, error)
