"""The status of one handover, and the wait for its next change."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiophlo.coordination import Lease
from aiophlo.errors import CustomerLeftError, CustomerOnHoldError, TakenOverError
from aiophlo.handover.alarm import sound_alarm
from aiophlo.handover.conversations import Presence
from aiophlo.handover.options import HandoverOptions
from aiophlo.handover.registry import OwnLease
from aiophlo.handover.states import Input, Phase, Situation
from aiophlo.handover.watch import Party
from aiophlo.model.handover_records import Ending
from aiophlo.model.redaction import mask
from aiophlo.sending.superseding import NewerTransfers


class HandoverStatus:
    """Where one handover stands.

    Args:
        options: What the handover is to do.
        auth_id: The account's.
        agent_gone: Called when the agent is gone and the customer is left to the
            partner, so that a task must check where the customer is.

    Attributes:
        options: The same.
        entry: The row for the journal, from which a crash is recovered.
        situation: What is known.
        partner: The one who is being rung, or has answered.
        giving_up: Whether nothing new may begin: the customer is to be brought back.
        sighted: How the ring of a transfer in doubt has ended, as Plivo's list shows.
        transfer_in_doubt: Whether the outcome of the last transfer is in doubt.
        return_in_doubt: Whether the customer's return is only inferred.
        settling: A lock for what is sent to settle where the customer is: one
            request at a time.
        first_left: Who was the first of agent, customer and present partner to leave.
        lease: Its right to act in this process.
        alarm: The text of the alarm, if the customer may be alone.
        agent_is_elsewhere: Says whether events tell that the agent is in a newer call,
            in which a request that is about the agent would take effect.
        newer_transfers: What the agent has begun since the last transfer; None before.
        on_step: Called with the phase before and what ended it, if anybody listens.
        alarm_raised: Whether an exception has told the caller of it, too.
        unseen: How many rings ended without any event of that call.
    """

    __slots__ = (
        "_agent_gone",
        "_changed",
        "agent_is_elsewhere",
        "alarm",
        "alarm_raised",
        "entry",
        "first_left",
        "giving_up",
        "lease",
        "newer_transfers",
        "on_step",
        "options",
        "partner",
        "return_in_doubt",
        "settling",
        "sighted",
        "situation",
        "transfer_in_doubt",
        "unseen",
    )

    def __init__(
        self, options: HandoverOptions, auth_id: str, agent_gone: Callable[[], None]
    ) -> None:
        self.options = options
        self.entry = options.entry(auth_id)
        self.lease: Lease = OwnLease()
        self.situation = Situation()
        self.agent_is_elsewhere: Callable[[], bool] = _never
        self.newer_transfers: NewerTransfers | None = None
        self.on_step: Callable[[Phase, Input], None] | None = None
        self.partner: str | None = None
        self.giving_up = False
        self.sighted: Ending | None = None
        self.transfer_in_doubt = False
        self.return_in_doubt = False
        self.settling = asyncio.Lock()
        self.first_left: Party | None = None
        self.alarm: str | None = None
        self.alarm_raised = False
        self.unseen = 0
        self._agent_gone = agent_gone
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        who = "" if self.partner is None else f" with {mask(self.partner)}"
        return f"{mask(self.options.agent)}{who}, {self.situation.phase}"

    @property
    def phase(self) -> Phase:
        """What is going on."""
        return self.situation.phase

    @property
    def ending(self) -> bool:
        """Whether it is over, or about to be."""
        return self.giving_up or self.situation.ended

    @property
    def may_join_late(self) -> bool:
        """Whether the last transfer may take effect though nobody was seen."""
        return self.transfer_in_doubt and self.situation.partner is Presence.UNSEEN

    def tell(self, what: Input) -> bool:
        """Apply an input; say whether the customer is still to be brought back."""
        before, self.situation = self.situation, self.situation.after(what)
        if self.situation != before:
            self._note_who_left(before, what)
            self._wake()
            if self.on_step is not None and self.phase is not before.phase:
                self.on_step(before.phase, what)
            if self.phase is Phase.ON_HOLD:
                self.sound_alarm()
            if self.phase is Phase.CHECKING is not before.phase:
                self._agent_gone()
        return self.phase is Phase.BRINGING_BACK

    def note_newer_call(self) -> None:
        """Take a newer call of the agent's as proof of the leave that an event told.

        An event of an earlier call, which comes late, is none by itself.
        """
        now = self.situation
        someone_left = now.agent_left or now.customer_left
        if someone_left and not now.ended and self.agent_is_elsewhere():
            self.tell(Input.AGENT_LEFT)
            self.tell(Input.NO_AGENT)

    def _note_who_left(self, before: Situation, what: Input) -> None:
        """Record who left first; a partner whose transfer we aborted hasn't left."""
        now = self.situation
        if now.phase is Phase.ASKING is not before.phase:
            self.first_left = None  # it was the partner before this one
        if now.customer_left and not before.customer_left:
            left = Party.CUSTOMER
        elif what is Input.PARTNER_LEFT:
            left = Party.PARTNER
        elif now.agent_left and not before.agent_left:
            left = Party.AGENT
        else:
            return
        self.first_left = self.first_left or left

    def sight(self, ending: Ending) -> None:
        """Note that the phone was hung up, and wake the task that waits for it."""
        self.sighted = ending
        self._wake()

    def give_up(self) -> None:
        """Let no new step begin, and wake the tasks that wait for a change."""
        self.giving_up = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(
        self, condition: Callable[[], bool], within: float | None = None
    ) -> None:
        """Wait until a condition holds, or so many seconds have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not condition():
                    await self._changed.wait()

    async def while_so(self) -> None:
        """Wait for as long as late events may come; without a router none do."""
        if self.options.router is not None:
            phase, partner = self.phase, self.situation.partner
            await self.until(
                lambda: (
                    self.phase is not phase or self.situation.partner is not partner
                ),
                self.options.told_within,
            )

    def sound_alarm(self) -> None:
        """Log, once, as CRITICAL that the customer may be alone."""
        if self.alarm is None:
            targets = "nobody" if self.partner is None else mask(self.partner)
            self.alarm = sound_alarm(self.entry, targets)

    def on_hold(self) -> CustomerOnHoldError:
        """Return the alarm as an error that is about to be raised."""
        self.alarm_raised = True
        return CustomerOnHoldError(self.alarm or "", handover=self.entry)

    def raise_if_ended(self) -> None:
        """Raise if the customer has hung up, may be alone, or is seen to elsewhere."""
        if self.phase is Phase.OVER:
            raise CustomerLeftError("the customer has hung up")
        if self.phase is Phase.ON_HOLD:
            raise self.on_hold()
        if self.phase is Phase.TAKEN_OVER:
            raise TakenOverError(
                "another process has taken the handover over, and sees to the customer"
            )


def _never() -> bool:
    return False
