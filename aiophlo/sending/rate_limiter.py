"""Rate limiter: queues requests in lanes, and says which gets the next slot.

A slot is the moment at which one request may leave; a meter says when they come.
Each lane is first come, first served, and waits for the lanes before it. A slot is
given to a request only when it comes. So a pause or a more urgent request moves all
that are queued behind it, in order, and a request that gives up loses no slot.

Pure: times are seconds of any one monotonic clock, passed in.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from aiophlo.model.actions import Lane
from aiophlo.model.outcomes import Reason

if TYPE_CHECKING:
    from aiophlo.coordination import Meter


class Ticket:
    """A place in a lane.

    Attributes:
        lane: The lane.
        deadline: Time after which a slot is worthless.
        refusal: Why there will be no slot, once that is known.
    """

    __slots__ = ("__weakref__", "deadline", "gone", "lane", "refusal")

    def __init__(self, lane: Lane, deadline: float) -> None:
        self.lane = lane
        self.deadline = deadline
        self.refusal: Reason | None = None
        self.gone = False


class RateLimiter:
    """Hands the slots of one meter to those who queue for them.

    Args:
        meter: Says when slots come.

    Attributes:
        meter: As given. Tickets stay queued when another meter takes its place.
        coming: How many will queue in each lane, or so it seems.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self._lanes: tuple[deque[Ticket], ...] = tuple(deque() for _ in Lane)
        self._waiting = [0] * len(Lane)
        self.coming = [0] * len(Lane)

    def take(self, now: float, lane: Lane = Lane.AWAITED) -> bool:
        """Take the slot that is free now, if no ticket is queued."""
        if any(self._waiting) or self.meter.next_slot(now, lane) > now:
            return False
        self.meter.use(now, lane)
        return True

    def enter(self, now: float, lane: Lane, deadline: float) -> Ticket:
        """Queue in `lane`; refused at once when its slot would come too late.

        Returns:
            A ticket, with its `refusal` set if it isn't in the queue.
        """
        ticket = Ticket(lane, deadline)
        if self.slot_for(lane, now) > deadline:
            ticket.refusal = self._why_late(ticket)
        else:
            self._lanes[lane].append(ticket)
            self._waiting[lane] += 1
        return ticket

    def superseded(self, now: float, lane: Lane) -> list[Ticket]:
        """Refuse and return the tickets that a new one in `lane` moved too far back."""
        behind = lane + 1
        return self.refuse_late(now, behind) if any(self._waiting[behind:]) else []

    def leave(self, ticket: Ticket) -> None:
        """Give up a place in the queue, if it is still held."""
        if not ticket.gone and ticket.refusal is None:
            ticket.gone = True
            self._waiting[ticket.lane] -= 1
            self._drop_gone(self._lanes[ticket.lane])

    def release(self, now: float) -> list[Ticket]:
        """Take the tickets that need wait no longer out of the queue, in order.

        Those without a `refusal` have their slot now.
        """
        released: list[Ticket] = []
        while (ticket := self._first()) is not None:
            slot = self.meter.next_slot(now, ticket.lane)
            late = max(now, slot if slot < math.inf else now) > ticket.deadline
            if not late and slot > now:
                break
            self._remove_first(ticket)
            if late:
                ticket.refusal = self._why_late(ticket)
            else:
                self.meter.use(now, ticket.lane)
            released.append(ticket)
        return released

    def throttled(
        self, now: float, *, sent: float, retry_after: float | None = None
    ) -> list[Ticket]:
        """Pause after a 429, as `RateMeter.throttled` says.

        Returns:
            The tickets that this refuses: their slot would now come too late.
        """
        paused = self.meter.throttled(now, sent=sent, retry_after=retry_after)
        return self.refuse_late(now) if paused else []

    def close(self, lane: Lane = Lane.URGENT) -> list[Ticket]:
        """Refuse and return the tickets in `lane` and in the lanes behind it."""
        return self._refuse(self._all(lane), Reason.CLOSED)

    def due(self, now: float) -> float:
        """Return when `release` next has something to do; infinity if never."""
        first = self._first()
        if first is None:
            return math.inf
        slot = self.meter.next_slot(now, first.lane)
        return slot if slot < math.inf else first.deadline

    def slot_for(self, lane: Lane, now: float, *, behind: int = 0) -> float:
        """Return the time of the slot of a ticket that came after `behind` more."""
        ahead = behind + sum(self._waiting[: lane + 1])
        meter = self.meter
        return max(now, meter.forecast(now, lane) + ahead * meter.step(now))

    def waiting(self, lane: Lane) -> int:
        """Return the number of tickets in `lane`."""
        return self._waiting[lane]

    def want(self, now: float) -> None:
        """Tell the meter who waits."""
        self.meter.want(now, self._waiting, self.coming)

    def _why_late(self, ticket: Ticket) -> Reason:
        """Return why a slot comes too late: because of a pause, or of the quota."""
        throttled = ticket.deadline < self.meter.paused_until
        return Reason.THROTTLED if throttled else Reason.EXPIRED

    def _first(self) -> Ticket | None:
        for lane in self._lanes:
            if lane:
                return lane[0]
        return None

    def _remove_first(self, ticket: Ticket) -> None:
        ticket.gone = True
        self._waiting[ticket.lane] -= 1
        self._lanes[ticket.lane].popleft()
        self._drop_gone(self._lanes[ticket.lane])

    def _drop_gone(self, lane: deque[Ticket]) -> None:
        while lane and lane[0].gone:
            lane.popleft()

    def refuse_late(self, now: float, lane: int = 0) -> list[Ticket]:
        """Refuse, in order, those from `lane` on whose slot now comes too late."""
        step = self.meter.step(now)
        ahead = sum(self._waiting[:lane])
        refused = []
        for ticket in self._all(lane):
            slot = self.meter.forecast(now, ticket.lane) + ahead * step
            if max(now, slot) > ticket.deadline:
                refused.append(ticket)
            else:
                ahead += 1
        for ticket in refused:
            self._refuse([ticket], self._why_late(ticket))
        return refused

    def _all(self, lane: int = 0) -> list[Ticket]:
        lanes = self._lanes[lane:]
        return [ticket for queue in lanes for ticket in queue if not ticket.gone]

    def _refuse(self, tickets: list[Ticket], reason: Reason) -> list[Ticket]:
        for ticket in tickets:
            self.leave(ticket)
            ticket.refusal = reason
        return tickets
