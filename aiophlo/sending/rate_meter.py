"""When an account's next slot comes: its quota, its pauses after a 429, its pace.

Slots come evenly spaced, one for each request. A 429 pauses them and lowers the
pace. Who gets a slot is decided elsewhere.

Pure: times are seconds of any one monotonic clock, passed in.
"""

import math
from collections.abc import Sequence

from aiophlo.model.accounts import Quota, Rate
from aiophlo.model.actions import Lane

LONGEST_PAUSE = 60.0  # whatever a Retry-After says; then one request tries
TRY_FOR = 2.0  # seconds that the others wait for its answer
LONGEST_URGENT_WAIT = 2.0  # from one try during a pause to the next
FIRST_PAUSE = 0.25  # without Retry-After, doubling up to the quota's period
LOWERED_BY = 0.2  # of the pace, per 429
RECOVERY = 60.0  # seconds from no pace at all to the full one
LOWEST_PACE = 0.05


def recovered(pace: float, seconds: float) -> float:
    """Return the pace that a lowered one has become after so many seconds."""
    return min(pace + max(seconds, 0.0) / RECOVERY, 1.0)


class RateMeter:
    """Says when the slots of one main account, or of its dialling actions, come.

    Args:
        interval: Seconds from one slot to the next at full pace.
        burst: Slots that may come at once after a lull.
        lateness: Seconds by which a slot may be used late and still count as
            used in time. Timers fire late; without this every firing would
            cost a little of the quota.
        longest_growth: Longest pause, in seconds, after a 429 that doesn't
            say how long to wait.
        first_slot: When the first slot comes.

    Attributes:
        interval: As given; may be changed.
        paused_until: When the last pause ends, or ended.
        lateness: As given.
    """

    def __init__(
        self,
        interval: float,
        *,
        burst: int = 1,
        lateness: float = 0.0,
        longest_growth: float = 5.0,
        first_slot: float = -math.inf,
    ) -> None:
        self.interval = interval
        self._slack = (burst - 1) * interval + lateness
        self.lateness = lateness
        self._longest_growth = longest_growth
        self._next_free = first_slot
        self.paused_until = -math.inf
        self._is_long = False  # the pause: Plivo asked for a longer one
        self._trying_until = -math.inf  # after a long pause
        self._urgent_next = -math.inf  # during a pause
        self._urgent_tried_at = math.inf
        self._urgent_tries = 0
        self._pauses_in_a_row = 0
        self._pace = 1.0
        self._pace_set_at = -math.inf

    @classmethod
    def of_quota(cls, quota: Quota | None) -> "RateMeter":
        """Return the meter that keeps to `quota`; with None it only pauses."""
        return cls.of(Rate.of_quota(quota))

    @classmethod
    def of(cls, rate: Rate, *, first_slot: float = -math.inf) -> "RateMeter":
        """Return the meter of a rate."""
        return cls(
            rate.interval,
            burst=rate.burst,
            lateness=rate.lateness,
            longest_growth=rate.longest_growth,
            first_slot=first_slot,
        )

    def next_slot(self, now: float, lane: Lane = Lane.AWAITED) -> float:
        """Return when the next slot comes for `lane`, which may be in the past."""
        earliest = now - self._slack
        if lane is Lane.URGENT:
            blocked = max(self.paused_until, self._trying_until)
            return max(self._next_free, min(blocked, self._urgent_next), earliest)
        return max(self._next_free, self.paused_until, self._trying_until, earliest)

    forecast = next_slot  # all slots are this pool's own, and known

    def want(self, now: float, waiting: Sequence[int], coming: Sequence[int]) -> None:
        """Hear how many wait in each lane; which changes nothing."""

    def step(self, now: float) -> float:
        """Return the seconds from one slot to the next at the present pace."""
        return self.interval if self._pace == 1.0 else self.interval / self.pace(now)

    def use(self, now: float, lane: Lane) -> None:
        """Take the slot that has come for `lane`."""
        self._next_free = self.next_slot(now, lane) + self.step(now)
        if now < self.paused_until or now < self._trying_until:
            self._note_urgent(now)
        elif self._is_long:
            self._note_try(now)

    def left(self, now: float, *, slot: float) -> None:
        """Skip a slot for a request that leaves now, though it had its own at `slot`.

        Requests that a slow disk held up leave all at once. As many slots are
        skipped after them, or the server would count more than the quota allows.
        """
        if now - slot > self.lateness:
            self._next_free = self.next_slot(now) + self.step(now)

    def throttled(
        self, now: float, *, sent: float, retry_after: float | None = None
    ) -> bool:
        """Pause the account after a 429, and lower its pace.

        A 429 to a request that was sent before the present pause changes nothing. A
        pause is 60 seconds at most, whatever Plivo asks for; after one that was cut
        short, one request tries before the others. Urgent requests are tried during a
        pause, one at a time.

        Args:
            now: The time.
            sent: Time at which the refused request left.
            retry_after: Seconds that the answer asked to wait.

        Returns:
            Whether it begins a pause.
        """
        if sent < self.paused_until:  # only what is urgent gets a slot in a pause
            if sent >= self._urgent_tried_at:
                self._wait_for_urgent(now)
            return False
        self._lower_pace(now)
        if retry_after is None:
            growing = FIRST_PAUSE * 2.0 ** min(self._pauses_in_a_row, 10)
            retry_after = min(growing, self._longest_growth)
        self._is_long = retry_after > LONGEST_PAUSE
        self._pauses_in_a_row += 1
        self.paused_until = now + min(retry_after, LONGEST_PAUSE)
        self._trying_until = -math.inf
        self._urgent_tried_at = math.inf
        self._urgent_tries = 0
        self._wait_for_urgent(now)
        return True

    def answered(self, *, sent: float) -> bool:
        """Note an answer other than 429, which ends what the last pause began.

        Returns:
            Whether slots come sooner now than was foretold.
        """
        if sent >= self._urgent_tried_at:
            self._urgent_next = -math.inf  # the next one may be tried at once
            self._urgent_tried_at = math.inf
            self._urgent_tries = 0
            return True
        if not self._pauses_in_a_row or sent < self.paused_until:
            return False
        self._pauses_in_a_row = 0
        self._is_long = False
        self._trying_until = -math.inf
        return True

    def pace(self, now: float) -> float:
        """Return the share of the full pace in use, above 0 and at most 1."""
        if self._pace == 1.0:
            return 1.0
        risen = recovered(self._pace, now - self._pace_set_at)
        if risen == 1.0:
            self._pace = 1.0
        return risen

    def _note_urgent(self, now: float) -> None:
        """Hold the next urgent request back until this one has its answer."""
        self._urgent_tried_at = min(self._urgent_tried_at, now)
        self._urgent_next = now + LONGEST_URGENT_WAIT

    def _note_try(self, now: float) -> None:
        """Hold all other requests back until the one that tries has its answer."""
        self._trying_until = now + TRY_FOR
        self._is_long = False

    def _wait_for_urgent(self, now: float) -> None:
        wait = FIRST_PAUSE * 2.0 ** min(self._urgent_tries, 10)
        self._urgent_next = now + min(wait, LONGEST_URGENT_WAIT)
        self._urgent_tries += 1

    def _lower_pace(self, now: float) -> None:
        self._pace = max(self.pace(now) * (1 - LOWERED_BY), LOWEST_PACE)
        self._pace_set_at = now
