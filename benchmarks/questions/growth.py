"""(g) Does the cost of one transfer grow with the work?"""

import functools
from collections.abc import Iterable

from benchmarks.harness.budgets import BASE_LENGTH
from benchmarks.harness.lab import Lab, Measurement, say, words_for
from benchmarks.harness.slices import side_by_side
from benchmarks.questions.queues import CONCURRENCY

_WAYS = ("streamed", "awaited")


def measure(lab: Lab) -> Measurement:
    """Let queues of all lengths take turns, and the longest with one of them.

    All that take turns send as many transfers: the short queues are sent again and
    again while the longest is sent once.
    """
    lengths = [10**power for power in range(2, 5 if lab.quick else 6)]
    rows = [row for way in _WAYS for row in _rows(way, 0, _in_turns(lab, way, lengths))]
    rows += _rows("streamed", 1, longest_streams(lab))
    rows.sort(key=lambda row: (_WAYS.index(row["way"]), row["queued"], row["round"]))
    return {"concurrency": CONCURRENCY, "rows": rows}


@functools.cache  # (c) and (g) ask about the same run: it takes minutes
def longest_streams(lab: Lab) -> dict[int, Measurement]:
    """Stream a million once, and 10,000 again and again, side by side.

    Returns:
        What is known of both, by the length of one stream.
    """
    return _in_turns(lab, "streamed", (BASE_LENGTH, 20_000 if lab.quick else 10**6))


def _in_turns(lab: Lab, way: str, lengths: Iterable[int]) -> dict[int, Measurement]:
    with lab.prompt_server() as base_url:
        programs = {
            str(queued): words_for(
                "queues",
                base_url=base_url,
                way=way,
                queued=queued,
                transfers=max(lengths),
            )
            for queued in lengths
        }
        found = {int(name): it for name, it in side_by_side(programs).items()}
    shown = ", ".join(f"{queued:,} {it['cpu_us']:.4g}" for queued, it in found.items())
    say(f"  {way} side by side, cpu_us: {shown}")
    return found


def _rows(
    way: str, number: int, found: dict[int, Measurement]
) -> Iterable[Measurement]:
    for queued, measured in found.items():
        yield {
            "client": f"{way}, {queued:,}",
            "round": number,
            "way": way,
            "queued": queued,
            "cpu_us": measured["cpu_us"],
        }
