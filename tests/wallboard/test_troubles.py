"""What is wrong, as it is said: true now, and gone when it is over."""

from typing import Any, Final

import pytest

from aiophlo.simulator import Simulator
from aiophlo.wallboard import Wallboard
from aiophlo.wallboard.troubles import troubles
from tests.support.doubles import pool_of

QUIET: Final = [0] * 119


@pytest.fixture
async def view(simulator: Simulator) -> dict[str, Any]:
    """Give the snapshot of a pool that has done nothing."""
    async with pool_of(simulator) as pool:
        return Wallboard(pool).snapshot()


def unseen(
    view: dict[str, Any], *, ring: float, event: float | None
) -> list[dict[str, Any]]:
    """Return what is wrong with webhooks, of which so old are the last ones."""
    hooks = {**view["webhooks"], "last_age": event}
    return troubles(
        {**view, "unseen": 3, "unseen_age": ring, "event_age": None, "webhooks": hooks}
    )


def doubted(view: dict[str, Any], number: int, accepted: int) -> list[dict[str, Any]]:
    """Return what is wrong if so many actions ended in doubt."""
    (account,) = view["accounts"]
    verdicts = {**account["verdicts"], "in_doubt": number, "accepted": accepted}
    return troubles({**view, "accounts": [{**account, "verdicts": verdicts}]})


def refused(view: dict[str, Any], age: float, accounts: int = 1) -> dict[str, Any]:
    """Return what is said of a 429 that is so old."""
    (account,) = view["accounts"]
    told = {"requests": [*QUIET, 9], "refused": [*QUIET, 1], "refused_age": age}
    others = [account] * (accounts - 1)
    known = [{**account, "limit": 60.0, "pace": 60.0, **told}, *others]
    return troubles({**view, "accounts": known})[0]


def test_quota_that_was_spent_is_told_in_the_past(view: dict[str, Any]) -> None:
    """Who looks for it now would find nothing."""
    now, then = refused(view, 2.0), refused(view, 40.0)
    assert "Something else spends the quota" in now["what"]
    assert "Something else spent the quota" in then["what"]
    assert then["last"] == {"Last 429": 40.0}
    assert "less than 60.0/s" in now["what"]


@pytest.mark.parametrize("ago", [0, 60])  # slices; 429s are named for two minutes
def test_what_another_program_left_no_room_for_is_not_our_excess(
    view: dict[str, Any], ago: int
) -> None:
    """Send less, it said to who sent 7 a second, of the 60 that are granted."""
    (account,) = view["accounts"]
    told = {"limit": 60.0, "pace": 6.0, "reasons": {"not_sent expired": 228}}
    rows = {"requests": [9] * 120, "refused": [0] * 120}
    eaten = {**rows, "refused": [*[0] * (119 - ago), 3, *[0] * ago]}
    (ours,) = troubles({**view, "accounts": [{**account, **told, **rows}]})
    *_, others = troubles({**view, "accounts": [{**account, **told, **eaten}]})
    assert ours["short"] == others["short"] == "expired"
    assert ours["what"] == others["what"]
    assert "More is asked for than the quota grants" in ours["todo"]
    assert "Something else has spent the quota" in others["todo"]
    assert "send less" not in others["todo"]


def test_account_is_named_where_there_are_several(view: dict[str, Any]) -> None:
    """With one, its long id says nothing."""
    (account,) = view["accounts"]
    assert account["account"] not in refused(view, 2.0)["what"]
    assert f"quota of {account['account']}" in refused(view, 2.0, accounts=2)["what"]


@pytest.mark.parametrize("event", [None, 40.0])
def test_webhooks_that_do_not_arrive_say_when_the_last_one_came(
    view: dict[str, Any], event: float | None
) -> None:
    """It is since then that something is broken."""
    (trouble,) = unseen(view, ring=4.0, event=event)
    assert trouble["what"].startswith("Webhooks don't arrive: 3 rings ended")
    assert trouble["last"] == {"Last event": event, "Last such ring": 4.0}


@pytest.mark.parametrize(("ring", "event"), [(0.0, 0.5), (30.0, 20.0)])
def test_events_that_come_do_arrive(
    view: dict[str, Any], ring: float, event: float
) -> None:
    """A sentence that contradicts itself is believed by nobody."""
    (trouble,) = unseen(view, ring=ring, event=event)
    assert trouble["kind"] == "webhook_gaps"
    assert "don't arrive" not in trouble["what"]
    assert trouble["last"]["Last event"] == event


def test_rings_without_an_event_are_forgotten_if_no_more_come(
    view: dict[str, Any],
) -> None:
    """A wall is for now."""
    assert unseen(view, ring=61.0, event=1.0) == []
    assert len(unseen(view, ring=61.0, event=None)) == 1


@pytest.mark.parametrize(
    ("number", "accepted", "named"),
    [(1, 0, False), (4, 10, False), (12, 1_300, False), (5, 10, True), (30, 900, True)],
)
def test_doubts_are_named_where_they_are_unusual(
    view: dict[str, Any], number: int, accepted: int, *, named: bool
) -> None:
    """What is always yellow isn't seen; the table has them all anyway."""
    found = doubted(view, number, accepted)
    assert bool(found) == named
    for trouble in found:
        assert f"{number} of {number + accepted} actions in doubt" in trouble["what"]
        assert "dials among them may have rung" in trouble["what"]  # aborts ring nobody


def test_customer_on_hold_is_found_by_the_short_form_alone(
    view: dict[str, Any],
) -> None:
    """Of many, a wall shows no more; two digits of a number find nobody."""
    held = {"id": "e83f9243ac6d5fc7", "agent": "…29", "partner": "…31", "age": 3.0}
    held["customer"] = "…30"
    (trouble,) = troubles({**view, "on_hold": [held], "on_hold_number": 1})
    assert trouble["brief"] == "Customer …30 with agent …29: e83f9243ac6d5fc7"
    assert "Always stays 30 min." in trouble["todo"]


def test_customers_who_are_not_listed_are_counted(view: dict[str, Any]) -> None:
    """The last of three hundred is on hold, too."""
    held = {"id": "h", "agent": "", "partner": "", "customer": "", "age": 3.0}
    first, rest = troubles({**view, "on_hold": [held], "on_hold_number": 300})
    assert (first["kind"], first["age"]) == ("on_hold", 3.0)
    assert first["brief"] == "Unknown: h"
    assert (rest["level"], rest["number"]) == ("alarm", 299)
    assert "299 more customers" in rest["what"]


def test_kinds_of_trouble_have_short_names(view: dict[str, Any]) -> None:
    """A full wall has no room for sentences; "1 more trouble" calls nobody to it."""
    (account,) = view["accounts"]
    reasons = {"rejected 401": 2, "rejected 403": 1, "not_sent unreachable": 1}
    found = troubles({**view, "accounts": [{**account, "reasons": reasons}]})
    shorts = [trouble["short"] for trouble in found]
    assert shorts == ["credentials", "credentials", "Plivo away"]


def test_without_its_coordinator_it_says_that_others_are_not_seen(
    view: dict[str, Any],
) -> None:
    """That no customer is on hold was read as that of all processes."""
    (process,) = view["processes"]
    away = {**process, "coordinator": "away"}
    (trouble,) = troubles({**view, "processes": [away]})
    assert "who is on hold there, isn't seen here" in trouble["todo"]
