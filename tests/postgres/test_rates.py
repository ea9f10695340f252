"""The database's row of a rate does what a pool's own meter does."""

from collections.abc import Iterator
from typing import Any, Final

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from aiophlo.model.accounts import Quota, Rate
from aiophlo.model.actions import Lane
from aiophlo.sending.rate_meter import RateMeter
from tests.support.postgres import Postgres

INTERVAL: Final = 0.5
STEPS: Final = st.lists(
    st.tuples(
        st.sampled_from(["book", "throttled", "answered", "wait"]),
        st.floats(0.0, 70.0),
        st.sampled_from([None, 0.0, 1.0, 5.0, 90.0]),
    ),
    max_size=25,
)


class Row:
    """A row of rates that isn't in the table, and what is done to it at what time."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        schema: str,
        *,
        interval: float = INTERVAL,
        late: float = 0.0,
    ) -> None:
        self._interval = interval
        self._late = late
        self._connection = connection
        self._schema = schema
        self._row: list[Any] = list(
            self._one(
                "SELECT (r).* FROM jsonb_populate_record(NULL::{s}.rates, %s) r",
                Jsonb(START),
            )
        )

    def _one(self, query: str, *parameters: object) -> tuple[Any, ...]:
        found = self._connection.execute(
            query.replace("{s}", self._schema).encode(), parameters
        ).fetchone()
        assert found is not None
        return tuple(found)

    def _do(self, call: str, *parameters: object) -> tuple[Any, ...]:
        places = ", ".join(["%s"] * len(self._row))
        query = call.replace("ROW", f"ROW({places})::{{s}}.rates")
        return self._one(query, *self._row, *parameters)

    def book(
        self,
        now: float,
        *,
        urgent: bool = False,
        streamed: bool = False,
        overdraft: int = 3,
    ) -> float:
        """Book one slot, and return it; keep in `taken` what was a stream's."""
        call = (
            "SELECT (b.r).*, b.slots[1], b.taken"
            " FROM {s}.book(ROW, %s, %s, 1, %s, %s, %s, %s) b"
        )
        about = now, self._interval, urgent, self._late, streamed, overdraft
        *self._row, slot, self.taken = self._do(call, *about)
        return float(slot)

    def throttled(self, now: float, sent: float, retry_after: float | None) -> bool:
        """Pause, and say whether that begins a pause."""
        call = "SELECT (t.r).*, t.begun FROM {s}.throttled(ROW, %s, %s, %s, 5.0) t"
        *self._row, begun = self._do(call, now, sent, retry_after)
        return bool(begun)

    def answered(self, sent: float) -> None:
        """Note another answer."""
        self._row = list(self._do("SELECT (a).* FROM {s}.answered(ROW, %s) a", sent))


START: Final = {
    "name": "MA",
    "next_free": 0.0,
    "paused_until": "-Infinity",
    "is_long": False,
    "trying_until": "-Infinity",
    "urgent_next": "-Infinity",
    "urgent_tried_at": "Infinity",
    "urgent_tries": 0,
    "pauses_in_a_row": 0,
    "pace": 1.0,
    "pace_set_at": "-Infinity",
    "overdrafts": [],
    "streamed": [],
    "set_at": "-Infinity",
}


@pytest.fixture(scope="module")
def connection(postgres: Postgres) -> Iterator[psycopg.Connection[Any]]:
    """Give a connection for the whole module."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        yield connection


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_row_gives_the_slots_that_a_meter_gives(
    connection: psycopg.Connection[Any],
    namespace: str,
    steps: list[tuple[str, float, float | None]],
) -> None:
    """Two ideas of a pause would draw the 429s that one of them avoids."""
    row, meter = Row(connection, namespace), RateMeter(INTERVAL, first_slot=0.0)
    now = sent = 1000.0
    for do, seconds, retry_after in steps:
        if do == "wait":
            now += seconds
        elif do == "book":
            slot = max(meter.next_slot(now), now)
            assert row.book(now) == pytest.approx(slot)
            meter.use(slot, Lane.AWAITED)
            now = sent = slot
        elif do == "throttled":
            begun = meter.throttled(now, sent=sent, retry_after=retry_after)
            assert row.throttled(now, sent, retry_after) is begun
        else:
            meter.answered(sent=sent)
            row.answered(sent)


def test_urgent_overdraws_by_no_more_than_it_may(
    connection: psycopg.Connection[Any], namespace: str
) -> None:
    """An abort can't wait for eighteen pools; nor may it spend the whole quota."""
    row = Row(connection, namespace)
    for _ in range(10):
        row.book(1000.0)
    slots = [row.book(1000.0, urgent=True) for _ in range(4)]
    assert slots == pytest.approx([1000.0, 1000.0, 1000.0, 1005.5])
    assert row.book(1000.0) == pytest.approx(1007.0), "which all others pay"
    assert row.book(1006.2, urgent=True) == pytest.approx(1006.2), "two are paid"


@pytest.mark.parametrize(
    "quota",
    [Quota(300), Quota(300, jitter=0.2), Quota(10, per=1.0), Quota(1000)],
    ids=repr,
)
def test_urgent_draws_no_429_beside_slots_that_are_used_late(
    connection: psycopg.Connection[Any], namespace: str, quota: Quota
) -> None:
    """While nobody answers, all pools repeat what must not wait, at the full pace."""
    rate = Rate.of_quota(quota)
    row = Row(connection, namespace, interval=rate.interval, late=rate.lateness)
    ends = 1000.0 + quota.per
    left = [max(row.book(1000.0), 1000.0)]
    while left[-1] + rate.interval < ends:
        left.append(max(row.book(1000.0), 1000.0))
    now = ends - 0.001
    left += [row.book(now, urgent=True, overdraft=rate.overdraft) for _ in range(20)]
    assert sum(at < ends for at in left) <= quota.limit


def test_urgent_waits_its_turn_where_the_quota_has_no_room(
    connection: psycopg.Connection[Any], namespace: str
) -> None:
    """An overdraft of a quota that allows for no jitter draws a 429."""
    row = Row(connection, namespace)
    assert row.book(1000.0, urgent=True, overdraft=0) == pytest.approx(1000.0)
    row.book(1000.0)
    assert row.book(1000.0, urgent=True, overdraft=0) == pytest.approx(1001.0)


def test_urgent_is_no_overdraft_while_the_row_is_idle(
    connection: psycopg.Connection[Any], namespace: str
) -> None:
    """Three aborts in a calm hour must leave the next ones their haste."""
    row = Row(connection, namespace)
    for second in range(5):
        now = 1000.0 + second
        assert row.book(now, urgent=True) == pytest.approx(now)
    for _ in range(10):
        row.book(1010.0)
    slots = [row.book(1010.0, urgent=True) for _ in range(3)]
    assert slots == pytest.approx([1010.0] * 3)


def test_urgent_is_tried_in_a_pause_one_at_a_time(
    connection: psycopg.Connection[Any], namespace: str
) -> None:
    """A customer on hold is not left there because of a quota."""
    row = Row(connection, namespace)
    row.throttled(1000.0, 999.0, 30.0)
    assert row.book(1001.0, urgent=True) == pytest.approx(1001.0)
    assert row.book(1001.0, urgent=True) == pytest.approx(1003.0)
    assert row.book(1003.0) == pytest.approx(1030.0)


def test_urgent_in_a_pause_goes_before_what_is_booked_for_its_end(
    connection: psycopg.Connection[Any], namespace: str
) -> None:
    """One awaited send that waited would keep a customer on hold for a minute."""
    row = Row(connection, namespace)
    row.throttled(1000.0, 999.0, 30.0)
    assert row.book(1000.5) == pytest.approx(1030.0)
    assert row.book(1001.0, urgent=True) == pytest.approx(1001.0)
    assert row.book(1001.0, urgent=True) == pytest.approx(1003.0)


def test_awaited_takes_the_first_slot_of_a_stream_that_can_be_told(
    connection: psycopg.Connection[Any], namespace: str
) -> None:
    """One call would wait behind eighteen campaigns."""
    row = Row(connection, namespace)
    slots = [row.book(1000.0, streamed=True) for _ in range(4)]
    assert slots == pytest.approx([1000.0, 1000.5, 1001.0, 1001.5])
    assert row.book(1000.48) == pytest.approx(1001.0), "too late for that at 1000.5"
    assert row.taken == [slots[2]]
    assert row.book(1000.48) == pytest.approx(1001.5)
    assert row.book(1000.48) == pytest.approx(1002.0), "no stream has one"
    assert row.taken == []
    assert row.book(1000.48, streamed=True) == pytest.approx(1002.5)


def test_urgent_is_paid_for_by_a_stream(
    connection: psycopg.Connection[Any], namespace: str
) -> None:
    """The fourth abort in the time for which pools have booked would wait for it."""
    row = Row(connection, namespace)
    for _ in range(18):
        row.book(1000.0, streamed=True)
    for now in (1000.0, 1000.6, 1001.2, 1001.8, 1002.4):
        assert row.book(now, urgent=True) == pytest.approx(now)
        assert len(row.taken) == 1
    assert row.book(1002.4) == pytest.approx(1003.0), "which a stream had, too"
