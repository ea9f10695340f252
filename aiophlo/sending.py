"""One action's way, from asking to its outcome."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import attrs

from aiophlo.accounts import Account
from aiophlo.actions import Action, DialAction, Lane
from aiophlo.flights import Flights
from aiophlo.observing import Observers
from aiophlo.outcomes import (
    Accepted,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    Rejected,
    combine,
)
from aiophlo.permits import Permits
from aiophlo.retrying import RetryBudget, RetryPolicy, send_again
from aiophlo.rivals import NOBODY, Rivals
from aiophlo.slots import Slots
from aiophlo.transport import Departure, Transport, departure_of
from aiophlo.wire import Answer, NoAnswer, Request, decode, encode

_CLEAR = (Accepted, Rejected)  # nothing is left to try


@attrs.frozen
class AccountState:
    """What an account is busy with.

    Attributes:
        waiting: How many wait for a slot, by lane.
        next_slot_in: Seconds until one more awaited send would have its slot.
        paused_for: Seconds that the present pause after a 429 still lasts.
        in_flight: Requests under way.
        pace: Share of the full pace in use, above 0 and at most 1.
    """

    waiting: Mapping[Lane, int]
    next_slot_in: float
    paused_for: float
    in_flight: int
    pace: float


class UnderWay:
    """The actions of a pool that have no outcome yet.

    Attributes:
        number: How many.
    """

    def __init__(self) -> None:
        self.number = 0
        self._none_left: asyncio.Event | None = None

    def begin(self) -> None:
        """Count one more."""
        self.number += 1

    def end(self) -> None:
        """Count one less."""
        self.number -= 1
        if self._none_left is not None and not self.number:
            self._none_left.set()

    async def none_left(self) -> None:
        """Wait until every one has its outcome."""
        while self.number:
            self._none_left = asyncio.Event()
            await self._none_left.wait()


class Sender:
    """Sends the actions of one account.

    Args:
        account: Whose actions.
        transport: Exchanges one request for what comes back.
        slots: When the account's quota lets a request leave.
        dial_slots: When a dialling action may, besides; None for no such pace.
        permits: How many exchanges may be under way at once.
        policy: When an action may be sent again.
        rivals: The pool's actions under way, by party.
        under_way: How many these are.
        observers: Who is told.
        random: Returns a number from 0 to below 1.
        trailing_slash: End the path of every POST in `/`.

    Attributes:
        in_flight: Exchanges under way.
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
        rivals: Rivals,
        under_way: UnderWay,
        observers: Observers,
        random: Callable[[], float],
        trailing_slash: bool,
    ) -> None:
        self.account = account
        self.transport = transport
        self.slots = slots
        self.dial_slots = dial_slots
        self.all_slots = (slots, dial_slots) if dial_slots else (slots,)
        self.permits = permits
        self.policy = policy
        self.rivals = rivals
        self.under_way = under_way
        self.observers = observers
        self.random = random
        self.trailing_slash = trailing_slash
        self.budget = RetryBudget()
        self.loop = asyncio.get_running_loop()
        self.flights = Flights(self.loop)
        self.in_flight = 0

    def send(
        self,
        action: Action,
        *,
        send_within: float | None,
        lane: Lane | None = None,
        once: bool = False,
    ) -> Coroutine[Any, Any, Outcome]:
        """Send `action` and return, when awaited, its outcome.

        Args:
            action: What is asked.
            send_within: Seconds after which sending is worthless.
            lane: Where to queue for a slot; None leaves it to the action.
            once: Let a dial join an equal one that is under way, or was only
                just accepted or left in doubt.

        Raises:
            InvalidInputError: `action` is none of this library's.
        """
        journey = Journey(self, action, send_within, lane=lane)
        return self.run(journey, once=once)

    def state(self) -> AccountState:
        """Return what the account is busy with; a subaccount shares its slots."""
        now = self.loop.time()
        pacer = self.slots.pacer
        behind = self.permits.waiting(Lane.AWAITED)
        return AccountState(
            waiting={lane: pacer.waiting(lane) for lane in Lane},
            next_slot_in=pacer.slot_for(Lane.AWAITED, now, behind=behind) - now,
            paused_for=max(pacer.paused_until - now, 0.0),
            in_flight=self.in_flight,
            pace=pacer.pace(now),
        )

    async def run(self, journey: "Journey", *, once: bool = False) -> Outcome:
        """Take `journey` to its outcome, and tell of it; `once` is as for `send`."""
        key = None
        if once and isinstance(journey.action, DialAction):
            key = self.flights.key(journey.action)
            leads = self.flights.lead(key)
            joined = None if leads else await self.flights.join(key, journey.action)
            if joined is not None:
                return joined
        journey.word = self.rivals.begin(journey.action)
        self.flights.note(journey.action)
        self.under_way.begin()
        try:
            outcome = await journey.attempt()
            if not isinstance(outcome, _CLEAR):
                outcome = await journey.go_on(outcome)
        except BaseException:
            self._end(journey, journey.cancelled(), key)
            raise
        self._end(journey, outcome, key)
        return outcome

    def _end(self, journey: "Journey", outcome: Outcome, key: str | None) -> None:
        self.rivals.end(journey.word)
        self.under_way.end()
        if isinstance(outcome, _CLEAR):
            self.budget.settled()
        if key is not None:
            self.flights.land(key, outcome, journey.answer)
        self.observers.action_ended(self.account, outcome)


class Journey:
    """One action under way, over all its attempts.

    Args:
        sender: Who sends it.
        action: What is asked.
        send_within: Seconds after which sending is worthless.
        lane: Where to queue for a slot; None leaves it to the action.
        before_leaving: Awaited with the first slot in hand, before anything
            leaves; what it raises ends the journey.

    Attributes:
        in_flight: A request of it is under way.

    Raises:
        InvalidInputError: `action` is none of this library's.
    """

    __slots__ = (
        "action",
        "answer",
        "attempts",
        "before_leaving",
        "deadline",
        "first_sent",
        "in_flight",
        "lane",
        "loop",
        "no_budget",
        "over",
        "request",
        "sender",
        "sent",
        "started",
        "verdict",
        "waited",
        "word",
    )

    def __init__(
        self,
        sender: Sender,
        action: Action,
        send_within: float | None,
        *,
        lane: Lane | None = None,
        before_leaving: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.before_leaving = before_leaving
        self.in_flight = False
        self.sender = sender
        self.action = action
        self.request: Request = encode(
            action,
            auth_id=sender.account.auth_id,
            trailing_slash=sender.trailing_slash,
        )
        self.lane = action.lane if lane is None else lane
        self.loop = sender.loop
        self.started = self.loop.time()
        self.deadline = math.inf if send_within is None else self.started + send_within
        self.attempts = 0
        self.waited = 0.0
        self.sent = self.first_sent = math.nan
        self.answer: Answer | NoAnswer | None = None  # to the last attempt
        self.verdict: Outcome | None = None  # over the attempts so far
        self.over = False  # no further attempt can begin
        self.no_budget = False
        self.word = NOBODY

    def cancelled(self) -> Outcome:
        """Return the verdict for one whose caller has gone away."""
        if isinstance(self.verdict, InDoubt | Accepted):
            return self.verdict
        return self.not_sent(Reason.CANCELLED)

    async def go_on(self, outcome: Outcome) -> Outcome:
        """Make what further attempts are needed and allowed; return the verdict.

        Args:
            outcome: What the first attempt came to.
        """
        self._may_be_overtaken()
        outcome = await send_again(
            outcome,
            self.attempt,
            policy=self.sender.policy,
            may_go_on=self._may_go_on,
            random=self.sender.random,
            sleep=asyncio.sleep,
        )
        if self.no_budget and isinstance(outcome, NotSent):
            return attrs.evolve(outcome, reason=Reason.NO_BUDGET)
        return outcome

    async def attempt(self) -> Outcome:
        """Make one attempt and return the verdict over all so far."""
        sender = self.sender
        if not sender.permits.take(self.lane) and not await self._permit():
            return self._not_begun(Reason.EXPIRED)
        try:
            if not self._takes_slot():
                refusal = await self._slot()
                if refusal is not None:
                    return self._not_begun(refusal)
            if self.word.overtaken:
                return self._not_begun(Reason.OVERTAKEN)
            if self.verdict is not None and not self._may_repeat():
                return self._not_begun(Reason.EXPIRED)
            if self.before_leaving is not None and not self.attempts:
                await self._prepare(self.before_leaving)
                if self.word.overtaken:
                    return self._not_begun(Reason.OVERTAKEN)
            departure = self._begin()
            try:
                answer = await sender.transport.exchange(
                    self.request, departure, within=self.deadline - self.sent
                )
            except asyncio.CancelledError:
                self._end(NoAnswer(departure.left, Reason.CANCELLED))
                raise
            return self._end(answer)
        finally:
            sender.permits.release(self.lane)

    def _may_be_overtaken(self) -> None:
        self.word = self.sender.rivals.wait(self.action, self.word)

    async def _permit(self) -> bool:
        self._may_be_overtaken()
        permits = self.sender.permits
        behind = permits.waiting(self.lane)
        if self.sender.slots.slot_for(self.lane, behind=behind) > self.deadline:
            return False
        return await permits.acquire(self.lane, self.deadline)

    def _takes_slot(self) -> bool:
        """Take the slot that is free at this moment, if there is one."""
        sender = self.sender
        if sender.dial_slots is not None and self.action.dials:
            return False  # it needs one of each
        return sender.slots.take(self.lane, self.deadline)

    async def _slot(self) -> Reason | None:
        dial_slots = self.sender.dial_slots
        if self.action.dials and dial_slots is not None:
            self._may_be_overtaken()
            refusal = await dial_slots.acquire(self.lane, self.deadline)
            if refusal is not None:
                return refusal
        slots = self.sender.slots
        if slots.take(self.lane, self.deadline):
            return None
        self._may_be_overtaken()
        return await slots.acquire(self.lane, self.deadline)

    async def _prepare(self, before_leaving: Callable[[], Awaitable[None]]) -> None:
        self._may_be_overtaken()
        slot = self.loop.time()
        await before_leaving()
        for slots in self.sender.all_slots:
            slots.left(slot=slot)

    def _begin(self) -> Departure:
        self.sent = self.loop.time()
        self.waited = self.sent - self.started
        if not self.attempts:
            self.first_sent = self.sent
        self.attempts += 1
        self.in_flight = True
        self.sender.in_flight += 1
        departure = departure_of(self.request)
        if isinstance(self.verdict, InDoubt):
            departure.may_leave = self._may_repeat  # asked again once connected
        return departure

    def _end(self, answer: Answer | NoAnswer) -> Outcome:
        self.answer = answer
        self.in_flight = False
        self.sender.in_flight -= 1
        outcome = decode(
            self.action,
            answer,
            now=time.time,
            attempts=self.attempts,
            seconds=self.loop.time() - self.started,
            waited=self.waited,
        )
        self._tell_pacers(outcome)
        self.sender.observers.attempt_ended(self.sender.account, outcome)
        self.verdict = combine(self.verdict, outcome)
        return self.verdict

    def _tell_pacers(self, outcome: Outcome) -> None:
        # A pause is for both: dials that had theirs meanwhile would leave at once.
        for slots in self.sender.all_slots:
            if isinstance(outcome, NotSent) and outcome.reason is Reason.THROTTLED:
                slots.throttled(sent=self.sent, retry_after=outcome.retry_after)
            elif outcome.status is not None:
                slots.pacer.answered(sent=self.sent)

    def _not_begun(self, reason: Reason) -> Outcome:
        """Return the verdict when an attempt could not even begin."""
        self.over = True
        if self.verdict is None:
            self.verdict = self.not_sent(reason)
        return self.verdict

    def not_sent(self, reason: Reason) -> NotSent:
        """Return the verdict on one that will not leave."""
        seconds = self.loop.time() - self.started
        return NotSent(
            action=self.action,
            reason=reason,
            attempts=self.attempts,
            seconds=seconds,
            waited=self.waited if self.attempts else seconds,
        )

    def _may_go_on(self, outcome: Outcome, wait: float) -> bool:
        in_time = self.loop.time() + wait < self.deadline
        if self.over or not in_time or not self._may_repeat(wait):
            return False
        self.no_budget = not self.sender.budget.spend(outcome)
        return not self.no_budget

    def _may_repeat(self, wait: float = 0.0) -> bool:
        """Say whether one more request, after so many seconds, can't do harm."""
        assert self.verdict is not None  # noqa: S101 -- there was an attempt
        if self.word.overtaken:
            return False
        return self.sender.policy.may_send_again(
            self.verdict,
            since_sent=self.loop.time() + wait - self.first_sent,
            alone=self.word.is_last,
        )
