"""The figures of an account: they add up, and old ones leave."""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiophlo.model.actions import WarmTransfer
from aiophlo.model.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason, Rejected
from aiophlo.wallboard.figures import (
    SLICE,
    SLICES,
    Figures,
    class_of,
    percentile,
    seconds_of,
)

ACTION: Final = WarmTransfer(
    phlo_id="p", node_id="n", to="+14155550101", trigger_source="+14155550100"
)
NOW: Final = 1_000_003.0
ACCEPTED: Final = Accepted(action=ACTION, status=201)
THROTTLED: Final = NotSent(action=ACTION, reason=Reason.THROTTLED, status=429)
UNREACHABLE: Final = NotSent(action=ACTION, reason=Reason.UNREACHABLE)
IN_DOUBT: Final = InDoubt(action=ACTION, reason=Reason.SILENT)


def attempt(
    figures: Figures, outcome: Outcome, now: float, seconds: float = 0.1
) -> None:
    """Count a request."""
    figures.attempt(outcome, now, seconds=seconds, waited=0.2)


def test_request_counts_when_it_left() -> None:
    """Pace is held against the quota, and Plivo counts what arrives."""
    figures = Figures()
    attempt(figures, ACCEPTED, NOW, seconds=7.0)
    assert figures.snapshot(NOW)["requests"][-3:] == [0, 1, 0]


def test_refusal_counts_as_a_request_and_what_never_left_does_not() -> None:
    """A 429 is spent quota; a missing network isn't."""
    figures = Figures()
    for outcome in (ACCEPTED, THROTTLED, UNREACHABLE, IN_DOUBT):
        attempt(figures, outcome, NOW)
    told = figures.snapshot(NOW)
    assert (sum(told["requests"]), sum(told["refused"])) == (3, 1)
    assert sum(told["waits"].values()) == 4
    assert sum(told["answers"].values()) == 3


def test_verdicts_and_reasons_are_counted() -> None:
    """In doubt among the accepted would be looked for by nobody."""
    figures = Figures()
    rejected = Rejected(action=ACTION, status=401)
    for outcome in (ACCEPTED, ACCEPTED, rejected, UNREACHABLE, IN_DOUBT):
        figures.ended(outcome, NOW)
    told = figures.snapshot(NOW)
    assert told["verdicts"] == {
        "accepted": 2,
        "rejected": 1,
        "not_sent": 1,
        "in_doubt": 1,
    }
    assert told["reasons"] == {
        "rejected 401": 1,
        "not_sent unreachable": 1,
        "in_doubt silent": 1,
    }


def test_after_ten_minutes_nothing_is_left() -> None:
    """Yesterday's doubts must not be on the wall today."""
    figures = Figures()
    attempt(figures, ACCEPTED, NOW)
    figures.ended(ACCEPTED, NOW)
    assert sum(figures.snapshot(NOW + SLICE * (SLICES - 2))["requests"]) == 1
    told = figures.snapshot(NOW + SLICE * (SLICES + 12))
    assert sum(told["requests"]) == sum(told["verdicts"].values()) == 0
    assert told["waits"] == told["answers"] == {}


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 20)), max_size=60))
def test_no_request_is_lost_whenever_answers_come(
    steps: list[tuple[float, float]],
) -> None:
    """A sum that is less than the ledger's is a lie on the wall."""
    figures, now = Figures(), NOW
    for step, seconds in steps:
        now += step / 4
        attempt(figures, ACCEPTED, now, seconds=seconds)
    young = sum(figures.snapshot(now)["requests"])
    assert young == len(steps)


@pytest.mark.parametrize("seconds", [0.001, 0.05, 0.3, 1.0, 9.9, 60.0])
def test_duration_is_shown_within_three_percent(seconds: float) -> None:
    """Who compares with the log must find the same."""
    assert abs(seconds_of(class_of(seconds)) - seconds) <= 0.03 * seconds


def test_percentiles() -> None:
    """A p99 that is a p50 hides the slow ones."""
    classes: dict[int, Any] = {class_of(0.1): 98, class_of(5.0): 2}
    assert percentile(classes, 0.5) == pytest.approx(0.1, rel=0.03)
    assert percentile(classes, 0.99) == pytest.approx(5.0, rel=0.03)
    assert percentile({}, 0.5) is None
    assert percentile({0: 1}, 0.5) == 0.0
