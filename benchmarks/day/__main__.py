"""A call centre's day in twenty minutes, and the judge of everything.

::

    python -m benchmarks.day                    # 20 minutes; writes day.html
    python -m benchmarks.day --minutes 3        # a short one
    python -m benchmarks.day --judge day.json   # judge anew what was kept

Six workers behind gunicorn on two hosts, which are network namespaces: that needs
Linux, root and iproute2. Elsewhere they are two gunicorns on one host.
"""

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.day import network, page
from benchmarks.day.centre import Options
from benchmarks.day.evidence import Evidence
from benchmarks.day.judge import Line, judge
from benchmarks.day.run import live
from benchmarks.harness.lab import say
from tests.support.postgres import find_binaries, running_postgres


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.day")
    usual = Options()
    parser.add_argument("--minutes", type=float, default=usual.minutes)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--agents", type=int, default=usual.agents)
    parser.add_argument(
        "--between", type=float, default=usual.between, help="seconds between calls"
    )
    parser.add_argument(
        "--campaign", type=float, default=usual.campaign, help="rows a second"
    )
    parser.add_argument(
        "--strangers", type=float, default=usual.strangers, help="requests a second"
    )
    parser.add_argument("--page", type=Path, default=Path("day.html"))
    parser.add_argument(
        "--logs", type=Path, metavar="FOLDER", help="keep what all processes log"
    )
    parser.add_argument(
        "--judge", type=Path, metavar="JSON", help="judge what was kept of a day"
    )
    parser.add_argument("--one-host", action="store_true", help="without namespaces")
    parser.add_argument("--network", default="", help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Live through a day, and judge it; returns 1 if a promise was broken."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    given = _parser().parse_args(words)
    if given.judge:
        return _report(Evidence.read(given.judge), given.page)
    if find_binaries() is None:
        say("no Postgres server is installed")
        return 2
    note = "asked for" if given.one_host else network.why_one_host()
    if given.network or note:
        return _live(given, note)
    with network.laid() as (run, inside):
        command = [*inside, sys.executable, "-m", "benchmarks.day", *words]
        done = subprocess.run([*command, "--network", run], check=False)  # noqa: S603 -- ourselves
    return done.returncode


def _live(given: argparse.Namespace, note: str) -> int:
    options = Options(
        minutes=given.minutes,
        seed=given.seed,
        agents=given.agents,
        between=given.between,
        campaign=given.campaign,
        strangers=given.strangers,
    )
    binaries = find_binaries()
    assert binaries is not None  # noqa: S101 -- it was looked for
    address = network.CENTRE if given.network else "127.0.0.1"
    with running_postgres(binaries, host=address) as postgres:
        evidence = asyncio.run(live(options, postgres, given.network, given.logs))
    if not given.network:
        evidence.notes.append(f"two gunicorns on one host, no namespaces: {note}")
    evidence.write(given.page.with_suffix(".json"))
    return _report(evidence, given.page)


def _report(evidence: Evidence, path: Path) -> int:
    lines = judge(evidence)
    path.write_text(page.draw(evidence, lines), "utf-8")
    for line in lines:
        _print(line)
    say(f"the page: {path.resolve()}")
    return int(any(line.kept is False for line in lines))


def _print(line: Line) -> None:
    sign = {True: "kept  ", False: "BROKEN", None: "      "}[line.kept]
    print(f"{sign}  {line.found:>8}  {line.promise}")
    for sentence in line.told:
        print(f"{'':18}{sentence}")


if __name__ == "__main__":
    sys.exit(main())
