"""One handover's course: it begins, does one thing after the other, and ends.

Everything that touches the call runs in tasks of the pool's own, one after the
other, so whoever waits may go away at any step: what has begun is finished, and
then `end` sees to the customer.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aiophlo.addresses import mask_error
from aiophlo.errors import HandoverError, InvalidInputError, JournalError
from aiophlo.handover.alarm import logger
from aiophlo.handover.care import Care
from aiophlo.handover.plan import Plan
from aiophlo.handover.returning import end_attempt, look_again, settle
from aiophlo.handover.standing import Standing
from aiophlo.handover.states import ENDS, Input, Phase
from aiophlo.outcomes import NotSent, Reason, error_of
from aiophlo.routing import Party, Presence, Watch
from aiophlo.sending import Sender

_T = TypeVar("_T")
_SAFE = frozenset({Phase.WITH_AGENT, Phase.WITH_PARTNER, Phase.OVER})
_WITHOUT_AGENT = ENDS | {Phase.CHECKING}
_UNANSWERED = frozenset({Phase.ASKING, Phase.RINGING})
_ANSWERED = frozenset({Phase.CONSULTING, Phase.COMPLETING, Phase.CHECKING})
_LEAVINGS = frozenset({Input.AGENT_LEFT, Input.CUSTOMER_LEFT})
_INPUTS = {
    (Party.PARTNER, Presence.INSIDE): Input.PARTNER_JOINED,
    (Party.PARTNER, Presence.LEFT): Input.PARTNER_LEFT,
    (Party.AGENT, Presence.LEFT): Input.AGENT_LEFT,
    (Party.CUSTOMER, Presence.LEFT): Input.CUSTOMER_LEFT,
    (Party.FORMER, Presence.INSIDE): Input.FORMER_JOINED,
}


class Course:
    """One handover, from its beginning to its end.

    Args:
        plan: What it is to do.
        sender: Sends for the account.
        care: Where the pool keeps its open handovers.

    Attributes:
        standing: Where it stands.
        sender: The same.
        started: Whether it has begun.
        by_hand: Whether no block ends it, so that it must end by itself.
        patience: Seconds that its end may take, besides answers under way.
    """

    __slots__ = (
        "_care",
        "_ending",
        "_may_be_cancelled",
        "_operation",
        "_watch",
        "_written",
        "by_hand",
        "sender",
        "standing",
        "started",
    )

    def __init__(self, plan: Plan, sender: Sender, care: Care) -> None:
        self.standing = Standing(plan, sender.account.auth_id, self._see_what_comes)
        self.sender = sender
        self.started = False
        self.by_hand = False
        self._care = care
        self._written = False  # the entry is, or may be, in the journal
        self._watch: Watch | None = None
        self._operation: asyncio.Task[Any] | None = None
        self._may_be_cancelled: Callable[[], bool] = _never
        self._ending: asyncio.Task[None] | None = None

    @property
    def patience(self) -> float:
        """Seconds that its end may take, besides answers under way."""
        plan = self.standing.plan
        return plan.bring_back_within + 4 * plan.told_within

    def begin(self) -> None:
        """Take hold of the agent, and listen.

        Raises:
            InvalidInputError: This one was used, or another is open about the
                agent, about everybody to be reached, or in the same conversation.
            NotSentError: The pool is closed.
        """
        plan = self.standing.plan
        if self.started:
            raise InvalidInputError("consult: expected a new one; each is for once")
        if self._care.closed:
            action = plan.transfer(plan.targets[0])
            raise error_of(NotSent(action=action, reason=Reason.CLOSED, attempts=0))
        for field, some in (("agent", (plan.agent,)), ("to", plan.targets)):
            if all(map(self._care.is_engaged, some)):
                message = f"{field}: expected nobody of whom a handover is open"
                raise InvalidInputError(message, field=field)
        if plan.router is not None:
            self._watch = plan.router.watch(
                agent=plan.agent,
                customer=plan.customer,
                tell=self._heard,
                conference_uuid=plan.conference_uuid,
            )
        self.started = True
        self._care.begin(self)
        self._care.engage(plan.agent, self)

    def engage(self, target: str) -> bool:
        """Keep somebody for this handover; False if another has them."""
        return self._care.engage(target, self)

    def release(self, target: str) -> None:
        """Let other handovers have somebody who is known to be out."""
        self._care.release(target, self)

    def follow(self, target: str) -> None:
        """Listen for somebody who is about to be rung."""
        router = self.standing.plan.router
        if self._watch is not None and router is not None:
            router.follow(self._watch, target, keep=self.standing.may_join_late)
        self.standing.partner = target

    def _heard(self, party: Party, presence: Presence) -> None:
        what = _INPUTS.get((party, presence))
        if what is not None:
            self.standing.tell(what)
        if what is Input.FORMER_JOINED and self.standing.phase not in _WITHOUT_AGENT:
            logger.warning(
                "a phone given up was answered after all: %r ends", self.standing
            )
            _ = self.end()
        if what in _LEAVINGS and self.by_hand:
            _ = self._care.own(self._end_unless_answered())

    async def _end_unless_answered(self) -> None:
        """End what rings for nobody, or for one who can't be asked any more."""
        standing = self.standing
        await standing.until(
            lambda: standing.giving_up or standing.phase not in _UNANSWERED,
            standing.plan.ring_for,
        )
        if standing.phase not in _ANSWERED:
            _ = self.end()

    def _see_what_comes(self) -> None:
        """Settle where the customer is, whatever the block does meanwhile.

        That an operation settles it, too, does no harm: both only wait.
        """
        if self._ending is None:
            _ = self._care.own(self._settle_by_itself())

    async def _settle_by_itself(self) -> None:
        await settle(self.standing, self.sender)
        if self.by_hand and self.standing.situation.ended:
            _ = self.end()

    async def run(
        self,
        work: Coroutine[Any, Any, _T],
        *,
        may_be_cancelled: Callable[[], bool] | None = None,
    ) -> _T:
        """Do one thing to its end, even if the caller goes away.

        Args:
            work: What is done.
            may_be_cancelled: Whether it may be, now that the handover ends.

        Raises:
            HandoverError: It is ending, or something else is under way.
        """
        busy = self._operation is not None and not self._operation.done()
        if self.standing.giving_up or busy:
            work.close()
            ending = self.standing.giving_up
            why = "it is ending" if ending else "something else is under way"
            message = f"the handover can't do that now: {why} ({self.standing!r})"
            raise HandoverError(message)
        self._may_be_cancelled = may_be_cancelled or _never
        self._operation = operation = self._care.own(work)
        return await asyncio.shield(operation)

    def abandon(self, work: "asyncio.Future[Any]") -> None:
        """Cancel what nobody waits for any more."""
        self._care.abandon(work)

    def end(self) -> "asyncio.Task[None]":
        """Begin to bring the customer back, if that hasn't begun yet."""
        if self._ending is None:
            self.standing.give_up()
            self._ending = self._care.own(self._clean_up())
        return self._ending

    async def leave(self, error: BaseException | None) -> None:
        """Bring the customer back and wait for it; say so if that failed.

        Args:
            error: Why, if it is an error.

        Raises:
            CustomerOnHoldError: It failed, and nobody was told so yet.
        """
        ending = self.end()
        if isinstance(error, GeneratorExit):
            return  # nothing may be awaited; the pool sees to it
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            if not _is_given_up(ending):
                raise
        if self.standing.alarm is None or self.standing.alarm_raised:
            return
        if error is None or isinstance(error, Exception):
            raise self.standing.on_hold() from error

    async def _clean_up(self) -> None:
        standing = self.standing
        try:
            await self._end_operation()
            await end_attempt(standing, self.sender)
            if standing.return_in_doubt or standing.situation.hangup_in_doubt:
                await look_again(standing, self.sender)
        finally:
            if standing.phase not in _SAFE:
                standing.sound_alarm()
            self._care.leave(self)
            if self._watch is not None and standing.plan.router is not None:
                standing.plan.router.forget(self._watch)
            await self.cross_out()

    async def _end_operation(self) -> None:
        operation = self._operation
        if operation is None or operation.done():
            return
        if self._may_be_cancelled():
            operation.cancel()
        await asyncio.wait({operation})

    async def write_down(self) -> None:
        """Note on disk what a crash must not make anybody forget.

        Raises:
            JournalError: It can't be written: send nothing.
        """
        journal = self.standing.plan.journal
        if journal is not None and not self._written:
            self._written = True
            await journal.handovers.begin(self.standing.entry)

    async def cross_out(self) -> None:
        """Take out of the journal what nobody need remember any more."""
        journal = self.standing.plan.journal
        if journal is None or not self._written:
            return
        try:
            if self.standing.alarm is None:
                await journal.handovers.end(self.standing.entry)
            else:
                journal.handovers.let_go(self.standing.entry)
            self._written = False
        except JournalError as error:
            told = mask_error(error)
            logger.error("a handover that has ended is still in its journal: %s", told)


def _never() -> bool:
    return False


def _is_given_up(ending: "asyncio.Task[None]") -> bool:
    """Say whether the pool cancelled the ending, and nobody the waiting task."""
    waiting = asyncio.current_task()
    return ending.cancelled() and (waiting is None or not waiting.cancelling())
