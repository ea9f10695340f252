"""Asking for somebody's help: one target is rung after the other."""

import asyncio
from collections import deque

from aiophlo.addresses import mask
from aiophlo.errors import (
    CredentialsError,
    HandoverError,
    NobodyAnsweredError,
    NotFoundError,
)
from aiophlo.handover.course import Course
from aiophlo.handover.requests import CheckedJourney, NotNowError, input_of
from aiophlo.handover.returning import end_attempt
from aiophlo.handover.standing import Standing
from aiophlo.handover.states import Input, Phase
from aiophlo.handover.tries import Ending, Tried
from aiophlo.outcomes import InDoubt, NotSent, Outcome, Rejected, error_of
from aiophlo.routing import Presence
from aiophlo.sending import Journey


class Asking:
    """Rings the targets of one handover.

    Args:
        course: The handover.
    """

    __slots__ = ("_course", "_standing", "_tried", "_untried")

    def __init__(self, course: Course) -> None:
        self._course = course
        self._standing = course.standing
        self._untried = deque(course.standing.plan.targets)
        self._tried: list[Tried] = []

    async def reach(self) -> None:
        """Ring one after the other until somebody answers.

        Raises:
            HandoverError, VerdictError: As entering a `Consult` says.
        """
        standing = self._standing
        while self._untried and standing.situation.may_ask:
            target = self._untried.popleft()
            if not self._course.engage(target):
                self._tried.append(Tried(target, Ending.ENGAGED))
                continue
            outcome = await self._ring(target)
            await standing.until(self._has_rung, standing.plan.ring_for)
            self._go_on_after(outcome)
            if self._is_answered():
                return
            ending = _ending(outcome, standing)
            if await self.end_attempt():
                return
            self.note(ending)
        standing.raise_if_ended()
        who = ", ".join(f"{mask(one.to)} ({one.ending})" for one in self._tried)
        text = f"nobody took the call: {who}; the customer is with the agent"
        raise NobodyAnsweredError(text, tried=tuple(self._tried))

    async def reach_the_only_one(self) -> None:
        """Ring somebody, and don't wait for an answer.

        Raises:
            VerdictError: It was not accepted.
        """
        target = self._untried.popleft()
        self._course.engage(target)
        outcome = await self._ring(target)
        if isinstance(outcome, InDoubt | NotSent | Rejected):
            raise error_of(outcome)

    async def end_attempt(self) -> bool:
        """End the transfer; say whether the partner has the customer all the same.

        Raises:
            CustomerLeftError, CustomerOnHoldError: It was the last of all.
            HandoverError: The handover was ended meanwhile.
        """
        course, standing = self._course, self._standing
        await course.run(end_attempt(standing, course.sender))
        if standing.phase is Phase.WITH_PARTNER:
            return True
        standing.raise_if_ended()
        self._raise_if_given_up()
        return False

    def note(self, ending: Ending) -> None:
        """Note what came of the last attempt, whose target is known to be out."""
        standing = self._standing
        if standing.partner is not None:
            self._tried.append(Tried(standing.partner, ending))
            if standing.situation.may_ask and not standing.may_join_late:
                self._course.release(standing.partner)

    def _has_rung(self) -> bool:
        return self._standing.giving_up or self._standing.phase is not Phase.RINGING

    def _is_answered(self) -> bool:
        answered = self._standing.phase in {Phase.CONSULTING, Phase.CHECKING}
        return answered and self._standing.situation.partner is Presence.INSIDE

    def _raise_if_given_up(self) -> None:
        standing = self._standing
        if standing.giving_up:  # and its targets may be let go of by now
            raise HandoverError(f"the handover was ended from elsewhere ({standing!r})")

    def _go_on_after(self, outcome: Outcome) -> None:
        """Raise where asking for another one would be pointless, too."""
        self._raise_if_given_up()
        standing = self._standing
        if standing.phase is not Phase.WITH_AGENT:
            return
        if isinstance(outcome, NotSent):
            raise error_of(outcome)
        if isinstance(outcome, Rejected):
            error = error_of(outcome)
            if isinstance(error, CredentialsError | NotFoundError):
                raise error

    async def _ring(self, target: str) -> Outcome:
        self._course.follow(target)
        course, standing = self._course, self._standing
        journey = CheckedJourney(
            course.sender,
            standing.plan.transfer(target),
            standing.plan.send_within,
            lambda: standing.situation.may_ring and not standing.giving_up,
        )
        journey.before_leaving = course.write_down
        # Once nothing is in flight, nothing has left, or all answers are in.
        return await course.run(
            self._ask(journey), may_be_cancelled=lambda: not journey.in_flight
        )

    async def _ask(self, journey: Journey) -> Outcome:
        self._standing.tell(Input.ASK)
        outcome: Outcome | None = None
        try:
            outcome = await self._course.sender.run(journey)
        except NotNowError:
            outcome = journey.cancelled()
        except asyncio.CancelledError:
            outcome = journey.cancelled()
            if not self._standing.giving_up:
                raise
        finally:
            self._take_answer(outcome, journey)
        return outcome

    def _take_answer(self, outcome: Outcome | None, journey: Journey) -> None:
        what = Input.IN_DOUBT if journey.attempts else Input.NOT_SENT
        if outcome is not None:
            what = input_of(outcome)
        standing = self._standing
        standing.transfer_in_doubt = what is Input.IN_DOUBT
        standing.return_in_doubt = what is Input.REFUSED  # as the agent is gone?
        standing.tell(what)


def _ending(outcome: Outcome, standing: Standing) -> Ending:
    if isinstance(outcome, Rejected):
        return Ending.REFUSED
    left = standing.situation.partner is Presence.LEFT
    return Ending.LEFT if left else Ending.NO_ANSWER
