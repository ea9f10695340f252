"""The service of the page about workers, with one and with three: what do users notice?

::

    python -m benchmarks.cluster.service

Runs the page's program under gunicorn, against a simulator that keeps the quota, whose
events go to whichever worker.
"""

import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

from aiophlo.simulator import Simulator
from benchmarks.harness.lab import say
from tests.support.postgres import Postgres, find_binaries, running_postgres
from tests.support.service import Service, numbers, place_calls, service

TRANSFERS: Final = 1_000
CLIENTS: Final = 200
CLICKS: Final = 100
HANDOVERS: Final = 60
SECOND_CLICKS: Final = 15


async def transfers(running: Service) -> Counter[int]:
    """Ask for transfers, as many clients at once; give how often which status came."""
    targets = iter(numbers("200", TRANSFERS))
    statuses: Counter[int] = Counter()

    async def ask_on() -> None:
        for target in targets:
            asked = {"agent": numbers("201", 1)[0], "partner": target}
            statuses[(await running.ask("transfers", asked))[0]] += 1

    await asyncio.gather(*(ask_on() for _ in range(CLIENTS)))
    return statuses


async def double_clicks(running: Service) -> int:
    """Ask for each transfer twice at once; give how many were not accepted."""
    failed = 0
    for target in numbers("300", CLICKS):
        asked = {"agent": numbers("301", 1)[0], "partner": target}
        answers = await asyncio.gather(
            *(running.ask("transfers", asked) for _ in range(2))
        )
        failed += sum(status != 200 for status, _ in answers)  # noqa: PLR2004 -- HTTP's
    return failed


async def handovers(running: Service, simulator: Simulator) -> Counter[int]:
    """Hand many over at once; give how often which status came."""
    agents, customers = numbers("400", HANDOVERS), numbers("401", HANDOVERS)
    partners = numbers("402", HANDOVERS)
    await place_calls(simulator, agents, [*customers])
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
    return Counter(status for status, _ in answers)


async def second_clicks(running: Service, simulator: Simulator) -> Counter[Any]:
    """Ask for each handover twice at once; give how often which statuses came."""
    agents, customers = numbers("500", SECOND_CLICKS), numbers("501", SECOND_CLICKS)
    partners = numbers("502", SECOND_CLICKS)
    await place_calls(simulator, agents, [*customers])
    pairs: Counter[Any] = Counter()
    for agent, customer, partner in zip(agents, customers, partners, strict=True):
        asked = {"agent": agent, "customer": customer, "partners": [partner]}
        answers = await asyncio.gather(
            *(running.ask("handovers", asked) for _ in range(2))
        )
        pairs[tuple(sorted(status for status, _ in answers))] += 1
    return pairs


async def measure(workers: int, postgres: Postgres) -> None:
    """Print what users of so many workers notice."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            Simulator(latency=0.05) as simulator,
            service(simulator, Path(folder), postgres, workers) as running,
        ):
            ledger = simulator.ledger
            say(f"{workers} workers")
            statuses = await transfers(running)
            say(f"  transfers: {dict(statuses)}")
            failed = await double_clicks(running)
            twice = len(ledger.rung_twice())
            say(f"  double clicks: {failed} failed, {twice} rung twice")
            say(f"  handovers: {dict(await handovers(running, simulator))}")
            pairs = await second_clicks(running, simulator)
            say(f"  two clicks on each handover: {dict(pairs)}")
            alarms = running.log.read_text("utf-8").count("on hold or alone")
            say(f"  429: {ledger.refused_429}, alarms: {alarms}")


def main() -> int:
    """Measure one worker, and three."""
    binaries = find_binaries()
    if binaries is None:
        say("no Postgres server is installed")
        return 2
    with running_postgres(binaries) as postgres:
        for workers in (1, 3):
            asyncio.run(measure(workers, postgres))
    return 0


if __name__ == "__main__":
    sys.exit(main())
