"""A warm transfer from first ring to last hang-up.

::

    async with pool.consult(
        node, agent=AGENT, customer=CUSTOMER, to=[FIRST, SECOND], router=router
    ) as consult:
        ...  # agent and partner talk, the customer hears music
        await consult.complete()  # the customer talks to the partner

Leaving the block without `complete()`, in whatever way, brings the customer back
to the agent. What a handover may believe, and when, is in `states`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeAlias

from aiophlo.errors import InvalidInputError, PartnerLeftError
from aiophlo.handover.asking import Asking
from aiophlo.handover.care import Care
from aiophlo.handover.completing import complete
from aiophlo.handover.course import Course
from aiophlo.handover.plan import Plan
from aiophlo.handover.states import Input, Phase
from aiophlo.handover.tries import Ending
from aiophlo.routing import Presence
from aiophlo.sending import Sender


class Consult:
    """A handover: the private talk of agent and partner, and what leads to it.

    Made by `SessionPool.consult`, for one handover. With a router it is used as
    `async with`; by hand, with `start`, `complete` and `abort`. Every method is
    for the pool's event loop.

    Args:
        plan: What it is to do.
        sender: Sends for the account.
        care: Where the pool keeps its open handovers.
    """

    __slots__ = ("_asking", "_course", "_standing")

    def __init__(self, plan: Plan, sender: Sender, care: Care) -> None:
        self._course = Course(plan, sender, care)
        self._asking = Asking(self._course)
        self._standing = self._course.standing

    def __repr__(self) -> str:
        return f"<Consult of {self._standing!r}>"

    async def __aenter__(self) -> Self:
        """Ring one after the other until somebody answers.

        Raises:
            NobodyAnsweredError: Nobody did; the customer is with the agent.
            CustomerLeftError: The customer hung up meanwhile.
            CustomerOnHoldError: The customer could not be brought back.
            VerdictError: A transfer could not be asked for, and nobody else can
                be rung either; the customer is with the agent.
            HandoverError: The pool was closed meanwhile.
            InvalidInputError: There is no router, an open handover is about the
                agent or about everybody to be reached, or has `conference_uuid`,
                or this one was used.
            JournalError: The journal can't be written; nothing was sent.
        """
        if self._standing.plan.router is None:
            message = (
                "router: expected an EventRouter: without events nobody can see who"
                " answers; use start(), complete() and abort() by hand"
            )
            raise InvalidInputError(message, field="router")
        self._course.begin()
        try:
            await self._asking.reach()
        except BaseException as error:
            await self._course.leave(error)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Bring the customer back, unless they are with the partner.

        Waits until that is done; cancelled while it waits, it goes on in the pool.

        Raises:
            CustomerOnHoldError: The customer could not be brought back.
        """
        await self._course.leave(error)

    @property
    def id(self) -> str:
        """Random; log records call it `phlo_handover`, the journal `id`."""
        return self._standing.entry.id

    @property
    def partner(self) -> str:
        """Address of the one who has answered.

        Raises:
            InvalidInputError: Nobody has yet.
        """
        standing = self._standing
        if standing.partner is None or standing.situation.partner is Presence.UNSEEN:
            raise InvalidInputError("partner: expected somebody to have answered")
        return standing.partner

    async def partner_left(self) -> None:
        """Wait until events say that the partner has left, or all has ended."""
        standing = self._standing
        await standing.until(
            lambda: standing.ending or standing.situation.partner is Presence.LEFT
        )

    async def start(self) -> None:
        """By hand: ask for the transfer, and don't wait for an answer.

        End it with `complete` or `abort`; `SessionPool.close` aborts it otherwise.
        With a router, it also ends by itself once the agent has left: after
        `ring_for` with an alarm, if nobody answers. Nobody is rung any longer
        for a customer who has left.

        Raises:
            VerdictError: It was not accepted; the customer is with the agent.
            CustomerOnHoldError: It is in doubt, and so is the customer's return.
            InvalidInputError: More than one is to be reached, an open handover is
                about the agent or the one to be reached, or has `conference_uuid`,
                or this one was used.
            JournalError: The journal can't be written; nothing was sent.
        """
        course = self._course
        if len(self._standing.plan.targets) != 1:
            message = "to: expected one address: by hand nobody sees who answers"
            raise InvalidInputError(message, field="to")
        course.begin()
        course.by_hand = True
        try:
            await self._asking.reach_the_only_one()
        except BaseException as error:
            await course.leave(error)
            raise

    async def complete(self) -> str:
        """Leave the customer to the partner: hang the agent up.

        Only if the partner was seen inside and has not left, which is looked at
        again for `told_within` after it. By hand, without a router, your word
        stands for having seen the partner; and the handover ends with it, unless
        the agent is still with the partner.

        Returns:
            Address of the partner, who has the customer.

        Raises:
            PartnerLeftError: The partner had left; the customer is with the agent.
            CustomerLeftError: The customer had hung up.
            CustomerOnHoldError: The partner left when the agent was hung up, or
                nobody can say.
            RejectedError, NotSentError: The agent is still there: try again, or
                leave the block, which brings the customer back.
            InDoubtError: Whether the agent was hung up is in doubt, but the
                customer is with them.
            HandoverError: The handover is ending.
            InvalidInputError: Nobody has answered.
        """
        course, standing = self._course, self._standing
        if standing.plan.router is None and standing.phase is Phase.RINGING:
            standing.tell(Input.PARTNER_JOINED)
        if not course.started or standing.situation.partner is Presence.UNSEEN:
            raise InvalidInputError("complete: expected somebody to have answered")
        if standing.phase is Phase.WITH_PARTNER:
            return self.partner
        try:
            await course.run(complete(standing, course.sender))
            await course.cross_out()  # a crash in the block must not undo it
        finally:
            if course.by_hand and self._is_done:
                await course.leave(None)
        return self.partner

    @property
    def _is_done(self) -> bool:
        """Whether no more can come of it, once somebody has been asked for."""
        situation = self._standing.situation
        return situation.ended or situation.phase is Phase.WITH_AGENT

    async def abort(self) -> None:
        """Bring the customer back now, and end the handover.

        Raises:
            CustomerOnHoldError: The customer could not be brought back.
        """
        if self._course.started:
            await self._course.leave(None)

    async def hand_over(self, accept: "Accept") -> str:
        """Do as `SessionPool.hand_over` says."""
        async with self:
            while True:
                ending = Ending.NOT_TAKEN
                if await self._is_taken(accept):
                    with suppress(PartnerLeftError):
                        return await self.complete()
                if self._standing.situation.partner is Presence.LEFT:
                    ending = Ending.LEFT
                if await self._asking.end_attempt():
                    return self.partner  # the agent had hung up already
                self._asking.note(ending)
                await self._asking.reach()

    async def _is_taken(self, accept: "Accept") -> bool:
        """Ask whether the partner took it, for as long as there is a partner."""
        answer = asyncio.ensure_future(accept(self))
        leaving = asyncio.ensure_future(self.partner_left())
        try:
            await asyncio.wait({answer, leaving}, return_when="FIRST_COMPLETED")
            return answer.done() and bool(answer.result())
        finally:
            for task in (answer, leaving):  # the customer can't wait for them
                self._course.abandon(task)


Accept: TypeAlias = Callable[[Consult], Awaitable[bool]]
