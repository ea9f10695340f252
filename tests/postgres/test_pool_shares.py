"""How much of each rate a pool books while others go on by themselves."""

import pytest

from aiophlo.postgres.pool_shares import PoolShares


def seen(shares: PoolShares, live: int, lost: int = 0) -> float:
    """Note who lives; return the part of what is booked that may be kept."""
    return shares.note({"live": live, "lost": lost})


def test_share_of_who_is_lost_is_left_at_once_and_taken_a_beat_later() -> None:
    """Both would send by it: who is back has only just begun to wait for the row."""
    shares = PoolShares(1, 4.0)
    shares.begin()
    assert (seen(shares, 4), shares.available) == (1.0, 1.0)
    assert seen(shares, 3, lost=1) == pytest.approx(3 / 4)
    assert seen(shares, 2, lost=2) == pytest.approx(2 / 3)
    assert (shares.pools, shares.available) == (4, 0.5)
    assert (seen(shares, 4), shares.available) == (1.0, 0.5)
    assert (seen(shares, 4), shares.available) == (1.0, 1.0)


def test_who_said_that_it_is_alone_is_told_to_the_database_for_a_while() -> None:
    """The database misses it only after 3 s, and by then there were 429s."""
    shares = PoolShares(1, 4.0)
    assert not shares.hear_alone(100.0, "1", 5000.0), "its own notice"
    assert shares.hear_alone(100.0, "2", 5000.0)
    assert shares.sign_of_life(100.1) == {
        "do": "seen",
        "pool": 1,
        "alone": {"2": 5000.0},
    }
    assert shares.sign_of_life(110.1)["alone"] == {}
