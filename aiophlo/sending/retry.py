"""Retries: whether an action may be sent again, when, and within which budget.

Pure but for tenacity: clock, randomness and sleep are passed in. The first
attempt is made without this module; what follows a failure is one fresh
`AsyncRetrying`, never shared, since a shared one repeats what had succeeded.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from aiophlo.model.accounts import Quota
from aiophlo.model.invalid_input import refuse
from aiophlo.model.outcomes import InDoubt, NotSent, Outcome, Reason
from aiophlo.model.redaction import describe_value
from aiophlo.model.validation import check_count

if TYPE_CHECKING:
    from tenacity import RetryCallState

_FINAL = frozenset(
    {
        Reason.CLOSED,
        Reason.DUPLICATE,
        Reason.EXPIRED,
        Reason.MISCONFIGURED,
        Reason.NO_BUDGET,
        Reason.SUPERSEDED,
        Reason.STOPPED,
    }
)


# The request provably never left, because of this machine alone: its repeat is free.
FREE = frozenset({Reason.STALE_CONNECTION, Reason.OUT_OF_FILES})
MOST_STALE = 100  # repeats at once of one action; then it is a failure like others
_FILES_WAIT = 0.1  # seconds, and up to five times as many, until one may be free
_LEAST_BOUND = 0.1  # seconds; what is not counted must not spin
_OUTAGE_SPACING = 0.01  # seconds between two repeats to a host that takes no connection
OUTAGE_PATIENCE = 30.0  # seconds for which a stream waits for a host that is down
BUDGET_SECONDS = 10.0


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often, and how soon, an action may be sent again.

    Attributes:
        attempts: Requests per action at most, the first included. What finds a
            kept connection closed, or no file descriptor, before it left is not
            counted. Nor is, with more than 1, what gets no connection, within
            `send_within` and in a stream for 30 s of an outage; nor a 429 that asks
            what has no deadline to wait for more than a minute, or that meets an
            urgent action in a pause.
        first_wait: Seconds; upper bound of the random wait after the first
            failure. It doubles from one failure to the next. What got no connection
            waits for half of it at least, and 0.05 s.
        longest_wait: Seconds; bound of that doubling.
        repeat_within: Seconds after the first request in which one in doubt
            may be repeated, if doing it twice is doing it once.
        repeat_dials: Repeat what is in doubt even if it rings a phone. This
            rings phones twice.

    Raises:
        InvalidInputError: A value is out of range.
    """

    attempts: int = 4
    first_wait: float = 0.25
    longest_wait: float = 5.0
    repeat_within: float = 5.0
    repeat_dials: bool = False

    def __attrs_post_init__(self) -> None:
        check_count(self.attempts, "attempts")
        for name in ("first_wait", "longest_wait", "repeat_within"):
            value = getattr(self, name)
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (numeric and math.isfinite(value) and value >= 0):
                self._refuse(name, "seconds, 0 or more")
        if not isinstance(self.repeat_dials, bool):
            self._refuse("repeat_dials", "True or False")

    def _refuse(self, field: str, right: str) -> None:
        refuse(field, f"{right}, got {describe_value(getattr(self, field))}")

    def may_send_again(
        self, outcome: Outcome, *, since_sent: float, alone: bool = True
    ) -> bool:
        """Say whether one more request may follow without ringing or undoing anything.

        Args:
            outcome: The verdict so far.
            since_sent: Seconds since the first request of the action left.
            alone: Nothing else was begun meanwhile for the same member.

        Source:
            Assumed: no idempotency key is documented, so a repeated dial
            rings again, while holding what is held changes nothing.
        """
        match outcome:
            case NotSent(reason=reason):
                return reason not in _FINAL
            case InDoubt(action=action) if action.reads:
                return True
            case InDoubt(action=action) if action.idempotent:
                return alone and since_sent <= self.repeat_within
            case InDoubt():
                return self.repeat_dials
        return False

    def wait(self, outcome: Outcome, random: Callable[[], float]) -> float:
        """Return the seconds to wait before the request that follows `outcome`.

        Args:
            outcome: The verdict so far.
            random: Returns a number from 0 to below 1.
        """
        if isinstance(outcome, NotSent) and outcome.reason is Reason.THROTTLED:
            return 0.0  # the pause of the account is the wait
        if isinstance(outcome, NotSent) and outcome.reason is Reason.STALE_CONNECTION:
            return 0.0
        if isinstance(outcome, NotSent) and outcome.reason is Reason.OUT_OF_FILES:
            return _FILES_WAIT * (1.0 + 4.0 * random())
        bound = self.first_wait * 2.0 ** min(outcome.attempts - 1, 30)
        bound = min(bound, self.longest_wait)
        if isinstance(outcome, NotSent) and outcome.reason is Reason.UNREACHABLE:
            return max(bound, _LEAST_BOUND) * (0.5 + 0.5 * random())
        return bound * random()


class RetryBudget:
    """A token bucket that bounds an account's retries, so no outage is multiplied.

    Every request after an action's first spends 1; every answer that settles
    something gives `refill` back. Repeats of a 429 are free, since the pace bounds
    them, and so are those of what failed in this machine. What got no connection
    spends nothing either, and waits its turn: a hundred in a second at most.

    Args:
        capacity: Retries in hand when all is well.
        refill: Given back per settled action.
    """

    def __init__(self, capacity: float = 100.0, refill: float = 0.1) -> None:
        self._capacity = capacity
        self._refill = refill
        self._left = capacity
        self._next_in_outage = -math.inf  # loop time
        self._down_since = math.inf  # loop time at which the host took no connection

    @classmethod
    def of_quota(cls, quota: Quota | None) -> RetryBudget:
        """Return the budget of an account with this quota.

        As many retries as it may make requests in 10 seconds: 2 s of 5xx cost 3
        retries per action at most, so 6 s of traffic. The pace holds for retries,
        too, so no more reach Plivo in a second than ever.
        """
        rate = 1.0 / (Quota() if quota is None else quota).interval
        return cls(max(100.0, BUDGET_SECONDS * rate))

    def spend(self, outcome: Outcome) -> bool:
        """Spend what one more request after `outcome` costs; False if it can't."""
        if isinstance(outcome, NotSent) and (
            outcome.reason is Reason.THROTTLED or outcome.reason in FREE
        ):
            return True
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def wait_in_outage(self, now: float, wait: float) -> float:
        """Book a repeat to a host that takes no connection.

        Args:
            now: Loop time.
            wait: Seconds that it waits at least.

        Returns:
            Seconds until it may be made.
        """
        self._down_since = min(self._down_since, now)
        turn = max(self._next_in_outage, now)
        self._next_in_outage = turn + _OUTAGE_SPACING
        return max(turn - now, wait)

    def is_down_for_long(self, now: float) -> bool:
        """Say whether the host has taken no connection for half a minute."""
        return now - self._down_since >= OUTAGE_PATIENCE

    def settled(self) -> None:
        """Refill the budget after an action that was accepted or rejected."""
        self._down_since = math.inf
        if self._left < self._capacity:
            self._left = min(self._left + self._refill, self._capacity)


def prepare() -> None:
    """Load tenacity now: at a failure there may be no file descriptor to load it."""
    import tenacity  # noqa: F401, PLC0415 -- a tenth of what importing us costs


async def send_again(
    first: Outcome,
    attempt: Callable[[], Awaitable[Outcome]],
    *,
    policy: RetryPolicy,
    spend_for_retry: Callable[[Outcome, float], bool],
    random: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
    free: Callable[[], int] = lambda: 0,
) -> Outcome:
    """Repeat `attempt` after the failure `first` for as long as needed and allowed.

    Args:
        first: The failed first attempt.
        attempt: Makes one more request, and returns the verdict over all.
        policy: How often and how soon.
        spend_for_retry: Says whether, after this verdict and a wait of so many
            seconds, one more request may be made.
        random: Returns a number from 0 to below 1.
        sleep: Waits so many seconds.
        free: Says how many attempts so far don't count.

    Returns:
        The verdict over all attempts.
    """
    from tenacity import AsyncRetrying  # noqa: PLC0415 -- `prepare` has loaded it

    made = iter([first])

    def needs_more(state: RetryCallState) -> bool:
        outcome = _outcome(state)
        failed = isinstance(outcome, NotSent | InDoubt)
        return failed and outcome.attempts - free() < policy.attempts

    async def first_then_attempts() -> Outcome:
        return next(made, None) or await attempt()

    def may_not_go_on(state: RetryCallState) -> bool:
        return not spend_for_retry(_outcome(state), state.upcoming_sleep)

    retrying = AsyncRetrying(
        stop=may_not_go_on,
        wait=lambda state: policy.wait(_outcome(state), random),
        retry=needs_more,
        retry_error_callback=_outcome,
        sleep=sleep,
    )
    return await retrying(first_then_attempts)


def _outcome(state: RetryCallState) -> Outcome:
    assert state.outcome is not None  # noqa: S101 -- tenacity sets it before it asks
    outcome: Outcome = state.outcome.result()
    return outcome
