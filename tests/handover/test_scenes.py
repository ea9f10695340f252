"""What hypothesis makes of handovers, and how what becomes of them is judged."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import attrs
import pytest

from aiophlo.simulator import Call, Fault, Habit, Member, Simulator
from aiophlo.simulator.api import Asked
from aiophlo.webhooks.events import MemberLeft
from tests.support.handover_scenarios import Deed, Fates, Scenario
from tests.support.handover_scenes import Stage, drive
from tests.support.handover_witness import Lags, Table, Watched, Witness

QUIET = Scenario([Habit(), Habit()], Deed.COMPLETE, 0.0)
AGENT, CUSTOMER = QUIET.agent, QUIET.customer
PARTNER, SECOND = QUIET.targets
TOLD_WITHIN = 2.0


class Nobody:
    """The world of a call in which nothing happens by itself."""

    def habit_of(self, address: str) -> Habit:
        """Let everybody answer at once."""
        del address
        return Habit()

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Let them answer now."""
        del seconds
        callback()

    def entered(self, call: Call, member: Member) -> None:
        """Take no note."""

    def exited(self, call: Call, member: Member) -> None:
        """Take no note."""

    def changed(self, call: Call) -> None:
        """Take no note."""


class Scene:
    """A call with a witness, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lags = Lags(lambda: self.now)
        self.call = Call(
            Nobody(), phlo_id="p", node_id="n", account="MA", returns_customer=True
        )
        self.witness = Witness(QUIET, self.call, self.lags, TOLD_WITHIN)
        self.call._world = Watched(self.witness)  # noqa: SLF001 -- as the benchmark does
        for address, role in ((AGENT, "agent"), (CUSTOMER, "customer")):
            self.call.enter(address, role, dialled=False)

    def answer(self, address: str = PARTNER) -> None:
        """Let somebody be transferred to, and answer."""
        self.call.start_transfer(self.call[AGENT], self.call.ring(address, "agent"))

    def leave(self, address: str, at: float, told: float | None = None) -> None:
        """Let somebody hang up, and an event tell of it."""
        self.now = at
        member = self.call[address]
        self.call.leave(member)
        if told is not None:
            self.now = told
            self.lags.tell(MemberLeft(call_uuid=member.call_uuid))

    def violations(self) -> list[str]:
        """Give what must never happen, and has."""
        return self.witness.violations(Simulator())


@pytest.fixture
def scene() -> Scene:
    """Give a call in which agent and customer talk."""
    return Scene()


def test_customer_is_alone_when_the_partner_left_while_it_was_looked_at(
    scene: Scene,
) -> None:
    """That they had talked for a moment is no excuse: somebody had to be told."""
    scene.answer()
    scene.leave(AGENT, 1.0, told=1.1)
    scene.leave(PARTNER, 1.5, told=1.6)
    scene.witness.ended_at = 3.1
    assert scene.witness.customer == "alone"
    assert scene.violations() == ["alone"]
    scene.witness.alarm = True
    assert scene.violations() == []


def test_customer_is_alone_when_the_handover_did_not_wait_for_news(
    scene: Scene,
) -> None:
    """It would always be in time if it ended at once."""
    scene.answer()
    scene.leave(AGENT, 1.0, told=1.1)
    scene.leave(PARTNER, 1.05, told=1.5)
    scene.witness.ended_at = 1.2
    assert scene.violations() == ["alone"]


def test_judgement_waits_for_what_a_handover_should_have_waited_for(
    scene: Scene,
) -> None:
    """Of one that ends at once, the partner's leaving would come too late to count."""
    assert scene.witness.too_early == 0.0
    scene.answer()
    scene.leave(AGENT, 1.0, told=1.25)
    assert scene.witness.too_early == TOLD_WITHIN - 0.25
    scene.now = 1.0 + TOLD_WITHIN
    assert scene.witness.too_early == 0.0
    scene.now = 1.25
    scene.leave(CUSTOMER, 1.25)
    assert scene.witness.too_early == 0.0


def test_customer_is_alone_when_the_leaving_is_never_told(scene: Scene) -> None:
    """An event that is lost excuses nothing that came before the end."""
    scene.answer()
    scene.leave(AGENT, 1.0)
    scene.leave(PARTNER, 1.5)
    scene.witness.ended_at = 3.1
    assert scene.violations() == ["alone"]


def test_end_of_a_talk_is_no_violation(scene: Scene) -> None:
    """Partner and customer talked for an hour, and the partner hung up first."""
    scene.answer()
    scene.leave(AGENT, 1.0, told=1.1)
    scene.witness.ended_at = 3.1
    assert scene.witness.customer == "well"
    scene.leave(PARTNER, 3600.0, told=3600.1)
    assert scene.witness.customer == "alone later"
    assert scene.violations() == []


def test_agent_who_leaves_after_the_end_is_no_violation(scene: Scene) -> None:
    """Nobody had answered, the two talked on, and the agent hung up first."""
    scene.witness.ended_at = 3.0
    scene.leave(AGENT, 10.0, told=10.1)
    assert scene.witness.customer == "alone later"


def test_agent_whose_leaving_was_told_in_time_is_one(scene: Scene) -> None:
    """The handover still had the customer."""
    scene.leave(AGENT, 1.0, told=1.1)
    scene.witness.ended_at = 3.0
    assert scene.violations() == ["alone"]


def test_customer_on_hold_and_gone_are_told_apart(scene: Scene) -> None:
    """One of them hears music for ever."""
    scene.answer()
    assert scene.witness.customer == "on_hold"
    assert scene.violations() == ["on_hold"]
    scene.leave(CUSTOMER, 2.0)
    assert scene.witness.customer == "gone"


def test_two_targets_inside_are_seen_even_if_one_leaves(scene: Scene) -> None:
    """A moment is enough for two strangers to hear each other."""
    scene.answer()
    scene.answer(SECOND)
    scene.leave(PARTNER, 2.0)
    assert "two_joined" in scene.violations()


async def test_leavings_are_waited_for_until_they_are_told(scene: Scene) -> None:
    """A judgement that is too early would blame the innocent."""
    scene.leave(AGENT, 1.0)
    waiting = asyncio.ensure_future(scene.lags.all_told(scene.call, 60.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    scene.lags.tell(MemberLeft(call_uuid=scene.call[AGENT].call_uuid))
    await asyncio.wait_for(waiting, 2.0)


def test_table_counts_what_the_witness_says(scene: Scene) -> None:
    """It is what the promise is measured by."""
    scene.leave(AGENT, 1.0, told=1.1)
    scene.witness.ended_at = 3.0
    table = Table()
    table.add(scene.witness, Simulator())
    assert table.violated == {"alone": 1}
    assert table.worst == [scene.witness]
    assert table.false_alarms == 0
    scene.witness.alarm = True
    scene.leave(CUSTOMER, 4.0)
    table.add(scene.witness, Simulator())
    assert (table.handovers, table.alarms, table.false_alarms) == (2, 1, 1)


def test_faults_strike_one_handovers_requests_in_order() -> None:
    """What hypothesis found must come again when it tries a simpler one."""
    fates = Fates()
    other = attrs.evolve(QUIET, number=1)
    faults = {"abort_transfer": [None, Fault.SILENCE]}
    fates.expect(attrs.evolve(QUIET, faults=faults))
    fates.expect(other)
    transfer = Asked(action="warm_transfer", trigger_source=AGENT)
    abort = Asked(action="abort_transfer", member=AGENT)
    assert fates.next(transfer) is None
    assert fates.next(abort) is None
    assert fates.next(attrs.evolve(abort, member=other.agent)) is None
    strike = fates.next(abort)
    assert strike is not None
    assert strike.fault is Fault.SILENCE
    assert fates.next(abort) is None


@attrs.define
class Broken:
    """A stage on which whoever meets a fault is forgotten."""

    bad: bool = True
    simulator: Any = None
    played: list[Scenario] = attrs.field(factory=list)

    async def play(self, scenario: Scenario) -> "Broken":
        """Play nothing."""
        await asyncio.sleep(0)
        self.played.append(scenario)
        return self

    def violations(self, simulator: object) -> list[str]:
        """Say what hypothesis has to find."""
        del simulator
        met = any(map(any, self.played[-1].faults.values()))
        return ["on_hold"] if self.bad and met else []


async def test_hypothesis_finds_the_simplest_handover_that_fails() -> None:
    """A failure among thousands of people and faults must be understood."""
    stage = Broken()
    errors = await drive(cast("Stage", stage), 50, at_once=1, seed=1, shrink=True)
    assert len(errors) == 1
    simplest = stage.played[-1]
    faults = [one for several in simplest.faults.values() for one in several if one]
    assert faults == [Fault.DROP_BEFORE_READ]
    assert simplest.habits == [Habit()]
    assert simplest.deed is Deed.COMPLETE


async def test_as_many_handovers_are_played_as_were_asked_for() -> None:
    """A run that quietly did a tenth would prove a tenth."""
    stage = Broken(bad=False)
    assert not await drive(cast("Stage", stage), 25, at_once=4, seed=1, shrink=False)
    assert len(stage.played) == 25
