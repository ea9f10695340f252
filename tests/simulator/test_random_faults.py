"""Faults by chance are the same faults whenever they are asked for."""

import random

import pytest

from aiophlo.simulator import Fault, Simulator, parse_chances
from aiophlo.simulator.api import Asked
from aiophlo.simulator.random_faults import RandomFaults, draw


def test_draws_are_even() -> None:
    """A chance of one in a hundred must scripted about one in a hundred."""
    hits = sum(draw(7, "reset", number) < 0.01 for number in range(20_000))
    assert 150 < hits < 250


def test_faults_strike_the_same_when_the_order_changes() -> None:
    """Two runs at different concurrency must meet the same faults."""
    asked = [Asked(action="call", to=f"+1415222{i:04}") for i in range(300)] * 3

    def table(order: list[Asked]) -> list[tuple[str, str]]:
        chances = RandomFaults(7, {Fault.RESET: 0.1, Fault.STATUS_503: 0.2})
        strikes = [(one.to, chances.next(one)) for one in order]
        return sorted((to, str(scripted.fault)) for to, scripted in strikes if scripted)

    shuffled = random.Random(1).sample(asked, len(asked))  # noqa: S311 -- a shuffle
    assert table(asked) == table(shuffled)
    assert 150 < len(table(asked)) < 350


def test_fault_strikes_the_same_when_another_is_added() -> None:
    """Turning one more fault on must not make a failure of today unrepeatable."""
    asked = [Asked(action="call", to=str(number)) for number in range(300)]
    alone = RandomFaults(7, {Fault.STATUS_503: 0.2})
    beside = RandomFaults(7, {Fault.STATUS_503: 0.2, Fault.STATUS_504: 0.2})
    struck = [(alone.next(one), beside.next(one)) for one in asked]
    assert all(both and both.fault is one.fault for one, both in struck if one)
    assert 30 < sum(one is not None for one, _ in struck) < 90


def test_fault_may_spare_the_repeat() -> None:
    """What struck once needn't scripted each time: a retry can succeed."""
    chances = RandomFaults(1, {Fault.RESET: 0.5})
    asked = Asked(action="hold", member="+14152223333")
    assert len({bool(chances.next(asked)) for _ in range(50)}) == 2


def test_seed_changes_what_strikes() -> None:
    """Another seed is another day."""
    asked = [Asked(action="call", to=str(number)) for number in range(100)]
    tables = [
        [bool(chances.next(one)) for one in asked]
        for chances in (RandomFaults(seed, {Fault.RESET: 0.5}) for seed in (1, 2))
    ]
    assert tables[0] != tables[1]


def test_nothing_strikes_when_there_are_no_chances() -> None:
    """A simulator without faults is sound."""
    assert RandomFaults(0, {}).next(Asked(action="call", to="+14152225555")) is None


def test_chances_are_read_from_text() -> None:
    """They come from a command line."""
    assert parse_chances("drop_after_read=0.01, status_503=0.02") == {
        Fault.DROP_AFTER_READ: 0.01,
        Fault.STATUS_503: 0.02,
    }
    assert parse_chances("") == {}
    assert parse_chances("all=0.1,silence=0") == dict.fromkeys(Fault, 0.1) | {
        Fault.SILENCE: 0.0
    }


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("explode=0.1", "explode is none of: all, .*drop_after_read"),
        ("reset", "reset needs"),
        ("reset=often", "reset needs"),
        ("reset=1.5", "reset needs"),
        ("reset=nan", "reset needs"),
    ],
)
def test_chances_are_refused_when_misspelt(text: str, error: str) -> None:
    """A fault that never strikes makes every test pass."""
    with pytest.raises(ValueError, match=error):
        parse_chances(text)


def test_simulator_takes_chances_as_text_and_as_mapping() -> None:
    """Code has mappings, command lines have text."""
    Simulator(faults="reset=0.5")
    Simulator(faults={"reset": 0.5})
    with pytest.raises(ValueError, match="explode"):
        Simulator(faults={"explode": 0.5})
