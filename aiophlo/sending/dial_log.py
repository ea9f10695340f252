"""Remembers the latest dials that have left, for whoever looks for one later."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import attrs

from aiophlo.model.actions import DialAction

_MOST: Final = 2_000  # dials that are kept


@attrs.define(eq=False)
class LeftDial:
    """A dial that has left.

    Attributes:
        dial: What was asked.
        left_at: Unix time at which its latest request left; NaN if no clock said.
    """

    dial: DialAction
    left_at: float


class DialLog:
    """The latest dials of a pool: a reference and a time each.

    Whoever looks only once something is in doubt needs those of before.

    Args:
        now: Gives Unix time.

    Attributes:
        begun_at: Unix time from which dials are noted.
        heard: Called with every dial that leaves, if set.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self.begun_at = self._time()
        self._latest: deque[LeftDial] = deque(maxlen=_MOST)
        self.heard: Callable[[LeftDial], None] | None = None

    @property
    def latest(self) -> tuple[LeftDial, ...]:
        """The latest dials, the oldest first."""
        return tuple(self._latest)

    @property
    def forgotten_until(self) -> float:
        """Unix time from which no dial is missing; before all time if none is."""
        return self._latest[0].left_at if len(self._latest) == _MOST else -math.inf

    def note(self, dial: DialAction) -> LeftDial:
        """Note that a dial leaves now."""
        left = LeftDial(dial, self._time())
        self._latest.append(left)
        if self.heard is not None:
            self.heard(left)
        return left

    def note_again(self, left: LeftDial) -> None:
        """Note that a dial which wasn't carried out leaves once more, now."""
        left.left_at = self._time()

    def _time(self) -> float:
        try:
            return self._now()
        except Exception:  # noqa: BLE001 -- a broken clock keeps no dial back
            return math.nan
