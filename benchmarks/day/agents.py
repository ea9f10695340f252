"""An agent: takes calls, transfers and hands over, and now and then clicks twice."""

import asyncio
import contextlib
import itertools
from collections.abc import Mapping
from typing import Any, Final

import attrs

from aiophlo.simulator import Habit, Reaction, State
from benchmarks.day.centre import Centre, Customer
from benchmarks.day.evidence import Asked

_HANDS_OVER: Final = 0.6  # of their calls; the others they transfer
_CLICKS_TWICE: Final = 0.25  # of their clicks
_BETWEEN_CLICKS: Final = 0.3  # seconds, at most
_TALK: Final = 0.5, 3.0  # seconds
_PICKS_UP: Final = 0.5, 3.0  # seconds
_RING_FOR: Final = 8.0  # seconds
_TRIES: Final = 5  # of a click that came to nothing
_TRIES_AGAIN: Final = 1.0, 5.0  # seconds after it
_HEARS: Final = 20.0  # seconds in which a partner is heard, or won't be
_GIVES_UP: Final = 100.0  # seconds for which a customer bears the music

_clicks = itertools.count()


@attrs.frozen
class _Button:
    """What an agent clicks on.

    Attributes:
        what: Which of the service's paths it asks.
        customer: Whose call it is about.
        partners: Whom it may ring.
        asked: What it sends.
    """

    what: str
    customer: Customer
    partners: tuple[str, ...]
    asked: Mapping[str, Any]


class Agent:
    """An agent.

    Args:
        centre: Where they work.
        number: Theirs.
    """

    def __init__(self, centre: Centre, number: int) -> None:
        self._centre = centre
        self._address = f"+1415200{number:04}"
        self._chance = centre.chance

    async def work(self, closed: asyncio.Event) -> None:
        """Take one call after the other, until the centre is closed."""
        while not closed.is_set():
            pause = self._chance.expovariate(1 / self._pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(closed.wait(), pause)
                return
            await self._take_a_call()

    @property
    def _pause(self) -> float:
        return self._centre.options.between

    async def _take_a_call(self) -> None:
        customer = self._centre.calls_in(self._address)
        try:
            await self._talk()
            if self._chance.random() < _HANDS_OVER:
                await self._hand_over(customer)
            else:
                await self._transfer(customer)
            await self._until_well(customer)
            await self._talk()
        finally:
            customer.hang_up()

    async def _talk(self) -> None:
        await asyncio.sleep(self._chance.uniform(*_TALK))

    async def _hand_over(self, customer: Customer) -> None:
        """Ask the service to see the customer through to one of two partners."""
        partners = self._partner(), self._partner()
        asked = {
            "agent": self._address,
            "customer": customer.address,
            "partners": partners,
            "ring_for": _RING_FOR,
        }
        await self._click(_Button("handovers", customer, partners, asked))

    async def _transfer(self, customer: Customer) -> None:
        """Have a partner rung, and hang up once they are on the line."""
        partner = self._partner()
        asked = {"agent": self._address, "partner": partner}
        await self._click(_Button("transfers", customer, (partner,), asked))
        if await self._hears(customer, partner):
            await self._talk()
            customer.call.leave(customer.call[self._address])

    def _partner(self) -> str:
        pick_up = self._chance.uniform(*_PICKS_UP)
        reaction = self._chance.choices(
            [Reaction.ANSWERS, Reaction.DECLINES, Reaction.BUSY, Reaction.IGNORES],
            [85, 8, 4, 3],
        )[0]
        after = 30.0 if reaction is Reaction.IGNORES else pick_up
        return self._centre.partner(Habit(reaction, after=after))

    async def _click(self, button: "_Button") -> None:
        """Click, and again if the service says that nothing rings."""
        for _ in range(_TRIES):
            answers = await self._click_once(button)
            if any(answer.verdict != "not_sent" for answer in answers):
                return
            await asyncio.sleep(self._chance.uniform(*_TRIES_AGAIN))

    async def _click_once(self, button: "_Button") -> list[Asked]:
        click = next(_clicks)
        first = self._ask(button, click)
        if self._chance.random() >= _CLICKS_TWICE:
            return [await first]
        later = self._chance.uniform(0.0, _BETWEEN_CLICKS)
        return [*await asyncio.gather(first, self._ask(button, click, later))]

    async def _ask(self, button: "_Button", click: int, later: float = 0.0) -> Asked:
        await asyncio.sleep(later)
        begun = self._centre.now()
        answer = await self._centre.balancer.ask(button.what, button.asked)
        one = Asked(
            at=begun,
            until=self._centre.now(),
            what=button.what,
            click=click,
            call=button.customer.number,
            agent=self._address,
            partners=button.partners,
            host=answer.host,
            status=answer.status,
            error=answer.error,
        )
        self._centre.evidence.asked.append(one)
        return one

    async def _hears(self, customer: Customer, partner: str) -> bool:
        """Wait for the partner's voice: no answer of a machine's is needed for it."""
        members = customer.call.members

        def decided(_: object) -> bool:
            rung = members.get(partner)
            return rung is not None and rung.state is not State.RINGING

        if not self._was_rung(partner):
            return False
        try:
            await self._centre.simulator.wait_for(decided, within=_HEARS)
        except TimeoutError:
            return False
        return members[partner].inside

    def _was_rung(self, partner: str) -> bool:
        return self._centre.simulator.ledger.dials(partner) > 0

    async def _until_well(self, customer: Customer) -> None:
        """Wait until the customer talks to somebody, has hung up, or gives up."""
        try:
            await self._centre.simulator.wait_for(
                lambda _: customer.is_well or not customer.is_there, within=_GIVES_UP
            )
        except TimeoutError:
            return
