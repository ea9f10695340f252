"""Remembers which phones the pool has dialled lately, so that calls aren't confused."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from aiophlo.looking.matching import Window

MEMORY: Final = 600.0  # seconds
_SLOW: Final = 13.0  # seconds that another dial's call may begin after it left


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

    def __len__(self) -> int:
        return len(self._order)

    def note(self, phone: str) -> None:
        """Note that a dial leaves now."""
        at = self._now()
        while self._order and self._order[0][0] < at - MEMORY:
            self._forget(*self._order.popleft())
        self._order.append((at, phone))
        self._by_phone.setdefault(phone, []).append(at)

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
