"""One action of a stream: waits for its turn, is sent, and goes into the journal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import attrs

from aiophlo.batch.circuit_breaker import CircuitBreakers
from aiophlo.batch.unseen import Unseen
from aiophlo.errors import JournalError, PhloError
from aiophlo.model.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason
from aiophlo.sending.delivery import Delivery
from aiophlo.sending.sender import Sender

if TYPE_CHECKING:
    from aiophlo.journal.shared import BatchJournal

_UNTRIED = frozenset({Reason.STOPPED, Reason.CLOSED})


class Item:
    """An action that a stream has taken and sends.

    Args:
        number: Its place in the batch, from 0.
        sender: Sends for its account.
        delivery: Makes the attempts at it.
        key: Its key in the journal.
        journal: The journal that has its key claimed, if there is one.
        doubt: What an earlier run left of it, where it is looked for before it is sent
            again.

    Attributes:
        kept: It was looked for, and not sent again.
    """

    __slots__ = (
        "_intended",
        "_journal",
        "_key",
        "_turn",
        "_waits",
        "delivery",
        "doubt",
        "kept",
        "number",
        "sender",
    )

    def __init__(
        self,
        number: int,
        sender: Sender,
        delivery: Delivery,
        key: str,
        journal: BatchJournal | None,
        *,
        doubt: InDoubt | None = None,
    ) -> None:
        self.doubt = doubt
        self.kept = False
        self.number = number
        self.sender = sender
        self.delivery = delivery
        self._key = key
        self._journal = journal
        self._turn: asyncio.Lock | None = None  # the lock, while this holds it
        self._intended = False
        self._waits = False  # for its slot, or for a retry

    def may_stop(self, *, even_in_flight: bool) -> bool:
        """Say whether its task may be cancelled, which puts in doubt what has left."""
        return even_in_flight or (self._waits and not self.delivery.in_flight)

    async def send(self, turn: asyncio.Lock, breakers: CircuitBreakers) -> Outcome:
        """Wait for its turn, and send it if the breakers admit it.

        The turn is kept until it leaves, so that of all that an account has in
        hand one at a time queues for a slot, and what is stopped stays unsent.
        """
        delivery = self.delivery
        self._waits = True
        try:
            await turn.acquire()
            self._turn = turn
            if not await breakers.admits(self.sender, delivery.action):
                return delivery.not_sent(Reason.STOPPED)
            delivery.on_slot = self._end_turn
            if self._journal is not None:
                delivery.before_leaving = self._intend
            return await self.sender.run(delivery)
        finally:
            self._waits = False
            # Or the two would keep each other alive.
            delivery.on_slot = delivery.before_leaving = None
            self._end_turn()

    async def look(self, unseen: Unseen) -> Outcome | None:
        """Look for it; None if it is to be sent again."""
        if self.doubt is None:
            return None
        self._waits = True
        try:
            outcome = await unseen.settle(self.doubt, self.sender.account)
        finally:
            self._waits = False
        self.kept = outcome is not None
        return outcome

    async def note(self, outcome: Outcome) -> Outcome:
        """Have the journal note the outcome; return it as it stands there.

        Raises:
            JournalError: It could not be noted.
        """
        if self._journal is None:
            return outcome
        if self.kept and isinstance(outcome, Accepted):
            return await self._journal.resolve(self._key, outcome)
        if self.kept:
            self._journal.release(self._key)
            return outcome
        if self._intended or not _is_untried(outcome):
            return await self._journal.settle(self._key, outcome)
        outcome = self._journal.verdict_on(self._key, outcome)
        self._journal.release(self._key)  # the next run finds it as this one did
        return outcome

    def unnoted(self, outcome: Outcome) -> Outcome:
        """Return the outcome as `note` returns it, where `note` has failed."""
        if self._journal is None:
            return outcome
        try:
            return self._journal.verdict_on(self._key, outcome)
        except PhloError:
            return outcome

    def stopped(self) -> Outcome:
        """Return the verdict on an item that is stopped."""
        outcome = self.delivery.cancelled()
        if isinstance(outcome, NotSent):
            return attrs.evolve(outcome, reason=Reason.STOPPED)
        return outcome

    def never_begun(self) -> Outcome:
        """Return the verdict on an item that was lost before it began."""
        if self._journal is not None:
            self._journal.release(self._key)
        return self.stopped()

    def failed(self) -> Outcome:
        """Return the verdict on an item whose `send` raised."""
        return self.stopped()

    async def _intend(self) -> None:
        assert self._journal is not None  # noqa: S101 -- only then it is called
        self._intended = True
        await self._journal.intend(self._key, self.delivery.action)
        may_leave = self.delivery.may_leave
        if may_leave is not None and not may_leave():
            raise JournalError("this runner's lease is over: it was stopped for long")

    def _end_turn(self) -> None:
        if self._turn is not None:
            self._turn.release()
            self._turn = None


def _is_untried(outcome: Outcome) -> bool:
    return isinstance(outcome, NotSent) and outcome.reason in _UNTRIED
