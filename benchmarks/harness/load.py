"""A load of transfers, measured while it is steady; runs in a client's process."""

import asyncio
import concurrent.futures
import itertools
import threading
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from benchmarks.harness import instructions
from benchmarks.harness.figures import quantile
from benchmarks.harness.machine import peak_mib, resident_mib

AUTH_ID = "MABENCHMARK000000001"
AUTH_TOKEN = "bm90LWEtc2VjcmV0"  # noqa: S105 -- made up
PHLO_ID = "p-1"
NODE_ID = "n-1"
AGENT = "+14152223333"
CONNECT = 120.0  # seconds; ten thousand at once take a while
ANSWER_WITHIN = 600.0  # seconds; so do their answers
_STARTED_AT_ONCE = 100


def target(number: int) -> str:
    """Return the number-th phone number, each a different one."""
    return f"+1415{number:07}"


class Load:
    """Keeps a number of transfers in flight and measures some of them.

    The clocks start when `skipped` transfers are done and stop `transfers`
    later, while as many are still in flight: no start, no tail.

    Args:
        in_flight: Transfers in flight.
        transfers: Transfers that are measured.
        skipped: Transfers before these.
        warm: Open all connections first: the server holds the first
            `in_flight` answers until all wait.
        between_starts: Seconds between a hundred connections and the next, so that
            thousands don't queue up.
        counted: Count the instructions of what is measured: valgrind runs this.

    Attributes:
        in_flight: As given.
        over: All that is to be measured has been.
    """

    def __init__(
        self,
        *,
        in_flight: int,
        transfers: int,
        skipped: int,
        warm: bool = False,
        between_starts: float = 0.02,
        counted: bool = False,
    ) -> None:
        self.in_flight = in_flight
        self.over = False
        self._transfers = transfers
        self._skipped = skipped
        self._warm = warm
        self._between_starts = between_starts
        self._counted = counted
        self._numbers = itertools.count()
        self._done = 0
        self._seconds = array("d")
        self._clocks = (0.0, 0.0)
        self._spent = (0.0, 0.0)
        self._resident_mib = 0.0
        self._lock = threading.Lock()

    def numbers(self) -> Iterator[int]:
        """Yield numbers of transfers until enough have been measured."""
        while not self.over:
            yield next(self._numbers)

    def note(self, seconds: float) -> None:
        """Note that a transfer is done, and how long it took."""
        self._done += 1
        if self._done == self._skipped:
            if self._counted:
                instructions.switch(on=True)
            self._clocks = (time.process_time(), time.perf_counter())
        elif self._skipped < self._done and not self.over:
            self._seconds.append(seconds)
            if len(self._seconds) == self._transfers:
                cpu, wall = time.process_time(), time.perf_counter()
                self._spent = (cpu - self._clocks[0], wall - self._clocks[1])
                self.over = True
                self._resident_mib = resident_mib()
                if self._counted:
                    instructions.switch(on=False)

    async def by_workers(self, send: Callable[[str, int], Awaitable[object]]) -> None:
        """Send from as many coroutines as are to be in flight.

        Args:
            send: Given the id of the PHLO and the transfer's number.
        """
        async with asyncio.TaskGroup() as group:
            for number in range(self.in_flight):
                group.create_task(self._work(send))
                if self._warm and number % _STARTED_AT_ONCE == 0:
                    await asyncio.sleep(self._between_starts)

    async def _work(self, send: Callable[[str, int], Awaitable[object]]) -> None:
        if self._warm:
            await send(f"held-{self.in_flight}", next(self._numbers))
        for number in self.numbers():
            begun = time.perf_counter()
            await send(PHLO_ID, number)
            self.note(time.perf_counter() - begun)

    def by_threads(self, send: Callable[[int], object]) -> None:
        """Send from as many threads as are to be in flight.

        Args:
            send: Given the transfer's number.
        """

        def work() -> None:
            for number in self.numbers():
                begun = time.perf_counter()
                send(number)
                with self._lock:
                    self.note(time.perf_counter() - begun)

        with concurrent.futures.ThreadPoolExecutor(self.in_flight) as threads:
            for worker in [threads.submit(work) for _ in range(self.in_flight)]:
                worker.result()

    def result(self) -> dict[str, Any]:
        """Return what the measured transfers cost, each and together."""
        cpu, wall = self._spent
        times = sorted(self._seconds)
        return {
            "cpu_us": cpu / self._transfers * 1e6,
            "transfers": self._transfers,
            "per_second": self._transfers / wall,
            "p50_ms": quantile(times, 0.50) * 1e3,
            "p99_ms": quantile(times, 0.99) * 1e3,
            "peak_mib": peak_mib(),
            "resident_mib": self._resident_mib,
        }
