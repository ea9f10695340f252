"""The second pass over a batch's file: makes an action of each row, lazily."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator

import attrs

from aiophlo.cli.finished_rows import FinishedRows
from aiophlo.cli.results import Result
from aiophlo.cli.row_source import Source
from aiophlo.cli.rows import (
    Defaults,
    Fields,
    Row,
    Unusable,
    action_of,
    own_key,
    rows_of,
)
from aiophlo.cli.totals import Totals
from aiophlo.errors import InvalidInputError
from aiophlo.journal.journal import default_key
from aiophlo.model.actions import WarmTransfer
from aiophlo.model.outcomes import NotSent, Reason

_TURN = 1_000  # rows passed over before others get their turn


class Repeats:
    """Rows that are left out, for an earlier one asks for the same transfer.

    Args:
        include: Says whether the row in a line is one of them.
        sent: Finds what came of those that an earlier run was asked to send.
    """

    def __init__(self, include: Callable[[int], bool], sent: FinishedRows) -> None:
        self.include = include
        self._sent = sent

    def result_of(self, line: int, key: str) -> Result:
        """Return what is told of one of them."""
        return self._sent.find(line, key) or _not_sent(key, Reason.DUPLICATE)


class RowActions:
    """What is still to be sent; what isn't goes straight to the totals.

    Args:
        source: Where rows are read.
        defaults: What options say about every row.
        totals: Gets the rows that aren't sent.
        digest: The journal's, for rows without a key.
        finished: Finds the rows that need nothing more, where these are known.
        repeats: The rows that are left out, if there are any.
    """

    def __init__(
        self,
        source: Source,
        defaults: Defaults,
        totals: Totals,
        *,
        digest: Callable[[WarmTransfer], str],
        finished: FinishedRows | None,
        repeats: Repeats | None,
    ) -> None:
        self._source = source
        self._defaults = defaults
        self._totals = totals
        self._digest = digest
        self._finished = finished
        self._repeats = repeats

    async def actions(self) -> AsyncGenerator[WarmTransfer, None]:
        """Yield an action for each row that may have to be sent.

        Raises:
            UnusableError: The file has changed since it was opened.
        """
        for number, row in enumerate(self._rows()):
            if not number % _TURN:
                await asyncio.sleep(0)
            action = self._action(row)
            if action is not None:
                self._source.check()
                yield action

    def _rows(self) -> Iterator[Row | Unusable]:
        return rows_of(self._source, self._defaults)

    def _action(self, row: Row | Unusable) -> WarmTransfer | None:
        if isinstance(row, Unusable):
            self._pass_over(row)
            return None
        line, fields = row
        key = own_key(fields)
        if self._finished is not None:
            result = self._finished.find(line, key)
            if result is not None:
                self._totals.add(result)
                return None
        try:
            action = self._keyed(line, fields, key)
        except InvalidInputError as error:
            self._pass_over(Unusable(line, str(error), key))
            return None
        if self._repeats is not None and self._repeats.include(line):
            self._totals.add(self._repeats.result_of(line, action.key or ""))
            return None
        return action

    def _keyed(self, line: int, fields: Fields, key: str) -> WarmTransfer:
        # Lines count from the file's start, so that a row's key stays the same
        # whatever becomes of the rows before it.
        action = action_of(fields, self._defaults, key or None)
        if action.key is not None:
            return action
        return attrs.evolve(action, key=default_key(line, self._digest(action)))

    def _pass_over(self, row: Unusable) -> None:
        # Each row is to be a line of the results.
        key = row.key if row.key.isprintable() else ""
        known_by = key or f"line {row.line}"
        self._totals.add(_not_sent(known_by, Reason.INVALID, row.reason))


def _not_sent(key: str, reason: Reason, error: str | None = None) -> Result:
    return key, NotSent.verdict, str(reason), None, None, 0, 0.0, error
