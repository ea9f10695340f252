"""What a course came to: rows to print, and what is wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs


@attrs.frozen
class Report:
    """What a course came to.

    Attributes:
        rows: The figures of each, by their names, which are the same in all.
        wrong: What should be zero and isn't, in words.
    """

    rows: Sequence[Mapping[str, Any]]
    wrong: Sequence[str] = ()


def zeros(**figures: int) -> list[str]:
    """Return a sentence for each figure that should be zero and isn't."""
    return [
        f"{name.replace('_', ' ')}: {figure}"
        for name, figure in figures.items()
        if figure
    ]


def print_report(report: Report) -> None:
    """Print a table, and what is wrong."""
    head = list(report.rows[0])
    print("|", " | ".join(head), "|\n|", "---|" * len(head), sep="")
    for row in report.rows:
        print("|", " | ".join(map(str, row.values())), "|")
    for sentence in report.wrong:
        print("WRONG", sentence)
    print(flush=True)
