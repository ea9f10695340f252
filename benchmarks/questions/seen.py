"""What being seen costs a pool: observers, OpenTelemetry, a wallboard, its watchers.

::

    python -m benchmarks.questions.seen                 # CPU per transfer, observed
    python -m benchmarks.questions.seen --instructions  # the same, whatever else runs
    python -m benchmarks.questions.seen --watchers      # a busy pool, with 1,000 walls

Needs the extra `test`, too, for OpenTelemetry's SDK. The simulator and the watchers run
in processes of their own, so that only the pool's is counted. A pool with an observer
and one without take turns of a few hundredths of a second, and the median of what each
turn came to against the other's is taken: what else the machine does hits both.
Instructions are those outside of the kernel, counted by valgrind. One watcher of the
thousand reads nothing.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from aiohttp import web
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from aiophlo import Observer, Quota, SessionPool, WarmTransfer
from aiophlo.cli.simulator_process import Served, simulator_process
from aiophlo.telemetry import OpenTelemetry
from aiophlo.wallboard import Wallboard, aiohttp_app
from benchmarks.clients import phlo
from benchmarks.harness import instructions, nginx
from benchmarks.harness.load import ANSWER_WITHIN, Load

TURNS: Final = 60  # of each of two pools
TRANSFERS: Final = 300  # per turn
COUNTED: Final = 256  # transfers whose instructions are counted: valgrind is slow
IN_FLIGHT: Final = 100
WATCHERS: Final = 1_000
BUSY_FOR: Final = 15.0  # seconds
PER_SECOND: Final = 50
ALL_WATCH_WITHIN: Final = 60.0
_FILES_BESIDES: Final = 200  # that a process has open besides its watchers

_WATCH: Final = """
import asyncio, sys

async def watch(port, reads):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET /wall/events HTTP/1.1\\r\\nHost: localhost\\r\\n"
        b"Connection: keep-alive\\r\\n\\r\\n"
    )
    await writer.drain()
    while reads and await reader.read(65536):
        pass
    await asyncio.sleep(3600)

async def main():
    port, number = int(sys.argv[1]), int(sys.argv[2])
    await asyncio.gather(*(watch(port, index > 0) for index in range(number)))
    await asyncio.sleep(3600)  # also without anybody: it is killed

asyncio.run(main())
"""


class Nowhere(SpanExporter):
    """Exports spans nowhere."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Drop them."""
        del spans
        return SpanExportResult.SUCCESS


def _count() -> Observer:
    seen: dict[type, int] = {}

    def count(event: object) -> None:
        seen[type(event)] = seen.get(type(event), 0) + 1

    return count


def _sampled(ratio: float) -> Observer:
    tracers = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio))
    tracers.add_span_processor(BatchSpanProcessor(Nowhere()))
    return OpenTelemetry(tracers, MeterProvider([InMemoryMetricReader()]))


def _metrics(*without: str) -> Observer:
    return OpenTelemetry(None, MeterProvider([InMemoryMetricReader()]), without=without)


_NOBODY: Final = "nobody"
_WALLBOARD: Final = "a wallboard"
KINDS: Final[dict[str, Callable[[], Observer] | None]] = {
    _NOBODY: None,
    "one that counts": _count,
    _WALLBOARD: None,  # which adds itself
    "OpenTelemetry, the API alone": OpenTelemetry,
    "OpenTelemetry, one of the histograms": lambda: _metrics(
        "aiophlo.client.queue.duration", "http.client.request.duration"
    ),
    "OpenTelemetry, metrics": _metrics,
    "OpenTelemetry, metrics, 1 % of spans": lambda: _sampled(0.01),
    "OpenTelemetry, metrics, 10 % of spans": lambda: _sampled(0.1),
    "OpenTelemetry, metrics, all spans": lambda: _sampled(1.0),
}


async def cpu_per_transfer(pool: SessionPool, numbers: "itertools.count[int]") -> float:
    """Return CPU time per transfer in seconds, of one turn."""
    left = iter(range(TRANSFERS))

    async def work() -> None:
        for _ in left:
            await pool.send(_transfer(next(numbers)))

    began = time.process_time()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return (time.process_time() - began) / TRANSFERS


async def compare(
    served: Served, kind: str, numbers: "itertools.count[int]"
) -> tuple[float, float]:
    """Return the least CPU time of a transfer without, and how many times that with."""
    nobodys = SessionPool(served.account, base_url=served.base_url)
    observed = SessionPool(served.account, base_url=served.base_url)
    _add(kind, observed)
    alone: list[float] = []
    ratios: list[float] = []
    async with nobodys, observed:
        for turn in range(TURNS + 1):
            pair = (nobodys, observed) if turn % 2 else (observed, nobodys)
            took = {pool: await cpu_per_transfer(pool, numbers) for pool in pair}
            if turn:  # the first one connects
                alone.append(took[nobodys])
                ratios.append(took[observed] / took[nobodys])
    return min(alone), statistics.median(ratios)


def _add(kind: str, pool: SessionPool) -> None:
    if kind == _WALLBOARD:
        Wallboard(pool)
    elif (make := KINDS[kind]) is not None:
        pool.add_observer(make())


def _transfer(number: int) -> WarmTransfer:
    return WarmTransfer(
        phlo_id="p",
        node_id="n",
        trigger_source="+14152223333",
        to=f"+1415{number:07d}",
    )


async def compare_observers() -> None:
    """Print what each kind of observer adds to a transfer."""
    numbers = itertools.count(1)
    async with simulator_process(None) as served:
        for kind in KINDS:
            alone, ratio = await compare(served, kind, numbers)
            print(
                f"{kind:40} {ratio - 1:+5.1%} of a transfer"
                f" ({alone * 1e6:.1f} µs without)",
                flush=True,
            )


def count_instructions() -> None:
    """Print what each kind of observer adds to a transfer, in instructions."""
    command = nginx.path()
    if command is None or instructions.version() is None:
        raise SystemExit("needs nginx and valgrind: apt-get install nginx valgrind")
    words = ("-m", "benchmarks.questions.seen", "--counted")
    with nginx.serving(command) as url:
        found = instructions.count_all({kind: (*words, kind, url) for kind in KINDS})
    alone = found[_NOBODY]
    for kind, number in found.items():
        print(f"{kind:40} {number:9,.0f}  {(number - alone) / alone:+5.0%}")


async def counted(kind: str, base_url: str) -> None:
    """Send so that valgrind counts the instructions of some transfers."""
    load = Load(in_flight=IN_FLIGHT, transfers=COUNTED, skipped=COUNTED, counted=True)
    async with phlo.pool_of(base_url) as pool:
        _add(kind, pool)
        await load.by_workers(
            lambda _, number: pool.send(_transfer(number), send_within=ANSWER_WITHIN)
        )
    print(json.dumps({"transfers": COUNTED}))


@contextlib.asynccontextmanager
async def watched(pool: SessionPool, watchers: int) -> AsyncIterator[None]:
    """Let so many watch a wallboard of a pool's."""
    board = Wallboard(pool)
    app = web.Application()
    app.add_subapp("/wall", aiohttp_app(board))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=watchers + 10).start()
    port = str(runner.addresses[0][1])
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WATCH, port, str(watchers)
    )
    try:
        async with asyncio.timeout(ALL_WATCH_WITHIN):
            while board.feed.watchers < watchers:  # noqa: ASYNC110 -- until all watch
                await asyncio.sleep(0.1)
        yield
        if board.feed.watchers < watchers:
            raise RuntimeError(f"only {board.feed.watchers} of {watchers} watched on")
    finally:
        child.kill()
        await child.wait()
        await runner.cleanup()


async def busy(watchers: int) -> None:
    """Print how a busy pool fares with so many watchers."""
    seconds: list[float] = []
    async with (
        simulator_process(Quota(300, per=5.0)) as served,
        SessionPool(served.account, base_url=served.base_url) as pool,
        watched(pool, watchers),
        asyncio.TaskGroup() as group,
    ):
        cpu, began = time.process_time(), time.monotonic()

        async def send(number: int) -> None:
            accepted = await pool.send(_transfer(number))
            seconds.append(accepted.seconds)

        for number in range(int(BUSY_FOR * PER_SECOND)):
            group.create_task(send(number))
            await asyncio.sleep(
                max(began + number / PER_SECOND - time.monotonic(), 0.0)
            )
        used = (time.process_time() - cpu) / (time.monotonic() - began)
    seconds.sort()
    p50, p99 = (seconds[int(len(seconds) * share)] * 1e3 for share in (0.5, 0.99))
    print(
        f"{watchers:5} watchers: {used:4.1%} of a processor; a transfer takes"
        f" {p50:.1f} ms at p50, {p99:.1f} at p99"
    )


async def compare_watchers() -> None:
    """Print how a busy pool fares with none, and with a thousand."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = WATCHERS + _FILES_BESIDES
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(most, needed)))
    for watchers in (0, WATCHERS):
        await busy(watchers)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--watchers", action="store_true")
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--counted", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.counted:
        asyncio.run(counted(*asked.counted))
    elif asked.instructions:
        count_instructions()
    else:
        asyncio.run(compare_watchers() if asked.watchers else compare_observers())


if __name__ == "__main__":
    main()
