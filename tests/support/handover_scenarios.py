"""What hypothesis makes up for one handover: its people, its faults, its mishaps."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import cycle
from typing import Final

import attrs
from hypothesis import strategies as st

from aiophlo.simulator import Fault, Habit, Reaction
from aiophlo.simulator.api import Asked
from aiophlo.simulator.random_faults import RandomFaults
from aiophlo.simulator.scripted_faults import Scripted

_SECONDS: Final = (0.0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.39, 0.5)
_STAYS: Final = (*[None] * 9, 0.0, 0.05, 0.2, 1.0)
# So many requests of each kind have a fate of their own, then it starts anew. Of the
# fates, this share is sound: hypothesis tries the simplest more often than the rest,
# and most hang-ups follow where nothing else went wrong, so that in the end 34 to 37
# in a hundred of each kind are faulty.
_FATES: Final = {"warm_transfer": (3, 2), "abort_transfer": (8, 2), "hangup": (6, 1)}
# Hypothesis simplifies towards what stands first: no fault, people who answer.
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
        faults: What becomes of its requests of each kind, one after the other.
        returns_customer: Whether a transfer that fails ends by itself.
        ring_for: Seconds for which each may ring.
        number: Makes everybody's address.
    """

    habits: Sequence[Habit]
    deed: Deed
    moment: float
    faults: Mapping[str, Sequence[Fault | None]] = attrs.field(factory=dict)
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
    """Return what draws scenarios, three requests in ten faulty, or some more."""
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
        st.fixed_dictionaries({kind: _fates(*fate) for kind, fate in _FATES.items()}),
        st.booleans(),
    )


def _fates(number: int, sound: int) -> st.SearchStrategy[list[Fault | None]]:
    """Return what draws fates, so many times as many sound ones as faults."""
    fates = st.sampled_from((*[None] * sound * len(Fault), *Fault))
    return st.lists(fates, min_size=number, max_size=number)


class Fates(RandomFaults):
    """Strikes each handover's requests as its scenario says."""

    def __init__(self) -> None:
        super().__init__(0, {})
        self._left: dict[tuple[str, str], Iterator[Fault | None]] = {}

    def expect(self, scenario: Scenario) -> None:
        """Take note of what is to become of a handover's requests."""
        for kind, faults in scenario.faults.items():
            self._left[scenario.agent, kind] = cycle(faults)

    def next(self, asked: Asked) -> Scripted | None:
        """Say what strikes a request, if anything does."""
        agent = asked.trigger_source or asked.member
        fault = next(self._left.get((agent, asked.action), iter(())), None)
        return None if fault is None else Scripted(fault=fault)
