"""Measure courses, and print a row for each.

::

    python -m benchmarks.cluster             # all but the soaks, some seven minutes
    python -m benchmarks.cluster idle cost   # these alone
    python -m benchmarks.cluster --alone     # what happens without the database
    python -m benchmarks.cluster soak crashes --seconds 60   # 600 by default, each
    python -m benchmarks.cluster --batch     # one list in four processes: see `batch`
    python -m benchmarks.cluster --queue     # a queue and four workers: see `queue`

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
from benchmarks.cluster.batch import Work, run_batch
from benchmarks.cluster.batch import work as work_on_batch
from benchmarks.cluster.clicks import click_twice
from benchmarks.cluster.courses import COURSES, Course, measure, work
from benchmarks.cluster.kills import kill
from benchmarks.cluster.queue import run_queue
from benchmarks.cluster.rows import Report, print_report
from benchmarks.cluster.soak import soak
from benchmarks.cluster.stops import stop
from benchmarks.cluster.worker import run as hand_over
from benchmarks.harness.lab import say
from tests.support.postgres import Postgres, find_binaries, running_postgres

# Courses that are judged: what should be zero in them, and isn't, is the exit status.
JUDGED: Final[dict[str, Callable[[Postgres, float], Coroutine[Any, Any, Report]]]] = {
    "double clicks on handovers": lambda postgres, _: click_twice(postgres.url),
    "kill": lambda postgres, _: kill(postgres.url),
    "stop": lambda postgres, _: stop(postgres.url),
    "soak": soak,
    "crashes": lambda postgres, seconds: soak(postgres, seconds, crashes=CRASHES),
}
CRASHES: Final = 5
BY_NAME_ALONE: Final = "soak", "crashes"  # as they take long


def _chosen(all_names: Iterable[str], given: Sequence[str]) -> list[str]:
    if not given:
        return [name for name in all_names if name not in BY_NAME_ALONE]
    return [name for name in all_names if any(map(name.startswith, given))]


async def measure_all(
    names: Sequence[str], postgres: Postgres | None, seconds: float
) -> int:
    """Run the courses, and print a row for each; return how much was wrong."""
    database = postgres.url if postgres else None
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
    if postgres is None:
        return wrong
    for name in _chosen(JUDGED, names):
        report = await JUDGED[name](postgres, seconds)
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
    parser.add_argument("--seconds", type=float, default=600.0, help="of each soak")
    parser.add_argument(
        "--batch",
        type=int,
        nargs="?",
        const=100_000,
        metavar="ROWS",
        help="one list in four processes, of which one is killed every 5 s",
    )
    parser.add_argument(
        "--queue",
        type=int,
        nargs="?",
        const=100_000,
        metavar="ROWS",
        help="a queue and four workers, of which one is killed every 5 s",
    )
    parser.add_argument("--batch-work", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--hand-over", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if _worked(given):
        return 0
    if given.alone:
        return asyncio.run(measure_all(given.courses, None, given.seconds))
    binaries = find_binaries()
    if binaries is None:
        say("no Postgres server is installed")
        return 2
    with running_postgres(binaries) as postgres:
        if given.batch or given.queue:
            report = asyncio.run(
                run_batch(postgres, given.batch)
                if given.batch
                else run_queue(postgres, given.queue)
            )
            print_report(report)
            wrong = len(report.wrong)
        else:
            wrong = asyncio.run(measure_all(given.courses, postgres, given.seconds))
    return min(wrong, 1)


def _worked(given: argparse.Namespace) -> bool:
    """Be one of the processes, if that is asked for."""
    if given.work:
        base_url, database, process, course = given.work
        done = work(base_url, database, process, Course(**course))
        print(json.dumps(asyncio.run(done)))
    elif given.batch_work:
        print(json.dumps(asyncio.run(work_on_batch(Work(**given.batch_work)))))
    elif given.hand_over:
        asyncio.run(hand_over(*given.hand_over))
    else:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
