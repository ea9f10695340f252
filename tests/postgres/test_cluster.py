"""The benchmark of many processes measures what it says."""

import pytest

from aiophlo.postgres import migrate
from benchmarks.cluster.clicks import click_twice
from benchmarks.cluster.courses import Course, measure
from benchmarks.cluster.kills import kill
from benchmarks.cluster.soak import soak
from benchmarks.cluster.stops import stop
from tests.support.postgres import Postgres

pytestmark = pytest.mark.long

LEASE = 3.0  # seconds: as short as may be


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


async def test_double_clicks_on_handovers_are_refused_once_each(
    own_postgres: Postgres,
) -> None:
    """Of 15 that shared nothing, 9 were false alarms and 3 live talks ended."""
    await migrate(own_postgres.url)
    report = await click_twice(own_postgres.url, 6, lease=LEASE)
    assert report.wrong == []
    assert report.rows[0]["one of two refused"] == report.rows[0]["came off"] == 6


async def test_customers_of_killed_owners_are_brought_back(
    own_postgres: Postgres,
) -> None:
    """A customer on hold of whom nobody knows stays there."""
    await migrate(own_postgres.url)
    report = await kill(own_postgres.url, lease=LEASE, within=15.0, rounds=1, at_once=1)
    assert report.wrong == []
    assert [row["times"] for row in report.rows] == [1] * 5
    back = {str(row["killed while"]): row["brought back"] for row in report.rows}
    assert back["ringing"] == back["consulting"] == 1


async def test_stopped_owner_harms_no_newer_handover_and_alarms_of_nobody(
    own_postgres: Postgres,
) -> None:
    """It would act on what it knew before, or on what is said of the newer one."""
    await migrate(own_postgres.url)
    report = await stop(own_postgres.url, lease=LEASE, seconds=8.0)
    assert report.wrong == []
    assert report.rows[0]["ended as taken over"] == 10


async def test_soak_of_killed_processes_finds_nothing_wrong(
    own_postgres: Postgres,
) -> None:
    """The promise of four processes is kept by those that are left."""
    await migrate(own_postgres.url)
    report = await soak(own_postgres, 4.0)
    assert report.wrong == []
    assert report.rows[0]["killed"] >= 2


async def test_soak_finds_nothing_wrong_though_the_database_crashes(
    own_postgres: Postgres,
) -> None:
    """Each goes on by itself, and none takes what another one has."""
    await migrate(own_postgres.url)
    report = await soak(own_postgres, 4.0, crashes=1)
    assert report.wrong == []


async def test_soak_finds_much_wrong_where_nothing_is_shared() -> None:
    """What finds nothing would find nothing broken either."""
    report = await soak(None, 4.0)
    assert report.rows[0]["429"] or report.rows[0]["while away"]
