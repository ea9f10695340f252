"""What the project promises itself, held against what was measured."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from benchmarks.harness.figures import Row, Spread, names, ratio, ratios, spread

YARDSTICK = "hand-tuned aiohttp"
UVLOOP = ", uvloop"
INLINED = "the same, inlined"
EXCHANGE = "aiophlo's exchange alone"
VERDICT = "aiophlo's exchange, action and verdict"
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
        rounds: What was measured in each round, if that is of interest.
        instructions: The same, counted in instructions, which nothing disturbs.
    """

    promise: str
    bound: float
    measured: float
    form: str
    least: bool = False
    rounds: Sequence[float] = ()
    instructions: float | None = None

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
    return f"{YARDSTICK}{UVLOOP}" if client.endswith(UVLOOP) else YARDSTICK


def _times(
    rows: Sequence[Row], client: str, to: str, bound: float, promise: str
) -> Budget:
    """Return a budget of CPU time, in terms of what another one needs."""
    found = ratios(rows, client, to, "cpu_us")
    return Budget(
        promise,
        bound,
        Spread.of(found).median,
        "{:.2f}",
        rounds=found,
        instructions=instructions_ratio(rows, client, to),
    )


def instructions_ratio(rows: Sequence[Row], client: str, to: str) -> float | None:
    """Return how many instructions one needs of another's, if they were counted."""
    counts = {row["client"]: row.get("instructions") for row in rows}
    count, base = counts.get(client), counts.get(to)
    return count / base if count and base else None


def _cpu(questions: Questions) -> Iterator[Budget]:
    rows = questions["cpu"]["rows"]
    if INLINED in names(rows):
        promise = "the yardstick, times itself inlined"
        yield _times(rows, YARDSTICK, INLINED, 1.05, promise)
    for client, bound, promise in (
        ("aiophlo", 0.60, "CPU per transfer, awaited"),
        ("aiophlo, streamed", 0.60, "CPU per transfer, streamed"),
        ("aiophlo, with journal", 0.95, "CPU per transfer, with the journal"),
    ):
        if client in names(rows):
            yield _times(
                rows, client, YARDSTICK, bound, f"{promise}, times the yardstick"
            )


def _tls(questions: Questions) -> Iterator[Budget]:
    rows = questions["tls"]["rows"]
    for client, bound, promise in (
        ("aiophlo", 0.70, "over TLS, awaited"),
        ("aiophlo, streamed", 0.70, "over TLS, streamed"),
        ("aiophlo, with journal", 1.05, "over TLS, with the journal"),
    ):
        yield _times(rows, client, YARDSTICK, bound, f"{promise}, times the yardstick")


def _in_flight(questions: Questions) -> Iterator[Budget]:
    rows = questions["in_flight"]["rows"]
    for size in dict.fromkeys(row["in_flight"] for row in rows):
        at_size = [row for row in rows if row["in_flight"] == size]
        promise = f"CPU per transfer at {size:,} in flight, times the yardstick"
        yield _times(at_size, "aiophlo", YARDSTICK, 0.60, promise)


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
        yield Budget(f"quota used {late}", 98.5, used, "{:.1f} %", least=True)
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
    "tls": _tls,
    "in_flight": _in_flight,
    "memory": _memory,
    "pacing": _pacing,
    "duplicates": _duplicates,
    "importing": _importing,
    "growth": _growth,
}
