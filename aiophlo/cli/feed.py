"""A batch's second reading: rows become actions, a few at a time."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import attrs

from aiophlo.actions import WarmTransfer
from aiophlo.cli.books import Books
from aiophlo.cli.finished import Finished
from aiophlo.cli.rows import (
    Defaults,
    Fields,
    Row,
    Unusable,
    action_of,
    own_key,
    rows_of,
)
from aiophlo.cli.source import Source
from aiophlo.errors import InvalidInputError
from aiophlo.journal import default_key
from aiophlo.outcomes import NotSent, Reason

_TURN = 1_000  # rows passed over before others get their turn


class Feed:
    """What is still to be sent; what isn't goes straight to the books.

    Args:
        source: Where rows are read.
        defaults: What options say about every row.
        books: Gets the rows that aren't sent.
        digest: The journal's, for rows without a key.
        finished: Finds the rows that need nothing more, where these are known.
    """

    def __init__(
        self,
        source: Source,
        defaults: Defaults,
        books: Books,
        *,
        digest: Callable[[WarmTransfer], str],
        finished: Finished | None,
    ) -> None:
        self._source = source
        self._defaults = defaults
        self._books = books
        self._digest = digest
        self._finished = finished

    async def actions(self) -> AsyncGenerator[WarmTransfer, None]:
        """Yield an action for each row that may have to be sent.

        Raises:
            UnusableError: The file has changed since it was opened.
        """
        for number, row in enumerate(rows_of(self._source)):
            if not number % _TURN:
                await asyncio.sleep(0)
            action = self._action(row)
            if action is not None:
                self._source.check()
                yield action

    def _action(self, row: Row | Unusable) -> WarmTransfer | None:
        if isinstance(row, Unusable):
            self._pass_over(row.key, row.line)
            return None
        line, fields = row
        key = own_key(fields)
        if self._finished is not None:
            result = self._finished.find(line, key)
            if result is not None:
                self._books.add(result)
                return None
        try:
            return self._keyed(line, fields, key)
        except InvalidInputError:
            self._pass_over(key, line)
            return None

    def _keyed(self, line: int, fields: Fields, key: str) -> WarmTransfer:
        # Lines count from the file's start, so that a row's key stays the same
        # whatever becomes of the rows before it.
        action = action_of(fields, self._defaults, key or None)
        if action.key is not None:
            return action
        return attrs.evolve(action, key=default_key(line, self._digest(action)))

    def _pass_over(self, key: str, line: int) -> None:
        reason = str(Reason.INVALID)
        self._books.add(
            (key or f"{line}:", NotSent.verdict, reason, None, None, 0, 0.0)
        )
