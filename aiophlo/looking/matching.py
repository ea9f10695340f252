"""Matches a dial to its own one of the listed calls, if that is certain. Pure.

By number alone nothing is proved: others call the same phone. A call is a candidate if
it goes out, to the address that was dialled, from one of the caller ids where these are
known (`caller_ids` learns them), and began while the dial's request may have been
carried out. One candidate is proof; two are none. Where no caller ids are known, a call
of somebody else's may be the only one that is listed yet: then one candidate is proof
only once everything that would be listed is.
"""

import math
from collections.abc import Iterable
from typing import Final

import attrs

from aiophlo.looking.call_records import CallRecord
from aiophlo.model.outcomes import InDoubt, Reason
from aiophlo.model.sightings import CallState

_BEFORE: Final = 2.0  # seconds: times are whole seconds, clocks a second apart
_AFTER: Final = 3.0  # seconds from the request's arrival to the call's beginning
LONGEST: Final = 13.0  # seconds for which a request may have been on its way
LAG: Final = 4.0  # seconds by which a call's beginning or end may be listed late
_LATER: Final = 60.0  # seconds for which Plivo may keep a dial in its queue
_ORDER: Final = {state: number for number, state in enumerate(CallState)}


@attrs.frozen
class Window:
    """When a dial's call can have begun, as Unix times by one clock.

    Attributes:
        begin: No earlier.
        end: No later.
    """

    begin: float
    end: float

    @classmethod
    def of(cls, outcome: InDoubt) -> "Window":
        """Return the window of a dial in doubt, by this machine's clock."""
        left_at = math.nan if outcome.left_at is None else outcome.left_at
        on_its_way = min(max(outcome.seconds - outcome.waited, 0.0), LONGEST)
        if outcome.reason is Reason.INTERRUPTED:  # nobody has measured it
            on_its_way = LONGEST
        return cls(left_at - _BEFORE, left_at + on_its_way + _AFTER)

    @classmethod
    def around(cls, left_at: float) -> "Window":
        """Return the window of a dial that was answered at once."""
        return cls(left_at - _BEFORE, left_at + _AFTER)

    @property
    def listed_by(self) -> float:
        """When every call that began in it is listed."""
        return self.end + LAG

    def moved(self, seconds: float) -> "Window":
        """Return it by a clock that is ahead by so many seconds."""
        return Window(self.begin + seconds, self.end + seconds)

    def may_hold(self, at: float | None) -> bool:
        """Say whether a call that began then, or at a time unknown, can be the one."""
        return at is None or self.begin <= at <= self.end


@attrs.frozen
class Match:
    """What the listed calls say of a dial.

    Attributes:
        candidates: The calls that could be it.
        proof: The one that it is, if that is certain.
        others: How many more go out to the phone from other numbers, or some while
            later. Unless there are none, nobody can say that it wasn't rung.
    """

    candidates: tuple[CallRecord, ...]
    proof: CallRecord | None = None
    others: int = 0


def match(
    records: Iterable[CallRecord],
    *,
    to: str,
    window: Window,
    caller_ids: frozenset[str],
    complete: bool,
    alone: bool,
) -> Match:
    """Return which of the calls is a dial's own.

    Args:
        records: What was listed, from all three lists.
        to: The address that was dialled.
        window: When its call can have begun, by Plivo's clock.
        caller_ids: The numbers that dials call from; empty if they aren't known.
        complete: All that would be listed has been read.
        alone: No other dial to the same phone was sent at the same time.
    """
    found: dict[str, CallRecord] = {}
    others: set[str] = set()
    later = Window(window.begin, window.end + _LATER)
    for record in records:
        if not (record.is_outbound and record.is_to(to)):
            continue
        if not later.may_hold(record.began_at):
            continue
        own = not caller_ids or record.is_from_one_of(caller_ids)
        if not (own and window.may_hold(record.began_at)):
            others.add(record.call_uuid)
            continue
        known = found.get(record.call_uuid)
        if known is None or _ORDER[known.state] < _ORDER[record.state]:
            found[record.call_uuid] = record
    candidates = tuple(found.values())
    certain = alone and (complete or bool(caller_ids))
    if certain and len(candidates) == 1 and _is_proof(candidates[0], to):
        return Match(candidates, candidates[0], others=len(others))
    return Match(candidates, others=len(others))


def _is_proof(record: CallRecord, to: str) -> bool:
    return record.began_at is not None and record.is_to_exactly(to)
