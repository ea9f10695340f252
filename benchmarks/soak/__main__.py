"""Push faulted actions of every kind through a pool, and judge every outcome.

``python -m benchmarks.soak`` sends a million actions, half of them awaited one by
one and half streamed, to a simulator in a process of its own in which everything
goes wrong that can. Every outcome is held against the simulator's ledger.
"""

import argparse
import asyncio
import logging
import sys

from benchmarks.soak import report
from benchmarks.soak.result import Options
from benchmarks.soak.run import chances, soak


def _options(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser("benchmarks.soak", description=__doc__)
    parser.add_argument("--actions", type=int, default=1_000_000)
    parser.add_argument("--concurrency", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--chance",
        type=float,
        help="of each fault; by default what lets every fault strike every action",
    )
    parser.add_argument(
        "--lend-session",
        action="store_true",
        help="lend the pool a session, which its requests then go through",
    )
    given = parser.parse_args(arguments)
    chance = given.chance
    if chance is None:
        chance = min(0.02, max(0.003, 1_000 / given.actions))
    return Options(
        actions=given.actions,
        concurrency=given.concurrency,
        seed=given.seed,
        faults=chances(chance),
        lends_session=given.lend_session,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run a soak as told, print what came of it, and return the exit status."""
    logging.getLogger("aiophlo").setLevel(logging.CRITICAL)  # 100,000 warnings
    options = _options(arguments)
    result = asyncio.run(soak(options, progress=True))
    print(report.write(options, result))
    return 0 if result.agrees and not report.gaps(options, result) else 1


if __name__ == "__main__":
    sys.exit(main())
