"""The server's clock, as round trips show it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiophlo.postgres.server_clock import ServerClock

HOUR = 3_600.0


def test_offset_is_that_of_the_shortest_round_trip() -> None:
    """A slot that seems to come 50 ms late is wasted."""
    clock = ServerClock()
    clock.note(10.0, 10.1, HOUR + 10.09, HOUR + 10.09)  # slow on its way there
    clock.note(11.0, 11.002, HOUR + 11.001, HOUR + 11.001)
    clock.note(12.0, 12.2, HOUR + 12.01, HOUR + 12.01)
    assert clock.round_trip == pytest.approx(0.002)
    assert clock.to_loop(HOUR + 20.0) == pytest.approx(20.0)
    assert clock.to_server(20.0) == pytest.approx(HOUR + 20.0)


def test_time_that_the_server_worked_is_no_travel() -> None:
    """A statement that waited for a lock tells as much as another."""
    clock = ServerClock()
    clock.note(10.0, 10.502, HOUR + 10.001, HOUR + 10.501)
    assert clock.round_trip == pytest.approx(0.002)
    assert clock.to_loop(HOUR) == pytest.approx(0.0)


@given(st.floats(0.0001, 0.5), st.floats(0.0001, 0.5), st.floats(0.0, 0.4))
def test_error_is_at_most_half_a_round_trip(
    there: float, back: float, work: float
) -> None:
    """What is within the quota's jitter draws no 429."""
    clock = ServerClock()
    begun = HOUR + there
    clock.note(0.0, there + work + back, begun, begun + work)
    assert abs(clock.to_loop(HOUR)) <= clock.round_trip / 2 + 1e-9


@pytest.mark.parametrize("step", [-5.0, 5.0])
def test_clock_that_was_set_is_followed_at_once(step: float) -> None:
    """Slots would seem long past, or five seconds off, for half a minute."""
    clock = ServerClock()
    clock.note(10.0, 10.001, HOUR + 10.0005, HOUR + 10.0005)
    clock.note(10.5, 10.52, HOUR + 10.51 + step, HOUR + 10.51 + step)
    assert clock.to_loop(HOUR + 20.0 + step) == pytest.approx(20.0)


def test_old_round_trips_are_forgotten() -> None:
    """Clocks drift, and a path may have become longer."""
    clock = ServerClock()
    clock.note(10.0, 10.001, HOUR + 10.0005, HOUR + 10.0005)
    for second in range(11, 45):
        came = second + 0.02
        clock.note(second, came, HOUR + second + 0.01, HOUR + second + 0.01)
    assert clock.round_trip == pytest.approx(0.02)


def test_another_server_is_another_clock() -> None:
    """After a failover the old one's time is worth nothing."""
    clock = ServerClock()
    clock.note(10.0, 10.001, HOUR + 10.0, HOUR + 10.0)
    clock.forget()
    clock.note(11.0, 11.1, 11.05, 11.05)
    assert clock.to_loop(20.0) == pytest.approx(20.0)
