"""May it be sent again, when, and is there budget.

Pure but for tenacity: clock, randomness and sleep are passed in. The first
attempt is made without this module; what follows a failure is one fresh
`AsyncRetrying`, never shared, since a shared one repeats what had succeeded.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from aiophlo.actions import GetNode, GetPhlo
from aiophlo.errors import InvalidInputError
from aiophlo.outcomes import InDoubt, NotSent, Outcome, Reason

if TYPE_CHECKING:
    from tenacity import RetryCallState

_FINAL = frozenset(
    {
        Reason.CLOSED,
        Reason.DUPLICATE,
        Reason.EXPIRED,
        Reason.NO_BUDGET,
        Reason.OVERTAKEN,
        Reason.STOPPED,
    }
)


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often, and how soon, an action may be sent again.

    Attributes:
        attempts: Requests per action at most, the first included.
        first_wait: Seconds; upper bound of the random wait after the first
            failure. It doubles from one failure to the next.
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
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
            self._refuse("attempts", "a whole number of 1 or more")
        if self.attempts < 1:
            self._refuse("attempts", "a whole number of 1 or more")
        for name in ("first_wait", "longest_wait", "repeat_within"):
            value = getattr(self, name)
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (numeric and math.isfinite(value) and value >= 0):
                self._refuse(name, "seconds, 0 or more")
        if not isinstance(self.repeat_dials, bool):
            self._refuse("repeat_dials", "True or False")

    def _refuse(self, field: str, right: str) -> None:
        got = getattr(self, field)
        raise InvalidInputError(f"{field}: expected {right}, got {got!r}", field=field)

    def may_send_again(
        self, outcome: Outcome, *, since_sent: float, alone: bool = True
    ) -> bool:
        """Say whether one more request can't do harm.

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
            case InDoubt(action=GetPhlo() | GetNode()):
                return True
            case InDoubt(action=action) if action.repeatable:
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
        bound = self.first_wait * 2.0 ** min(outcome.attempts - 1, 30)
        return min(bound, self.longest_wait) * random()


class RetryBudget:
    """What an account's retries may cost, so that an outage isn't multiplied.

    Every request after an action's first spends 1; every answer that settles
    something gives `refill` back. Repeats of a 429 are free: the pace bounds
    them.

    Args:
        capacity: Retries in hand when all is well.
        refill: Given back per settled action.
    """

    def __init__(self, capacity: float = 100.0, refill: float = 0.1) -> None:
        self._capacity = capacity
        self._refill = refill
        self._left = capacity

    def spend(self, outcome: Outcome) -> bool:
        """Take what one more request after `outcome` costs, if there is enough."""
        if isinstance(outcome, NotSent) and outcome.reason is Reason.THROTTLED:
            return True
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def settled(self) -> None:
        """Give back what an action that ended well gives."""
        if self._left < self._capacity:
            self._left = min(self._left + self._refill, self._capacity)


async def send_again(
    first: Outcome,
    attempt: Callable[[], Awaitable[Outcome]],
    *,
    policy: RetryPolicy,
    may_go_on: Callable[[Outcome, float], bool],
    random: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> Outcome:
    """Repeat `attempt` after the failure `first` until it need or may not go on.

    Args:
        first: The failed first attempt.
        attempt: Makes one more request, and returns the verdict over all.
        policy: How often and how soon.
        may_go_on: Says whether, after this verdict and a wait of so many
            seconds, one more request may be made.
        random: Returns a number from 0 to below 1.
        sleep: Waits so many seconds.

    Returns:
        The verdict over all attempts.
    """
    from tenacity import AsyncRetrying  # noqa: PLC0415 -- a tenth of our import

    made = iter([first])

    def needs_more(state: RetryCallState) -> bool:
        outcome = _outcome(state)
        failed = isinstance(outcome, NotSent | InDoubt)
        return failed and outcome.attempts < policy.attempts

    async def first_then_attempts() -> Outcome:
        return next(made, None) or await attempt()

    def may_not_go_on(state: RetryCallState) -> bool:
        return not may_go_on(_outcome(state), state.upcoming_sleep)

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
