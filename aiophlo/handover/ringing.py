"""Rings the targets of a handover, one after the other, until one answers."""

import asyncio
from collections import deque
from typing import Final

from aiophlo.errors import (
    CredentialsError,
    HandoverError,
    NobodyAnsweredError,
    NotFoundError,
    engaged_error,
    error_of,
)
from aiophlo.handover.bringing_back import end_attempt
from aiophlo.handover.conversations import Presence
from aiophlo.handover.lifecycle import Lifecycle
from aiophlo.handover.requests import (
    CheckedDelivery,
    NotNowError,
    input_of,
    kept_back,
)
from aiophlo.handover.sighted_hangup import look_for_hangup
from aiophlo.handover.states import Input, Phase
from aiophlo.model.handover_records import Ending, Tried
from aiophlo.model.outcomes import InDoubt, NotSent, Outcome, Rejected
from aiophlo.model.redaction import mask
from aiophlo.sending.delivery import Delivery

_UNANSWERED = frozenset({Phase.ASKING, Phase.RINGING})
_TALKING = frozenset({Phase.CONSULTING, Phase.COMPLETING, Phase.CHECKING})
_NOT_RUNG = frozenset({Ending.REFUSED, Ending.ENGAGED})
_ANSWERED = _TALKING | {Phase.WITH_PARTNER}

# How a call that nobody answered has ended, by Plivo's word for it. Assumed: PHLO's
# events use those of Plivo's Voice API.
_BY_STATUS: Final = {
    "busy": Ending.BUSY,
    "rejected": Ending.DECLINED,
    "failed": Ending.FAILED,
}


class Ringing:
    """Rings the targets of one handover.

    Args:
        lifecycle: The handover.
    """

    __slots__ = ("_lifecycle", "_status", "_tried", "_untried")

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._status = lifecycle.status
        self._untried = deque(lifecycle.status.options.targets)
        self._tried: list[Tried] = []

    async def reach(self) -> None:
        """Ring one target after the other until one answers.

        Raises:
            HandoverError, VerdictError: As entering a `Consult` says.
        """
        status = self._status
        while self._untried and status.situation.may_ask:
            target = self._untried.popleft()
            is_free = await self._lifecycle.engage(target)
            self._raise_if_given_up()
            if not is_free:
                self._tried.append(Tried(target, Ending.ENGAGED))
                continue
            outcome = await self._ring(target)
            await self._while_it_rings(outcome)
            self._go_on_after(outcome)
            if self._is_answered():
                return
            ending = self._ending(outcome)
            if await self.end_attempt():
                return
            self.note(ending)
        status.raise_if_ended()
        raise self._nobody_answered()

    def _nobody_answered(self, why: str = "") -> NobodyAnsweredError:
        who = ", ".join(f"{mask(one.to)} ({one.ending})" for one in self._tried)
        text = f"nobody took the call: {who}; the customer is with the agent"
        if any(one.ending is Ending.NOT_SEEN for one in self._tried):
            text = (
                f"nobody is known to have taken the call: {who};"
                f" {self._where_unseen()}."
                " not_seen: no event of that call came here; check the webhooks"
            )
        return NobodyAnsweredError(text + why, tried=tuple(self._tried))

    def _where_unseen(self) -> str:
        """Say what is known of the customer in a call that no event came of."""
        watch, router = self._lifecycle.watch, self._status.options.router
        if watch is not None and router is not None and router.agent_had_left(watch):
            return "events told that the agent had left before"
        return "the customer is with the agent if they are in the call"

    async def reach_the_only_one(self) -> None:
        """Ring the one target of a handover by hand, and don't wait for an answer.

        Raises:
            VerdictError: It was not accepted.
            EngagedError: They are in another open handover.
        """
        target = self._untried.popleft()
        is_free = await self._lifecycle.engage(target)
        self._raise_if_given_up()
        if not is_free:
            raise engaged_error("to", target)
        outcome = await self._ring(target)
        if isinstance(outcome, InDoubt | NotSent | Rejected):
            raise error_of(outcome)

    async def end_unless_answered(self) -> None:
        """End a ring by hand: its customer or agent has left, or nobody answers."""
        status = self._status
        await status.until(
            lambda: status.giving_up or status.phase not in _UNANSWERED,
            status.options.ring_for,
        )
        if status.phase not in _TALKING:
            _ = self._lifecycle.end()

    async def end_attempt(self) -> bool:
        """End the transfer; say whether the partner has the customer all the same.

        Raises:
            CustomerLeftError, CustomerOnHoldError: It was the last of all.
            HandoverError: The handover was ended meanwhile.
        """
        lifecycle, status = self._lifecycle, self._status
        await lifecycle.run(end_attempt(status, lifecycle.sender))
        if status.phase is Phase.WITH_PARTNER:
            return True
        status.raise_if_ended()
        self._raise_if_given_up()
        return False

    def note(self, ending: Ending) -> None:
        """Record how the last ring ended, once its target is known to be out."""
        status = self._status
        if status.partner is not None:
            self._tried.append(Tried(status.partner, ending))
            if status.situation.may_ask and not status.may_join_late:
                self._lifecycle.release(status.partner)

    @property
    def tried(self) -> tuple[Tried, ...]:
        """The targets so far, each with how its ring ended."""
        if not self._is_answered():
            return tuple(self._tried)
        assert self._status.partner is not None  # noqa: S101 -- they have answered
        return (*self._tried, Tried(self._status.partner, Ending.ANSWERED))

    def _ending(self, outcome: Outcome) -> Ending:
        if isinstance(outcome, Rejected):
            return Ending.REFUSED
        watch = self._lifecycle.watch
        if watch is not None and watch.call_status is not None:
            return unanswered(watch.call_status)
        status = self._status
        if status.sighted is not None:
            return status.sighted
        if status.situation.partner is Presence.LEFT:
            return Ending.LEFT
        if watch is None or watch.heard or status.options.router is None:
            return Ending.NO_ANSWER
        status.options.router.warn_not_seen(watch)
        status.unseen += 1
        return Ending.NOT_SEEN

    async def _while_it_rings(self, outcome: Outcome) -> None:
        """Wait until somebody has answered, or it is known that nobody does."""
        status, look = self._status, self._status.options.look
        status.sighted = None
        looking = None
        if look is not None and isinstance(outcome, InDoubt):
            ring_for = status.options.ring_for
            looking = self._lifecycle.beside(
                look_for_hangup(look, outcome, look_for=ring_for, tell=status.sight)
            )
        try:
            await status.until(self._has_rung, status.options.ring_for)
        finally:
            if looking is not None:
                self._lifecycle.abandon(looking)

    def _has_rung(self) -> bool:
        status = self._status
        over = status.giving_up or status.sighted is not None
        return over or status.phase is not Phase.RINGING

    def _is_answered(self) -> bool:
        answered = self._status.phase in _ANSWERED
        return answered and self._status.situation.partner is Presence.INSIDE

    def _raise_if_given_up(self) -> None:
        status = self._status
        if status.phase is Phase.TAKEN_OVER:
            status.raise_if_ended()
        if status.giving_up:  # and other handovers may have engaged its targets
            raise HandoverError(f"the handover was ended from elsewhere ({status!r})")

    def _go_on_after(self, outcome: Outcome) -> None:
        """Raise where ringing the next target would fail in the same way."""
        self._raise_if_given_up()
        status = self._status
        if status.phase is not Phase.WITH_AGENT:
            return
        if isinstance(outcome, NotSent):
            error = error_of(outcome)
            if all(one.ending in _NOT_RUNG for one in self._tried):
                raise error
            assert status.partner is not None  # noqa: S101 -- it was about them
            self._tried.append(Tried(status.partner, Ending.NOT_SENT))
            raise self._nobody_answered(f". not_sent: {error}") from error
        if isinstance(outcome, Rejected):
            error = error_of(outcome)
            if isinstance(error, CredentialsError | NotFoundError):
                raise error

    async def _ring(self, target: str) -> Outcome:
        self._lifecycle.follow(target)
        lifecycle, status = self._lifecycle, self._status
        delivery = CheckedDelivery(
            lifecycle.sender.context,
            status.options.transfer(target),
            status.options.send_within,
            lambda: kept_back(
                wanted=status.situation.may_ring and not status.giving_up,
                leased=status.lease.may_ring,
            ),
        )
        delivery.before_leaving = lifecycle.write_down
        delivery.handover = status.entry.id
        # While no request is in flight, cancelling leaves none in doubt.
        return await lifecycle.run(
            self._ask(delivery), may_be_cancelled=lambda: not delivery.in_flight
        )

    async def _ask(self, delivery: Delivery) -> Outcome:
        self._status.tell(Input.ASK)
        try:
            await self._status.lease.claim()
            return await self._lifecycle.sender.run(delivery)
        except NotNowError:
            return delivery.cancelled()
        except asyncio.CancelledError:
            if not self._status.giving_up:
                raise
            return delivery.cancelled()
        finally:
            self._take_answer(input_of(delivery.cancelled()))

    def _take_answer(self, what: Input) -> None:
        status = self._status
        self._lifecycle.follow_agent()
        status.transfer_in_doubt = what is Input.IN_DOUBT
        status.return_in_doubt = what is Input.REFUSED  # as the agent is gone?
        status.tell(what)


def unanswered(call_status: str) -> Ending:
    """Return the ending of a call that an event says nobody answered.

    Args:
        call_status: In lower case: one of `aiophlo.handover.event_reading.UNANSWERED`.
    """
    return _BY_STATUS.get(call_status, Ending.NO_ANSWER)
