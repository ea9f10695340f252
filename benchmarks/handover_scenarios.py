"""What hypothesis makes up for one handover: its people, its faults, its mishaps."""

from collections.abc import Sequence
from enum import StrEnum
from itertools import count
from typing import Final

import attrs
from hypothesis import strategies as st

from aiophlo.simulator import Fault, Habit, Reaction
from aiophlo.simulator.api import Asked
from aiophlo.simulator.chance import Chances
from aiophlo.simulator.scripts import Strike

_REQUESTS: Final = 12  # of a handover have a fate of their own; then it starts anew
_SECONDS: Final = (0.0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.39, 0.5)
_STAYS: Final = (*[None] * 9, 0.0, 0.05, 0.2, 1.0)
# Hypothesis simplifies towards what stands first: no fault, people who answer. It
# also tries the simplest more often than the rest, so that a third is three in ten.
_SOUND: Final = 2 * len(Fault)
_FATES: Final[tuple[Fault | None, ...]] = (*[None] * _SOUND, *Fault)
_REACTIONS: Final = (*[Reaction.ANSWERS] * 5, *Reaction)


class Deed(StrEnum):
    """What the one who hands over does, or what happens to them."""

    COMPLETE = "complete"
    RETURN = "return"
    RAISE = "raise"
    TIMEOUT = "timeout"
    CANCEL = "cancel"
    CANCEL_TWICE = "cancel_twice"
    HAND_OVER = "hand_over"
    DECLINE = "decline"
    AGENT_LEAVES = "agent_leaves"
    CUSTOMER_LEAVES = "customer_leaves"


@attrs.frozen
class Scenario:
    """One handover.

    Attributes:
        habits: Of those to be reached.
        deed: What is done.
        moment: Seconds until it is, where it isn't done by the block.
        faults: What becomes of its requests, one after the other.
        returns_customer: Whether a transfer that fails ends by itself.
        ring_for: Seconds for which each may ring.
        number: Makes everybody's address.
    """

    habits: Sequence[Habit]
    deed: Deed
    moment: float
    faults: Sequence[Fault | None] = (None,)
    returns_customer: bool = True
    ring_for: float = 0.4
    number: int = 0

    @property
    def agent(self) -> str:
        """Address of the agent."""
        return f"+1415{self.number:06}0"

    @property
    def customer(self) -> str:
        """Address of the customer."""
        return f"+1415{self.number:06}1"

    @property
    def targets(self) -> list[str]:
        """Addresses of those to be reached."""
        return [f"+1415{self.number:06}{2 + one}" for one in range(len(self.habits))]


def scenarios() -> st.SearchStrategy[Scenario]:
    """Return what draws scenarios, three requests in ten of them faulty."""
    habits = st.builds(
        Habit,
        st.sampled_from(_REACTIONS),
        after=st.sampled_from((*_SECONDS, 0.6)),
        stays=st.sampled_from(_STAYS),
    )
    return st.builds(
        Scenario,
        st.lists(habits, min_size=1, max_size=3),
        st.sampled_from(Deed),
        st.sampled_from(_SECONDS),
        st.lists(st.sampled_from(_FATES), min_size=_REQUESTS, max_size=_REQUESTS),
        st.booleans(),
    )


class Fates(Chances):
    """Strikes each handover's requests as its scenario says."""

    def __init__(self) -> None:
        super().__init__(0, {})
        self._drawn: dict[str, Sequence[Fault | None]] = {}
        self._numbers: dict[str, count[int]] = {}

    def expect(self, scenario: Scenario) -> None:
        """Take note of what is to become of a handover's requests."""
        self._drawn[scenario.agent] = scenario.faults
        self._numbers[scenario.agent] = count()

    def next(self, asked: Asked) -> Strike | None:
        """Say what strikes a request, if anything does."""
        agent = asked.trigger_source or asked.member
        faults = self._drawn[agent]
        fault = faults[next(self._numbers[agent]) % len(faults)]
        return None if fault is None else Strike(fault=fault)
