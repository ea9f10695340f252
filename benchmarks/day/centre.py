"""The call centre: what is there all day, and what is seen there."""

import asyncio
import contextlib
import itertools
import random
import ssl
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import attrs

from aiophlo.simulator import Call, Habit, Simulator, State
from benchmarks.day.evidence import Conversation, Evidence, Hold, Kind, Mark
from benchmarks.day.hosts import Balancer, Host
from tests.support.postgres import Postgres

PHLO, NODE = "my-phlo", "my-node"
_LOOK: Final = 0.1  # seconds from one look at the customers to the next


@attrs.frozen
class Options:
    """How busy the day is.

    Attributes:
        minutes: How long it takes.
        seed: Of its chance.
        agents: How many; each is known by two digits.
        between: Seconds from one call of an agent's to the next, in the mean.
        campaign: Rows a second of the campaign.
        strangers: Requests a second of the foreign traffic.
    """

    minutes: float = 20.0
    seed: int = 1
    agents: int = 100
    between: float = 30.0
    campaign: float = 10.0
    strangers: float = 50.0  # of the quota's 60: with ours, too many


@attrs.define(eq=False)
class Customer:
    """A customer who has called.

    Attributes:
        number: Number of the call.
        agent: Who has taken it.
        address: The customer's.
        call: The call, as Plivo has it.
        begin: When it began.
    """

    number: int
    agent: str
    address: str
    call: Call
    begin: float

    @property
    def is_there(self) -> bool:
        """Whether they haven't hung up."""
        return self.call[self.address].present

    @property
    def is_well(self) -> bool:
        """Whether they talk to somebody."""
        talking = [
            one for one in self.call.members.values() if one.state is State.TALKING
        ]
        return len(talking) > 1 and self.call[self.address] in talking

    def hang_up(self) -> None:
        """Let everybody hang up, the customer first."""
        for member in list(self.call.members.values()):
            self.call.leave(member)


@attrs.define(eq=False)
class Centre:
    """Everything that is there.

    Attributes:
        options: How busy it is.
        simulator: Plivo.
        postgres: What the hosts share.
        hosts: The hosts.
        balancer: What is in front of them.
        folder: Where files are put.
        trusted: What its own clients trust.
        evidence: What is seen.
        chance: What happens by chance.
        began: Unix time at which the day began.
        campaign_workers: What works the campaign, by its host's name.
    """

    options: Options
    simulator: Simulator
    postgres: Postgres
    hosts: list[Host]
    balancer: Balancer
    folder: Path
    trusted: ssl.SSLContext
    evidence: Evidence
    chance: random.Random
    began: float = attrs.field(factory=time.time)
    campaign_workers: dict[str, Process] = attrs.field(factory=dict)
    _customers: dict[int, Customer] = attrs.field(factory=dict)
    _numbers: Iterator[int] = attrs.field(factory=itertools.count)
    _partners: Iterator[int] = attrs.field(factory=itertools.count)
    _on_hold: dict[int, float] = attrs.field(factory=dict)
    _late: list[float] = attrs.field(factory=list)

    def now(self) -> float:
        """Return the seconds since the day began."""
        return time.time() - self.began

    @contextlib.contextmanager
    def marked(self, kind: Kind, host: str = "") -> Iterator[None]:
        """Mark on the timeline what goes on meanwhile."""
        begin = self.now()
        try:
            yield
        finally:
            self.evidence.marks.append(Mark(kind, begin, self.now(), host))

    def calls_in(self, agent: str) -> Customer:
        """Let a customer call, and an agent take the call."""
        number = next(self._numbers)
        address = f"+1416{number:07}"
        call = self.simulator.place_call(PHLO, NODE, agent=agent, customer=address)
        customer = Customer(number, agent, address, call, self.now())
        self._customers[number] = customer
        return customer

    def partner(self, habit: Habit) -> str:
        """Give somebody who is asked to take over, and nobody else ever is."""
        address = f"+1417{next(self._partners):07}"
        self.simulator.set_habit(habit, address=address)
        return address

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look after the customers all the time."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            self._look()
            late = sorted(self._late) or [0.0]
            self.evidence.lag = late[len(late) * 99 // 100]

    async def _watch(self) -> None:
        due = time.monotonic()
        while True:
            due = max(due + _LOOK, time.monotonic() - 1.0)
            await asyncio.sleep(due - time.monotonic())
            self._late.append(time.monotonic() - due)
            self._look()

    def _look(self) -> None:
        now = self.now()
        for number, customer in list(self._customers.items()):
            if customer.is_there and not customer.is_well:
                self._on_hold.setdefault(number, now)
            elif number in self._on_hold:
                since = self._on_hold.pop(number)
                self.evidence.holds.append(Hold(number, since, now))
            if customer.call.completed:
                del self._customers[number]
                ended = Conversation(number, customer.agent, customer.begin, now)
                self.evidence.conversations.append(ended)
