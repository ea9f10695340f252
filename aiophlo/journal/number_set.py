"""A compact hash set of 64-bit numbers.

A million take about 10 MB: they are packed by their first 12 bits into byte arrays.
"""

_ALL_BITS = (1 << 64) - 1
_REST_BITS = (1 << 52) - 1  # behind those that name a bucket
_REST = 7  # bytes that these take


class NumberSet:
    """The numbers that were met so far."""

    def __init__(self) -> None:
        self._buckets: dict[int, bytearray] = {}

    def add(self, number: int) -> bool:
        """Note a number, its last 64 bits; False if it was noted before."""
        number &= _ALL_BITS
        rest = (number & _REST_BITS).to_bytes(_REST)
        place = number >> 52
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
