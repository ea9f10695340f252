"""Where one handover stands, and the wait for news of it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiophlo.addresses import mask
from aiophlo.errors import CustomerLeftError, CustomerOnHoldError
from aiophlo.handover.alarm import sound_alarm
from aiophlo.handover.plan import Plan
from aiophlo.handover.states import Input, Phase, Situation
from aiophlo.routing import Presence


class Standing:
    """Where one handover stands.

    Args:
        plan: What the handover is to do.
        auth_id: The account's.
        agent_gone: Called when the customer is left to the partner, so that
            somebody must look at what becomes of them.

    Attributes:
        plan: The same.
        entry: What a crash must not make anybody forget.
        situation: What is known.
        partner: The one who is being rung, or has answered.
        giving_up: Whether nothing new may begin: the customer is to be brought back.
        transfer_in_doubt: Whether the last transfer was perhaps not taken note of.
        return_in_doubt: Whether the customer's return is only inferred.
        alarm: What was cried out, if the customer may be alone.
        alarm_raised: Whether somebody was told by an exception, too.
    """

    __slots__ = (
        "_agent_gone",
        "_changed",
        "alarm",
        "alarm_raised",
        "entry",
        "giving_up",
        "partner",
        "plan",
        "return_in_doubt",
        "situation",
        "transfer_in_doubt",
    )

    def __init__(
        self, plan: Plan, auth_id: str, agent_gone: Callable[[], None]
    ) -> None:
        self.plan = plan
        self.entry = plan.entry(auth_id)
        self.situation = Situation()
        self.partner: str | None = None
        self.giving_up = False
        self.transfer_in_doubt = False
        self.return_in_doubt = False
        self.alarm: str | None = None
        self.alarm_raised = False
        self._agent_gone = agent_gone
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        who = "" if self.partner is None else f" with {mask(self.partner)}"
        return f"{mask(self.plan.agent)}{who}, {self.situation.phase}"

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
        """Take an input; say whether the customer is still to be brought back."""
        before, self.situation = self.situation, self.situation.after(what)
        if self.situation != before:
            self._wake()
            if self.phase is Phase.ON_HOLD:
                self.sound_alarm()
            if self.phase is Phase.CHECKING is not before.phase:
                self._agent_gone()
        return self.phase is Phase.BRINGING_BACK

    def give_up(self) -> None:
        """Let nothing new begin, and let those who wait hear of it."""
        self.giving_up = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(
        self, condition: Callable[[], bool], within: float | None = None
    ) -> None:
        """Wait until something holds, or so many seconds have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not condition():
                    await self._changed.wait()

    async def while_so(self) -> None:
        """Wait for as long as news may come; without a router none does."""
        if self.plan.router is not None:
            phase, partner = self.phase, self.situation.partner
            await self.until(
                lambda: (
                    self.phase is not phase or self.situation.partner is not partner
                ),
                self.plan.told_within,
            )

    def sound_alarm(self) -> None:
        """Cry out, once, that the customer may be alone."""
        if self.alarm is None:
            targets = "nobody" if self.partner is None else mask(self.partner)
            self.alarm = sound_alarm(self.entry, targets)

    def on_hold(self) -> CustomerOnHoldError:
        """Return the alarm as an error that is about to be raised."""
        self.alarm_raised = True
        return CustomerOnHoldError(self.alarm or "", handover=self.entry)

    def raise_if_ended(self) -> None:
        """Raise if the customer has hung up, or may be alone."""
        if self.phase is Phase.OVER:
            raise CustomerLeftError("the customer has hung up")
        if self.phase is Phase.ON_HOLD:
            raise self.on_hold()
