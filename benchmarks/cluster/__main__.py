"""Measure courses, and print a row for each.

::

    python -m benchmarks.cluster             # everything, some four minutes
    python -m benchmarks.cluster idle cost   # these alone
    python -m benchmarks.cluster --alone     # what happens without the database

Starts a Postgres and the simulator, which keeps the quota strictly, and the processes.
The ledger says what was rung and how many answers were a 429.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence

from aiophlo.postgres import migrate
from benchmarks.cluster.courses import COURSES, Course, measure, work
from benchmarks.harness.lab import say
from tests.support.postgres import find_binaries, running_postgres


async def measure_all(names: Sequence[str], database: str | None) -> None:
    """Run the courses, and print a row for each."""
    if database:
        await migrate(database)
    head = None
    for name, course in COURSES.items():
        if names and not any(name.startswith(given) for given in names):
            continue
        figures = await measure(course, database)
        if head is None:
            head = ["", *figures]
            print("|", " | ".join(head), "|\n|", "---|" * len(head), sep="")
        print("|", " | ".join([name, *map(str, figures.values())]), "|", flush=True)


def main() -> int:
    """Measure, or be one of the processes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster")
    parser.add_argument("courses", nargs="*", help=f"of: {', '.join(COURSES)}")
    parser.add_argument("--alone", action="store_true", help="without the database")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        base_url, database, process, course = given.work
        done = work(base_url, database, process, Course(**course))
        print(json.dumps(asyncio.run(done)))
        return 0
    if given.alone:
        asyncio.run(measure_all(given.courses, None))
        return 0
    binaries = find_binaries()
    if binaries is None:
        say("no Postgres server is installed")
        return 2
    with running_postgres(binaries) as postgres:
        asyncio.run(measure_all(given.courses, postgres.url))
    return 0


if __name__ == "__main__":
    sys.exit(main())
