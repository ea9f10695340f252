"""Whatever happens in whatever order, nobody is forgotten."""

import asyncio

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from aiophlo.simulator import Habit, Reaction
from benchmarks.handover_scenes import Deed, Scenario, Table, play

TOLD_WITHIN = 1.0
SECONDS = st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.39, 0.5])
REACTIONS = st.sampled_from([*Reaction, *[Reaction.ANSWERS] * 4])
HABITS = st.builds(
    Habit, REACTIONS, after=SECONDS, stays=st.one_of(st.none(), st.none(), SECONDS)
)
SCENARIOS = st.lists(
    st.tuples(st.lists(HABITS, min_size=1, max_size=3), st.sampled_from(Deed), SECONDS),
    min_size=15,
    max_size=15,
)


@given(SCENARIOS, st.integers(0, 10**6), st.booleans())
@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.generate],  # how it is interleaved differs from run to run
    suppress_health_check=list(HealthCheck),
)
def test_nobody_is_forgotten(
    made_up: list[tuple[list[Habit], Deed, float]], seed: int, returns: bool
) -> None:
    """Three requests in ten go wrong, people do as they please, events as they can."""
    scenarios = [Scenario(number, *one) for number, one in enumerate(made_up)]
    table = Table()
    asyncio.run(
        play(
            scenarios,
            seed=seed,
            returns_customer=returns,
            table=table,
            at_once=len(scenarios),
            told_within=TOLD_WITHIN,
        )
    )
    assume(table.longest_lag < TOLD_WITHIN)  # a machine too busy to say anything
    assert table.handovers == len(scenarios)
    assert table.violations == 0, f"{table}\n{table.worst}"
