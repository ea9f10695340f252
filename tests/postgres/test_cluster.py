"""The benchmark of many processes measures what it says."""

import pytest

from aiophlo.postgres import migrate
from benchmarks.cluster import Course, measure
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
