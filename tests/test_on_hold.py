"""Customers on hold: told once, forgotten once somebody must have helped them."""

from typing import Final

from aiophlo.model.accounts import Account
from aiophlo.observed_events import HandoverEnded, HandoverStep
from aiophlo.on_hold import REMEMBERED_FOR, CustomersOnHold

ACCOUNT: Final = Account("MAAAAAAAAAAAAAAAAAAA", "t" * 40)


def step(phase: str, handover: str = "h") -> HandoverStep:
    """Return a step of a handover."""
    return HandoverStep(ACCOUNT, handover, phase, "ringing")


def end(phase: str, *, alarm: bool) -> HandoverEnded:
    """Return the end of one."""
    return HandoverEnded(ACCOUNT, "h", phase, 1.0, alarm)


def test_alarm_is_new_once() -> None:
    """The step and the end tell of one customer, not of two."""
    known = CustomersOnHold()
    assert not known.hear(step("consulting"), 0.0)
    assert known.hear(step("on_hold"), 1.0)
    assert not known.hear(end("on_hold", alarm=True), 2.0)
    assert [one.since for one in known.at(3.0)] == [1.0]


def test_alarm_in_any_phase_counts() -> None:
    """A handover that failed while bringing back has left a customer, too."""
    known = CustomersOnHold()
    assert known.hear(end("bringing_back", alarm=True), 0.0)
    assert len(known.at(0.0)) == 1


def test_good_end_is_no_alarm() -> None:
    """A wall that is red for nothing is looked at by nobody."""
    known = CustomersOnHold()
    assert not known.hear(end("with_partner", alarm=False), 0.0)
    assert known.at(0.0) == []


def test_same_handover_of_two_pools_is_two() -> None:
    """Recovered handovers keep their id, and one pool may not hide another's."""
    known = CustomersOnHold()
    assert known.hear(step("on_hold"), 0.0, of=1)
    assert known.hear(step("on_hold"), 0.0, of=2)
    assert len(known.at(0.0)) == 2


def test_alarm_is_forgotten_after_half_an_hour() -> None:
    """Nothing tells that somebody helped; what never goes away is not looked at."""
    known = CustomersOnHold()
    known.hear(step("on_hold"), 0.0)
    assert len(known.at(REMEMBERED_FOR)) == 1
    assert known.at(REMEMBERED_FOR + 0.1) == []


def test_flood_of_alarms_takes_no_more_memory() -> None:
    """An outage of Plivo must not end in one of ours."""
    known = CustomersOnHold()
    for number in range(1_100):
        known.hear(step("on_hold", str(number)), 0.0)
    assert len(known.at(0.0)) == 1_000
