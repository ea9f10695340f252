"""Sketches of lists, by which one that was sent under another journal is noticed.

A sketch is the smallest of the salted hashes of what a list's rows ask (a bottom-k
sketch), whatever the order of these and their keys. Up to the lower of two sketches'
ends both lists are known whole: the share of one's rows there that the other has is
about its share of all.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from aiophlo.cli.row_source import Source
from aiophlo.cli.rows import Defaults, actions_of
from aiophlo.journal.keys import Digests

_SIZE: Final = 256
_FEWEST: Final = 3  # rows of a sample that say anything


def sketch_of(source: Source, defaults: Defaults, secret: bytes) -> list[int]:
    """Return the sketch of a file's rows.

    Args:
        source: What is read.
        defaults: What options say about every row.
        secret: Salt of all lists that are compared.
    """
    return smallest(_hashes(source, defaults, Digests(secret)))


def _hashes(source: Source, defaults: Defaults, digests: Digests) -> Iterable[int]:
    for _, action in actions_of(source, defaults):
        yield digests.number(digests.action(action))


def smallest(hashes: Iterable[int]) -> list[int]:
    """Return the smallest of some numbers, each once, in order."""
    found: list[int] = []
    for one in hashes:
        if len(found) == _SIZE and one >= found[-1]:
            continue
        at = bisect_left(found, one)
        if at == len(found) or found[at] != one:
            found.insert(at, one)
            del found[_SIZE:]
    return found


def share_in(one: Sequence[int], other: Sequence[int]) -> float:
    """Return about what share of one list's rows another list has.

    Of a list that is a hundred times as long too little is known: that is 0.
    """
    ends = [sketch[-1] for sketch in (one, other) if len(sketch) == _SIZE]
    end = min(ends, default=math.inf)
    known = [number for number in one if number <= end]
    if len(known) < (_FEWEST if ends else 1):
        return 0.0
    return len({*known} & {*other}) / len(known)
