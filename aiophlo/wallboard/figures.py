"""What is counted of one account, in slices of time. Pure: times are Unix seconds."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from aiophlo.model.outcomes import VERDICTS, NotSent, Outcome, Reason

SLICE: Final = 5.0  # seconds, as in Plivo's quota
SLICES: Final = 120  # so ten minutes
_GROWTH: Final = 1.05  # from one class of durations to the next
_LEAST: Final = 0.0005  # seconds; what is shorter is in the first class
_MINUTE: Final = 12  # slices in which durations are kept together


def class_of(seconds: float) -> int:
    """Return the number of the class that a duration is counted in."""
    if seconds <= _LEAST:
        return 0
    return math.ceil(math.log(seconds / _LEAST) / math.log(_GROWTH))


def seconds_of(number: int) -> float:
    """Return the duration that stands for a class: at most 2.5 % from any in it."""
    return 0.0 if number == 0 else _LEAST * _GROWTH ** (number - 0.5)


def percentile(classes: Mapping[int, int], share: float) -> float | None:
    """Return the duration that `share` of those counted don't exceed; None of none."""
    left = math.ceil(share * sum(classes.values()))
    for number in sorted(classes):
        left -= classes[number]
        if left <= 0:
            return seconds_of(number)
    return None


@attrs.define
class Slice:
    """What happened in one slice of time.

    Attributes:
        number: Which, since 1970.
        requests: Requests that left in it.
        refused: Those of them that were answered 429.
        verdicts: Actions that ended in it, by verdict.
        reasons: The same by reason, or by status of a refusal.
        joined: Double clicks.
    """

    number: int
    requests: int = 0
    refused: int = 0
    verdicts: Counter[str] = attrs.field(factory=Counter)
    reasons: Counter[str] = attrs.field(factory=Counter)
    joined: int = 0


class Figures:
    """The last ten minutes of one account."""

    def __init__(self) -> None:
        self._slices: deque[Slice] = deque(maxlen=SLICES)
        self._waits: deque[tuple[int, Counter[int]]] = deque()
        self._answers: deque[tuple[int, Counter[int]]] = deque()
        self._refused_at: float | None = None

    def attempt(
        self, outcome: Outcome, now: float, *, seconds: float, waited: float
    ) -> None:
        """Count a request that has ended; one that never left is none."""
        number = int(now // SLICE)
        _count(self._waits, number, waited)
        throttled = isinstance(outcome, NotSent) and outcome.reason is Reason.THROTTLED
        if isinstance(outcome, NotSent) and not throttled:
            return
        if throttled:
            self._refused_at = now
        _count(self._answers, number, seconds)
        begun = self._slice(int((now - seconds) // SLICE), number)
        begun.requests += 1
        begun.refused += throttled

    def ended(self, outcome: Outcome, now: float) -> None:
        """Count an action that has ended."""
        number = int(now // SLICE)
        found = self._slice(number, number)
        found.verdicts[outcome.verdict] += 1
        why = getattr(outcome, "reason", None)
        if why is None and outcome.verdict == "rejected":
            why = outcome.status
        if why is not None:
            found.reasons[f"{outcome.verdict} {why}"] += 1
        found.joined += outcome.joined

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return what was counted, with the slice of `now` as the last one."""
        last = int(now // SLICE)
        first = last - SLICES + 1
        recent = {
            one.number: one for one in self._slices if first <= one.number <= last
        }
        none = Slice(0)
        row = [recent.get(number, none) for number in range(first, last + 1)]
        at = self._refused_at
        verdicts, reasons = Counter[str](), Counter[str]()
        for one in recent.values():
            verdicts.update(one.verdicts)
            reasons.update(one.reasons)
        return {
            "slice": last,
            "requests": [one.requests for one in row],
            "refused": [one.refused for one in row],
            "refused_age": None if at is None else round(max(now - at, 0.0), 1),
            "verdicts": {verdict: verdicts[verdict] for verdict in VERDICTS},
            "reasons": dict(reasons),
            "joined": sum(one.joined for one in recent.values()),
            "waits": _sum(self._waits, first),
            "answers": _sum(self._answers, first),
        }

    def _slice(self, number: int, now: int) -> Slice:
        """Return a slice; one that is too old for that counts as the oldest."""
        slices = self._slices
        if not slices or slices[-1].number < number:
            slices.append(Slice(number))
        if slices[-1].number == number:
            return slices[-1]
        for one in reversed(slices):
            if one.number <= number:
                if one.number == number:
                    return one
                break
        # A request that began before the first one, or in a slice without any.
        late = Slice(number)
        if number > now - SLICES and len(slices) < SLICES:
            slices.append(late)
            self._slices = deque(sorted(slices, key=_number), maxlen=SLICES)
        return late


def _number(one: Slice) -> int:
    return one.number


def _count(kept: deque[tuple[int, Counter[int]]], number: int, seconds: float) -> None:
    minute = number - number % _MINUTE
    if not kept or kept[-1][0] != minute:
        kept.append((minute, Counter()))
        if len(kept) > SLICES // _MINUTE + 1:
            kept.popleft()
    kept[-1][1][class_of(seconds)] += 1


def _sum(kept: Iterable[tuple[int, Counter[int]]], first: int) -> dict[str, int]:
    classes = Counter[int]()
    for minute, counted in kept:
        if minute + _MINUTE > first:
            classes.update(counted)
    return {str(number): count for number, count in classes.items()}
