"""What comes late about an ended handover: an alarm only if somebody is alone."""

import asyncio

import pytest

from aiophlo import EventRouter
from aiophlo.handover.watch import Party, Watch
from aiophlo.webhooks.events import Event
from tests.handover.test_event_router import AGENT, CUSTOMER, PARTNER, enter, leave
from tests.handover.test_shared_events import as_coordinator
from tests.support.shared_calls import SharedHere

ELSEWHERE = "another conversation"


class Ended:
    """A handover that has ended in one process, of which another one knew more.

    Attributes:
        found: Each time it was found that the customer was alone.
    """

    def __init__(self, host: Party) -> None:
        self.shared = SharedHere()
        coordinator = as_coordinator(self.shared)
        self.here = EventRouter(coordinator=coordinator, told_within=0.001)
        self.there = EventRouter(coordinator=coordinator)
        self.found: list[str] = []
        self._host = host
        for member in (AGENT, CUSTOMER):
            self.there.feed(enter(member))
        self.watch: Watch = self.here.watch(
            agent=AGENT, customer=CUSTOMER, tell=lambda *_: None
        )
        self.here.follow(self.watch, PARTNER)
        self.there.feed(enter(PARTNER))
        self.shared.time = 10.0

    def end(self) -> None:
        """End it."""
        self.here.forget(self.watch)
        self.here.remember(self.watch, self._host, lambda: self.found.append("alone"))

    async def tell(self, *events: Event, at: float) -> None:
        """Tell what another process heard at some time, and wait for what follows."""
        later, self.shared.time = self.shared.time, at
        for event in events:
            self.there.feed(event)
        self.shared.time = later
        await asyncio.sleep(0.02)


HOSTS = [(Party.AGENT, AGENT), (Party.PARTNER, PARTNER)]


@pytest.mark.parametrize(("host", "address"), HOSTS)
async def test_host_who_had_left_is_found_out(host: Party, address: str) -> None:
    """The customer has been listening to nothing since."""
    ended = Ended(host)
    ended.end()
    await ended.tell(leave(address), at=9.0)
    assert ended.found == ["alone"]
    await ended.tell(leave(address), at=9.0)
    assert ended.found == ["alone"], "once is enough"


@pytest.mark.parametrize(("host", "address"), HOSTS)
async def test_what_follows_a_handover_is_not_its_affair(
    host: Party, address: str
) -> None:
    """Every call ends, and most after their handover."""
    ended = Ended(host)
    ended.end()
    await ended.tell(leave(address), at=10.5)
    assert ended.found == []


@pytest.mark.parametrize(("host", "address"), HOSTS)
@pytest.mark.parametrize("first", [True, False])
async def test_customer_who_has_left_is_not_alone(
    host: Party, address: str, *, first: bool
) -> None:
    """In whatever order that is told."""
    ended = Ended(host)
    ended.end()
    leaves = [leave(CUSTOMER), leave(address)]
    await ended.tell(*(leaves if first else reversed(leaves)), at=9.0)
    assert ended.found == []


async def test_leave_of_somebody_else_says_nothing() -> None:
    """The agent has left, as they should."""
    ended = Ended(Party.PARTNER)
    ended.end()
    await ended.tell(leave(AGENT), at=9.0)
    assert ended.found == []


async def test_leave_of_a_call_elsewhere_says_nothing() -> None:
    """The agent's call before this one ended late."""
    ended = Ended(Party.AGENT)
    ended.end()
    await ended.tell(leave(AGENT, ELSEWHERE), at=9.0)
    assert ended.found == []


async def test_handovers_of_long_ago_are_forgotten() -> None:
    """A process runs for weeks, and hands over hundreds an hour."""
    ended = Ended(Party.AGENT)
    ended.end()
    ended.shared.time += 301.0
    ended.here.remember(ended.watch, Party.AGENT, lambda: None)
    assert len(ended.here._late_news._ended) == 1  # noqa: SLF001 -- nothing else shows it
