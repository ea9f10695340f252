"""A compact hash set of the dials that a stream has met, to find equal ones.

A million take about 10 MB: of each, 64 bits of its hash are kept, packed by their
first 12 bits into byte arrays. Two different dials pass for equal with a
chance of one in 30 million over a million of them.
"""

from aiophlo.model.actions import DialAction
from aiophlo.sending.deduplication import dial_key

_ALL_BITS = (1 << 64) - 1
_REST_BITS = (1 << 52) - 1  # behind those that name a bucket
_REST = 7  # bytes that these take


class SeenDials:
    """The dials that were met so far."""

    def __init__(self) -> None:
        self._buckets: dict[int, bytearray] = {}

    def add(self, dial: DialAction) -> bool:
        """Note a dial; False if an equal one was noted before.

        Equal are those that differ in their key at most, once their addresses
        are in the form in which they are sent.
        """
        mixed = hash(dial_key(dial)) & _ALL_BITS
        rest = (mixed & _REST_BITS).to_bytes(_REST)
        place = mixed >> 52
        bucket = self._buckets.get(place)
        if bucket is None:
            self._buckets[place] = bytearray(rest)
            return True
        at = bucket.find(rest)
        while at > 0 and at % _REST:  # across two of them
            at = bucket.find(rest, at + 1)
        if at >= 0:
            return False
        bucket += rest
        return True
