"""What being seen costs a pool: observers, OpenTelemetry, a wallboard, its watchers.

::

    python -m benchmarks.questions.seen             # CPU per transfer, observed
    python -m benchmarks.questions.seen --watchers  # a busy pool, with 1,000 walls

Needs the extra `test`, too, for OpenTelemetry's SDK. The simulator and the watchers run
in processes of their own, so that only the pool's is counted. The observers take turns,
and the smallest figure of each is taken: what else the machine does only ever adds. One
watcher of the thousand reads nothing.
"""

import argparse
import asyncio
import contextlib
import itertools
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

ROUNDS: Final = 5
TRANSFERS: Final = 6_000  # per round
IN_FLIGHT: Final = 100
WATCHERS: Final = 1_000
BUSY_FOR: Final = 15.0  # seconds
PER_SECOND: Final = 50

_WATCH: Final = """
import asyncio, sys

async def watch(port, reads):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /wall/events HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    await writer.drain()
    while reads and await reader.read(65536):
        pass
    await asyncio.sleep(3600)

async def main():
    port, number = int(sys.argv[1]), int(sys.argv[2])
    await asyncio.gather(*(watch(port, index > 0) for index in range(number)))

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


KINDS: Final[dict[str, Callable[[], Observer] | None]] = {
    "nobody": None,
    "one that counts": _count,
    "a wallboard": None,  # which adds itself
    "OpenTelemetry, the API alone": OpenTelemetry,
    "OpenTelemetry, metrics": lambda: OpenTelemetry(
        None, MeterProvider([InMemoryMetricReader()])
    ),
    "OpenTelemetry, metrics, 1 % of spans": lambda: _sampled(0.01),
    "OpenTelemetry, metrics, all spans": lambda: _sampled(1.0),
}


async def cpu_per_transfer(
    served: Served, kind: str, numbers: "itertools.count[int]"
) -> float:
    """Return CPU time per transfer in seconds, with one kind of observer."""
    make = KINDS[kind]
    pool = SessionPool(
        served.account,
        base_url=served.base_url,
        observers=[] if make is None else [make()],
    )
    if kind == "a wallboard":
        Wallboard(pool)
    left = iter(range(TRANSFERS))

    async def work() -> None:
        for _ in left:
            await pool.send(_transfer(next(numbers)))

    async with pool:
        began = time.process_time()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        return (time.process_time() - began) / TRANSFERS


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
    best = dict.fromkeys(KINDS, float("inf"))
    async with simulator_process(None) as served:
        for _ in range(ROUNDS):
            for kind in KINDS:
                cost = await cpu_per_transfer(served, kind, numbers)
                best[kind] = min(best[kind], cost)
    alone = best["nobody"]
    for kind, cost in best.items():
        print(
            f"{kind:40} {cost * 1e6:6.1f} µs"
            f"  {(cost - alone) / alone:+5.0%} of a transfer"
        )


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
        while board.feed.watchers < watchers:  # noqa: ASYNC110 -- until all watch
            await asyncio.sleep(0.1)
        yield
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
    for watchers in (0, WATCHERS):
        await busy(watchers)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--watchers", action="store_true")
    with_watchers = parser.parse_args().watchers
    asyncio.run(compare_watchers() if with_watchers else compare_observers())
