"""Lives through a day, and gathers what was seen."""

import asyncio
import contextlib
import json
import random
import shutil
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from aiophlo.postgres import migrate
from aiophlo.simulator import Callback, Simulator
from benchmarks.cluster.spreading import spreading
from benchmarks.day import deeds, network
from benchmarks.day.centre import Centre, Options
from benchmarks.day.evidence import Alarm, Dial, Evidence
from benchmarks.day.hosts import EVENTS, Balancer, Host, started
from benchmarks.day.timetable import TIMETABLE, Appointment, scaled
from benchmarks.harness import certificates
from benchmarks.harness.lab import say
from tests.support.postgres import Postgres

_LATENCY: Final = 0.05  # seconds of an answer of Plivo's
_LATE: Final = 0.1  # chance of an event that comes late, and of one that comes twice
_LATE_BY: Final = 0.5  # seconds
_REFUSED: Final = 429
_TIDY: Final = 30.0  # seconds in which handovers end that nobody waits for
_UNTOLD: Final = 30.0  # seconds that a worker stays away which never says otherwise


async def live(
    options: Options, postgres: Postgres, run: str, logs: Path | None = None
) -> Evidence:
    """Live through a day; returns what was seen.

    Args:
        options: How busy it is.
        postgres: What the hosts share.
        run: Name of the network that was laid; empty for one host.
        logs: Where to put what all processes have logged; None for nowhere.
    """
    await migrate(postgres.url)
    with tempfile.TemporaryDirectory(prefix="aiophlo-day-") as folder:
        async with _centre(options, postgres, run, Path(folder)) as centre:
            async with centre.watched():
                await _keep(scaled(TIMETABLE, options.minutes), centre)
                await _tidied(centre)
            _gather(centre)
            if logs is not None:
                await asyncio.to_thread(_keep_logs, Path(folder), logs)
                _keep_ledger(centre, logs / "ledger")
        return centre.evidence


@contextlib.asynccontextmanager
async def _centre(
    options: Options, postgres: Postgres, run: str, folder: Path
) -> AsyncIterator[Centre]:
    async with AsyncExitStack() as stack:
        address = network.CENTRE if run else "127.0.0.1"
        files = stack.enter_context(certificates.issued(network.CENTRE))
        certificates.trust(str(files.authority))
        serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        serving.load_cert_chain(files.server)
        simulator = await stack.enter_async_context(
            Simulator(
                host=address,
                ssl=serving,
                latency=_LATENCY,
                seed=options.seed,
                clock=time.time,
            )
        )
        say(f"Plivo is at {simulator.base_url}; starting six workers")
        hosts: list[Host] = [
            await stack.enter_async_context(
                started(place, _made(folder / place.name), simulator, postgres)
            )
            for place in network.places(run)
        ]
        chance = random.Random(options.seed)  # noqa: S311 -- a day's, no secrets
        balancer = await stack.enter_async_context(Balancer(hosts, chance))
        spreader = await stack.enter_async_context(spreading(balancer.urls, EVENTS))
        simulator.post_events(
            Callback(url=spreader.url, late=_LATE, late_by=_LATE_BY, twice=_LATE)
        )
        evidence = Evidence(
            minutes=options.minutes,
            seed=options.seed,
            hosts=[host.name for host in hosts],
        )
        yield Centre(
            options=options,
            simulator=simulator,
            postgres=postgres,
            hosts=hosts,
            balancer=balancer,
            folder=folder,
            trusted=ssl.create_default_context(cafile=str(files.authority)),
            evidence=evidence,
            chance=chance,
        )
        evidence.webhooks = (spreader.passed - spreader.lost, spreader.passed)


def _keep_logs(folder: Path, logs: Path) -> None:
    for path in folder.glob("*/*"):
        if path.suffix in {"", ".log"} and path.is_file():
            target = logs / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _keep_ledger(centre: Centre, path: Path) -> None:
    """Write every request that Plivo was sent: who asked for what, and when."""
    with path.open("w", encoding="utf-8") as file:
        for record in centre.simulator.ledger.requests:
            at = record.at - centre.began
            file.write(json.dumps(record.as_json() | {"at": at}) + "\n")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def _keep(appointments: Sequence[Appointment], centre: Centre) -> None:
    """Do everything in its time."""
    async with asyncio.TaskGroup() as group:
        for one in appointments:
            group.create_task(_do(one, centre))


async def _do(one: Appointment, centre: Centre) -> None:
    await asyncio.sleep(one.begin - centre.now())
    say(f"{centre.now():6.1f} s  {one.deed.__name__.replace('_', ' ')}")
    lasts = 0.0 if one.end is None else one.end - one.begin
    async with one.deed(centre, lasts):
        if one.end is not None:
            await asyncio.sleep(one.end - centre.now())


async def _tidied(centre: Centre) -> None:
    """Wait until no handover is open any more: what is killed now was never judged."""
    query = "SELECT count(*) FROM aiophlo.handovers WHERE ended IS NULL"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_TIDY):
            while (await centre.postgres.rows(query))[0][0]:  # noqa: ASYNC110 -- other processes'
                await asyncio.sleep(0.5)


def _gather(centre: Centre) -> None:
    """Read the ledger, and what the workers have logged."""
    evidence, ledger = centre.evidence, centre.simulator.ledger
    for record in ledger.requests:
        at = record.at - centre.began
        refused = record.answered == _REFUSED
        if record.phlo_id == deeds.STRANGER:
            evidence.foreign_refusals += refused
            continue
        evidence.requests.append(round(at, 3))
        if refused:
            evidence.refusals.append(at)
        if record.dialled:
            evidence.dials.append(Dial(at, record.to))
    for host in centre.hosts:
        _read_records(host, centre)
    evidence.marks.sort(key=lambda mark: mark.begin)


def _read_records(host: Host, centre: Centre) -> None:
    evidence = centre.evidence
    away: dict[int, float] = {}
    for record in host.records():
        at, text, level = record["at"] - centre.began, record["text"], record["level"]
        if level == "CRITICAL":
            evidence.alarms.append(_alarm(record, host, centre))
        elif level == "ERROR":
            evidence.faults.append(f"host {host.name} at {at:.1f} s: {text}")
        elif text.startswith("taking over"):
            evidence.taken_over[record["handover"]] = at
        elif text.startswith("the database that coordinates pools is away"):
            away.setdefault(record["pid"], at)
        elif text.startswith("coordinated again"):
            evidence.away.append((away.pop(record["pid"], at), at))
        elif record.get("action") == "WarmTransfer" and _was_awaited(record):
            evidence.waited.append((at, float(record["waited"])))
    evidence.away += [(at, at + _UNTOLD) for at in away.values()]
    if host.tracebacks():
        evidence.faults.append(f"host {host.name}: {host.tracebacks()} tracebacks")


def _was_awaited(record: dict[str, Any]) -> bool:
    return (
        not record["queued"]
        and "handover" not in record
        and not record.get("joined")
        and record["level"] != "DEBUG"
        and record.get("verdict") in {"accepted", "in_doubt", "rejected"}
    )


def _alarm(record: dict[str, Any], host: Host, centre: Centre) -> Alarm:
    return Alarm(
        at=record["at"] - centre.began,
        agent=str(record["agent"])[-2:],
        began_at=float(record["began_at"]) - centre.began,
        handover=str(record.get("handover", "")),
        host=host.name,
    )
