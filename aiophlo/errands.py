"""One action of a batch, from its turn to its line in the journal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import attrs

from aiophlo.breakers import Breakers
from aiophlo.errors import PhloError
from aiophlo.outcomes import InDoubt, NotSent, Outcome, Reason
from aiophlo.sending import Journey

if TYPE_CHECKING:
    from aiophlo.journal import Journal

_UNTRIED = frozenset({Reason.STOPPED, Reason.CLOSED})


class Errand:
    """An action in hand that is to be sent.

    Args:
        number: Its place in the batch, from 0.
        journey: Takes it to its outcome.
        key: What the journal knows it by.
        journal: Where it has been recalled, if there is one.

    Attributes:
        task: Sees to it.
    """

    __slots__ = (
        "_begun",
        "_intended",
        "_journal",
        "_key",
        "_turn",
        "_waits",
        "journey",
        "number",
        "task",
    )

    task: asyncio.Task[None]

    def __init__(
        self, number: int, journey: Journey, key: str, journal: Journal | None
    ) -> None:
        self.number = number
        self.journey = journey
        self._key = key
        self._journal = journal
        self._turn: asyncio.Lock | None = None  # while it holds it
        self._intended = False
        self._begun = False  # the task has taken its first step
        self._waits = False  # to leave, or to be sent again

    def stop(self, *, even_in_flight: bool = False) -> None:
        """Cancel its task, unless that would put something in doubt or lose it."""
        waits = self._waits and not self.journey.in_flight
        if waits or (even_in_flight and self._begun):
            self.task.cancel()

    async def send(self, turn: asyncio.Lock, breakers: Breakers) -> Outcome:
        """Wait for its turn, and send it if the breakers admit it.

        The turn is kept until it leaves, so that of all that an account has in
        hand one at a time queues for a slot, and what is stopped stays unsent.
        """
        journey = self.journey
        self._begun = self._waits = True
        try:
            await turn.acquire()
            self._turn = turn
            if not await breakers.admits(journey.sender, journey.action):
                return journey.not_sent(Reason.STOPPED)
            journey.before_leaving = self._leave
            return await journey.sender.run(journey)
        finally:
            self._waits = False
            journey.before_leaving = None  # or the two would keep each other alive
            self._end_turn()

    async def note(self, outcome: Outcome) -> Outcome:
        """Have the journal note the outcome; return it as it stands there.

        Raises:
            JournalError: It could not be noted.
        """
        if self._journal is None:
            return outcome
        if self._intended or not _is_untried(outcome):
            return await self._journal.settle(self._key, outcome)
        outcome = self._journal.verdict_on(self._key, outcome)
        self._journal.release(self._key)  # the next run finds it as this one did
        return outcome

    def unnoted(self, outcome: Outcome) -> Outcome:
        """Return what `note` would have, had it not failed."""
        try:
            return self._journal.verdict_on(self._key, outcome)  # type: ignore[union-attr]
        except PhloError:
            return outcome

    def stopped(self) -> Outcome:
        """Return the verdict on one that goes no further."""
        outcome = self.journey.cancelled()
        if isinstance(outcome, NotSent):
            return attrs.evolve(outcome, reason=Reason.STOPPED)
        return outcome

    def never_begun(self) -> Outcome:
        """Return the verdict on one whose task never took a step."""
        if self._journal is not None:
            self._journal.release(self._key)
        return self.stopped()

    def failed(self, error: BaseException) -> Outcome:
        """Return the verdict on one whose `send` raised `error`."""
        attempts = self.journey.attempts
        if not attempts or isinstance(error, asyncio.CancelledError):
            return self.stopped()
        action = self.journey.action
        return InDoubt(action=action, reason=Reason.UNKNOWN, attempts=attempts)

    async def _leave(self) -> None:
        self._end_turn()
        if self._journal is not None:
            self._intended = True
            await self._journal.intend(self._key, self.journey.action)

    def _end_turn(self) -> None:
        if self._turn is not None:
            self._turn.release()
            self._turn = None


def _is_untried(outcome: Outcome) -> bool:
    return isinstance(outcome, NotSent) and outcome.reason in _UNTRIED
