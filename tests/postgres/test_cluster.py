"""The benchmark of many processes measures what it says."""

import pytest

from aiophlo.postgres import migrate
from benchmarks.cluster.courses import Course, measure
from tests.support.postgres import Postgres


@pytest.mark.parametrize("kind", ["clicks", "urgent"])
async def test_course_is_run_by_processes(kind: str, postgres: Postgres) -> None:
    """A table of what was never sent would be believed."""
    await migrate(postgres.url)
    course = Course(2, kind, 3.0, per_second=4.0)
    figures = await measure(course, postgres.url)
    assert figures["429"] == figures["not accepted"] == figures["rung twice"] == 0
    assert figures["accepted"] > 0
    assert figures["joined"] == (60 if kind == "clicks" else 0)
    assert figures["p50 ms"] > 0
    assert figures["CPU us"] > 0


async def test_database_that_is_far_away_is_so_for_processes(
    postgres: Postgres,
) -> None:
    """Figures of one 20 ms away would be those of one that is near."""
    await migrate(postgres.url)
    course = Course(1, "idle", 3.0, per_second=2.0, round_trip=0.2)
    figures = await measure(course, postgres.url)
    assert figures["p50 ms"] > 200


@pytest.mark.parametrize("processes", [1, 3])
async def test_handovers_come_off_whichever_process_gets_their_events(
    processes: int, postgres: Postgres
) -> None:
    """Of 60 on three workers 48 ended with a partner who had answered cut off."""
    await migrate(postgres.url)
    course = Course(processes, "handovers", 2.0, per_second=9.0)
    figures = await measure(course, postgres.url)
    assert figures["handed over"] == figures["came off"] == course.handovers == 18
    assert figures["429"] == figures["rung twice"] == 0


async def test_handovers_do_not_come_off_where_nothing_is_shared() -> None:
    """What finds nothing would find nothing broken either."""
    figures = await measure(Course(3, "handovers", 1.0, per_second=9.0), None)
    assert figures["came off"] < 9
