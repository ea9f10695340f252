"""How much of each rate a pool books while others go on by themselves."""

import math
from typing import Any

import pytest

from aiophlo.postgres.pool_shares import PoolShares


def seen(shares: PoolShares, live: int, lost: int = 0, *, now: float = 100.0) -> float:
    """Note who lives; return the part of what is booked that may be kept."""
    return shares.note(now, {"live": live, "lost": lost})


def test_share_of_who_is_lost_is_left_at_once_and_taken_a_second_later() -> None:
    """Both would send by it: who is back has only just begun to wait for the row."""
    shares = PoolShares(1, 4.0)
    shares.begin(100.0)
    assert (seen(shares, 4), shares.available) == (1.0, 1.0)
    assert seen(shares, 3, lost=1, now=101.0) == pytest.approx(3 / 4)
    assert seen(shares, 2, lost=2, now=101.1) == pytest.approx(2 / 3)
    assert (shares.pools, shares.available) == (4, 0.5)
    assert (seen(shares, 4, now=102.1), shares.available) == (1.0, 0.5)
    assert (seen(shares, 4, now=102.2), shares.available) == (1.0, 0.5), "of other news"
    assert (seen(shares, 4, now=103.1), shares.available) == (1.0, 1.0)


def test_who_comes_and_goes_is_left_its_share_all_the_while() -> None:
    """It sends by itself half of the time, whenever the others look."""
    shares = PoolShares(1, 2.0)
    shares.begin(100.0)
    seen(shares, 1, lost=1)
    for number in range(20):
        is_there = min(number % 3, 1)
        seen(shares, 1 + is_there, lost=1 - is_there, now=100.1 + 0.5 * number)
        assert shares.available == 0.5


def test_first_one_that_is_back_takes_no_more_than_its_share() -> None:
    """A server that has taken over knows of one, and the others are still alone."""
    shares = PoolShares(1, 8.0)
    shares.begin(100.0)
    seen(shares, 4)
    shares.begin(160.0)
    seen(shares, 1, now=160.1)
    assert (shares.pools, shares.available) == (4, 0.25)
    shares.begin(161.0)  # lost again at once
    seen(shares, 1, now=161.1)
    assert (shares.pools, shares.available) == (4, 0.25)
    for now in (162.0, 163.0):
        seen(shares, 4, now=now)
    assert (shares.pools, shares.available) == (4, 1.0)


def test_who_has_not_come_back_within_seconds_has_ended() -> None:
    """Workers that were stopped in an outage leave their share to the others."""
    shares = PoolShares(1, 8.0)
    shares.begin(100.0)
    seen(shares, 4)
    shares.begin(160.0)
    for now in (160.1, 170.1, 171.1):
        seen(shares, 1, now=now)
    assert (shares.pools, shares.available) == (1, 1.0)


def test_pool_that_is_alone_reckons_with_those_that_open_and_not_with_fewer() -> None:
    """Others that are alone may be known no more, and go on all the same."""
    shares = PoolShares(1, 4.0)
    assert not shares.count_alone(3)
    assert shares.pools == 4
    assert shares.count_alone(6)
    assert shares.pools == 6


def test_who_said_that_it_is_alone_is_told_to_the_database_for_a_while() -> None:
    """The database misses it only after 3 s, and by then there were 429s."""
    shares = PoolShares(1, 4.0)
    assert not shares.hear_alone(100.0, "1", 5000.0), "its own notice"
    assert shares.hear_alone(100.0, "2", 4999.0, is_news=False), "it is to this pool"
    assert not shares.hear_alone(100.0, "2", 5000.0, is_news=False)
    assert shares.sign_of_life(100.1) == {
        "do": "seen",
        "pool": 1,
        "alone": {"2": 5000.0},
    }
    assert shares.sign_of_life(110.1)["alone"] == {}


@pytest.mark.parametrize(
    ("pool", "at"),
    [
        *(("2", math.nan), ("2", math.inf), ("2", "soon"), ("2", None), ("2", [])),
        *(("2", 10**400), ("two", 5.0), ("\ud800", 5.0), (math.inf, 5.0), ([], 5.0)),
    ],
)
def test_strange_notice_is_never_asked_about(pool: Any, at: Any) -> None:  # noqa: ANN401 -- what another application notifies
    """The database refused the statement, and with it all pools, for ten seconds."""
    shares = PoolShares(1, 4.0)
    with pytest.raises((ValueError, TypeError, OverflowError)):
        shares.hear_alone(100.0, pool, at)
    assert shares.sign_of_life(100.0)["alone"] == {}


def test_who_was_alone_is_forgotten() -> None:
    """A pool that runs for years would remember every worker that ever was."""
    shares = PoolShares(1, 4.0)
    shares.hear_alone(100.0, "2", 5000.0)
    assert shares.hear_alone(101.0, "2", 5000.0), "it came back in between"
    shares.sign_of_life(112.0)
    assert shares.sign_of_life(105.0)["alone"] == {}
