"""Read-ahead: fetches pages of rows that are asked for in about their order."""

from collections.abc import Callable, Hashable

from aiophlo.journal.reader import JournalView, KnownRow

_NEAR = 1_000  # rows; who skips fewer is walking through the file
_MOST_LEFT = 2_000  # rows that were read ahead and not asked for


class ReadAhead:
    """Holds the rows that are likely to be asked for next.

    A single look-up costs four to ten times what walking does, and a batch that
    goes on asks for a million rows in about the order they have here.

    Args:
        reader: Reads the journal.
        name: What a row is asked for by, given its key as it is kept.
    """

    def __init__(
        self, reader: JournalView, name: Callable[[str], Hashable] = str
    ) -> None:
        self._reader = reader
        self._name = name
        self._page: dict[Hashable, KnownRow] = {}
        self._furthest = 0

    def start_over(self) -> None:
        """Expect to be asked from the first row on."""
        self._furthest = 0

    def find(self, stored: str, *, masked: bool) -> KnownRow | None:
        """Return the row of a key, if there is one.

        Args:
            stored: The key as it is kept.
            masked: It is kept masked.
        """
        known = self.pop(stored)
        if known is not None:
            return known
        return self.looked_up(self._reader.find(stored, masked=masked))

    def pop(self, name: Hashable) -> KnownRow | None:
        """Return a row if it was read ahead; it is not held any longer."""
        known = self._page.pop(name, None)
        if known is not None and known.id > self._furthest:
            self._furthest = known.id
        return known

    def looked_up(self, known: KnownRow | None) -> KnownRow | None:
        """Take note of what a single look-up gave, read on behind it; return it."""
        if known is not None and known.id > self._furthest:
            if known.id - self._furthest <= _NEAR:
                self._read_on(known.id)
            self._furthest = known.id
        return known

    def _read_on(self, row: int) -> None:
        if len(self._page) > _MOST_LEFT:
            self._page.clear()
        name = self._name
        self._page.update((name(row.key), row) for row in self._reader.after(row))
