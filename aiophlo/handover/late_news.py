"""What comes late about handovers that have ended: who had left before their end.

A process that is cut off from the others tells them of its events once it is back. By
then a handover may have ended as if they hadn't happened, with a customer who is alone.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import attrs

from aiophlo.handover.conversations import Presence
from aiophlo.handover.watch import CUSTOMER, Party, Person, Watch
from aiophlo.model.call_events import CallEvent

_MOST: Final = 1000  # handovers
_REMEMBERED: Final = 300.0  # seconds, as long as pools keep the events of a call's end


@attrs.frozen(eq=False)
class _Ended:
    """A handover that has ended.

    Attributes:
        watch: Its events.
        host: Whom it left the customer to.
        at: When it ended.
        tell: Called if they had left by then.
        left: Who is known to have left.
    """

    watch: Watch
    host: Person
    at: float
    tell: Callable[[], None]
    left: set[Person] = attrs.field(factory=set)


class LateNews:
    """Tells of handovers that have ended with somebody who wasn't there any more.

    Args:
        presence: Says whether a party is in a handover's conversation, as far as is
            known now.
        within: Seconds by which one event may be behind another.
    """

    def __init__(
        self, presence: Callable[[Watch, Person], Presence], within: float
    ) -> None:
        self._presence = presence
        self._within = within
        self._ended: deque[_Ended] = deque(maxlen=_MOST)

    def remember(
        self, watch: Watch, host: Party, now: float, tell: Callable[[], None]
    ) -> None:
        """Remember for some minutes that a handover has left a customer to somebody.

        Args:
            watch: Its events.
            host: Whom: the agent, or the partner.
            now: The time by the clock of the events' `at`.
            tell: Called if it becomes known that they had left by then, and the
                customer not.
        """
        while self._ended and self._ended[0].at < now - _REMEMBERED:
            self._ended.popleft()
        person = (host, watch.rung if host is Party.PARTNER else -1)
        self._ended.append(_Ended(watch, person, now, tell))

    def hear(self, event: CallEvent) -> None:
        """Hear an event that no open handover has taken."""
        if not (event.left and self._ended and event.at < self._ended[-1].at):
            return  # nearly all: it has just happened
        for one in self._ended:
            if event.at < one.at and one.watch.is_in(event.conference_uuid):
                self._note(one, one.watch.who(event.keys, event.call_uuid))

    def _note(self, one: _Ended, person: Person | None) -> None:
        if person not in {one.host, CUSTOMER}:
            return
        one.left.add(person)
        if person == one.host:  # the customer's leave may come a moment later
            asyncio.get_running_loop().call_later(self._within, self._judge, one)

    def _judge(self, one: _Ended) -> None:
        if one not in self._ended:
            return
        customer_left = CUSTOMER in one.left or (
            self._presence(one.watch, CUSTOMER) is Presence.LEFT
        )
        is_back = self._presence(one.watch, one.host) is Presence.INSIDE
        if not (customer_left or is_back):
            self._ended.remove(one)
            one.tell()
