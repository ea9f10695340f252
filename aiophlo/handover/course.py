"""One handover's course: what is sent, what is waited for, and its end.

Everything that touches the call runs in tasks of the pool's own, one after the
other, so whoever waits may go away at any step: what has begun is finished, and
then `end` sees to the customer.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from aiophlo.actions import Action
from aiophlo.addresses import mask
from aiophlo.errors import (
    CredentialsError,
    CustomerLeftError,
    CustomerOnHoldError,
    HandoverError,
    InvalidInputError,
    JournalError,
    NobodyAnsweredError,
    NotFoundError,
    PartnerLeftError,
)
from aiophlo.handover.care import Care, bring_back, logger, sound_alarm
from aiophlo.handover.plan import Plan
from aiophlo.handover.states import ENDS, Input, Phase, Situation
from aiophlo.handover.tries import AbortAnswers, Ending, Tried, input_of
from aiophlo.outcomes import InDoubt, NotSent, Outcome, Reason, Rejected, error_of
from aiophlo.routing import Party, Presence, Watch
from aiophlo.sending import Journey, Sender
from aiophlo.transport import Departure

_T = TypeVar("_T")
_HANGUPS = 3  # requests to hang the agent up, while they stay in doubt
_SAFE = frozenset({Phase.WITH_AGENT, Phase.WITH_PARTNER, Phase.OVER})
_WITHOUT_AGENT = ENDS | {Phase.CHECKING}
_INPUTS = {
    (Party.PARTNER, Presence.INSIDE): Input.PARTNER_JOINED,
    (Party.PARTNER, Presence.LEFT): Input.PARTNER_LEFT,
    (Party.AGENT, Presence.LEFT): Input.AGENT_LEFT,
    (Party.CUSTOMER, Presence.LEFT): Input.CUSTOMER_LEFT,
    (Party.FORMER, Presence.INSIDE): Input.FORMER_JOINED,
}


class _NotNowError(Exception):
    """What was about to leave is no longer right."""


class _CheckedJourney(Journey):
    """A journey that looks, before each of its requests, whether it is still right."""

    __slots__ = ("check",)

    def __init__(
        self, sender: Sender, action: Action, within: float, check: Callable[[], bool]
    ) -> None:
        super().__init__(sender, action, within)
        self.check = check

    def _begin(self) -> Departure:
        if not self.check():
            raise _NotNowError
        return super()._begin()


class Course:
    """One handover, from its beginning to its end.

    Args:
        plan: What it is to do.
        sender: Sends for the account.
        care: Where the pool keeps its open handovers.

    Attributes:
        plan: The same.
        entry: What a crash must not make anybody forget.
        situation: Where it stands.
        partner: The one who is being rung, or has answered.
        started: Whether it has begun.
        by_hand: Whether no block ends it, so that it must end by itself.
        patience: Seconds that its end may take, besides answers under way.
    """

    __slots__ = (
        "_alarm",
        "_alarm_raised",
        "_asking",
        "_care",
        "_changed",
        "_ending",
        "_giving_up",
        "_in_doubt",
        "_operation",
        "_sender",
        "_tried",
        "_uncertain",
        "_untried",
        "_watch",
        "_written",
        "by_hand",
        "entry",
        "partner",
        "plan",
        "situation",
        "started",
    )

    def __init__(self, plan: Plan, sender: Sender, care: Care) -> None:
        self.plan = plan
        self.situation = Situation()
        self.partner: str | None = None
        self.started = False
        self.by_hand = False
        self._sender = sender
        self._care = care
        self._changed = asyncio.Event()
        self._untried = deque(plan.targets)
        self._tried: list[Tried] = []
        self.entry = plan.entry(sender.account.auth_id)
        self._written = False  # the entry is, or may be, in the journal
        self._watch: Watch | None = None
        self._asking: Journey | None = None
        self._in_doubt = False  # whether the last transfer was taken note of at all
        self._uncertain = False  # whether the customer's return is only inferred
        self._operation: asyncio.Task[Any] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._giving_up = False
        self._alarm: str | None = None
        self._alarm_raised = False

    def __repr__(self) -> str:
        who = "" if self.partner is None else f" with {mask(self.partner)}"
        return f"{mask(self.plan.agent)}{who}, {self.situation.phase}"

    @property
    def patience(self) -> float:
        """Seconds that its end may take, besides answers under way."""
        return self.plan.bring_back_within + 4 * self.plan.told_within

    @property
    def ending(self) -> bool:
        """Whether it is over, or about to be."""
        return self._giving_up or self.situation.ended

    def begin(self) -> None:
        """Take hold of the agent, and listen."""
        plan = self.plan
        if self.started:
            raise InvalidInputError("consult: expected a new one; each is for once")
        if self._care.closed:
            action = plan.transfer(plan.targets[0])
            raise error_of(NotSent(action=action, reason=Reason.CLOSED, attempts=0))
        for field, some in (("agent", (plan.agent,)), ("to", plan.targets)):
            if all(map(self._care.is_engaged, some)):
                message = f"{field}: expected nobody of whom a handover is open"
                raise InvalidInputError(message, field=field)
        self.started = True
        self._care.begin(self)
        self._care.engage(plan.agent, self)
        if plan.router is not None:
            self._watch = plan.router.watch(
                agent=plan.agent,
                customer=plan.customer,
                tell=self._heard,
                conference_uuid=plan.conference_uuid,
            )

    def _heard(self, party: Party, presence: Presence) -> None:
        what = _INPUTS.get((party, presence))
        if what is not None:
            self.tell(what)
        if what is Input.FORMER_JOINED and self.situation.phase not in _WITHOUT_AGENT:
            logger.warning("a phone given up was answered after all: %r ends", self)
            _ = self.end()

    def tell(self, what: Input) -> bool:
        """Take an input; say whether the customer is still to be brought back."""
        before, self.situation = self.situation, self.situation.after(what)
        if self.situation != before:
            self._wake()
            if self.situation.phase is Phase.ON_HOLD:
                self._sound_alarm()
            if self.situation.phase is Phase.CHECKING is not before.phase:
                self._see_what_comes()
        return self.situation.phase is Phase.BRINGING_BACK

    def _see_what_comes(self) -> None:
        """Settle where the customer is, whatever the block does meanwhile.

        That an operation settles it, too, does no harm: both only wait.
        """
        if self._ending is None:
            _ = self._care.own(self._settle_by_itself())

    async def _settle_by_itself(self) -> None:
        await self._settle()
        if self.by_hand and self.situation.ended:
            _ = self.end()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(
        self, condition: Callable[[], bool], within: float | None = None
    ) -> None:
        """Wait until something holds, or so many seconds have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not condition():
                    await self._changed.wait()

    async def _while_in(self, situation: Situation) -> None:
        """Wait for as long as news may come; without a router none does."""
        if self.plan.router is not None:
            phase, partner = situation.phase, situation.partner
            await self.until(
                lambda: (
                    self.situation.phase is not phase
                    or self.situation.partner is not partner
                ),
                self.plan.told_within,
            )

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do one thing to its end, even if the caller goes away."""
        busy = self._operation is not None and not self._operation.done()
        if self._giving_up or busy:
            work.close()
            why = "it is ending" if self._giving_up else "something else is under way"
            raise HandoverError(f"the handover can't do that now: {why} ({self!r})")
        self._operation = operation = self._care.own(work)
        return await asyncio.shield(operation)

    def abandon(self, work: "asyncio.Future[Any]") -> None:
        """Cancel what nobody waits for any more."""
        self._care.abandon(work)

    async def reach(self) -> None:
        """Ring one after the other until somebody answers."""
        while self._untried and self.situation.may_ask:
            target = self._untried.popleft()
            if not self._care.engage(target, self):
                self._tried.append(Tried(target, Ending.ENGAGED))
                continue
            outcome = await self._ring(target)
            await self.until(self._has_rung, self.plan.ring_for)
            self._go_on_after(outcome)
            if self._is_answered():
                return
            ending = _ending(outcome, self.situation)
            await self.run(self.end_attempt())
            if self.situation.phase is Phase.WITH_PARTNER:
                return
            self.note(ending)
        self.raise_if_ended()
        who = ", ".join(f"{mask(one.to)} ({one.ending})" for one in self._tried)
        text = f"nobody took the call: {who}; the customer is with the agent"
        raise NobodyAnsweredError(text, tried=tuple(self._tried))

    async def reach_the_only_one(self) -> None:
        """Ring somebody, and don't wait for an answer."""
        target = self._untried.popleft()
        self._care.engage(target, self)
        outcome = await self._ring(target)
        if isinstance(outcome, InDoubt | NotSent | Rejected):
            raise error_of(outcome)

    def _has_rung(self) -> bool:
        return self._giving_up or self.situation.phase is not Phase.RINGING

    def _is_answered(self) -> bool:
        now = self.situation
        answered = now.phase in {Phase.CONSULTING, Phase.CHECKING}
        return answered and now.partner is Presence.INSIDE

    def _go_on_after(self, outcome: Outcome) -> None:
        """Raise where asking for another one would be pointless, too."""
        if self._giving_up:
            raise HandoverError(f"the handover was ended from elsewhere ({self!r})")
        if self.situation.phase is not Phase.WITH_AGENT:
            return
        if isinstance(outcome, NotSent):
            raise error_of(outcome)
        if isinstance(outcome, Rejected):
            error = error_of(outcome)
            if isinstance(error, CredentialsError | NotFoundError):
                raise error

    def note(self, ending: Ending) -> None:
        """Note what came of the last attempt, whose target is known to be out."""
        self.raise_if_ended()
        if self.partner is not None:
            self._tried.append(Tried(self.partner, ending))
            if self.situation.may_ask and not self._may_join_late:
                self._care.release(self.partner, self)

    @property
    def _may_join_late(self) -> bool:
        """Whether the last transfer may take effect though nobody was seen."""
        return self._in_doubt and self.situation.partner is Presence.UNSEEN

    async def _ring(self, target: str) -> Outcome:
        if self._watch is not None and self.plan.router is not None:
            self.plan.router.follow(self._watch, target, keep=self._may_join_late)
        self.partner = target
        return await self.run(self._ask(target))

    async def _ask(self, target: str) -> Outcome:
        self.tell(Input.ASK)
        journey = _CheckedJourney(
            self._sender,
            self.plan.transfer(target),
            self.plan.send_within,
            lambda: not self._giving_up,
        )
        journey.before_leaving = self._write_down
        self._asking = journey
        outcome: Outcome | None = None
        try:
            outcome = await self._sender.run(journey)
        except (asyncio.CancelledError, _NotNowError):
            outcome = journey.cancelled()
            if not self._giving_up:
                raise
        finally:
            self._asking = None
            self._take_answer(outcome, journey)
        return outcome

    def _take_answer(self, outcome: Outcome | None, journey: Journey) -> None:
        what = Input.IN_DOUBT if journey.attempts else Input.NOT_SENT
        if outcome is not None:
            what = input_of(outcome)
        self._in_doubt = what is Input.IN_DOUBT
        self._uncertain = what is Input.REFUSED  # perhaps since the agent is gone
        self.tell(what)

    async def _write_down(self) -> None:
        """Note on disk what a crash must not make anybody forget."""
        if self.plan.journal is not None and not self._written:
            self._written = True
            await self.plan.journal.handovers.begin(self.entry)

    async def complete(self) -> None:
        """Hang the agent up, if the partner is there, and see what comes of it."""
        outcome: Outcome | None = None
        if self.situation.may_complete:
            outcome = await self._hang_up()
        elif self.situation.phase is Phase.CONSULTING:
            await self.end_attempt()
        await self._settle()
        now = self.situation
        gone = now.phase is Phase.OVER and now.agent_left  # they had talked
        if gone or now.phase is Phase.WITH_PARTNER:
            return
        if now.phase is Phase.CONSULTING and not now.may_complete:
            await self.end_attempt()
        self.raise_if_ended()
        if isinstance(outcome, InDoubt) or self.situation.may_complete:
            assert outcome is not None  # noqa: S101 -- it was what kept us here
            raise error_of(outcome)
        raise PartnerLeftError("the partner has left; the customer is with the agent")

    async def _hang_up(self) -> Outcome:
        """Hang the agent up, and repeat it while that is in doubt."""
        self.tell(Input.COMPLETE)
        outcomes = []
        for _ in range(_HANGUPS):
            outcomes.append(await self._hang_up_once())
            doubtful = self.situation.phase is Phase.COMPLETING
            if doubtful or isinstance(outcomes[0], Rejected):
                await self._while_in(self.situation)  # the agent may be gone
            if self.situation.phase is not Phase.COMPLETING:
                return outcomes[0]
            if not self.situation.may_complete:
                break
        self.tell(Input.TIME_OVER)
        return outcomes[0]

    async def _hang_up_once(self) -> Outcome:
        journey = _CheckedJourney(
            self._sender,
            self.plan.hangup(),
            self.plan.send_within,
            lambda: self.situation.may_complete and not self._giving_up,
        )
        outcome: Outcome | None = None
        try:
            outcome = await self._sender.run(journey)
        except _NotNowError:
            outcome = journey.cancelled()
        finally:
            self.tell(input_of(journey.cancelled() if outcome is None else outcome))
        return outcome

    async def end_attempt(self) -> None:
        """End the transfer, and make sure that its target is out."""
        self.tell(Input.GIVE_UP)
        await self._settle()
        now = self.situation
        doubtful = self._may_join_late and not self._giving_up
        inside = now.partner is Presence.INSIDE  # no transfer: they may just have left
        if now.phase is Phase.WITH_AGENT and (inside or doubtful):
            await self._while_in(now)
            await self._settle()

    async def _settle(self) -> None:
        """Take what has begun to where it may stay."""
        while self.situation.phase in {Phase.BRINGING_BACK, Phase.CHECKING}:
            if self.situation.phase is Phase.BRINGING_BACK:
                await self._bring_back()
                continue
            await self._while_in(self.situation)
            if self.situation.partner is Presence.LEFT:
                await self._while_in(self.situation)  # has the customer left, too?
            self.tell(Input.TIME_OVER)

    async def _bring_back(self) -> None:
        plan = self.plan
        late = self._may_join_late

        async def abort(within: float) -> Outcome:
            return await self._sender.run(Journey(self._sender, plan.abort(), within))

        def tell(what: Input) -> bool:
            self._uncertain = what is not Input.ACCEPTED
            return self.tell(what)

        await bring_back(
            abort,
            tell,
            AbortAnswers(late=late),
            within=plan.bring_back_within,
            pause=plan.told_within / 4,
        )

    def end(self) -> "asyncio.Task[None]":
        """Begin to bring the customer back, if that hasn't begun yet."""
        if self._ending is None:
            self._giving_up = True
            self._wake()
            self._ending = self._care.own(self._clean_up())
        return self._ending

    async def leave(self, error: BaseException | None) -> None:
        """Bring the customer back and wait for it; say so if that failed.

        Args:
            error: Why, if it is an error.
        """
        ending = self.end()
        if isinstance(error, GeneratorExit):
            return  # nothing may be awaited; the pool sees to it
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            if not _is_given_up(ending):
                raise
        if self._alarm is None or self._alarm_raised:
            return
        if error is None or isinstance(error, Exception):
            raise self._on_hold() from error

    async def _clean_up(self) -> None:
        try:
            await self._end_operation()
            await self.end_attempt()
            if self._uncertain or self.situation.hangup_in_doubt:
                await self._while_in(self.situation)
                await self._settle()
        finally:
            if self.situation.phase not in _SAFE:
                self._sound_alarm()
            self._care.leave(self)
            if self._watch is not None and self.plan.router is not None:
                self.plan.router.forget(self._watch)
            await self._cross_out()

    async def _end_operation(self) -> None:
        operation = self._operation
        if operation is None or operation.done():
            return
        if self._asking is not None and not self._asking.in_flight:
            operation.cancel()  # nothing has left, or all answers are in
        await asyncio.wait({operation})

    async def _cross_out(self) -> None:
        if self.plan.journal is None or not self._written:
            return
        try:
            if self._alarm is None:
                await self.plan.journal.handovers.end(self.entry)
            else:
                self.plan.journal.handovers.let_go(self.entry)
        except JournalError:
            logger.exception("a handover that has ended is still in its journal")

    def _sound_alarm(self) -> None:
        if self._alarm is None:
            targets = "nobody" if self.partner is None else mask(self.partner)
            self._alarm = sound_alarm(self.entry, targets)

    def _on_hold(self) -> CustomerOnHoldError:
        self._alarm_raised = True
        return CustomerOnHoldError(self._alarm or "", handover=self.entry)

    def raise_if_ended(self) -> None:
        """Raise if the customer has hung up, or may be alone."""
        if self.situation.phase is Phase.OVER:
            raise CustomerLeftError("the customer has hung up")
        if self.situation.phase is Phase.ON_HOLD:
            raise self._on_hold()


def _is_given_up(ending: "asyncio.Task[None]") -> bool:
    """Say whether the pool cancelled the ending, and nobody the waiting task."""
    waiting = asyncio.current_task()
    return ending.cancelled() and (waiting is None or not waiting.cancelling())


def _ending(outcome: Outcome, now: Situation) -> Ending:
    if isinstance(outcome, Rejected):
        return Ending.REFUSED
    return Ending.LEFT if now.partner is Presence.LEFT else Ending.NO_ANSWER
