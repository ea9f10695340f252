"""Measure courses, and print a row for each.

::

    python -m benchmarks.cluster             # all but the soaks, some seven minutes
    python -m benchmarks.cluster idle cost   # these alone
    python -m benchmarks.cluster --alone     # what happens without the database

Starts a Postgres and the simulator, which keeps the quota strictly, and the processes.
The ledger says what was rung and how many answers were a 429.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

from aiophlo.postgres import migrate
from benchmarks.cluster.clicks import click_twice
from benchmarks.cluster.courses import COURSES, Course, measure, work
from benchmarks.cluster.kills import kill
from benchmarks.cluster.rows import Report, print_report
from benchmarks.cluster.stops import stop
from benchmarks.cluster.worker import run as hand_over
from benchmarks.harness.lab import say
from tests.support.postgres import find_binaries, running_postgres

# Courses that are judged: what should be zero in them, and isn't, is the exit status.
JUDGED: Final[dict[str, Callable[[str], Coroutine[Any, Any, Report]]]] = {
    "double clicks on handovers": click_twice,
    "kill": kill,
    "stop": stop,
}


def _chosen(all_names: Iterable[str], given: Sequence[str]) -> list[str]:
    return [name for name in all_names if not given or any(map(name.startswith, given))]


async def measure_all(names: Sequence[str], database: str | None) -> int:
    """Run the courses, and print a row for each; return how much was wrong."""
    if database:
        await migrate(database)
    head = None
    for name in _chosen(COURSES, names):
        figures = await measure(COURSES[name], database)
        if head is None:
            head = ["", *figures]
            print("|", " | ".join(head), "|\n|", "---|" * len(head), sep="")
        print("|", " | ".join([name, *map(str, figures.values())]), "|", flush=True)
    wrong = 0
    for name in _chosen(JUDGED, names) if database else ():
        report = await JUDGED[name](database or "")
        print(f"\n{name}")
        print_report(report)
        wrong += len(report.wrong)
    return wrong


def main() -> int:
    """Measure, or be one of the processes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster")
    known = ", ".join([*COURSES, *JUDGED])
    parser.add_argument("courses", nargs="*", help=f"of: {known}")
    parser.add_argument("--alone", action="store_true", help="without the database")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--hand-over", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        base_url, database, process, course = given.work
        done = work(base_url, database, process, Course(**course))
        print(json.dumps(asyncio.run(done)))
        return 0
    if given.hand_over:
        asyncio.run(hand_over(*given.hand_over))
        return 0
    if given.alone:
        return min(asyncio.run(measure_all(given.courses, None)), 1)
    binaries = find_binaries()
    if binaries is None:
        say("no Postgres server is installed")
        return 2
    with running_postgres(binaries) as postgres:
        return min(asyncio.run(measure_all(given.courses, postgres.url)), 1)


if __name__ == "__main__":
    sys.exit(main())
