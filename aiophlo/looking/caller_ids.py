"""Learns what a node's dials call from, by looking at some that have been made.

Others call the same phones, but not all of them, and seldom at the same moment: the
number from which nearly every one of a node's dials is called is the node's own.
"""

import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import attrs

from aiophlo.looking.call_list import Reading
from aiophlo.looking.matching import Window, match
from aiophlo.looking.recent_dials import MadeDial, RecentDials

_SAMPLES: Final = 6  # dials that are looked at for one node
_MOST_SAMPLES: Final = 18  # where these don't agree
_SHARE: Final = 0.7  # of them that must be called from the same number
_ALONE: Final = 0.5  # of them in which no other number may call, too
_RETRY: Final = 1.0  # seconds until the next try, where there were too few

Node = tuple[str, str]
Read = Callable[[MadeDial], Awaitable[Reading]]


@attrs.define
class _Learned:
    """What is known of one node.

    Attributes:
        numbers: What its dials call from; empty while that isn't known.
        votes: How many of the dials looked at were called from each number.
        alone: How many of them from no other.
        sampled: Dials that were looked at and had a call.
        busy: Some are being looked at.
        not_before: Unix time of the next try.
    """

    numbers: frozenset[str] = frozenset()
    votes: Counter[str] = attrs.field(factory=Counter)
    alone: Counter[str] = attrs.field(factory=Counter)
    sampled: int = 0
    tried: set[float] = attrs.field(factory=set)
    busy: bool = False
    not_before: float = -math.inf


class CallerIds:
    """What dials call from: as the pool was told, else as it has learned.

    Args:
        given: As the pool was told; empty for nothing.
        recent: The pool's own dials.
        now: Gives Unix time.
    """

    def __init__(
        self,
        given: frozenset[str],
        recent: RecentDials,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._given = given
        self._recent = recent
        self._now = now
        self._by_node: dict[Node, _Learned] = {}

    def known(self, node: Node) -> frozenset[str]:
        """Return what a node's dials call from; empty while that isn't known."""
        learned = self._by_node.get(node)
        return self._given or (frozenset() if learned is None else learned.numbers)

    def may_learn(self, node: Node) -> bool:
        """Say whether the node's dials still suffice to learn what they call from.

        Until then a call from any number proves nothing: it is only a matter of time.
        """
        if self.known(node):
            return False
        learned = self._by_node.get(node, _Learned())
        left = sum(
            dial.left_at not in learned.tried for dial in self._recent.made_by(node)
        )
        enough = learned.sampled + left >= _SAMPLES
        return enough and learned.sampled < _MOST_SAMPLES

    async def learn(
        self, node: Node, read: Read, samples: Iterable[MadeDial] | None = None
    ) -> None:
        """Look at some dials of a node, unless enough is known of it.

        Args:
            node: PHLO and node.
            read: Reads the calls to the phone of one.
            samples: The dials; None for the pool's own of late.
        """
        learned = self._by_node.setdefault(node, _Learned())
        if self.known(node) or learned.sampled >= _MOST_SAMPLES:
            return
        if learned.busy or self._now() < learned.not_before:
            return
        learned.busy = True  # others needn't, too
        try:
            await self._learn(node, learned, read, samples)
        finally:
            learned.busy = False

    async def _learn(
        self,
        node: Node,
        learned: _Learned,
        read: Read,
        samples: Iterable[MadeDial] | None,
    ) -> None:
        dials = self._recent.made_by(node) if samples is None else samples
        wanted = learned.sampled + _SAMPLES
        for dial in dials:
            if learned.sampled >= wanted:
                break
            if dial.left_at in learned.tried or not self._is_listed(dial):
                continue
            learned.tried.add(dial.left_at)
            if self._is_alone(dial):
                await self._sample(learned, dial, read)
                learned.not_before = self._now() + _RETRY
        if learned.sampled >= _SAMPLES:
            learned.numbers = _agreed(learned)

    def _is_listed(self, dial: MadeDial) -> bool:
        return Window.around(dial.left_at).listed_by <= self._now()

    def _is_alone(self, dial: MadeDial) -> bool:
        window = Window.around(dial.left_at)
        return self._recent.is_alone(dial.party, window, dial.left_at)

    async def _sample(self, learned: _Learned, dial: MadeDial, read: Read) -> None:
        reading = await read(dial)
        found = match(
            reading.records,
            to=dial.to,
            window=Window.around(dial.left_at).moved(reading.ahead),
            caller_ids=frozenset(),
            complete=False,
            alone=True,
        )
        numbers = {record.from_ for record in found.candidates}
        if numbers and reading.complete:
            learned.sampled += 1
            learned.votes.update(numbers)
            if len(numbers) == 1:
                learned.alone.update(numbers)


def _agreed(learned: _Learned) -> frozenset[str]:
    """Return the number that is behind nearly all of the dials, if there is one."""
    least = _SHARE * learned.sampled
    often = [number for number, votes in learned.votes.items() if votes >= least]
    if len(often) != 1 or learned.alone[often[0]] < _ALONE * learned.sampled:
        return frozenset()
    return frozenset(often)
