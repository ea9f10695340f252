"""Compares the simulator's ledger with the verdicts on the transfers sent to it."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

from aiophlo.cli.terminal_text import number_of
from aiophlo.model.redaction import mask

_THROTTLED = 429
# How often a phone may have rung, by the verdict on its one transfer.
_RINGS = {
    "accepted": range(1, 2),
    "rejected": range(1),
    "not_sent": range(1),
    "in_doubt": range(2),
}


@attrs.frozen(kw_only=True)
class Comparison:
    """What the ledger says, and where the verdicts say otherwise.

    Attributes:
        dials: Phones that rang, each time it did.
        refused_429: Requests answered 429.
        rung_twice: Numbers that rang more than once.
        disagreements: A sentence for each number on which the two differ.
        rate_per_second: Requests within the quota, from first to last.
    """

    dials: int
    refused_429: int
    rung_twice: int
    disagreements: list[str]
    rate_per_second: float

    @property
    def agrees(self) -> bool:
        """Whether the verdicts say the same, and no phone rang more than once."""
        return not (self.disagreements or self.rung_twice)


def compare(ledger: Mapping[str, Any], verdicts: Mapping[str, str]) -> Comparison:
    """Hold the ledger against the verdicts.

    Args:
        ledger: As the simulator gives it: `requests` and `dials`.
        verdicts: The verdict on each number's one transfer.
    """
    rung = Counter(dial["to"] for dial in ledger["dials"])
    numbers = [*verdicts, *(number for number in rung if number not in verdicts)]
    return Comparison(
        dials=rung.total(),
        refused_429=sum(
            request["answered"] == _THROTTLED for request in ledger["requests"]
        ),
        rung_twice=sum(times > 1 for times in rung.values()),
        disagreements=[
            f"{mask(number)} rang {number_of(rung[number], 'time')},"
            f" its verdict is {verdicts.get(number, 'missing')}"
            for number in numbers
            if rung[number] not in _RINGS.get(verdicts.get(number, ""), ())
        ],
        rate_per_second=_rate(ledger),
    )


def _rate(ledger: Mapping[str, Any]) -> float:
    times = [
        request["at"]
        for request in ledger["requests"]
        if request["answered"] != _THROTTLED
    ]
    span = max(times) - min(times) if times else 0.0
    return (len(times) - 1) / span if span > 0 else 0.0
