"""Counts the rows of another file that a journal already knows."""

from collections.abc import Callable

from aiophlo.cli.row_source import Source
from aiophlo.cli.rows import Defaults, Row, Unusable, action_of, own_key, rows_of
from aiophlo.errors import InvalidInputError
from aiophlo.journal.keys import Digests, default_key
from aiophlo.journal.read_ahead import ReadAhead
from aiophlo.journal.reader import JournalView


def count_settled(
    source: Source,
    defaults: Defaults,
    reader: JournalView,
    *,
    left_out: Callable[[int], bool],
    tell: Callable[[Unusable], None],
) -> int:
    """Return how many rows a journal has that will not be sent again.

    Args:
        source: What is read.
        defaults: What options say about every row.
        reader: Reads the journal.
        left_out: Says whether the row in a line isn't sent.
        tell: Called with each row whose key the journal has for another transfer,
            which therefore can't be sent.

    Raises:
        JournalError: The journal can't be read.
    """
    known = _KnownRows(defaults, reader)
    settled = 0
    for row in rows_of(source, defaults):
        if isinstance(row, Unusable) or left_out(row[0]):
            continue
        found = known.is_settled(row)
        if isinstance(found, Unusable):
            tell(found)
        else:
            settled += found
    return settled


class _KnownRows:
    def __init__(self, defaults: Defaults, reader: JournalView) -> None:
        self._defaults = defaults
        self._digests = Digests(reader.setting("salt"))
        self._ahead = ReadAhead(reader)

    def is_settled(self, row: Row) -> Unusable | bool:
        line, fields = row
        key = own_key(fields)
        try:
            stored = self._digests.key(key) if key else self._default_key(row)
            known = self._ahead.find(stored, masked=bool(key) and stored != key)
            if known is None:
                return False
            digest = self._digests.action(action_of(fields, self._defaults, None))
        except InvalidInputError:
            return False  # it was listed when the rows were checked
        if known.digest != digest:
            return Unusable(line, "key: the journal has it for another transfer", key)
        return known.verdict != "not_sent"

    def _default_key(self, row: Row) -> str:
        action = action_of(row[1], self._defaults, None)
        return default_key(row[0], self._digests.action(action))
