"""Rows that earlier runs of a batch have finished, found about as fast as read.

Only for a file that hasn't changed and repeats no key: whatever stood in a
line then stands there now, so that no row needs to be checked again.
"""

from aiophlo.cli.results import Result
from aiophlo.cli.terminal_text import harmless
from aiophlo.journal.keys import Digests, row_of
from aiophlo.journal.read_ahead import ReadAhead
from aiophlo.journal.reader import JournalView, KnownRow


class FinishedRows:
    """Finds what an open journal has of rows that need nothing more.

    Args:
        reader: Of the journal.
        keyless: The file's rows have no keys: they go by their lines.
        include_in_doubt: What is in doubt does need something.

    Raises:
        JournalError: It can't be read.
    """

    def __init__(
        self, reader: JournalView, *, keyless: bool, include_in_doubt: bool
    ) -> None:
        self._reader = reader
        self._keyless = keyless
        self._unfinished = ["not_sent", *(["in_doubt"] if include_in_doubt else [])]
        self._digests = Digests(self._reader.setting("salt"))
        self._ahead = ReadAhead(self._reader, row_of if keyless else str)
        # What this run adds is no concern of its own.
        self._left = self._reader.count(besides=self._unfinished)

    def find(self, line: int, key: str) -> Result | None:
        """Return what came of a row in an earlier run, if it is finished.

        Args:
            line: Where the row begins.
            key: Its own.
        """
        if not self._left:
            return None
        known = self._ahead.pop(line if self._keyless else key)
        if known is None:
            known = self._ahead.looked_up(self._look_up(line, key))
        if known is None or not known.verdict or known.verdict in self._unfinished:
            return None
        self._left -= 1
        return (
            known.key if self._keyless else key,
            known.verdict,
            known.reason,
            known.status,
            known.api_id,
            known.attempts or 0,
            round(known.seconds or 0.0, 3),
            harmless(known.error),
        )

    def _look_up(self, line: int, key: str) -> KnownRow | None:
        if self._keyless:
            return self._reader.find_default(line)
        stored = self._digests.key(key)
        return self._reader.find(stored, masked=stored != key)
