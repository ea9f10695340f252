"""Several processes as one: their figures are added up, and old ones say so."""

from io import StringIO
from typing import Any, Final

import pytest
from rich.console import Console

from aiophlo.cli.top_view import render
from aiophlo.simulator import Simulator
from aiophlo.wallboard import Wallboard
from aiophlo.wallboard.figures import SLICE, SLICES, class_of
from aiophlo.wallboard.merging import merged
from tests.support.doubles import pool_of

NOW: Final = 1_000_003.0


async def part(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 -- any of its fields
    """Return what a pool that has done nothing says of itself."""
    async with Simulator(quota=None) as simulator, pool_of(simulator) as pool:
        return {**Wallboard(pool, clock=lambda: NOW).part(), **changes}


def account(part: dict[str, Any], **changes: Any) -> dict[str, Any]:  # noqa: ANN401 -- any of its fields
    """Return a process's part with other figures of its account."""
    (known,) = part["accounts"]
    return {**part, "accounts": [{**known, **changes}]}


async def test_figures_of_one_account_are_added_up() -> None:
    """One quota serves all of them."""
    row = [0] * (SLICES - 1) + [3]
    one = account(
        await part(name="a"),
        requests=row,
        in_flight=2,
        waiting={"awaited": 1},
        waits={str(class_of(0.1)): 99},
    )
    other = account(
        await part(name="b"),
        requests=row,
        in_flight=5,
        waiting={"awaited": 3, "urgent": 1},
        waits={str(class_of(9.0)): 1},
    )
    view = merged([one, other], NOW)
    (shown,) = view["accounts"]
    assert shown["requests"][-1] == 6
    assert shown["in_flight"] == 7
    assert shown["waiting"] == {"awaited": 4, "urgent": 1}
    assert 0.09 < shown["wait"]["p99"] < 0.11
    assert [process["name"] for process in view["processes"]] == ["a", "b"]


async def test_lanes_stand_in_the_order_in_which_they_go() -> None:
    """A database gives their names back by length, so that they changed places."""
    lanes = {"looked": 1, "urgent": 2, "awaited": 3, "streamed": 4, "of a newer one": 5}
    (shown,) = merged([account(await part(name="a"), waiting=lanes)], NOW)["accounts"]
    order = ["urgent", "awaited", "streamed", "looked", "of a newer one"]
    assert list(shown["waiting"]) == order
    assert shown["waiting"] == lanes


async def test_rows_of_a_process_that_is_a_slice_behind_are_put_in_place() -> None:
    """Its requests would be counted in a slice in which they weren't sent."""
    row = [0] * (SLICES - 1) + [3]
    late = await part(name="a")
    (shown,) = merged([account(late, requests=row)], NOW + SLICE)["accounts"]
    assert shown["requests"][-2:] == [3, 0]


async def test_silent_process_is_named_and_then_left_out() -> None:
    """Its figures are old, and nobody sees that of a sum."""
    silent = await part(name="silent")
    busy = {**silent, "name": "busy", "at": NOW + 5.0}
    view = merged([silent, busy], NOW + 5.0)
    assert [one["silent"] for one in view["processes"]] == [False, True]
    (trouble,) = view["troubles"]
    assert trouble["kind"] == "process"
    assert trouble["what"] == "silent says nothing any more"  # read out once
    assert trouble["last"] == {"Last sign": 5.0}
    assert len(merged([silent], NOW + 60.0)["processes"]) == 0


async def test_customer_whom_two_processes_know_is_one() -> None:
    """One has begun the handover, another has recovered it, and knows less of it."""
    known = {"id": "0" * 16, "age": 60.0, "agent": "…33", "customer": "…44"}
    known |= {"partner": "…55", "phase": "ringing", "phase_age": 60.0}
    less = {**known, "age": 5.0, "agent": "", "partner": ""}
    for held in ([known, less], [less, known]):
        view = merged([await part(on_hold=[one]) for one in held], NOW)
        assert view["on_hold"] == [known]
        assert view["on_hold_number"] == 1
        assert [one["kind"] for one in view["troubles"]] == ["on_hold"]


async def test_process_without_its_coordinator_is_named() -> None:
    """It sends at a share of the quota, and double clicks ring twice."""
    (trouble,) = merged([await part(coordinator="away")], NOW)["troubles"]
    assert trouble["kind"] == "coordinator"


async def test_doubts_are_newest_first_over_all() -> None:
    """Who looks them up begins with those that may still ring."""
    said = {"account": "a", "action": "x", "who": "…1", "reason": "r", "handover": ""}
    one = await part(in_doubt=[{**said, "age": 5.0}])
    other = await part(in_doubt=[{**said, "age": 1.0}, {**said, "age": 9.0}])
    ages = [doubt["age"] for doubt in merged([one, other], NOW)["in_doubt"]]
    assert ages == [1.0, 5.0, 9.0]


def older(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part as a process with an older aiophlo tells it."""
    later = {"notice", "unseen_age", "event_age"}
    told = {name: value for name, value in part.items() if name not in later}
    told["accounts"] = [
        {name: value for name, value in one.items() if name != "refused_age"}
        for one in part["accounts"]
    ]
    told["on_hold"] = [
        {name: value for name, value in one.items() if name != "customer"}
        for one in part["on_hold"]
    ]
    return told


@pytest.mark.parametrize("with_newer", [False, True])
async def test_part_of_an_older_process_is_shown_too(*, with_newer: bool) -> None:
    """While a new version is rolled out, the wall would be blank."""
    held = {"id": "h", "account": "a", "phase": "on_hold", "age": 3.0, "place": ""}
    people = {"phase_age": 3.0, "agent": "…1", "partner": "…2", "customer": "…3"}
    part_ = await part(on_hold=[{**held, **people}], unseen=2)
    row = [0] * (SLICES - 1) + [3]
    old = older(account(part_, requests=row, refused=row, limit=60.0, pace=60.0))
    newer = [await part(name="newer", notice="hello")] if with_newer else []
    view = merged([old, *newer], NOW)
    kinds = [trouble["kind"] for trouble in view["troubles"]]
    assert kinds == ["on_hold", "quota_eaten"]
    assert view["notice"] == ("hello" if with_newer else "")
    console = Console(file=StringIO(), width=120)
    console.print(render(view, 0.0, "x"))
    assert "Something else spent the quota" in console.file.getvalue()  # type: ignore[attr-defined]
