"""The dials that a stream has met, to find equal ones.

A million take about 10 MB: of each, 64 bits of its hash are kept. Two different dials
pass for equal with a chance of one in 30 million over a million of them.
"""

from aiophlo.journal.number_set import NumberSet
from aiophlo.model.actions import DialAction
from aiophlo.sending.deduplication import dial_key


class SeenDials:
    """The dials that were met so far."""

    def __init__(self) -> None:
        self._hashes = NumberSet()

    def add(self, dial: DialAction) -> bool:
        """Note a dial; False if an equal one was noted before.

        Equal are those that differ in their key at most, once their addresses
        are in the form in which they are sent.
        """
        return self._hashes.add(hash(dial_key(dial)))
