"""`aiophlo demo`: many transfers at full rate, and the ledger as their witness."""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import aiohttp
import typer

from aiophlo.cli.exit_codes import Exit, UnusableError, exit_of
from aiophlo.cli.ledger_comparison import Comparison, compare
from aiophlo.cli.options import AsJson, QuotaText, positive
from aiophlo.cli.output import say_json
from aiophlo.cli.sending import outcome_of
from aiophlo.cli.simulator_process import Served, simulator_process
from aiophlo.cli.stats import Stats, percentile
from aiophlo.cli.terminal_text import number_of
from aiophlo.model.accounts import Quota
from aiophlo.model.actions import WarmTransfer
from aiophlo.model.outcomes import VERDICTS
from aiophlo.pool import SessionPool

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WORKERS = 200
_LONGEST_OUTAGE = 5.0  # seconds; a simulator that is gone for longer is gone
_MOST = 1_000_000  # numbers that can be made up
_SHOWN = 10
_USUAL_TRANSFERS = 1_000
_USUAL_PORT = 8470


def demo(
    *,
    transfers: Annotated[
        int, typer.Option(min=1, max=_MOST, help="How many, each to its own number.")
    ] = _USUAL_TRANSFERS,
    quota: QuotaText = "300/5",
    as_json: AsJson = False,
    wallboard: Annotated[
        bool,
        typer.Option(
            "--wallboard",
            help="Show live calls, handovers and some faults on a wallboard, until"
            " Ctrl-C.",
        ),
    ] = False,
    port: Annotated[
        int,
        typer.Option(min=0, max=65_535, help="Of the wallboard; 0 takes a free one."),
    ] = _USUAL_PORT,
    seconds: Annotated[
        float | None,
        typer.Option(callback=positive, help="End the wallboard's demo by itself."),
    ] = None,
) -> int:
    """Issue many transfers at full rate against a simulator: no phone rings.

    Needs no account. The simulator runs in a process of its own, and in the end
    its ledger is held against what the senders were told.
    """
    from rich.console import Console  # noqa: PLC0415 -- the other commands need none

    pace = Quota.parse(quota)
    progress = Console(stderr=True)
    others = {
        "--transfers": wallboard and transfers != _USUAL_TRANSFERS,
        "--json": wallboard and as_json,
        "--port": not wallboard and port != _USUAL_PORT,
        "--seconds": not wallboard and seconds is not None,
    }
    for option in (name for name, is_wrong in others.items() if is_wrong):
        goes = "without" if wallboard else "with"
        raise UnusableError(f"{option}: goes {goes} --wallboard")
    if wallboard:
        from aiophlo.cli.live_demo import show_live  # noqa: PLC0415 -- serves a page

        return asyncio.run(show_live(pace, port, seconds, progress))
    try:
        stats, comparison = asyncio.run(_run(transfers, pace, progress))
    except aiohttp.ClientError:
        progress.print("aiophlo: the simulator is gone, and its ledger with it")
        return Exit.IN_DOUBT
    for sentence in comparison.disagreements[:_SHOWN]:
        progress.print(sentence, highlight=False, markup=False)
    if as_json:
        say_json(_summary(transfers, stats, comparison))
    else:
        _show(Console(highlight=False), stats, comparison)
    return _exit(stats, comparison)


async def _run(
    transfers: int, quota: Quota | None, console: "Console"
) -> tuple[Stats, Comparison]:
    from aiophlo.cli.progress import look_at, shown  # noqa: PLC0415 -- needs rich

    stats = Stats()
    async with simulator_process(quota) as served:
        pool = SessionPool(served.account, base_url=served.base_url, observers=[stats])

        look = look_at(stats, pool)
        console.print(_heading(transfers, quota), highlight=False)
        async with (
            pool,
            shown(look, total=transfers, quota=quota, console=console),
        ):
            await _send_all(pool, _transfers(transfers), stats, _send_within(quota))
        return stats, compare(await _ledger(served), stats.by_number)


def _heading(transfers: int, quota: Quota | None) -> str:
    pace = f" at up to {1 / quota.interval:.1f}/s" if quota else ""
    return f"{number_of(transfers, 'transfer')}{pace} to a simulator: no phone rings"


def _send_within(quota: Quota | None) -> float:
    """Return seconds in which each transfer is sent, unless the simulator is gone."""
    turn = _WORKERS * quota.interval if quota else 0.0
    return 2 * turn + _LONGEST_OUTAGE


async def _send_all(
    pool: SessionPool,
    actions: Iterator[WarmTransfer],
    stats: Stats,
    send_within: float,
) -> None:
    """Send all, a bounded number in hand at a time."""

    async def work() -> None:
        for action in actions:
            outcome = await outcome_of(pool, action, send_within=send_within)
            stats.note_dial(action.to, outcome)

    async with asyncio.TaskGroup() as group:
        for _ in range(_WORKERS):
            group.create_task(work())


def _transfers(number: int) -> Iterator[WarmTransfer]:
    for index in range(number):
        yield WarmTransfer(
            phlo_id="demo",
            node_id="demo",
            to=f"+1{4_150_000_000 + index}",
            trigger_source="+14159999999",
        )


async def _ledger(served: Served) -> Any:  # noqa: ANN401 -- JSON
    async with (
        aiohttp.ClientSession() as session,
        session.get(served.ledger_url) as answer,
    ):
        return await answer.json()


def _exit(stats: Stats, comparison: Comparison) -> Exit:
    """Return the exit code; verdicts that the ledger contradicts are in doubt."""
    return exit_of(stats.verdicts) if comparison.agrees else Exit.IN_DOUBT


def _summary(
    transfers: int, stats: Stats, comparison: Comparison
) -> dict[str, int | float]:
    return {
        "transfers": transfers,
        **{verdict: stats.verdicts[verdict] for verdict in VERDICTS},
        "refused_429": comparison.refused_429,
        "rung_twice": comparison.rung_twice,
        "disagreements": len(comparison.disagreements),
        "rate_per_second": round(comparison.rate_per_second, 2),
    }


def _show(console: "Console", stats: Stats, comparison: Comparison) -> None:
    console.print(_table(stats))
    console.print(_last_line(stats, comparison), soft_wrap=True)


def _table(stats: Stats) -> "Table":
    from rich.table import Table  # noqa: PLC0415 -- the other commands need none

    table = Table("verdict")
    for title in ("transfers", "waiting p50", "p99", "answering p50", "p99"):
        table.add_column(title, justify="right")
    for verdict in VERDICTS:
        times = stats.times[verdict]
        cells = [
            f"{percentile(seconds, share):.3f} s" if seconds else ""
            for seconds in (times.waited, times.answering)
            for share in (0.5, 0.99)
        ]
        table.add_row(verdict.replace("_", " "), str(stats.verdicts[verdict]), *cells)
    return table


def _last_line(stats: Stats, comparison: Comparison) -> str:
    differ = len(comparison.disagreements)
    return (
        f"Ledger: {number_of(comparison.dials, 'dial')},"
        f" {number_of(comparison.rung_twice, 'number')} rung twice,"
        f" {comparison.refused_429} refused (429),"
        f" {comparison.rate_per_second:.1f} requests/s."
        f" Verdicts: {stats.verdicts['accepted']} accepted,"
        f" {stats.verdicts['in_doubt']} in doubt. "
        + (
            f"They DISAGREE on {number_of(differ, 'number')}."
            if differ
            else "They agree."
        )
    )
