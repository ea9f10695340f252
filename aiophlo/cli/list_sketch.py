"""Sketches of lists, by which one that was sent under another journal is noticed.

A sketch is the smallest of the salted hashes of what a list's rows ask (a bottom-k
sketch): the share of them that two lists have in common is about that of their rows,
whatever the order of these and their keys.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from aiophlo.cli.row_source import Source
from aiophlo.cli.rows import Defaults, Unusable, action_of, rows_of
from aiophlo.errors import InvalidInputError
from aiophlo.journal.keys import Digests

_SIZE: Final = 64


def sketch_of(source: Source, defaults: Defaults, secret: bytes) -> list[int]:
    """Return the sketch of a file's rows.

    Args:
        source: What is read.
        defaults: What options say about every row.
        secret: Salt of all lists that are compared.
    """
    return smallest(_hashes(source, defaults, Digests(secret)))


def _hashes(source: Source, defaults: Defaults, digests: Digests) -> Iterable[int]:
    for row in rows_of(source, ignore_columns=defaults.ignore_columns):
        if isinstance(row, Unusable):
            continue
        try:
            action = action_of(row[1], defaults, None)
        except InvalidInputError:
            continue
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


def in_common(one: Sequence[int], other: Sequence[int]) -> float:
    """Return about what share of the rows of two lists are in both."""
    union = smallest([*one, *other])
    if not union:
        return 0.0
    both = set(one) & set(other)
    return sum(number in both for number in union) / len(union)
