"""Lists the rows that a batch can't use."""

from typing import Self

from aiophlo.cli.output import say_error
from aiophlo.cli.rows import Unusable


class UnusableList:
    """Names each row that can't be used, neighbours with one reason together.

    A forgotten option would else be told a million times, once for each row. Use it
    as a context manager: leaving names what is left.
    """

    def __init__(self) -> None:
        self._first: Unusable | None = None
        self._last = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, row: Unusable) -> None:
        """Name a row, now or with its neighbours."""
        first = self._first
        if first is None or (row.line, row.reason) != (self._last + 1, first.reason):
            self.flush()
            self._first = row
        self._last = row.line

    def flush(self) -> None:
        """Name what was added, before something else is said."""
        if self._first is None:
            return
        line, reason, _ = self._first
        self._first = None
        where = (
            f"line {line}" if line == self._last else f"lines {line} to {self._last}"
        )
        say_error(f"{where}: {reason}")
