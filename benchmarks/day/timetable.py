"""The day: what happens when."""

from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from benchmarks.day import deeds
from benchmarks.day.deeds import Deed

OPENS, CLOSES = "09:00", "17:00"


def minutes_of(clock: str) -> int:
    """Return the minutes from midnight to a time of day."""
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


@attrs.frozen
class At:
    """Something that is begun at a time of day.

    Attributes:
        begin: When.
        deed: What.
        end: When it is over; empty for as soon as it is done.
    """

    begin: str
    deed: Deed
    end: str = ""


@attrs.frozen
class Every:
    """Something that is done over and over, by the real clock.

    Attributes:
        seconds: From one to the next.
        first: Until the first one.
        deed: What.
    """

    seconds: float
    first: float
    deed: Deed


def at(begin: str, deed: Deed, *, until: str = "") -> At:
    """Do something at a time of day, until another one."""
    return At(begin, deed, until)


def every(seconds: float, deed: Deed, *, first: float) -> Every:
    """Do something over and over, whatever the day's length."""
    return Every(seconds, first, deed)


# In a day of 20 minutes, 24 minutes of these are one.
TIMETABLE: Final = (
    at("09:00", deeds.agents_work, until="17:00"),
    at("09:12", deeds.a_campaign_is_worked, until="16:30"),
    at("10:00", deeds.the_database_is_restarted),
    at("11:00", deeds.strangers_use_the_account, until="12:00"),
    at("12:48", deeds.plivo_answers_5xx, until="13:12"),
    at("14:00", deeds.plivo_says_nothing, until="14:24"),
    at("15:24", deeds.the_database_crashes),
    every(60.0, deeds.a_worker_is_killed, first=45.0),
    every(180.0, deeds.a_campaign_worker_is_killed, first=75.0),
    every(120.0, deeds.a_version_is_rolled_out, first=70.0),
)


@attrs.frozen
class Appointment:
    """Something to be done at a moment.

    Attributes:
        begin: Seconds since the day began.
        end: When it is over; None for as soon as it is done.
        deed: What.
    """

    begin: float
    end: float | None
    deed: Deed


def scaled(timetable: Sequence[At | Every], minutes: float) -> list[Appointment]:
    """Return what is to be done in a day of so many minutes, in order."""
    found = [
        appointment for one in timetable for appointment in _appointments(one, minutes)
    ]
    return sorted(found, key=lambda one: one.begin)


def seconds_of(clock: str, minutes: float) -> float:
    """Return when a time of day is, in seconds, in a day of so many minutes."""
    opens, closes = minutes_of(OPENS), minutes_of(CLOSES)
    return (minutes_of(clock) - opens) / (closes - opens) * minutes * 60.0


def clock_of(seconds: float, minutes: float) -> str:
    """Return the time of day at a moment of a day of so many minutes."""
    opens, closes = minutes_of(OPENS), minutes_of(CLOSES)
    passed = int(seconds / (minutes * 60.0) * (closes - opens))
    return f"{(opens + passed) // 60:02}:{(opens + passed) % 60:02}"


def _appointments(one: At | Every, minutes: float) -> Iterator[Appointment]:
    if isinstance(one, At):
        end = seconds_of(one.end, minutes) if one.end else None
        yield Appointment(seconds_of(one.begin, minutes), end, one.deed)
        return
    begin = one.first
    while begin < minutes * 60.0:
        yield Appointment(begin, None, one.deed)
        begin += one.seconds
