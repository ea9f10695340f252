"""Routers that share events without a database."""

import hashlib
from collections.abc import Callable

import attrs

from aiophlo.model.call_events import CallEvent


class SharedHere:
    """Stands for a coordinator: what one router is fed, the others hear at once.

    Attributes:
        time: What its clock says.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self._hears: list[Callable[[CallEvent], object]] = []

    def calls(self, hear: Callable[[CallEvent], object]) -> "CallsHere":
        """Return the calls that are shared."""
        self._hears.append(hear)
        return CallsHere(self, hear)

    def tell(self, event: CallEvent, teller: object = None) -> None:
        """Tell all routers but one."""
        for hear in self._hears:
            if hear is not teller:
                hear(event)


class CallsHere:
    """What one router shares."""

    def __init__(self, all_of_them: SharedHere, hear: object) -> None:
        self._all, self._hear = all_of_them, hear

    def hide(self, text: str) -> str:
        """Return a digest."""
        return text and hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def now(self) -> float:
        """Return what the clock says."""
        return self._all.time

    def tell(self, event: CallEvent) -> CallEvent:
        """Tell the other routers."""
        hidden = attrs.evolve(
            event,
            keys=tuple(map(self.hide, event.keys)),
            call_uuid=self.hide(event.call_uuid),
            conference_uuid=self.hide(event.conference_uuid),
            at=self.now(),
        )
        self._all.tell(hidden, self._hear)
        return hidden
