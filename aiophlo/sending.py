"""One action's way, from asking to its outcome."""

import asyncio
import math
import time
from collections.abc import Callable

from aiophlo.accounts import Account
from aiophlo.actions import Action, Lane
from aiophlo.outcomes import Accepted, NotSent, Outcome, Reason, Rejected, combine
from aiophlo.permits import Permits
from aiophlo.retrying import RetryPolicy, send_again
from aiophlo.slots import Slots
from aiophlo.transport import Transport, departure_of
from aiophlo.wire import Answer, NoAnswer, Request, decode, encode


class Sender:
    """Sends the actions of one account.

    Args:
        account: Whose actions.
        transport: Exchanges one request for what comes back.
        slots: When the account's quota lets a request leave.
        dial_slots: When a dialling action may, besides; None for no such pace.
        permits: How many exchanges may be under way at once.
        policy: When an action may be sent again.
        random: Returns a number from 0 to below 1.
        trailing_slash: End the path of every POST in `/`.
    """

    def __init__(
        self,
        account: Account,
        transport: Transport,
        slots: Slots,
        dial_slots: Slots | None,
        permits: Permits,
        *,
        policy: RetryPolicy,
        random: Callable[[], float],
        trailing_slash: bool,
    ) -> None:
        self.account = account
        self.transport = transport
        self.slots = slots
        self.dial_slots = dial_slots
        self.permits = permits
        self.policy = policy
        self.random = random
        self.trailing_slash = trailing_slash

    async def send(
        self, action: Action, *, lane: Lane, send_within: float | None
    ) -> Outcome:
        """Send `action` and return its outcome.

        Args:
            action: What is asked.
            lane: Where to queue for a slot.
            send_within: Seconds after which sending is worthless.

        Raises:
            InvalidInputError: `action` is none of this library's.
        """
        return await _Journey(self, action, lane, send_within).go()


class _Journey:
    """One action under way, over all its attempts."""

    __slots__ = (
        "action",
        "attempts",
        "deadline",
        "first_sent",
        "lane",
        "loop",
        "over",
        "request",
        "sender",
        "started",
        "verdict",
        "waited",
    )

    def __init__(
        self, sender: Sender, action: Action, lane: Lane, send_within: float | None
    ) -> None:
        self.sender = sender
        self.action = action
        self.lane = lane
        self.request: Request = encode(
            action,
            auth_id=sender.account.auth_id,
            trailing_slash=sender.trailing_slash,
        )
        self.loop = asyncio.get_running_loop()
        self.started = self.loop.time()
        self.deadline = math.inf if send_within is None else self.started + send_within
        self.attempts = 0
        self.waited = 0.0
        self.first_sent = math.nan
        self.verdict: Outcome | None = None  # over the attempts so far
        self.over = False  # no further attempt can begin

    async def go(self) -> Outcome:
        """Make every attempt that is needed and allowed; return the verdict."""
        outcome = await self._attempt()
        if isinstance(outcome, Accepted | Rejected):
            return outcome
        return await send_again(
            outcome,
            self._attempt,
            policy=self.sender.policy,
            may_go_on=self._may_go_on,
            random=self.sender.random,
            sleep=asyncio.sleep,
        )

    async def _attempt(self) -> Outcome:
        permits = self.sender.permits
        if not await self._permit():
            return self._not_begun(Reason.EXPIRED)
        try:
            refusal = await self._slot()
            if refusal is not None:
                return self._not_begun(refusal)
            self.verdict = combine(self.verdict, await self._exchange())
            return self.verdict
        finally:
            permits.release(self.lane)

    async def _permit(self) -> bool:
        permits, slots = self.sender.permits, self.sender.slots
        if (
            not permits.free
            and slots.slot_for(self.lane, behind=permits.waiting) > self.deadline
        ):
            return False
        return await permits.acquire(self.lane, self.deadline)

    async def _slot(self) -> Reason | None:
        dial_slots = self.sender.dial_slots
        if self.action.dials and dial_slots is not None:
            refusal = await dial_slots.acquire(self.lane, self.deadline)
            if refusal is not None:
                return refusal
        return await self.sender.slots.acquire(self.lane, self.deadline)

    async def _exchange(self) -> Outcome:
        sent = self.loop.time()
        self.attempts += 1
        self.waited = sent - self.started
        if self.attempts == 1:
            self.first_sent = sent
        departure = departure_of(self.request)
        try:
            answer = await self.sender.transport.exchange(
                self.request, departure, within=self.deadline - sent
            )
        except asyncio.CancelledError:
            answer = NoAnswer(departure.left, Reason.CANCELLED)
            self.verdict = combine(self.verdict, self._decode(answer))
            raise
        outcome = self._decode(answer)
        self._tell_pacer(outcome, sent)
        return outcome

    def _decode(self, answer: Answer | NoAnswer) -> Outcome:
        return decode(
            self.action,
            answer,
            now=time.time,
            attempts=self.attempts,
            seconds=self.loop.time() - self.started,
            waited=self.waited,
        )

    def _tell_pacer(self, outcome: Outcome, sent: float) -> None:
        slots = self.sender.slots
        if isinstance(outcome, NotSent) and outcome.reason is Reason.THROTTLED:
            slots.throttled(sent=sent, retry_after=outcome.retry_after)
        elif outcome.status is not None:
            slots.pacer.answered(sent=sent)

    def _not_begun(self, reason: Reason) -> Outcome:
        """Return the verdict when an attempt could not even begin."""
        self.over = True
        if self.verdict is None:
            now = self.loop.time()
            self.verdict = NotSent(
                action=self.action,
                reason=reason,
                attempts=0,
                seconds=now - self.started,
                waited=now - self.started,
            )
        return self.verdict

    def _may_go_on(self, outcome: Outcome, wait: float) -> bool:
        now = self.loop.time()
        return (
            not self.over
            and now + wait < self.deadline
            and self.sender.policy.may_send_again(
                outcome, since_sent=now + wait - self.first_sent
            )
        )
