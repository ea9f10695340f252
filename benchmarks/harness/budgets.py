"""What the project promises itself, held against what was measured."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from benchmarks.harness.figures import Row, Spread, names, ratio, spread

YARDSTICK = "hand-tuned aiohttp"
INLINED = "the same, inlined"
STREAM_MB = 60.0  # the most memory of a stream, in millions of bytes
MIB_IN_MB = 1.048576
BASE_LENGTH = 10_000  # transfers queued; with fewer, starting up shows
Questions = Mapping[str, Any]


@attrs.frozen
class Budget:
    """One promise.

    Attributes:
        promise: In words.
        bound: The most, or with `least` the least, that keeps it.
        measured: What was measured.
        form: How both are written.
        least: The bound is a floor.
    """

    promise: str
    bound: float
    measured: float
    form: str
    least: bool = False

    @property
    def holds(self) -> bool:
        """Whether what was measured is within the bound, as both are written."""
        measured, bound = self._rounded(self.measured), self._rounded(self.bound)
        return measured >= bound if self.least else measured <= bound

    @property
    def missed_by(self) -> str:
        """By what share of the bound it is missed; of none at all, by how much."""
        if not self.bound:
            return self.show(self.measured)
        return f"{abs(self.measured - self.bound) / self.bound:.1%}"

    def show(self, value: float) -> str:
        """Write a value as this budget is written."""
        return self.form.format(value)

    def _rounded(self, value: float) -> float:
        return float(self.show(value).split()[0])


def budgets(questions: Questions) -> list[Budget]:
    """Return those budgets that these answers tell of."""
    return [
        budget for name in _OF if name in questions for budget in _OF[name](questions)
    ]


def yardstick_of(client: str) -> str:
    """Return what a client is compared with: the yardstick on the same event loop."""
    return f"{YARDSTICK}, uvloop" if client.endswith(", uvloop") else YARDSTICK


def _cpu(questions: Questions) -> Iterator[Budget]:
    rows = questions["cpu"]["rows"]
    if INLINED in names(rows):
        found = ratio(rows, YARDSTICK, INLINED, "cpu_us").median
        yield Budget("the yardstick, times itself inlined", 1.05, found, "{:.2f}")
    for client, bound, promise in (
        ("aiophlo", 1.10, "CPU per transfer at 100 in flight"),
        ("aiophlo, with journal", 1.35, "the same with the journal"),
    ):
        found = ratio(rows, client, YARDSTICK, "cpu_us").median
        yield Budget(f"{promise}, times the yardstick", bound, found, "{:.2f}")


def _in_flight(questions: Questions) -> Iterator[Budget]:
    rows = questions["in_flight"]["rows"]
    for size in dict.fromkeys(row["in_flight"] for row in rows):
        at_size = [row for row in rows if row["in_flight"] == size]
        found = ratio(at_size, "aiophlo", YARDSTICK, "cpu_us").median
        promise = f"CPU per transfer at {size:,} in flight, times the yardstick"
        yield Budget(promise, 1.15, found, "{:.2f}")


def _memory(questions: Questions) -> Iterator[Budget]:
    streams = [r for r in questions["memory"]["rows"] if r["client"] == "stream"]
    longest = max(streams, key=lambda row: row["transfers"])
    promise = f"most memory while streaming {longest['transfers']:,} transfers"
    yield Budget(promise, STREAM_MB, longest["peak_mib"] * MIB_IN_MB, "{:.1f} MB")


def _pacing(questions: Questions) -> Iterator[Budget]:
    rows = questions["pacing"]["rows"]
    for jitter in sorted({row["jitter"] for row in rows}):
        at_jitter = [row for row in rows if row["jitter"] == jitter]
        late = f"in the worst round, arrivals up to {jitter * 1e3:.0f} ms late"
        client = "aiophlo"
        if jitter > 0.05:  # noqa: PLR2004 -- what the default quota allows for
            client, late = "aiophlo, told the jitter", f"{late}, as it was told"
        used = spread(at_jitter, client, "use").low * 100
        refused = spread(at_jitter, client, "refused").high
        yield Budget(f"quota used {late}", 98.0, used, "{:.1f} %", least=True)
        yield Budget(f"requests refused {late}", 0.0, refused, "{:.0f}")


def _duplicates(questions: Questions) -> Iterator[Budget]:
    [row] = [r for r in questions["duplicates"]["rows"] if r["client"] == "aiophlo"]
    yield Budget("phones rung twice under faults", 0.0, row["rung_twice"], "{:.0f}")
    yield Budget("callers told the opposite", 0.0, row["told_wrong"], "{:.0f}")


def _importing(questions: Questions) -> Iterator[Budget]:
    found = ratio(questions["importing"]["rows"], "aiophlo", "aiohttp", "cpu_ms")
    yield Budget("import time, times aiohttp's", 1.15, found.median, "{:.2f}")


def _growth(questions: Questions) -> Iterator[Budget]:
    rows = questions["growth"]["rows"]
    for way in dict.fromkeys(row["way"] for row in rows):
        longest = max(row["queued"] for row in rows if row["way"] == way)
        found = times_the_base(rows, way, longest).median
        promise = (
            f"CPU per transfer of {longest:,} {way}, times that of {BASE_LENGTH:,}"
        )
        yield Budget(promise, 1.10, found, "{:.2f}")


def times_the_base(rows: Sequence[Row], way: str, queued: int) -> Spread:
    """Return what one costs in a long queue, times one in a queue of 10,000.

    Both were sent side by side.

    Raises:
        ValueError: They were not.
    """
    return ratio(rows, f"{way}, {queued:,}", f"{way}, {BASE_LENGTH:,}", "cpu_us")


_OF: dict[str, Callable[[Questions], Iterator[Budget]]] = {
    "cpu": _cpu,
    "in_flight": _in_flight,
    "memory": _memory,
    "pacing": _pacing,
    "duplicates": _duplicates,
    "importing": _importing,
    "growth": _growth,
}
