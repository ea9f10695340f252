"""Recovery after a crash: aborts the transfers of handovers that were left open.

They are found in the journal of a process that has died, or are taken over from one
that other pools don't hear of any more.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import attrs

from aiophlo.coordination import Claim, Lease, Whereabouts
from aiophlo.errors import InvalidInputError
from aiophlo.handover.aborting import AbortAnswers, bring_back
from aiophlo.handover.alarm import sound_alarm
from aiophlo.handover.registry import HandoverRegistry
from aiophlo.handover.requests import abort_once, input_about_agent
from aiophlo.handover.states import Input, Phase, Situation
from aiophlo.journal.open_handovers import HandoverTable
from aiophlo.logs import logger
from aiophlo.model.actions import AbortTransfer
from aiophlo.model.enums import MaskedStrEnum
from aiophlo.model.handover_records import OpenHandover
from aiophlo.model.outcomes import NotSent, Outcome, Reason
from aiophlo.observed_events import HandoverEnded, HandoverStep
from aiophlo.sending.sender import Sender

_PAUSE: Final = 0.5  # seconds between the first two aborts


class Recovery(MaskedStrEnum):
    """What came of a handover that a crash left open."""

    BROUGHT_BACK = "brought_back"  #: the abort was accepted
    NO_TRANSFER = "no_transfer"  #: there was none any more; nobody is on hold
    WITH_PARTNER = "with_partner"  #: the agent has left them to who was rung
    OVER = "over"  #: the customer has hung up
    UNKNOWN = "unknown"  #: act now, the customer may be on hold
    ENGAGED = "engaged"  #: nothing was sent; the agent is in a newer handover
    TOO_OLD = "too_old"  #: nothing was sent; look yourself whether they are on hold
    TAKEN_OVER = "taken_over"  #: another process has seen, or sees, to the customer


_ENDS: Final = {
    Input.ACCEPTED: Recovery.BROUGHT_BACK,
    Input.NO_TRANSFER: Recovery.NO_TRANSFER,
}
_LAST: Final = {
    Recovery.BROUGHT_BACK: Phase.WITH_AGENT,
    Recovery.NO_TRANSFER: Phase.WITH_AGENT,
    Recovery.WITH_PARTNER: Phase.WITH_PARTNER,
    Recovery.OVER: Phase.OVER,
    Recovery.TAKEN_OVER: Phase.TAKEN_OVER,
}  # phases; any other is the alarm
_SEEN: Final = {
    Whereabouts.WITH_PARTNER: Recovery.WITH_PARTNER,
    Whereabouts.OVER: Recovery.OVER,
}
_UNSETTLED: Final = frozenset({Recovery.UNKNOWN, Recovery.ENGAGED})
_REFUSALS: Final = {
    Claim.TAKEN_OVER: Recovery.TAKEN_OVER,
    Claim.ENGAGED: Recovery.ENGAGED,
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


class Rescuer:
    """Brings the customers of handovers back whose processes can't.

    Args:
        registry: Where the pool keeps its own.
        sender_of: Gives what sends for an account, by its auth_id.
        not_older_than: Seconds, of what is not aborted any more.
        within: Seconds for which an abort is tried again.
    """

    def __init__(
        self,
        registry: HandoverRegistry,
        sender_of: Callable[[str], Sender],
        *,
        not_older_than: float,
        within: float,
    ) -> None:
        self._registry = registry
        self._sender_of = sender_of
        self._not_older_than = not_older_than
        self._within = within

    async def recover(
        self, handover: OpenHandover, lease: Lease, age: float
    ) -> Recovery:
        """Bring the customer of one handover back, and raise the alarm if that fails.

        Args:
            handover: Which.
            lease: Its lease, which is claimed before anything is sent.
            age: Seconds since nobody can say what the agent has begun.
        """
        recovery = Recovery.UNKNOWN
        try:
            recovery = await self._recovery_of(handover, lease, age)
        finally:
            if recovery not in _LAST:
                sound_alarm(handover, handover.targets)
            self._tell_end(handover, recovery)
        return recovery

    def _tell_end(self, handover: OpenHandover, recovery: Recovery) -> None:
        try:
            sender = self._sender_of(handover.account)
        except InvalidInputError:
            return
        if sender.observers.listening:
            phase = _LAST.get(recovery, Phase.ON_HOLD)
            seconds = max(time.time() - handover.began_at, 0.0)
            alarm = phase is Phase.ON_HOLD
            sender.observers.tell(
                HandoverEnded(sender.account, handover.id, str(phase), seconds, alarm)
            )

    async def _recovery_of(
        self, handover: OpenHandover, lease: Lease, age: float
    ) -> Recovery:
        refusal = _REFUSALS.get(await lease.claim())
        if refusal is Recovery.TAKEN_OVER:
            return refusal
        try:
            sender = self._sender_of(handover.account)
        except InvalidInputError:
            sender = None  # and so there are no observers of that account, either
        reason = refusal or self._why_untouched(handover, age)
        if sender is None:
            return reason or Recovery.UNKNOWN
        if reason is not None:
            _tell_step(sender, handover, Phase.ON_HOLD, cause=reason)
            return reason
        rescued = _Rescued(self._within)
        self._registry.begin(rescued)
        self._registry.engage(handover.agent, rescued)
        try:
            return await _Return(handover, sender, lease).bring_back(self._within)
        finally:
            self._registry.leave(rescued)

    def _why_untouched(self, handover: OpenHandover, age: float) -> Recovery | None:
        """Say why nothing is sent for a handover; None if something is."""
        if age > self._not_older_than:
            logger.warning(
                "a handover is too old to be recovered: %r",
                handover,
                extra={"phlo_handover": handover.id},
            )
            return Recovery.TOO_OLD
        if self._registry.is_engaged(handover.agent):
            return Recovery.ENGAGED
        return None


class _Return:
    """One customer on the way back to the agent.

    Args:
        handover: Which one.
        sender: Sends the aborts.
        lease: Is asked before each, and may be lost meanwhile.
    """

    def __init__(self, handover: OpenHandover, sender: Sender, lease: Lease) -> None:
        self._handover = handover
        self._sender = sender
        self._lease = lease
        self._action = AbortTransfer(
            phlo_id=handover.phlo_id, node_id=handover.node_id, member=handover.agent
        )
        self._newer = sender.context.claims.follow(self._action)
        self._situation = Situation(phase=Phase.BRINGING_BACK)
        self._recovery: Recovery | None = None
        self._seen: Recovery | None = None  # where the customer was without the agent
        lease.when_taken_over = self._taken_over

    async def bring_back(self, within: float) -> Recovery:
        """Abort until it is known where the customer is, or for so many seconds."""
        self._tell_step(self._situation.phase, cause="recovered")
        answers = AbortAnswers(late=True)  # a killed process may just have asked
        try:
            await bring_back(
                self._abort,
                self._tell,
                answers,
                claim=self._lease.claim,
                newer=self._newer,
                within=within,
                pause=_PAUSE,
            )
        finally:
            self._sender.context.claims.unfollow(self._newer)
        return self._recovery or Recovery.UNKNOWN

    def _taken_over(self) -> None:
        self._recovery = Recovery.TAKEN_OVER

    async def _abort(self, within: float) -> Outcome:
        elsewhere = await self._lease.look_elsewhere()
        if elsewhere is not None:  # it would end what they do in their newer call
            self._recovery = _SEEN[elsewhere]
            before = self._situation.phase
            self._tell_step(_LAST[self._recovery], before, "agent_elsewhere")
            return NotSent(action=self._action, reason=Reason.CANCELLED, attempts=0)
        outcome = await abort_once(
            self._action,
            within,
            sender=self._sender,
            lease=self._lease,
            handover=self._handover.id,
            is_wanted=lambda: not self._newer,
        )
        if input_about_agent(outcome) is Input.NO_AGENT:
            self._seen = _SEEN.get(await self._lease.look())
        return outcome

    def _tell(self, what: Input) -> bool:
        """Take what an abort came to; say whether another one is to be tried."""
        if self._recovery is not None:
            return False
        self._recovery = self._seen if what is Input.NO_AGENT else _ENDS.get(what)
        before = self._situation.phase
        phase = (
            _LAST[self._recovery]
            if self._recovery
            else self._situation.after(what).phase
        )
        if phase is not Phase.BRINGING_BACK:
            self._tell_step(phase, before, what)
        return phase is Phase.BRINGING_BACK

    def _tell_step(self, phase: str, before: str = "", cause: str = "") -> None:
        _tell_step(self._sender, self._handover, phase, before, cause)


class Rescue:
    """Recovers the handovers of one journal.

    Args:
        table: The open handovers.
        registry: Where the pool keeps its own.
        rescuer: Brings each back.
    """

    def __init__(
        self, table: HandoverTable, registry: HandoverRegistry, rescuer: Rescuer
    ) -> None:
        self._table = table
        self._registry = registry
        self._rescuer = rescuer

    async def run(self) -> list[Recovered]:
        """Recover every handover that is open in the journal and not in this process.

        Those of one agent are recovered one by one, the latest first: its customer
        is the likeliest to be on hold.
        """
        left_open = self._table.left_open()
        mine = [one for one in left_open if self._table.care_for(one)]
        turns = {one.agent: asyncio.Lock() for one in mine}
        tasks = {
            one.id: self._registry.own(self._recover(one, turns[one.agent]), one.id)
            for one in reversed(mine)
        }
        return [await asyncio.shield(tasks[one.id]) for one in mine]

    async def _recover(self, handover: OpenHandover, turn: asyncio.Lock) -> Recovered:
        recovery = Recovery.UNKNOWN
        lease = self._registry.shared.adopt(handover)
        try:
            async with turn:
                age = time.time() - handover.began_at
                recovery = await self._rescuer.recover(handover, lease, age)
        finally:
            lease.end(alarmed=recovery in _UNSETTLED)
            if recovery in _UNSETTLED:
                self._table.let_go(handover)
            else:
                await self._table.end(handover)
        return Recovered(handover, recovery)


class Takeovers:
    """Sees to the handovers that a coordinator takes over from other pools.

    Args:
        registry: Where the pool keeps its own.
        rescuer: Brings each back.
    """

    def __init__(self, registry: HandoverRegistry, rescuer: Rescuer) -> None:
        self._registry = registry
        self._rescuer = rescuer

    def __call__(self, handover: OpenHandover, lease: Lease, overdue: float) -> None:
        """Begin to bring a customer back; see `coordination.TakeOver`."""
        logger.warning(
            "taking over from a process that ended, was stopped or is cut off: %r",
            handover,
            extra={"phlo_handover": handover.id},
        )
        _ = self._registry.own(self._recover(handover, lease, overdue), handover.id)

    async def _recover(
        self, handover: OpenHandover, lease: Lease, overdue: float
    ) -> None:
        recovery = Recovery.UNKNOWN
        try:
            recovery = await self._rescuer.recover(handover, lease, overdue)
            logger.warning(
                "taken over: %s, %r",
                recovery,
                handover,
                extra={"phlo_handover": handover.id},
            )
        finally:
            lease.end(alarmed=recovery in _UNSETTLED)


def _tell_step(
    sender: Sender,
    handover: OpenHandover,
    phase: str,
    before: str = "",
    cause: str = "",
) -> None:
    if sender.observers.listening:
        sender.observers.tell(
            HandoverStep(
                sender.account,
                handover.id,
                str(phase),
                str(before),
                cause=str(cause),
                customer=handover.customer,
            )
        )


class _Rescued:
    """Keeps an agent from being in a new handover meanwhile."""

    def __init__(self, patience: float) -> None:
        self.patience = patience

    def end(self) -> None:
        """Go on: that is what it does anyway."""
