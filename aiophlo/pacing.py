"""The account's next free slot, and who gets it.

A slot is the moment at which one request may leave. Slots come evenly spaced;
who waits for one queues in a lane, first come first served, and a lane waits
for those before it. Nobody owns a slot before it comes, so a pause or a more
urgent request moves everybody behind it, in order, and a slot that nobody
waits for any more is not lost.

Pure: times are seconds of any one monotonic clock, passed in.
"""

import math
from collections import deque

from aiophlo.accounts import Quota
from aiophlo.actions import Lane
from aiophlo.outcomes import Reason

LONGEST_PAUSE = 60.0  # a longer Retry-After is not waited for
LONGEST_REFUSAL = 86_400.0  # whatever a Retry-After says
FIRST_PAUSE = 0.25  # without Retry-After, doubling up to the quota's period
LOWERED_BY = 0.2  # of the pace, per 429
RECOVERY = 60.0  # seconds from no pace at all to the full one
LOWEST_PACE = 0.05


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


class Pacer:
    """Slots of one main account, or of its dialling actions.

    Args:
        interval: Seconds from one slot to the next at full pace.
        burst: Slots that may come at once after a lull.
        lateness: Seconds by which a slot may be used late and still count as
            used in time. Timers fire late; without this every firing would
            cost a little of the quota.
        longest_growth: Longest pause, in seconds, after a 429 that doesn't
            say how long to wait.

    Attributes:
        paused_until: When the last pause ends, or ended.
    """

    def __init__(
        self,
        interval: float,
        *,
        burst: int = 1,
        lateness: float = 0.0,
        longest_growth: float = 5.0,
    ) -> None:
        self._interval = interval
        self._slack = (burst - 1) * interval + lateness
        self._lateness = lateness
        self._longest_growth = longest_growth
        self._lanes: tuple[deque[Ticket], ...] = tuple(deque() for _ in Lane)
        self._waiting = [0] * len(Lane)
        self._next_free = -math.inf
        self.paused_until = -math.inf
        self._refusing_until = -math.inf
        self._pauses_in_a_row = 0
        self._pace = 1.0
        self._pace_set_at = -math.inf

    @classmethod
    def of_quota(cls, quota: Quota | None) -> "Pacer":
        """Return the pacer that keeps to `quota`; with None it only pauses.

        Half of the quota's jitter is left to this process's own lateness, the
        other half to the way to Plivo.
        """
        if quota is None:
            return cls(0.0)
        return cls(
            quota.interval,
            burst=quota.burst,
            lateness=quota.jitter / 2,
            longest_growth=quota.per,
        )

    def take(self, now: float) -> bool:
        """Take the slot that is free now, if nobody waits for it."""
        start = self._start(now)
        if start > now or any(self._waiting):
            return False
        self._next_free = start + self._step(now)
        return True

    def enter(self, now: float, lane: Lane, deadline: float) -> Ticket:
        """Queue in `lane`; refused at once when its slot would come too late.

        Returns:
            A ticket, with its `refusal` set if it isn't in the queue.
        """
        ticket = Ticket(lane, deadline)
        if self._refusing_until > now:
            ticket.refusal = Reason.THROTTLED
        elif self.slot_for(lane, now) > deadline:
            ticket.refusal = Reason.EXPIRED
        else:
            self._lanes[lane].append(ticket)
            self._waiting[lane] += 1
        return ticket

    def overtaken(self, now: float, lane: Lane) -> list[Ticket]:
        """Return the tickets that one who entered `lane` moved too far back."""
        behind = lane + 1
        return self._refuse_late(now, behind) if any(self._waiting[behind:]) else []

    def left(self, now: float, *, slot: float) -> None:
        """Take note that a request leaves now, though it had its slot at `slot`.

        What a slow disk held up leaves all at once; as many slots are skipped,
        or the server would count those in between too.
        """
        if now - slot > self._lateness:
            self._next_free = self._start(now) + self._step(now)

    def leave(self, ticket: Ticket) -> None:
        """Give up a place in the queue, if it is still held."""
        if not ticket.gone and ticket.refusal is None:
            ticket.gone = True
            self._waiting[ticket.lane] -= 1
            self._drop_gone(self._lanes[ticket.lane])

    def release(self, now: float) -> list[Ticket]:
        """Return the tickets that are through waiting, in order.

        Those without a `refusal` have their slot now.
        """
        released: list[Ticket] = []
        while (ticket := self._first()) is not None:
            late = max(now, self._start(now)) > ticket.deadline
            if not late and self._start(now) > now:
                break
            self._remove_first(ticket)
            if late:
                ticket.refusal = Reason.EXPIRED
            else:
                self._use_slot(now)
            released.append(ticket)
        return released

    def throttled(
        self, now: float, *, sent: float, retry_after: float | None = None
    ) -> list[Ticket]:
        """Take note of a 429.

        The first one pauses the account and lowers its pace; answers to
        requests that were sent before that pause tell nothing new.

        Args:
            now: The time.
            sent: Time at which the refused request left.
            retry_after: Seconds that the answer asked to wait.

        Returns:
            The tickets that this refuses: their slot would now come too late.
        """
        if sent < self.paused_until:  # nothing gets a slot during a pause
            return []
        self._lower_pace(now)
        if retry_after is None:
            growing = FIRST_PAUSE * 2.0 ** min(self._pauses_in_a_row, 10)
            retry_after = min(growing, self._longest_growth)
        retry_after = min(retry_after, LONGEST_REFUSAL)
        self._pauses_in_a_row += 1
        self.paused_until = now + retry_after
        if retry_after > LONGEST_PAUSE:
            self._refusing_until = self.paused_until
            return self._refuse(self._all(), Reason.THROTTLED)
        return self._refuse_late(now)

    def answered(self, *, sent: float) -> None:
        """Take note of an answer other than 429."""
        if self._pauses_in_a_row and sent >= self.paused_until:
            self._pauses_in_a_row = 0

    def close(self, lane: Lane = Lane.URGENT) -> list[Ticket]:
        """Refuse who waits in `lane` or behind it, and return their tickets."""
        return self._refuse(self._all(lane), Reason.CLOSED)

    def due(self, now: float) -> float:
        """Return when `release` next has something to do; infinity if never."""
        return self._start(now) if self._first() is not None else math.inf

    def slot_for(self, lane: Lane, now: float, *, behind: int = 0) -> float:
        """Return when one who entered `lane` now, after `behind` more, has a slot."""
        ahead = behind + sum(self._waiting[: lane + 1])
        return max(now, self._start(now) + ahead * self._step(now))

    def waiting(self, lane: Lane) -> int:
        """Return how many wait in `lane`."""
        return self._waiting[lane]

    def pace(self, now: float) -> float:
        """Return the share of the full pace in use, above 0 and at most 1."""
        if self._pace == 1.0:
            return 1.0
        risen = self._pace + max(now - self._pace_set_at, 0.0) / RECOVERY
        if risen >= 1.0:
            self._pace = 1.0
        return min(risen, 1.0)

    def _start(self, now: float) -> float:
        """Return when the next slot comes, which may be in the past."""
        return max(self._next_free, self.paused_until, now - self._slack)

    def _use_slot(self, now: float) -> None:
        self._next_free = self._start(now) + self._step(now)

    def _step(self, now: float) -> float:
        """Return the seconds from one slot to the next at the present pace."""
        return self._interval if self._pace == 1.0 else self._interval / self.pace(now)

    def _lower_pace(self, now: float) -> None:
        self._pace = max(self.pace(now) * (1 - LOWERED_BY), LOWEST_PACE)
        self._pace_set_at = now

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

    def _refuse_late(self, now: float, lane: int = 0) -> list[Ticket]:
        """Refuse, in order, those from `lane` on whose slot now comes too late."""
        step = self._step(now)
        slot = self._start(now) + sum(self._waiting[:lane]) * step
        refused = []
        for ticket in self._all(lane):
            if max(now, slot) > ticket.deadline:
                refused.append(ticket)
            else:
                slot += step
        return self._refuse(refused, Reason.EXPIRED)

    def _all(self, lane: int = 0) -> list[Ticket]:
        lanes = self._lanes[lane:]
        return [ticket for queue in lanes for ticket in queue if not ticket.gone]

    def _refuse(self, tickets: list[Ticket], reason: Reason) -> list[Ticket]:
        for ticket in tickets:
            self.leave(ticket)
            ticket.refusal = reason
        return tickets
