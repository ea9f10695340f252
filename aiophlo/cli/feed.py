"""A batch's second reading: rows become actions, a few at a time."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import attrs

from aiophlo.actions import WarmTransfer
from aiophlo.cli.books import Books
from aiophlo.cli.finished import Finished, Known
from aiophlo.cli.results import Result
from aiophlo.cli.rows import Defaults, Row, Unusable, action_of, own_key, rows_of
from aiophlo.cli.source import Source
from aiophlo.cli.words import harmless_id
from aiophlo.errors import InvalidInputError
from aiophlo.journal import default_key
from aiophlo.outcomes import InDoubt, NotSent, Reason

_TURN = 1_000  # rows passed over before others get their turn


class Feed:
    """What is still to be sent; what isn't goes straight to the books.

    Args:
        source: Where rows are read.
        defaults: What options say about every row.
        books: Gets the rows that aren't sent.
        digest: The journal's, for rows without a key.
        finished: Finds the rows that need nothing more, where these are known.
        include_in_doubt: Send again what an earlier run left in doubt.
    """

    def __init__(
        self,
        source: Source,
        defaults: Defaults,
        books: Books,
        *,
        digest: Callable[[WarmTransfer], str],
        finished: Finished | None,
        include_in_doubt: bool,
    ) -> None:
        self._source = source
        self._defaults = defaults
        self._books = books
        self._digest = digest
        self._finished = finished
        self._include_in_doubt = include_in_doubt

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
        known = self._finished.find(row) if self._finished is not None else None
        if known is not None and self._is_final(known):
            self._book(own_key(row) or known.key, known)
            return None
        try:
            return self._keyed(row)
        except InvalidInputError:
            self._pass_over(own_key(row), row.line)
            return None

    def _keyed(self, row: Row) -> WarmTransfer:
        # Lines count from the file's start, so that a row's key stays the same
        # whatever becomes of the rows before it.
        action = action_of(row, self._defaults, own_key(row) or None)
        if action.key is not None:
            return action
        return attrs.evolve(action, key=default_key(row.line, self._digest(action)))

    def _is_final(self, known: Known) -> bool:
        if known.verdict == InDoubt.verdict:
            return not self._include_in_doubt
        return known.verdict not in {NotSent.verdict, None}

    def _book(self, key: str, known: Known) -> None:
        self._books.add(
            Result(
                key,
                known.verdict or InDoubt.verdict,
                known.reason,
                known.status,
                harmless_id(known.api_id),
                known.attempts or 0,
                round(known.seconds or 0.0, 3),
            )
        )

    def _pass_over(self, key: str, line: int) -> None:
        reason = str(Reason.INVALID)
        self._books.add(
            Result(key or f"{line}:", NotSent.verdict, reason, None, None, 0, 0.0)
        )
