"""Remembers a pool's recent dials, so that none is taken for another."""

from collections import deque
from collections.abc import Iterable
from typing import Final

import attrs

from aiophlo.looking.matching import LONGEST, Window
from aiophlo.model.address_matching import party_of
from aiophlo.model.redaction import mask
from aiophlo.sending.dial_log import DialLog, LeftDial

MEMORY: Final = 600.0  # seconds for which every dial is remembered
LEAST: Final = 40_000  # dials that are remembered longer
_EARLIER: Final = 0.05  # seconds by which a doubt's time may be before the dial's
_LATER: Final = 2.0  # and after it: in a journal it is that of its intent
_PER_NODE: Final = 50  # dials that are kept of a node, however long ago


@attrs.frozen
class MadeDial:
    """A dial that has left.

    Attributes:
        to: Whom it dialled.
        left_at: Unix time.
    """

    to: str = attrs.field(repr=mask)
    left_at: float

    @property
    def party(self) -> str:
        """The party that it dialled."""
        return party_of(self.to)


class RecentDials:
    """When dials left, by party, as Unix times; kept only in pools that look.

    A call to a party that the pool has dialled twice at about the same time may be
    either dial's.

    Args:
        log: The pool's: its dials are known, and it tells of further ones.
    """

    def __init__(self, log: DialLog) -> None:
        self._since = log.begun_at
        self._forgotten_until = log.forgotten_until
        self._order: deque[LeftDial] = deque()
        self._by_party: dict[str, list[LeftDial]] = {}
        self._by_node: dict[tuple[str, str], deque[MadeDial]] = {}
        for left in log.latest:
            self.add(left)
        log.heard = self.add

    def __len__(self) -> int:
        return len(self._order)

    def add(self, left: LeftDial) -> None:
        """Remember a dial that leaves."""
        at, dial = left.left_at, left.dial
        self._forget(at - MEMORY)
        self._order.append(left)
        self._by_party.setdefault(party_of(dial.to), []).append(left)
        node = self._by_node.setdefault(
            (dial.phlo_id, dial.node_id), deque(maxlen=_PER_NODE)
        )
        # Of a busy node, those that are long enough ago are needed, too.
        if len(node) < _PER_NODE or at - node[0].left_at > LONGEST:
            node.append(MadeDial(dial.to, at))

    def made_by(self, node: tuple[str, str]) -> Iterable[MadeDial]:
        """Return some dials of a node, the oldest first."""
        return tuple(self._by_node.get(node, ()))

    def is_alone(self, party: str, window: Window, left_at: float) -> bool:
        """Say whether no other dial to a party can have made a call in a window.

        Args:
            party: The party.
            window: When the call can have begun.
            left_at: When the dial itself left.
        """
        begin = window.begin - LONGEST
        if window.end >= self._since and begin <= self._forgotten_until:
            return False
        near = [
            left.left_at
            for left in self._by_party.get(party, ())
            if begin <= left.left_at <= window.end
        ]
        own = any(-_EARLIER <= at - left_at <= _LATER for at in near)
        return len(near) <= own

    def _forget(self, before: float) -> None:
        while len(self._order) >= LEAST and self._order[0].left_at < before:
            left = self._order.popleft()
            self._forgotten_until = max(self._forgotten_until, left.left_at)
            party = party_of(left.dial.to)
            others = self._by_party[party]
            others.remove(left)
            if not others:
                del self._by_party[party]
