"""Remembers which phones the pool has dialled lately, so that calls aren't confused."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from aiophlo.looking.matching import Window
from aiophlo.model.actions import DialAction
from aiophlo.model.address_matching import phone_of
from aiophlo.model.redaction import mask

MEMORY: Final = 600.0  # seconds
_SLOW: Final = 13.0  # seconds that another dial's call may begin after it left
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
    def phone(self) -> str:
        """The phone behind the address."""
        return phone_of(self.to)


class RecentDials:
    """When dials left, by phone, as Unix times; kept only in pools that look.

    A call to a phone that the pool has dialled twice at about the same time may be
    either dial's.

    Args:
        now: Gives Unix time.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._since = now()
        self._order: deque[tuple[float, str]] = deque()
        self._by_phone: dict[str, list[float]] = {}
        self._by_node: dict[tuple[str, str], deque[MadeDial]] = {}

    def __len__(self) -> int:
        return len(self._order)

    def note(self, dial: DialAction) -> None:
        """Note that a dial leaves now."""
        at, phone = self._now(), phone_of(dial.to)
        while self._order and self._order[0][0] < at - MEMORY:
            self._forget(*self._order.popleft())
        self._order.append((at, phone))
        self._by_phone.setdefault(phone, []).append(at)
        node = self._by_node.setdefault(
            (dial.phlo_id, dial.node_id), deque(maxlen=_PER_NODE)
        )
        # Of a busy node, those that are long enough ago are needed, too.
        if len(node) < _PER_NODE or at - node[0].left_at > _SLOW:
            node.append(MadeDial(dial.to, at))

    def made_by(self, node: tuple[str, str]) -> Iterable[MadeDial]:
        """Return some dials of a node, the oldest first."""
        return tuple(self._by_node.get(node, ()))

    def is_alone(self, phone: str, window: Window, left_at: float) -> bool:
        """Say whether no other dial to a phone can have made a call in a window.

        Args:
            phone: The phone.
            window: When the call can have begun.
            left_at: When the dial itself left.
        """
        own = left_at >= self._since
        begin = window.begin - _SLOW
        times = self._by_phone.get(phone, ())
        return sum(begin <= at <= window.end for at in times) <= own

    def _forget(self, at: float, phone: str) -> None:
        times = self._by_phone[phone]
        times.remove(at)
        if not times:
            del self._by_phone[phone]
