"""The progress bar of a run: a live line on a terminal, else a plain one at times."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable

import attrs
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from aiophlo.cli.stats import Speed
from aiophlo.cli.terminal_text import duration
from aiophlo.cli.totals import Totals
from aiophlo.model.accounts import Quota
from aiophlo.pool import SessionPool

LIVE_EVERY = 0.2
PLAIN_EVERY = 5.0


@attrs.frozen(kw_only=True)
class Sight:
    """One look at what runs.

    Attributes:
        done: Transfers with an outcome.
        requests: Requests begun; a transfer may need none, or several.
        in_flight: Requests under way.
        refused_429: Requests answered 429.
    """

    done: int
    requests: int
    in_flight: int
    refused_429: int


@attrs.frozen
class Speeds:
    """How fast requests leave, and how fast rows get their outcomes."""

    _requests: Speed = attrs.field(factory=Speed)
    _rows: Speed = attrs.field(factory=Speed)

    def at(self, now: float, sight: Sight, quota: Quota | None) -> tuple[float, float]:
        """Return this runner's requests per second, and all runners' rows per second.

        Other runners of the journal settle rows, too, all within one quota. Rows above
        it were settled before, and say nothing of those that are left.

        Args:
            now: A time in seconds.
            sight: What was seen then.
            quota: What all send within; None for no limit.
        """
        requests = self._requests.at(now, sight.requests)
        rows = self._rows.at(now, sight.done)
        most = 1 / quota.interval if quota else math.inf
        return requests, max(requests, min(rows, most))


def look_at(totals: Totals, pool: SessionPool) -> Callable[[], Sight]:
    """Return what looks at how far a pool's transfers are."""
    return lambda: Sight(
        done=totals.rows,
        requests=totals.requests,
        in_flight=pool.state().in_flight,
        refused_429=totals.refused_429,
    )


@contextlib.asynccontextmanager
async def shown(
    look: Callable[[], Sight], *, total: int, quota: Quota | None, console: Console
) -> AsyncIterator[None]:
    """Show progress for the length of the block.

    Args:
        look: Gives how far it is.
        total: Transfers in all.
        quota: What the rate is held against; None for no limit.
        console: Where; unless it is a terminal, with plain lines.
    """
    show = _live if console.is_terminal else _plain
    task = asyncio.create_task(show(look, total, quota, console))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _live(
    look: Callable[[], Sight], total: int, quota: Quota | None, console: Console
) -> None:
    progress = Progress(
        TextColumn("{task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.description}"),
        console=console,
        auto_refresh=False,  # its thread would make the event loop late
        redirect_stdout=False,  # rows go where they were sent, not to this console
        redirect_stderr=False,
    )
    speeds = Speeds()
    with progress:
        task = progress.add_task("", total=total)
        try:
            while True:
                _update(progress, task, look(), speeds, quota)
                await asyncio.sleep(LIVE_EVERY)
        finally:
            _update(progress, task, look(), speeds, quota)


def _update(
    progress: Progress, task: TaskID, sight: Sight, speeds: Speeds, quota: Quota | None
) -> None:
    progress.update(
        task,
        completed=sight.done,
        description=describe(
            sight, speeds, quota, int(progress.tasks[task].total or 0)
        ),
    )
    progress.refresh()


async def _plain(
    look: Callable[[], Sight], total: int, quota: Quota | None, console: Console
) -> None:
    speeds = Speeds()
    describe(look(), speeds, quota, total)  # the rate counts from here
    while True:
        await asyncio.sleep(PLAIN_EVERY)
        sight = look()
        line = f"{sight.done}/{total} {describe(sight, speeds, quota, total)}"
        console.print(line, highlight=False, soft_wrap=True)


def describe(sight: Sight, speeds: Speeds, quota: Quota | None, total: int) -> str:
    """Return a look in words; the rate is the one over the last few seconds."""
    now = asyncio.get_running_loop().time()
    rate, pace = speeds.at(now, sight, quota)
    limit = f"{1 / quota.interval:.1f}/s" if quota else "no limit"
    left = total - sight.done
    return (
        f"{rate:.1f}/s of {limit},"
        f" {sight.in_flight} in flight, {sight.refused_429} refused (429)"
        + (f", {duration(left / pace)} left" if left and pace else "")
    )
