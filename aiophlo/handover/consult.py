"""A warm transfer from first ring to last hang-up.

::

    async with pool.consult(
        node, agent=AGENT, customer=CUSTOMER, to=[FIRST, SECOND], router=router
    ) as consult:
        ...  # agent and partner talk, the customer hears music
        await consult.complete()  # the customer talks to the partner

Leaving the block without `complete()`, in whatever way, brings the customer back
to the agent. The state machine is in `states`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self, TypeAlias

from aiophlo.errors import InvalidInputError, PartnerLeftError
from aiophlo.handover.completing import complete
from aiophlo.handover.conversations import Presence
from aiophlo.handover.lifecycle import Lifecycle
from aiophlo.handover.options import HandoverOptions
from aiophlo.handover.registry import HandoverRegistry
from aiophlo.handover.ringing import Ringing
from aiophlo.handover.states import Input, Phase
from aiophlo.handover.watch import Party
from aiophlo.model.handover_records import Ending, Tried
from aiophlo.model.invalid_input import refuse
from aiophlo.sending.sender import Sender


class Consult:
    """A handover: the private talk of agent and partner, and what leads to it.

    Made by `SessionPool.consult`, for one handover. With a router it is used as
    `async with`; by hand, with `start`, `complete` and `abort`. Every method is
    for the pool's event loop.

    Args:
        options: What it is to do.
        sender: Sends for the account.
        registry: Where the pool keeps its open handovers.
    """

    __slots__ = ("_lifecycle", "_ringing", "_status")

    def __init__(
        self, options: HandoverOptions, sender: Sender, registry: HandoverRegistry
    ) -> None:
        self._lifecycle = Lifecycle(options, sender, registry)
        self._ringing = Ringing(self._lifecycle)
        self._status = self._lifecycle.status

    def __repr__(self) -> str:
        return f"<Consult of {self._status!r}>"

    async def __aenter__(self) -> Self:
        """Ring one target after the other until one answers.

        Raises:
            NobodyAnsweredError: Nobody did; the customer is with the agent.
            CustomerLeftError: The customer hung up meanwhile.
            CustomerOnHoldError: The customer could not be brought back.
            VerdictError: A transfer could not be asked for, and nobody else can
                be rung either; the customer is with the agent. NotSentError says
                that nobody was rung before, either. A NotFoundError
                may also mean that the agent has left and no event told of it.
            HandoverError: The pool was closed meanwhile.
            EngagedError: Another open handover is about the agent or about
                everybody to be reached, or has `conference_uuid`.
            InvalidInputError: There is no router, or this one was used.
            JournalError: The journal can't be written; nothing was sent.
        """
        if self._status.options.router is None:
            refuse(
                "router",
                "an EventRouter: without events nobody can see who answers; use"
                " start(), complete() and abort() by hand",
            )
        await self._lifecycle.begin()
        try:
            await self._ringing.reach()
        except BaseException as error:
            await self._lifecycle.leave(error)
            raise
        return self

    async def __aexit__(
        self, _kind: object, error: BaseException | None, _trace: object
    ) -> None:
        """Bring the customer back, unless they are with the partner.

        Waits until that is done; cancelled while it waits, it goes on in the pool.

        Raises:
            CustomerOnHoldError: The customer could not be brought back.
        """
        await self._lifecycle.leave(error)

    @property
    def id(self) -> str:
        """Random; log records call it `phlo_handover`, the journal `id`."""
        return self._status.entry.id

    @property
    def partner(self) -> str:
        """Address of the one who has answered.

        Raises:
            InvalidInputError: Nobody has yet.
        """
        status = self._status
        if status.partner is None or status.situation.partner is Presence.UNSEEN:
            raise InvalidInputError("partner: expected somebody to have answered")
        return status.partner

    @property
    def tried(self) -> tuple[Tried, ...]:
        """Who was to be reached so far, in order, and what came of it.

        The last one is `Ending.ANSWERED` while they talk, and once they have the
        customer.
        """
        return self._ringing.tried

    async def ended(self) -> Party | None:
        """Wait until the private talk has ended, because a party left or otherwise.

        Run it beside the talk, and leave the block when it returns.

        Returns:
            The one who left first, `Party.PARTNER`, `Party.CUSTOMER`, or
            `Party.AGENT`, who leaves the customer to the partner. None if the handover
            is ending for another reason: an abort, `SessionPool.close`, a late answer
            of somebody given up.
        """
        status = self._status
        await status.until(lambda: status.ending or status.first_left is not None)
        return status.first_left

    async def partner_left(self) -> bool:
        """Wait until the partner has left, or the talk has ended otherwise.

        Returns:
            Whether it was the partner who left.
        """
        await self.ended()
        return self._status.situation.partner is Presence.LEFT

    async def start(self) -> None:
        """By hand: ask for the transfer, and don't wait for an answer.

        End it with `complete` or `abort`; `SessionPool.close` aborts it otherwise.
        With a router, it also ends by itself once the agent has left: after
        `ring_for` with an alarm, if nobody answers. Nobody is rung any longer
        for a customer who has left.

        Raises:
            VerdictError: It was not accepted; the customer is with the agent.
            CustomerOnHoldError: It is in doubt, and so is the customer's return.
            EngagedError: Another open handover is about the agent or the one to be
                reached, or has `conference_uuid`.
            InvalidInputError: More than one is to be reached, or this one was used.
            JournalError: The journal can't be written; nothing was sent.
        """
        lifecycle = self._lifecycle
        if len(self._status.options.targets) != 1:
            refuse("to", "one address: by hand nobody sees who answers")
        await lifecycle.begin(self._ringing.end_unless_answered)
        try:
            await self._ringing.reach_the_only_one()
        except BaseException as error:
            await lifecycle.leave(error)
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
        lifecycle, status = self._lifecycle, self._status
        if status.options.router is None and status.phase is Phase.RINGING:
            status.tell(Input.PARTNER_JOINED)
        if not lifecycle.started or status.situation.partner is Presence.UNSEEN:
            raise InvalidInputError("complete: expected somebody to have answered")
        if status.phase is Phase.WITH_PARTNER:
            return self.partner
        try:
            await lifecycle.run(complete(status, lifecycle.sender))
            await lifecycle.cross_out()  # a crash in the block must not undo it
        finally:
            if lifecycle.by_hand and self._is_done:
                await lifecycle.leave(None)
        return self.partner

    @property
    def _is_done(self) -> bool:
        """Whether nothing can change any more, once a target has been rung."""
        situation = self._status.situation
        return situation.ended or situation.phase is Phase.WITH_AGENT

    async def abort(self) -> None:
        """Bring the customer back now, and end the handover.

        Raises:
            CustomerOnHoldError: The customer could not be brought back.
        """
        if self._lifecycle.started:
            await self._lifecycle.leave(None)

    async def hand_over(self, accept: "Accept", *, accept_within: float | None) -> str:
        """Do as `SessionPool.hand_over` says."""
        async with self:
            while True:
                ending = Ending.NOT_TAKEN
                if await self._is_taken(accept, accept_within):
                    with suppress(PartnerLeftError):
                        return await self.complete()
                if self._status.situation.partner is Presence.LEFT:
                    ending = Ending.LEFT
                if await self._ringing.end_attempt():
                    return self.partner  # the agent had hung up already
                self._ringing.note(ending)
                await self._ringing.reach()

    async def _is_taken(self, accept: "Accept", within: float | None) -> bool:
        """Ask whether the partner took it, for as long as there is a private talk."""
        answer = asyncio.ensure_future(accept(self))
        ended = asyncio.ensure_future(self.ended())
        try:
            await asyncio.wait(
                {answer, ended}, timeout=within, return_when="FIRST_COMPLETED"
            )
            return answer.done() and bool(answer.result())
        finally:
            for task in (answer, ended):  # the customer can't wait for them
                self._lifecycle.abandon(task)


Accept: TypeAlias = Callable[[Consult], Awaitable[bool]]
