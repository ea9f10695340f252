"""Who was where, held against what was said: the judgement over handovers.

The simulator's calls know where everybody is, whatever the events told.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import attrs

from aiophlo.simulator import Call, Habit, Member, Simulator, State
from aiophlo.webhooks.events import Event, MemberLeft
from tests.support.handover_scenarios import Scenario

CUSTOMER_IS_WELL: Final = frozenset({"well", "gone", "alone later"})


class Lags:
    """Measures how late it is told that somebody has left.

    Args:
        clock: Gives seconds.

    Attributes:
        clock: The same.
        longest: Seconds, until somebody's leaving was heard of first.
        told: When each call's end was heard of first, by call_uuid.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.longest = 0.0
        self.told: dict[str, float] = {}
        self._left: dict[str, float] = {}
        self._changed = asyncio.Event()

    def left(self, call_uuid: str) -> None:
        """Note that somebody leaves now."""
        self._left[call_uuid] = self.clock()

    def tell(self, event: Event) -> None:
        """Note that an event has come."""
        uuid = event.call_uuid or ""
        if isinstance(event, MemberLeft) and uuid in self._left:
            self.told[uuid] = self.clock()
            self.longest = max(self.longest, self.told[uuid] - self._left.pop(uuid))
            self._changed.set()
            self._changed = asyncio.Event()

    async def all_told(self, call: Call, within: float) -> None:
        """Wait until all leavings so far were told, or so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while any(one.call_uuid in self._left for one in call.members.values()):
                    await self._changed.wait()


@attrs.define(eq=False)
class Witness:
    """Looks at one call whenever something in it has changed.

    Attributes:
        scenario: Whose call.
        call: The call, which knows where everybody is.
        lags: Knows when leavings were told.
        told_within: Seconds for which the handover waits for news.
        alarm: Whether somebody was told that the customer may be on hold.
        two_joined: Whether two targets were ever inside at once.
        alone_since: When everybody had left the customer, who is still there.
        ended: How it ended for the one who handed over.
        ended_at: When all of it had ended.
        handover: Its id.
    """

    scenario: Scenario
    call: Call
    lags: Lags = attrs.field(repr=False)
    told_within: float
    alarm: bool = False
    two_joined: bool = False
    alone_since: float | None = None
    ended: str = ""
    ended_at: float = math.inf
    handover: str = ""
    _last: Member | None = attrs.field(default=None, repr=False)
    _agent_left_at: float = math.nan

    def leaves(self, member: Member) -> None:
        """Take note of a leaving."""
        self._last = member
        if member.address == self.scenario.agent:
            self._agent_left_at = self.lags.clock()

    def look(self) -> None:
        """Take note of who is where."""
        inside = {one for one, who in self.call.members.items() if who.inside}
        self.two_joined |= len(inside.intersection(self.scenario.targets)) > 1
        if inside != {self.scenario.customer}:
            self.alone_since = None
        elif self.alone_since is None:
            self.alone_since = self.lags.clock()

    @property
    def customer(self) -> str:
        """Where the customer is: well, gone, on_hold, alone, or alone later."""
        customer = self.call.members[self.scenario.customer]
        if not customer.inside:
            return "gone"
        if customer.state is State.ON_HOLD:
            return "on_hold"
        if self.alone_since is None:
            return "well"
        return "alone later" if self._is_end_of_a_talk(self.alone_since) else "alone"

    def _is_end_of_a_talk(self, alone_since: float) -> bool:
        """Say whether it was no longer the handover's business to see to them.

        That is so if the last one's leaving was told after the handover had ended,
        and a partner's only if it had waited long enough for such news: until
        `told_within` after the agent had left. That they had talked is no excuse.
        """
        assert self._last is not None
        news = self.lags.told.get(self._last.call_uuid, alone_since)
        if news <= self.ended_at:
            return False
        by_agent = self._last.address == self.scenario.agent
        return by_agent or self.ended_at - self._agent_left_at >= self.told_within

    @property
    def too_early(self) -> float:
        """Seconds until the customer's fate can be judged.

        A handover that leaves the customer to a partner ends no sooner than that;
        of one that does, it must be seen what comes of it.
        """
        if self.alarm or self.customer == "gone" or math.isnan(self._agent_left_at):
            return 0.0
        return max(0.0, self._agent_left_at + self.told_within - self.lags.clock())

    def violations(self, simulator: Simulator) -> list[str]:
        """Name what must never happen, and has."""
        dials = [simulator.ledger.dials(to=one) for one in self.scenario.targets]
        where = self.customer
        found = {
            "on_hold": where == "on_hold" and not self.alarm,
            "alone": where == "alone" and not self.alarm,
            "two_joined": self.two_joined,
            "rung_twice": any(number > 1 for number in dials),
        }
        return [name for name, so in found.items() if so]


class Watched:
    """The world of a call, with a witness in it."""

    def __init__(self, witness: Witness) -> None:
        self._world = witness.call._world  # noqa: SLF001 -- the simulator's own hook has one user
        self._witness = witness

    def habit_of(self, address: str) -> Habit:
        """Say how somebody takes calls."""
        return self._world.habit_of(address)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Do something when time has passed."""
        self._world.later(seconds, callback)

    def entered(self, call: Call, member: Member) -> None:
        """Hear that somebody is on the line."""
        self._world.entered(call, member)
        self._witness.look()

    def exited(self, call: Call, member: Member) -> None:
        """Hear that somebody has left."""
        self._witness.leaves(member)
        self._witness.lags.left(member.call_uuid)
        self._world.exited(call, member)

    def changed(self, call: Call) -> None:
        """Hear that something is as it wasn't before."""
        self._world.changed(call)
        self._witness.look()


class Alarms(logging.Handler):
    """Collects the ids of the handovers that were cried out about."""

    def __init__(self) -> None:
        super().__init__(logging.CRITICAL)
        self.ids: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        self.ids.add(getattr(record, "phlo_handover", ""))


@attrs.define
class Table:
    """What became of everybody; what `violated` counts must be nothing."""

    handovers: int = 0
    violated: Counter[str] = attrs.field(factory=Counter)
    alarms: int = 0
    false_alarms: int = 0
    endings: Counter[str] = attrs.field(factory=Counter)
    customers: Counter[str] = attrs.field(factory=Counter)
    requests: Counter[str] = attrs.field(factory=Counter)
    faulty: Counter[str] = attrs.field(factory=Counter)
    longest_lag: float = 0.0
    events_missed: int = 0
    worst: list[Witness] = attrs.field(factory=list)

    def add(self, witness: Witness, simulator: Simulator) -> None:
        """Count one handover."""
        where = witness.customer
        self.handovers += 1
        self.endings[f"{witness.scenario.deed}: {witness.ended}"] += 1
        self.customers[where] += 1
        self.alarms += witness.alarm
        self.false_alarms += witness.alarm and where in CUSTOMER_IS_WELL
        violations = witness.violations(simulator)
        self.violated.update(violations)
        if violations:
            self.worst.append(witness)

    def add_requests(self, simulator: Simulator) -> None:
        """Count what was asked, and how much of it went wrong."""
        for record in simulator.ledger.requests:
            self.requests[record.action] += 1
            self.faulty[record.action] += record.fault is not None

    def __str__(self) -> str:
        lines = [
            ("handovers", self.handovers),
            ("customers left on hold without an error", self.violated["on_hold"]),
            ("targets rung twice", self.violated["rung_twice"]),
            ("two targets joined", self.violated["two_joined"]),
            ("customers alone without an alarm", self.violated["alone"]),
            ("alarms", self.alarms),
            ("  of these, the customer is well or gone", self.false_alarms),
            ("events that never came", self.events_missed),
            ("latest event of a leaving, ms", round(self.longest_lag * 1e3)),
            *(
                (f"{action}, % of {n:,} faulty", round(100 * self.faulty[action] / n))
                for action, n in self.requests.most_common()
            ),
            *((f"customer {where}", n) for where, n in self.customers.most_common()),
            *sorted(self.endings.items()),
        ]
        return "\n".join(f"{name:<55}{number:>8,}" for name, number in lines)
