"""After a crash: bring back the customers of handovers that nobody saw through."""

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import attrs

from aiophlo.actions import AbortTransfer
from aiophlo.errors import InvalidInputError
from aiophlo.handover.aborting import AbortAnswers, bring_back
from aiophlo.handover.alarm import logger, sound_alarm
from aiophlo.handover.care import Care
from aiophlo.handover.states import Input, Phase, Situation
from aiophlo.handover.table import HandoverTable, OpenHandover
from aiophlo.outcomes import Outcome
from aiophlo.sending import Journey, Sender

_PAUSE: Final = 0.5  # seconds between the first two aborts


class Recovery(StrEnum):
    """What came of a handover that a crash left open."""

    BROUGHT_BACK = "brought_back"  # the abort was accepted
    NO_TRANSFER = "no_transfer"  # there was none any more: nobody is on hold
    UNKNOWN = "unknown"  # act now: the customer may be on hold
    ENGAGED = "engaged"  # nothing was sent: the agent is in a newer handover
    TOO_OLD = "too_old"  # nothing was sent: look yourself whether they are on hold


_ENDS: Final = {
    Input.ACCEPTED: Recovery.BROUGHT_BACK,
    Input.NO_TRANSFER: Recovery.NO_TRANSFER,
}


@attrs.frozen
class Recovered:
    """A handover that a crash left open, and what came of it.

    Attributes:
        handover: Which one.
        recovery: What came of it.
    """

    handover: OpenHandover
    recovery: Recovery


class Rescue:
    """Brings the customers of one journal's handovers back.

    Args:
        table: The open handovers.
        care: Where the pool keeps its own.
        sender_of: Gives what sends for an account, by its auth_id.
        not_older_than: Seconds.
        within: Seconds.
    """

    def __init__(
        self,
        table: HandoverTable,
        care: Care,
        sender_of: Callable[[str], Sender],
        *,
        not_older_than: float,
        within: float,
    ) -> None:
        self._table = table
        self._care = care
        self._sender_of = sender_of
        self._not_older_than = not_older_than
        self._within = within

    async def run(self) -> list[Recovered]:
        """See to every handover that is open and in nobody's care.

        Those of one agent come one by one, the latest first: its customer is the
        likeliest to be on hold.
        """
        left_open = self._table.left_open()
        mine = [one for one in left_open if self._table.care_for(one)]
        turns = {one.agent: asyncio.Lock() for one in mine}
        tasks = {
            one.id: self._care.own(self._see_to(one, turns[one.agent]))
            for one in reversed(mine)
        }
        return [await asyncio.shield(tasks[one.id]) for one in mine]

    async def _see_to(self, handover: OpenHandover, turn: asyncio.Lock) -> Recovered:
        recovery = Recovery.UNKNOWN
        try:
            async with turn:
                recovery = await self._recovery_of(handover)
        finally:
            if recovery not in _ENDS.values():
                sound_alarm(handover, handover.targets)
            if recovery in {Recovery.UNKNOWN, Recovery.ENGAGED}:
                self._table.let_go(handover)
            else:
                await self._table.end(handover)
        return Recovered(handover, recovery)

    async def _recovery_of(self, handover: OpenHandover) -> Recovery:
        if time.time() - handover.began_at > self._not_older_than:
            logger.warning("a handover is too old to be recovered: %r", handover)
            return Recovery.TOO_OLD
        if self._care.is_engaged(handover.agent):
            return Recovery.ENGAGED
        try:
            sender = self._sender_of(handover.account)
        except InvalidInputError:
            return Recovery.UNKNOWN
        rescued = _Rescued(self._within)
        self._care.begin(rescued)
        self._care.engage(handover.agent, rescued)
        try:
            return await self._abort(handover, sender)
        finally:
            self._care.leave(rescued)

    async def _abort(self, handover: OpenHandover, sender: Sender) -> Recovery:
        action = AbortTransfer(
            phlo_id=handover.phlo_id, node_id=handover.node_id, member=handover.agent
        )
        told: list[Input] = []
        situation = Situation(phase=Phase.BRINGING_BACK)

        async def abort(within: float) -> Outcome:
            return await sender.run(Journey(sender, action, within))

        def tell(what: Input) -> bool:
            told.append(what)
            return situation.after(what).phase is Phase.BRINGING_BACK

        answers = AbortAnswers(late=True)  # a killed process may just have asked
        await bring_back(abort, tell, answers, within=self._within, pause=_PAUSE)
        return _ENDS.get(told[-1], Recovery.UNKNOWN)


class _Rescued:
    """Keeps an agent from being in a new handover meanwhile."""

    def __init__(self, patience: float) -> None:
        self.patience = patience

    def end(self) -> None:
        """Go on: that is what it does anyway."""
