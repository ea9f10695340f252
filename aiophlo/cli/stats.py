"""Statistics of a run: counts, times, rate and percentiles."""

import math
from collections import deque
from collections.abc import Sequence

import attrs

from aiophlo.cli.totals import Totals
from aiophlo.model.outcomes import VERDICTS, Outcome


@attrs.define
class Times:
    """Seconds of the transfers with one verdict.

    Attributes:
        waited: From asking to the last attempt's slot.
        answering: From there to the outcome.
    """

    waited: list[float] = attrs.field(factory=list)
    answering: list[float] = attrs.field(factory=list)


class Stats(Totals):
    """What has come of transfers to numbers of their own, and how long it took.

    Attributes:
        by_number: The verdict on each number's transfer.
        times: Waiting and answering, by verdict.
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_number: dict[str, str] = {}
        self.times = {verdict: Times() for verdict in VERDICTS}

    def note_dial(self, number: str, outcome: Outcome) -> None:
        """Count the outcome of the transfer to `number`."""
        self.note(outcome)
        self.by_number[number] = outcome.verdict
        times = self.times[outcome.verdict]
        times.waited.append(outcome.waited)
        times.answering.append(outcome.seconds - outcome.waited)


class Speed:
    """The rate of something counted now and then, over the last few seconds.

    Args:
        over: Seconds to look back.
    """

    def __init__(self, over: float = 5.0) -> None:
        self._over = over
        self._seen: deque[tuple[float, int]] = deque()

    def at(self, now: float, count: int) -> float:
        """Take note of the count at a time in seconds; return the rate per second."""
        self._seen.append((now, count))
        while len(self._seen) > 1 and now - self._seen[1][0] >= self._over:
            self._seen.popleft()
        since, before = self._seen[0]
        return (count - before) / (now - since) if now > since else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of `values` that `share` of them don't exceed."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]
