"""The lifecycle of one handover: it begins, runs one operation at a time, and ends.

Every operation on the call runs in a task of the pool, one after the other, so the
caller may be cancelled at any step: the operation that has begun is finished, and then
`end` brings the customer back.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from aiophlo.coordination import AwayError
from aiophlo.errors import (
    EngagedError,
    HandoverError,
    InvalidInputError,
    JournalError,
    VerdictError,
    engaged_error,
    error_of,
)
from aiophlo.handover.bringing_back import end_attempt, look_again, settle
from aiophlo.handover.conversations import Presence
from aiophlo.handover.hanging_up import HANGUPS
from aiophlo.handover.options import HandoverOptions
from aiophlo.handover.registry import HandoverRegistry
from aiophlo.handover.states import ENDS, Input, Phase
from aiophlo.handover.status import HandoverStatus
from aiophlo.handover.watch import Party, Watch
from aiophlo.logs import logger
from aiophlo.model.outcomes import NotSent, Reason
from aiophlo.model.redaction import mask_error
from aiophlo.observed_events import HandoverEnded, HandoverStep
from aiophlo.sending.sender import Sender
from aiophlo.shielding import wait_past_repeats

_T = TypeVar("_T")
_SAFE = frozenset({Phase.WITH_AGENT, Phase.WITH_PARTNER, Phase.OVER, Phase.TAKEN_OVER})
_HOSTS = {Phase.WITH_AGENT: Party.AGENT, Phase.WITH_PARTNER: Party.PARTNER}
_WITHOUT_AGENT = ENDS | {Phase.CHECKING}
_LEAVINGS = frozenset({Input.AGENT_LEFT, Input.CUSTOMER_LEFT})
_INPUTS = {
    (Party.PARTNER, Presence.INSIDE): Input.PARTNER_JOINED,
    (Party.PARTNER, Presence.LEFT): Input.PARTNER_LEFT,
    (Party.AGENT, Presence.LEFT): Input.AGENT_LEFT,
    (Party.CUSTOMER, Presence.LEFT): Input.CUSTOMER_LEFT,
    (Party.FORMER, Presence.INSIDE): Input.FORMER_JOINED,
}


class Lifecycle:
    """One handover, from its beginning to its end.

    Args:
        options: What it is to do.
        sender: Sends for the account.
        registry: Where the pool keeps its open handovers.

    Attributes:
        status: Where it stands.
        sender: The same.
        started: Whether it has begun.
        when_left: Runs once the agent or customer has left a handover by hand: no
            block ends that, so it must end by itself. None for any other.
        patience: Seconds that its end may take, besides answers under way.
        watch: Its events, once it has begun with a router.
    """

    __slots__ = (
        "_began_at",
        "_ending",
        "_leased",
        "_may_be_cancelled",
        "_operation",
        "_registry",
        "_unclaimed",
        "_written",
        "sender",
        "started",
        "status",
        "watch",
        "when_left",
    )

    def __init__(
        self, options: HandoverOptions, sender: Sender, registry: HandoverRegistry
    ) -> None:
        self.status = HandoverStatus(
            options, sender.account.auth_id, self._see_what_comes
        )
        if sender.observers.listening:
            self.status.on_step = self._tell_step
        self.sender = sender
        self.started = False
        self._began_at = 0.0  # by the loop's clock
        self.when_left: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._registry = registry
        self._leased = False
        self._unclaimed: list[Input] = []  # events that may be of a newer handover
        self._written = False  # the entry is, or may be, in the journal
        self.watch: Watch | None = None
        self._operation: asyncio.Task[Any] | None = None
        self._may_be_cancelled: Callable[[], bool] = _never
        self._ending: asyncio.Task[None] | None = None

    @property
    def by_hand(self) -> bool:
        """Whether no block ends it."""
        return self.when_left is not None

    @property
    def patience(self) -> float:
        """Seconds that its end may take, besides answers under way."""
        options = self.status.options
        hanging_up = HANGUPS * options.send_within
        return options.bring_back_within + hanging_up + 5 * options.told_within

    def _tell_step(self, before: Phase, what: Input) -> None:
        status = self.status
        self.sender.observers.tell(
            HandoverStep(
                self.sender.account,
                status.entry.id,
                str(status.phase),
                str(before),
                status.partner,
                str(what),
                status.entry.customer,
            )
        )

    def _tell_end(self) -> None:
        if not self.sender.observers.listening:
            return
        status = self.status
        status.on_step = None  # for observers it is the last that they hear
        self.sender.observers.tell(
            HandoverEnded(
                self.sender.account,
                status.entry.id,
                str(status.phase),
                asyncio.get_running_loop().time() - self._began_at,
                status.alarm is not None,
                status.unseen,
            )
        )

    async def begin(
        self, when_left: Callable[[], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        """Engage the agent, and listen to events.

        Args:
            when_left: As the attribute.

        Raises:
            EngagedError: Another is open about the agent, about everybody to be
                reached, or in the same conversation.
            InvalidInputError: This one was used.
            NotSentError: The pool is draining or closed, or others can't know of it.
        """
        options = self.status.options
        self.sender.check_loop()
        if self.started:
            raise InvalidInputError("consult: expected a new one; each is for once")
        if refusal := self._registry.refusal:
            raise self._not_begun(Reason.CLOSED, refusal)
        for field, some in (("agent", (options.agent,)), ("to", options.targets)):
            if all(map(self._is_in_another, some)):
                raise engaged_error(field, *some)
        self.started, self.when_left = True, when_left
        self._began_at = asyncio.get_running_loop().time()
        self._registry.begin(self)
        self._registry.engage(options.agent, self)
        try:
            await self._begin_elsewhere()
            self._raise_if_ended_meanwhile()
            self._listen()  # now: what happens in one that is refused alarms of nobody
        except BaseException as error:
            if self._ending is None:
                self._leave()
            self.started = not isinstance(error, EngagedError)
            raise

    async def _begin_elsewhere(self) -> None:
        """Let other pools know of it, and see that it doesn't get in their way."""
        status, options = self.status, self.status.options
        lease = self._registry.shared.lease(status.entry, options.customer)
        status.lease = lease
        lease.when_taken_over = self._taken_over
        try:
            refusal = await lease.begin(
                targets=() if options.shared else options.targets,
                conference_uuid=options.conference_uuid,
            )
        except AwayError as error:
            why = f"the database that pools share is away: {error}"
            raise self._not_begun(Reason.NOT_COORDINATED, why) from error
        if refusal is not None:
            engaged = {"agent": (options.agent,), "to": options.targets}
            raise engaged_error(refusal, *engaged.get(refusal, ()))
        self._leased = True

    def _raise_if_ended_meanwhile(self) -> None:
        if self._ending is not None:
            message = f"the handover was ended from elsewhere ({self.status!r})"
            raise HandoverError(message)

    def _listen(self) -> None:
        options = self.status.options
        if options.router is not None:
            self.watch = options.router.watch(
                agent=options.agent,
                customer=options.customer,
                tell=self._heard,
                conference_uuid=options.conference_uuid,
                customer_call_uuid=options.customer_call_uuid,
                handover=self.status.entry.id,
            )
            self.status.agent_is_elsewhere = partial(
                options.router.agent_is_elsewhere, self.watch
            )

    def _not_begun(self, reason: Reason, why: str) -> VerdictError:
        options = self.status.options
        action = options.transfer(options.targets[0])
        return error_of(NotSent(action=action, reason=reason, attempts=0, error=why))

    def _leave(self) -> None:
        """Free who was engaged, and listen no more."""
        self._registry.leave(self)
        self._unfollow_agent()
        if self.watch is not None and self.status.options.router is not None:
            self.status.options.router.forget(self.watch)
        self.status.lease.end(alarmed=self.status.alarm is not None)

    def _taken_over(self) -> None:
        logger.warning(
            "another process has taken over: %r",
            self.status,
            extra={"phlo_handover": self.status.entry.id},
        )
        self.status.tell(Input.TAKEN_OVER)
        _ = self.end()

    def _is_in_another(self, address: str) -> bool:
        shared = address in self.status.options.shared
        return not shared and self._registry.is_engaged(address)

    async def engage(self, target: str) -> bool:
        """Engage an address for this handover; False if another has it."""
        if target in self.status.options.shared:
            return True
        if not self._registry.engage(target, self):
            return False
        if await self.status.lease.engage(target):
            return True
        self._registry.release(target, self)
        return False

    def release(self, target: str) -> None:
        """Let other handovers engage an address that is known to be out."""
        if target not in self.status.options.shared:
            self._registry.release(target, self)
            self.status.lease.release(target)

    def follow(self, target: str) -> None:
        """Listen to the events of a target that is about to be rung."""
        router = self.status.options.router
        if self.watch is not None and router is not None:
            router.follow(self.watch, target, keep=self.status.may_join_late)
        self.status.partner = target

    def follow_agent(self) -> None:
        """Listen for transfers that the agent begins after the handover's last."""
        status, claims = self.status, self.sender.context.claims
        self._unfollow_agent()
        status.newer_transfers = claims.follow(status.options.abort())

    def _unfollow_agent(self) -> None:
        if self.status.newer_transfers is not None:
            self.sender.context.claims.unfollow(self.status.newer_transfers)
            self.status.newer_transfers = None

    def _heard(self, party: Party, presence: Presence) -> None:
        what = _INPUTS.get((party, presence))
        if what is None:
            return
        status = self.status
        over = self._leased and not (status.lease.holds or status.situation.ended)
        if not over and not self._unclaimed:
            self._take(what)
            return
        self._unclaimed.append(what)
        if len(self._unclaimed) == 1:
            _ = self._own(self._take_if_not_taken_over())

    async def _take_if_not_taken_over(self) -> None:
        """Claim a lease that is over, and only then take the events that came since.

        Where another process has taken over, they may be of a newer handover.
        """
        await self.status.lease.claim()
        unclaimed, self._unclaimed = self._unclaimed, []
        for what in unclaimed:
            self._take(what)

    def _take(self, what: Input) -> None:
        self.status.tell(what)
        if what is Input.FORMER_JOINED and self.status.phase not in _WITHOUT_AGENT:
            logger.warning(
                "a phone given up was answered after all: %r ends",
                self.status,
                extra={"phlo_handover": self.status.entry.id},
            )
            _ = self.end()
        if what in _LEAVINGS and self.when_left is not None:
            _ = self._own(self.when_left())

    def _see_what_comes(self) -> None:
        """Settle where the customer is, whatever the block does meanwhile.

        An operation may settle it at the same time: a lock lets one wait for the
        other.
        """
        _ = self._own(self._settle_by_itself())

    async def _settle_by_itself(self) -> None:
        await settle(self.status, self.sender)
        if self.by_hand and self.status.situation.ended:
            _ = self.end()

    async def run(
        self,
        work: Coroutine[Any, Any, _T],
        *,
        may_be_cancelled: Callable[[], bool] | None = None,
    ) -> _T:
        """Run one operation to its end, even if the caller is cancelled.

        Args:
            work: The operation.
            may_be_cancelled: Whether it may be, now that the handover ends.

        Raises:
            HandoverError: It is ending, or another operation is under way.
        """
        busy = self._operation is not None and not self._operation.done()
        if self.status.giving_up or busy:
            work.close()
            if self.status.phase is Phase.TAKEN_OVER:
                self.status.raise_if_ended()
            ending = self.status.giving_up
            why = "it is ending" if ending else "something else is under way"
            message = f"the handover can't do that now: {why} ({self.status!r})"
            raise HandoverError(message)
        self._may_be_cancelled = may_be_cancelled or _never
        self._operation = operation = self._own(work)
        return await asyncio.shield(operation)

    def _own(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        return self._registry.own(work, self.status.entry.id)

    def beside(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run what asks, and changes nothing, beside the operation under way."""
        return self._own(work)

    def abandon(self, work: "asyncio.Future[Any]") -> None:
        """Cancel `work`, and retrieve its exception instead of its waiter."""
        self._registry.abandon(work, self.status.entry.id)

    def end(self) -> "asyncio.Task[None]":
        """Begin to bring the customer back, unless that has begun."""
        if self._ending is None:
            self.status.give_up()
            self._ending = self._own(self._clean_up())
        return self._ending

    async def leave(self, error: BaseException | None) -> None:
        """Bring the customer back and wait for it; say so if that failed.

        Args:
            error: Why, if it is an error.

        Raises:
            CustomerOnHoldError: It failed, and no exception has said so yet.
        """
        ending = self.end()
        if isinstance(error, GeneratorExit):
            return  # nothing may be awaited here; the pool's task ends it
        try:
            await wait_past_repeats(ending, error)
            ending.result()
        except asyncio.CancelledError:
            if not _is_given_up(ending):
                raise
        if self.status.alarm is None or self.status.alarm_raised:
            return
        if error is None or isinstance(error, Exception):
            raise self.status.on_hold() from error

    async def _clean_up(self) -> None:
        status = self.status
        try:
            await self._end_operation()
            await end_attempt(status, self.sender)
            if status.return_in_doubt or status.situation.hangup_in_doubt:
                await look_again(status, self.sender)
        finally:
            if status.phase not in _SAFE:
                status.sound_alarm()
            self._leave()
            self._tell_end()
            self._listen_to_late_news()
            await self.cross_out()

    def _listen_to_late_news(self) -> None:
        """Alarm if it comes out that whom the customer was left to wasn't there."""
        status = self.status
        host, router = _HOSTS.get(status.phase), status.options.router
        if host and router and self.watch is not None and status.alarm is None:
            router.remember(self.watch, host, self._alarm_late)

    def _alarm_late(self) -> None:
        self.status.sound_alarm()
        self._tell_end()

    async def _end_operation(self) -> None:
        operation = self._operation
        if operation is None or operation.done():
            return
        if self._may_be_cancelled():
            operation.cancel()
        await asyncio.wait({operation})

    async def write_down(self) -> None:
        """Write the handover's row in the journal, from which a crash is recovered.

        Raises:
            JournalError: It can't be written: send nothing.
        """
        journal = self.status.options.journal
        if journal is not None and not self._written:
            self._written = True
            await journal.handovers.begin(self.status.entry)

    async def cross_out(self) -> None:
        """Say that there is nothing to recover any more: to the journal, and others."""
        self.status.lease.end()
        await self.status.lease.ended()
        journal = self.status.options.journal
        if journal is None or not self._written:
            return
        try:
            if self.status.alarm is None:
                await journal.handovers.end(self.status.entry)
            else:
                journal.handovers.let_go(self.status.entry)
            self._written = False
        except JournalError as error:
            told = mask_error(error)
            logger.error(
                "a handover that has ended is still in its journal: %s",
                told,
                extra={"phlo_handover": self.status.entry.id},
            )


def _never() -> bool:
    return False


def _is_given_up(ending: "asyncio.Task[None]") -> bool:
    """Say whether the pool cancelled the ending, and not the waiting task."""
    waiting = asyncio.current_task()
    return ending.cancelled() and (waiting is None or not waiting.cancelling())
