"""Customers who may be on hold or alone, as observers hear of them.

Pure: times are seconds of any one monotonic clock, passed in.
"""

from collections.abc import Hashable
from typing import Final

import attrs

from aiophlo.model.accounts import Account
from aiophlo.observed_events import HandoverEnded, HandoverStep

# Nothing tells when somebody has helped them, and nobody stays on hold for longer.
REMEMBERED_FOR: Final = 1_800.0
_MOST: Final = 1_000
ON_HOLD: Final = "on_hold"


@attrs.frozen
class OnHold:
    """A customer who may be on hold or alone.

    Attributes:
        account: Whose call it is.
        handover: Id of the handover.
        since: When it was known.
    """

    account: Account
    handover: str
    since: float


class CustomersOnHold:
    """The customers about whom there was an alarm, each for half an hour."""

    def __init__(self) -> None:
        self._known: dict[Hashable, OnHold] = {}

    def hear(
        self, event: HandoverStep | HandoverEnded, now: float, *, of: Hashable = None
    ) -> bool:
        """Hear of a handover; say whether this is a new alarm.

        Args:
            event: What is told.
            now: The time.
            of: Tells apart pools whose events come here, if there are several.
        """
        key = (of, event.id)
        alarm = isinstance(event, HandoverEnded) and event.alarm
        if not (alarm or event.phase == ON_HOLD):
            self._known.pop(key, None)
            return False
        if key in self._known:
            return False
        if len(self._known) == _MOST:
            del self._known[next(iter(self._known))]
        self._known[key] = OnHold(event.account, event.id, now)
        return True

    def at(self, now: float) -> list[OnHold]:
        """Return those who are remembered, the earliest first."""
        for key, known in list(self._known.items()):
            if now - known.since > REMEMBERED_FOR:
                self._known.pop(key, None)  # metrics ask in a thread of theirs
        return list(self._known.values())
