"""The attempts of one action: slot, exchange, verdict, and a retry if it is allowed."""

from __future__ import annotations

import asyncio
import copy
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import attrs

from aiophlo.instrumentation import Observers
from aiophlo.logs import logger
from aiophlo.model.accounts import Account
from aiophlo.model.actions import Action, DialAction, Lane
from aiophlo.model.outcomes import (
    Accepted,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    Rejected,
    combine,
)
from aiophlo.model.redaction import mask_text
from aiophlo.protocol.codec import Answer, NoAnswer, Request, decode, encode
from aiophlo.protocol.http_client import HttpClient
from aiophlo.protocol.tracked_request import TrackedRequest
from aiophlo.sending.connection_limit import ConnectionLimit
from aiophlo.sending.deduplication import RegisteredDial
from aiophlo.sending.dial_log import DialLog, LeftDial
from aiophlo.sending.rate_limit_queue import RateLimitQueue
from aiophlo.sending.rate_meter import LONGEST_PAUSE
from aiophlo.sending.replays import Replays
from aiophlo.sending.retry import (
    FREE,
    MOST_STALE,
    RetryBudget,
    RetryPolicy,
    prepare,
    send_again,
)
from aiophlo.sending.superseding import UNTRACKED, Claims

if TYPE_CHECKING:
    from aiophlo.coordination import Coordinator


class DeliveryContext:
    """What the deliveries of one account share.

    Args:
        account: Whose actions are sent.
        http_client: Exchanges one request for what comes back.
        slots: When the account's quota lets a request leave.
        call_rate: When a dialling action may, besides; None for no such pace.
        connections: How many exchanges may be under way at once.
        policy: When an action may be sent again.
        claims: The pool's actions under way, by party.
        observers: Who is told.
        random: Returns a number from 0 to below 1.
        trailing_slash: End the path of every POST in `/`.
        coordinator: What is shared with other pools; None for nothing.
        dials: The pool's log of dials; None for one of its own.

    Attributes:
        rates: `slots`, and `call_rate` if there is one.
        budget: What the account's retries may cost.
        replays: The ids of its latest answers.
        dials: Told of every dial that leaves.
        loop: The event loop it runs on.
        in_flight: Exchanges under way.
    """

    def __init__(
        self,
        account: Account,
        http_client: HttpClient,
        slots: RateLimitQueue,
        call_rate: RateLimitQueue | None,
        connections: ConnectionLimit,
        *,
        policy: RetryPolicy,
        claims: Claims,
        observers: Observers,
        random: Callable[[], float],
        trailing_slash: bool,
        coordinator: Coordinator | None = None,
        dials: DialLog | None = None,
    ) -> None:
        self.account = account
        self.http_client = http_client
        self.slots = slots
        self.call_rate = call_rate
        self.rates = (slots, call_rate) if call_rate else (slots,)
        self.connections = connections
        self.policy = policy
        self.claims = claims
        self.observers = observers
        self.random = random
        self.trailing_slash = trailing_slash
        self.coordinator = coordinator
        prepare()
        self.budget = RetryBudget.of_quota(account.quota)
        self.replays = Replays()
        self.dials = DialLog() if dials is None else dials
        self.loop = asyncio.get_running_loop()
        self.in_flight = 0

    def over(self, http_client: HttpClient) -> DeliveryContext:
        """Return the same for another API: slots and connections are shared."""
        other = copy.copy(self)
        other.http_client = http_client
        other.budget = RetryBudget.of_quota(self.account.quota)
        other.in_flight = 0
        return other


class Delivery(RegisteredDial):
    """One action under way, over all its attempts.

    Args:
        context: What the deliveries of its account share.
        action: What is asked.
        send_within: Seconds after which sending is worthless.
        lane: Where to queue for a slot; None leaves it to the action.
        before_leaving: Awaited with the first slot in hand, before anything
            leaves; what it raises ends the delivery.

    Attributes:
        in_flight: A request of it is under way.
        left_elsewhere: Another pool's dial that this one waits for has left.
        on_slot: Called with each slot in hand, before `before_leaving`.
        may_leave: Asked, if there is one, in the moment in which a request leaves.
        handover: Id of the handover that asks, if one does.

    Raises:
        InvalidInputError: `action` is none of this library's.
    """

    __slots__ = (
        "answer",
        "attempts",
        "before_leaving",
        "begun",
        "claim",
        "context",
        "deadline",
        "first_sent_at",
        "free",
        "handover",
        "in_flight",
        "key",
        "lane",
        "left",
        "left_elsewhere",
        "loop",
        "may_leave",
        "no_budget",
        "on_slot",
        "over",
        "prevented_by",
        "repeat_at",
        "request",
        "sent",
        "started",
        "tracked",
        "verdict",
        "waited",
    )

    def __init__(
        self,
        context: DeliveryContext,
        action: Action,
        send_within: float | None,
        *,
        lane: Lane | None = None,
        before_leaving: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__()
        self.before_leaving = before_leaving
        self.on_slot: Callable[[], None] | None = None
        self.may_leave: Callable[[], bool] | None = None
        self.handover: str | None = None
        self.in_flight = self.left_elsewhere = False
        self.tracked: TrackedRequest | None = None  # of a request without a verdict
        self.prevented_by: BaseException | None = None  # from leaving
        self.key: str | None = None  # what a dial is registered by
        self.context = context
        self.action = action
        self.request: Request = encode(
            action,
            auth_id=context.account.auth_id,
            trailing_slash=context.trailing_slash,
        )
        self.lane = action.lane if lane is None else lane
        self.loop = context.loop
        self.started = self.begun = self.loop.time()  # the action, the attempt
        self.deadline = math.inf if send_within is None else self.started + send_within
        self.attempts = 0
        self.free = 0  # of these, not counted
        self.repeat_at = -math.inf  # not before this loop time
        self.waited = 0.0
        self.sent = self.first_sent_at = math.nan
        self.answer: Answer | NoAnswer | None = None  # to the last attempt
        self.verdict: Outcome | None = None  # over the attempts so far
        self.over = False  # no further attempt can begin
        self.no_budget = False
        self.claim = UNTRACKED
        self.left: LeftDial | None = None  # in the log of dials

    @property
    def has_left(self) -> bool:
        """Whether a phone can be ringing, for all that is known so far."""
        if self.tracked is not None and self.tracked.left:
            return True
        return self.left_elsewhere or isinstance(self.verdict, InDoubt)

    def coming(self) -> AbstractContextManager[None]:
        """Seek a slot for it, while it isn't known whether it has to be sent."""
        return self.context.rates[-1].coming(self.lane)

    def cancelled(self) -> Outcome:
        """Return the verdict on an action whose caller was cancelled."""
        return self._unfinished(Reason.CANCELLED)

    def ended_by(self, error: BaseException) -> Outcome:
        """Return the verdict on an action that was ended by `error`, whatever it is."""
        self._count_as_ended()
        if isinstance(error, asyncio.CancelledError) or error is self.prevented_by:
            return self.cancelled()
        if isinstance(self.verdict, NotSent) and not self.has_left:
            return self.verdict
        return self._unfinished(Reason.UNKNOWN, error)

    def _unfinished(
        self, reason: Reason, error: BaseException | None = None
    ) -> Outcome:
        if isinstance(self.verdict, InDoubt | Accepted | Rejected):
            return self.verdict
        if self.tracked is not None and self.tracked.left:
            return self._in_doubt(reason, error=error)
        return self.not_sent(reason, error)

    async def go_on(self, outcome: Outcome) -> Outcome:
        """Make the further attempts that are needed and allowed; return the verdict.

        Args:
            outcome: What the first attempt came to.
        """
        self._may_be_superseded()
        outcome = await send_again(
            outcome,
            self.attempt,
            policy=self.context.policy,
            spend_for_retry=self._spend_for_retry,
            random=self.context.random,
            sleep=self._sleep,
            free=lambda: self.free,
        )
        if self.no_budget and isinstance(outcome, NotSent):
            why = f"{outcome.reason}: {outcome.error or 'no details'}"
            return attrs.evolve(outcome, reason=Reason.NO_BUDGET, error=why)
        return outcome

    async def attempt(self) -> Outcome:
        """Make one attempt and return the verdict over all so far."""
        context = self.context
        if self.attempts:
            self.begun = self.loop.time()
        if not context.connections.take(self.lane) and not await self._connection():
            return self._not_begun(Reason.EXPIRED)
        try:
            if not self._takes_slot() and (refusal := await self._slot()):
                return self._not_begun(refusal)
            if self.claim.superseded:
                return self._not_begun(Reason.SUPERSEDED)
            if self.verdict is not None and not self._may_repeat():
                return self._not_begun(Reason.EXPIRED)
            if self.on_slot is not None:
                self.on_slot()
            if self.before_leaving is not None and not self.attempts:
                await self._prepare(self.before_leaving)
                if self.claim.superseded:
                    return self._not_begun(Reason.SUPERSEDED)
            outcome = await self._exchange(self.begin_request())
            slot = self.sent
            while isinstance(self.answer, NoAnswer) and self._may_reuse(slot):
                outcome = await self._exchange(self.begin_request())
            return outcome
        finally:
            context.connections.release(self.lane)

    def _may_reuse(self, slot: float) -> bool:
        """Say whether a request that a stale connection didn't take may use its slot.

        Plivo hasn't counted it. A slot may be used late by the limiter's `lateness`;
        after that another slot is booked.
        """
        answer = self.answer
        if not isinstance(answer, NoAnswer) or answer.left:
            return False
        if answer.reason is not Reason.STALE_CONNECTION:
            return False
        now = self.loop.time()
        fresh = now - slot <= self.context.slots.limiter.meter.lateness
        in_time = now < self.deadline and self.free < MOST_STALE
        return fresh and in_time and self._may_repeat()

    async def _exchange(self, tracked: TrackedRequest) -> Outcome:
        try:
            answer = await self.context.http_client.exchange(
                self.request, tracked, within=self.deadline - self.sent
            )
        except asyncio.CancelledError:
            self._end(NoAnswer(tracked.left, Reason.CANCELLED))
            raise
        except BaseException as error:
            self._end(NoAnswer(tracked.left, Reason.UNKNOWN, _name_of(error) or ""))
            raise
        return self._end(answer)

    def _may_be_superseded(self) -> None:
        self.claim = self.context.claims.wait(self.action, self.claim)

    async def _connection(self) -> bool:
        self._may_be_superseded()
        connections = self.context.connections
        behind = connections.waiting(self.lane)
        if self.context.slots.slot_for(self.lane, behind=behind) > self.deadline:
            return False
        return await connections.acquire(self.lane, self.deadline)

    def _takes_slot(self) -> bool:
        """Take the slot that is free at this moment, if there is one."""
        context = self.context
        if context.call_rate is not None and self.action.dials:
            return False  # a dial needs a slot of both rates
        return context.slots.take(self.lane, self.deadline)

    async def _slot(self) -> Reason | None:
        call_rate = self.context.call_rate
        if self.action.dials and call_rate is not None:
            self._may_be_superseded()
            refusal = await call_rate.acquire(self.lane, self.deadline)
            if refusal is not None:
                return refusal
        slots = self.context.slots
        if slots.take(self.lane, self.deadline):
            return None
        self._may_be_superseded()
        return await slots.acquire(self.lane, self.deadline)

    async def _prepare(self, before_leaving: Callable[[], Awaitable[None]]) -> None:
        self._may_be_superseded()
        slot = self.loop.time()
        try:
            await before_leaving()
        except BaseException as error:
            self.prevented_by = error
            raise
        for slots in self.context.rates:
            slots.left(slot=slot)

    def begin_request(self) -> TrackedRequest:
        """Count one more request as under way, and tell of it."""
        context = self.context
        self.sent = self.loop.time()
        self.waited = self.sent - self.started
        if not self.attempts:
            self.first_sent_at = self.sent
        if isinstance(self.action, DialAction):
            self._note_dial(self.action)
        self.attempts += 1
        self.tracked = tracked = TrackedRequest()
        if isinstance(self.verdict, InDoubt):
            tracked.may_leave = self._may_repeat  # asked again once connected
        elif self.may_leave is not None:
            tracked.may_leave = self.may_leave
        self.in_flight = True
        context.in_flight += 1
        if context.observers.listening:
            waited = self.sent - self.begun
            context.observers.attempt_begun(
                context.account,
                self.action,
                self.id,
                self.attempts,
                waited,
                self.lane,
                self.request.method,
                context.http_client.base_url + self.request.path,
            )
        return tracked

    def _note_dial(self, dial: DialAction) -> None:
        if self.left is None:
            self.left = self.context.dials.note(dial)
        else:
            self.context.dials.note_again(self.left)

    def _end(self, answer: Answer | NoAnswer) -> Outcome:
        """Store the verdict, then tell of it.

        No observer, filter or log handler can change it then.
        """
        context = self.context
        self.answer = answer
        outcome = self._decoded(answer)
        if isinstance(outcome, InDoubt):
            outcome = attrs.evolve(outcome, left_at=self._left_at())
        self.verdict = verdict = combine(self.verdict, outcome)
        if isinstance(outcome, NotSent) and self._is_free(outcome):
            self.free += 1
        self.tracked = None
        self._count_as_ended()
        if outcome.api_id is not None:
            context.replays.note(outcome.api_id)
        self._tell_limiters(outcome)
        context.observers.attempt_ended(
            context.account,
            outcome,
            id=self.id,
            seconds=outcome.seconds - self.waited,
            waited=self.sent - self.begun,
            handover=self.handover,
        )
        return verdict

    def _count_as_ended(self) -> None:
        if self.in_flight:
            self.in_flight = False
            self.context.in_flight -= 1

    def _is_free(self, outcome: NotSent) -> bool:
        """Say whether an attempt with this outcome isn't counted against `attempts`."""
        if outcome.reason is Reason.THROTTLED:
            if self.lane is Lane.URGENT:  # tried during a pause
                return self.sent < self.context.slots.limiter.meter.paused_until
            too_long = (outcome.retry_after or 0.0) > LONGEST_PAUSE
            return too_long and self.deadline == math.inf
        if outcome.reason is Reason.STALE_CONNECTION:
            return self.free < MOST_STALE
        return outcome.reason in FREE or self._waits_out_an_outage()

    def _waits_out_an_outage(self) -> bool:
        """Say whether a host that takes no connection is waited for.

        A stream has to see that it is down for long, and stop.
        """
        answer = self.answer
        if not isinstance(answer, NoAnswer) or answer.reason is not Reason.UNREACHABLE:
            return False
        if isinstance(self.verdict, InDoubt) or self.context.policy.attempts == 1:
            return False
        now, budget = self.loop.time(), self.context.budget
        return self.lane is not Lane.STREAMED or not budget.is_down_for_long(now)

    def _decoded(self, answer: Answer | NoAnswer) -> Outcome:
        try:
            return decode(
                self.action,
                answer,
                now=time.time,
                attempts=self.attempts,
                seconds=self.loop.time() - self.started,
                waited=self.waited,
            )
        except Exception as error:  # noqa: BLE001 -- whatever it is, it may be ringing
            logger.failure("an answer could not be judged", error=error)
            return self._in_doubt(Reason.UNKNOWN, error=error, status=answer.status)

    def _in_doubt(
        self,
        reason: Reason,
        *,
        error: BaseException | None = None,
        status: int | None = None,
    ) -> InDoubt:
        return InDoubt(
            action=self.action,
            reason=reason,
            attempts=self.attempts,
            waited=self.waited,
            status=status,
            error=_name_of(error),
            left_at=self._left_at(),
        )

    def _left_at(self) -> float | None:
        """Return the Unix time of the slot of the attempt that is in doubt.

        Until then, nothing was carried out. A dial's is the one that was noted of it.
        """
        if self.left is not None and math.isfinite(self.left.left_at):
            return self.left.left_at
        try:
            return time.time() - (self.loop.time() - self.sent)
        except Exception:  # noqa: BLE001 -- a broken clock makes no other verdict
            return None

    def _tell_limiters(self, outcome: Outcome) -> None:
        # A pause is for both: dials that had theirs meanwhile would leave at once.
        for slots in self.context.rates:
            if isinstance(outcome, NotSent) and outcome.reason is Reason.THROTTLED:
                asked = outcome.retry_after
                if slots.throttled(sent=self.sent, retry_after=asked):
                    logger.warning(
                        "Plivo asks account %s to wait for %.0f s: pausing for %.0f s,"
                        " then one request tries",
                        self.context.account.auth_id,
                        asked,
                        LONGEST_PAUSE,
                    )
            elif outcome.status is not None:
                slots.answered(sent=self.sent)

    def _not_begun(self, reason: Reason) -> Outcome:
        """Return the verdict when an attempt could not even begin."""
        self.over = True
        if self.verdict is None:
            self.verdict = self.not_sent(reason)
        return self.verdict

    def not_sent(self, reason: Reason, error: BaseException | None = None) -> NotSent:
        """Return the verdict on an action that will not leave; `error` kept it back."""
        seconds = self.loop.time() - self.started
        return NotSent(
            action=self.action,
            reason=reason,
            attempts=self.attempts,
            seconds=seconds,
            waited=self.waited if self.attempts else seconds,
            error=_name_of(error),
        )

    async def _sleep(self, wait: float) -> None:
        await asyncio.sleep(max(wait, self.repeat_at - self.loop.time()))

    def _spend_for_retry(self, outcome: Outcome, wait: float) -> bool:
        now = self.loop.time()
        in_time = now + wait < self.deadline
        if self.over or not in_time or not self._may_repeat(wait):
            return False
        if self._waits_out_an_outage():
            self.repeat_at = now + self.context.budget.wait_in_outage(now, wait)
            return self.repeat_at < self.deadline
        self.no_budget = not self.context.budget.spend(outcome)
        return not self.no_budget

    def _may_repeat(self, wait: float = 0.0) -> bool:
        """Say whether one more request, `wait` seconds from now, is allowed."""
        assert self.verdict is not None  # noqa: S101 -- there was an attempt
        if self.claim.superseded or not (self.may_leave is None or self.may_leave()):
            return False
        return self.context.policy.may_send_again(
            self.verdict,
            since_sent=self.loop.time() + wait - self.first_sent_at,
            alone=self.claim.is_latest,
        )


def _name_of(error: BaseException | None) -> str | None:
    """Name what nobody foresaw; its words may quote a number, and go to the log."""
    return None if error is None else mask_text(type(error).__name__)
