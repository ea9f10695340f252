"""Medians, spreads and paired ratios."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

Row = Mapping[str, Any]


@attrs.frozen
class Spread:
    """One figure from several rounds.

    Attributes:
        median: Of all rounds.
        low: The smallest.
        high: The largest.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Summarise the values of some rounds.

        Raises:
            ValueError: There are none.
        """
        found = list(values)
        if not found:
            raise ValueError("a spread needs one value or more")
        return cls(statistics.median(found), min(found), max(found))


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return the value that `share` of all are at or below.

    Args:
        ascending: The values, sorted.
        share: From 0 to 1.

    Raises:
        ValueError: There are no values.
    """
    if not ascending:
        raise ValueError("a quantile needs one value or more")
    return ascending[min(int(share * len(ascending)), len(ascending) - 1)]


def names(rows: Iterable[Row]) -> list[str]:
    """Return what was measured, each once, in the order of first appearance."""
    return list(dict.fromkeys(row["client"] for row in rows))


def spread(rows: Iterable[Row], client: str, field: str) -> Spread:
    """Summarise one figure of one client over its rounds.

    Raises:
        ValueError: It was not measured.
    """
    return Spread.of(
        row[field] for row in rows if row["client"] == client and field in row
    )


def ratio(rows: Sequence[Row], client: str, to: str, field: str) -> Spread:
    """Summarise what one client's figure is of another's, round by round.

    Raises:
        ValueError: No round has both.
    """
    return Spread.of(ratios(rows, client, to, field))


def ratios(rows: Sequence[Row], client: str, to: str, field: str) -> list[float]:
    """Return what one client's figure is of another's in each round.

    Pairing takes out what a slow minute of the machine does to both.
    """
    base = {row["round"]: row for row in rows if row["client"] == to}
    return [
        row[field] / base[row["round"]][field]
        for row in rows
        if row["client"] == client and row["round"] in base
    ]


def settled_use(
    admitted: Sequence[float],
    *,
    first: float,
    limit: int,
    per: float,
    periods: int,
) -> float:
    """Return the share of a quota that was used, once the first period is over.

    Over whole periods, so that what comes in bursts counts as fully as what
    comes evenly.

    Args:
        admitted: When requests were admitted, in seconds.
        first: When the first request came.
        limit: Requests per period.
        per: Seconds of a period.
        periods: How many to look at, after the first.
    """
    begin, end = first + per, first + per * (periods + 1)
    return sum(begin <= at < end for at in admitted) / (limit * periods)
