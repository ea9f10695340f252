"""The course of lost answers finds nothing wrong, and would if there were."""

import attrs
import pytest

from aiophlo.looking import looker
from aiophlo.looking.call_records import CallRecord
from aiophlo.looking.matching import Match
from benchmarks.soak.looking import Course, run

pytestmark = pytest.mark.long

COURSE = Course(transfers=250, per_second=250.0, lost=0.2, never=0.05, seed=5)


@pytest.mark.parametrize("knows", [True, False])
async def test_no_sighting_is_wrong(knows: bool) -> None:
    """Who is told that a phone was rung relies on it."""
    findings = await run(attrs.evolve(COURSE, knows_caller_ids=knows))
    assert (findings.wrong, findings.refused_429) == (0, 0)
    assert findings.doubts > findings.rung > findings.settled
    assert findings.settled > 0 or not knows, "one that still learns may settle none"


async def test_match_by_number_alone_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A course that finds nothing proves nothing."""

    def by_number(records: list[CallRecord], *, to: str, **_: object) -> Match:
        found = tuple(record for record in records if record.is_to(to))
        return Match(found, found[0] if found else None)

    monkeypatch.setattr(looker, "match", by_number)
    findings = await run(attrs.evolve(COURSE, others=1.0))
    assert findings.wrong > 0
    assert not findings.passes
