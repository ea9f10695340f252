"""Counts and times of many transfers, kept while they run."""

import math
from collections import deque
from collections.abc import Sequence

import attrs

from aiophlo.observing import ActionEnded, AttemptEnded
from aiophlo.outcomes import Outcome

VERDICTS = ("accepted", "rejected", "not_sent", "in_doubt")
_THROTTLED = 429


@attrs.define
class Times:
    """Seconds of the transfers with one verdict.

    Attributes:
        waited: From asking to the last attempt's slot.
        answering: From there to the outcome.
    """

    waited: list[float] = attrs.field(factory=list)
    answering: list[float] = attrs.field(factory=list)


class Tally:
    """What has come of the transfers so far; an observer of their pool.

    Attributes:
        verdicts: The verdict on each number's transfer.
        times: Waiting and answering, by verdict.
        refused_429: Requests answered 429.
    """

    def __init__(self) -> None:
        self.verdicts: dict[str, str] = {}
        self.times = {verdict: Times() for verdict in VERDICTS}
        self.refused_429 = 0

    def __call__(self, event: AttemptEnded | ActionEnded) -> None:
        """Take note of a 429."""
        if isinstance(event, AttemptEnded) and event.outcome.status == _THROTTLED:
            self.refused_429 += 1

    def note(self, number: str, outcome: Outcome) -> None:
        """Take note of what came of the transfer to `number`."""
        self.verdicts[number] = outcome.verdict
        times = self.times[outcome.verdict]
        times.waited.append(outcome.waited)
        times.answering.append(outcome.seconds - outcome.waited)

    @property
    def done(self) -> int:
        """How many transfers have an outcome."""
        return len(self.verdicts)

    def count(self, verdict: str) -> int:
        """Return how many transfers ended with `verdict`."""
        return len(self.times[verdict].waited)


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
