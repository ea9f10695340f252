"""When a pool books, what it makes of its slots, and what it does alone."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final

import pytest

from aiophlo.coordination import AwayError
from aiophlo.model.accounts import Rate
from aiophlo.model.actions import Lane
from aiophlo.postgres.pool_shares import PoolShares
from aiophlo.postgres.server_clock import ServerClock
from aiophlo.postgres.shared_meter import SharedMeter

RATE: Final = Rate("MA", 0.1, lateness=0.025)
CALM: Final = {"pace": 1.0, "unsettled": False, "paused_for": None}


class Database:
    """What is asked, and the answers that a test gives; its clock is the loop's."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, Any], asyncio.Future[Any] | None]] = []
        self.coordinated = True

    def ask(self, operation: dict[str, Any]) -> asyncio.Future[Any]:
        """Keep an operation, to be answered later."""
        future = asyncio.get_running_loop().create_future()
        self.asked.append((operation, future))
        return future

    def call(
        self, operation: dict[str, Any], answered: Callable[[Any], object]
    ) -> None:
        """Keep an operation whose answer is heard at once."""
        self.ask(operation).add_done_callback(
            lambda asked: answered(None if asked.exception() else asked.result())
        )

    def tell(self, operation: dict[str, Any]) -> None:
        """Keep an operation that nobody waits for."""
        self.asked.append((operation, None))

    async def answer(self, **answer: Any) -> None:  # noqa: ANN401 -- any answer's
        """Answer the last operation."""
        future = self.asked[-1][1]
        assert future is not None
        future.set_result({**CALM, **answer})
        await asyncio.sleep(0)

    async def fail(self) -> None:
        """Be away."""
        future = self.asked[-1][1]
        assert future is not None
        future.set_exception(AwayError("away"))
        await asyncio.sleep(0)


class Stage:
    """A meter, and what its queue would see."""

    def __init__(self, rate: Rate = RATE, round_trip: float = 0.001) -> None:
        self.database = Database()
        self.now = 100.0
        self.refreshed: list[bool] = []
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.shares = PoolShares(1, 4.0)
        clock = ServerClock()
        clock.note(
            99.0, 99.0 + round_trip, 99.0 + round_trip / 2, 99.0 + round_trip / 2
        )
        self.meter = SharedMeter(
            rate,
            self.database,  # type: ignore[arg-type]  # it asks nobody
            clock,
            self.shares,
            self.refreshed.append,
            is_coordinated=lambda: self.database.coordinated,
            time=lambda: self.now,
            call_at=lambda at, call: self.later.append((at, call)),
        )

    def want(
        self,
        urgent: int = 0,
        awaited: int = 0,
        streamed: int = 0,
        coming: int = 0,
        looked: int = 0,
    ) -> None:
        """Say who waits, and how many awaited ones may come."""
        waiting = [urgent, awaited, streamed, looked]
        self.meter.want(self.now, waiting, [0, coming, 0, 0])

    @property
    def books(self) -> list[tuple[int, bool]]:
        """What was booked: how many, and whether it was urgent."""
        asked = [operation for operation, _ in self.database.asked]
        return [(it["count"], it["urgent"]) for it in asked if it["do"] == "book"]


async def test_one_slot_is_booked_for_the_first_who_waits() -> None:
    """What is booked early can't be given to an abort, nor to another pool."""
    stage = Stage()
    stage.want(awaited=5)
    stage.want(awaited=6)
    assert stage.books == [(1, False)]
    assert stage.meter.next_slot(stage.now) == math.inf
    await stage.database.answer(slots=[100.05])
    assert stage.refreshed
    stage.want(awaited=6)
    assert stage.books == [(1, False)], "the slot is further off than two round trips"
    stage.now = 100.05
    assert stage.meter.next_slot(stage.now) == pytest.approx(100.05, abs=0.001)
    stage.meter.use(stage.now, Lane.AWAITED)
    stage.want(awaited=5)
    assert stage.books == [(1, False)] * 2


async def test_pool_with_more_waiting_books_more() -> None:
    """Of three workers the busiest had a third, and its callers were not sent."""
    stage = Stage()
    stage.want(awaited=80)
    await stage.database.answer(slots=[100.05 + number / 60 for number in range(10)])
    stage.want(awaited=80)
    assert stage.books == [(10, False)], "they are booked now"
    stage.now = 100.05
    stage.meter.use(stage.now, Lane.AWAITED)
    stage.want(awaited=79)
    assert stage.books == [(10, False)], "as one has left, one less need be"
    stage.now += 1 / 60
    stage.meter.use(stage.now, Lane.AWAITED)
    stage.want(awaited=80)
    assert stage.books == [(10, False), (2, False)]


async def test_first_slots_alone_foretell_no_long_wait() -> None:
    """They come unevenly while all begin at once: many would be refused in vain."""
    stage = Stage(Rate("MA", 1 / 60))
    stage.want(awaited=5)
    await stage.database.answer(slots=[100.0])
    stage.want(awaited=5)
    await stage.database.answer(slots=[100.1])  # six times as far apart
    assert stage.meter.step(stage.now) < 1 / 50
    for number in range(30):
        stage.now = 100.1 + number / 10
        stage.meter.use(stage.now, Lane.AWAITED)
        stage.want(awaited=5)
        await stage.database.answer(slots=[stage.now + 0.1])
    assert stage.meter.step(stage.now) > 1 / 15, "it is how things are"


async def test_more_are_booked_where_the_round_trip_demands_it() -> None:
    """A database 190 ms away would halve the rate."""
    stage = Stage(round_trip=0.19)
    stage.want(streamed=1)
    assert stage.books == [(4, False)]
    alone = Stage(round_trip=0.19)
    alone.want(awaited=1)
    assert alone.books == [(1, False)], "and no more than are needed"


async def test_without_a_quota_all_who_wait_are_booked_for_at_once() -> None:
    """One for each round trip, 20 ms away, would be 50 a second."""
    stage = Stage(Rate("MA", 0.0))
    stage.want(awaited=50)
    assert stage.books == [(50, False)]


async def test_urgent_books_beside_what_is_booked() -> None:
    """An abort doesn't wait for another pool's turn."""
    stage = Stage()
    stage.want(awaited=1)
    await stage.database.answer(slots=[103.0])
    stage.want(urgent=1, awaited=1)
    assert stage.books == [(1, False), (1, True)]
    await stage.database.answer(slots=[100.0])
    assert stage.meter.next_slot(stage.now, Lane.URGENT) == pytest.approx(100, abs=0.01)
    assert stage.meter.next_slot(stage.now) == pytest.approx(103, abs=0.01)
    stage.meter.use(stage.now, Lane.URGENT)
    assert stage.meter.next_slot(stage.now, Lane.URGENT) == pytest.approx(103, abs=0.01)


async def test_slot_that_is_too_old_is_wasted() -> None:
    """Late by more than the quota's jitter, it would draw a 429."""
    stage = Stage()
    stage.want(awaited=1)
    await stage.database.answer(slots=[100.0])
    assert stage.meter.next_slot(100.02) < math.inf
    assert stage.meter.next_slot(100.03) == math.inf


async def test_nothing_is_booked_while_nobody_waits() -> None:
    """Others could have used it."""
    stage = Stage()
    stage.want()
    assert stage.books == []


async def test_gap_between_slots_is_what_is_foretold_while_all_are_busy() -> None:
    """Whoever would come too late must be told now, not after ten seconds."""
    stage = Stage()
    for number in range(30):
        stage.want(awaited=100)
        await stage.database.answer(slots=[100.0 + 0.4 * (number + 1)])
        stage.now = 100.0 + 0.4 * (number + 1)
        assert stage.meter.next_slot(stage.now) < math.inf
        stage.meter.use(stage.now, Lane.AWAITED)
    assert stage.meter.step(stage.now) == pytest.approx(0.4, rel=0.02)
    assert True in stage.refreshed, "those who now come too late are refused"
    assert stage.meter.step(stage.now + 5.0) == pytest.approx(0.1), "and forgotten"


async def test_pause_of_another_pool_voids_what_is_booked() -> None:
    """It would leave into the pause, and draw one more 429."""
    stage = Stage()
    stage.want(awaited=1)
    await stage.database.answer(slots=[100.5])
    stage.meter.told({"pace": 0.8, "unsettled": True, "paused_for": 2.0})
    assert stage.meter.next_slot(stage.now) == math.inf
    assert stage.meter.paused_until == 102.0
    assert stage.meter.pace(stage.now) == pytest.approx(0.8)
    assert stage.meter.pace(stage.now + 6.0) == pytest.approx(0.9)
    stage.want(awaited=1)
    assert len(stage.books) == 2


async def test_short_pause_voids_the_first_of_the_slots_booked_ahead() -> None:
    """With a database far away several are booked; the next would draw one more 429."""
    stage = Stage(round_trip=0.19)
    stage.want(streamed=1)
    await stage.database.answer(slots=[100.1, 100.2, 100.3, 100.4])
    stage.meter.told({"pace": 0.8, "unsettled": True, "paused_for": 0.25})
    assert stage.meter.next_slot(stage.now) == pytest.approx(100.3)


async def test_429_and_the_answer_after_it_are_told() -> None:
    """The row alone knows whether the pause is over for all."""
    stage = Stage()
    stage.meter.answered(sent=99.0)
    assert not stage.database.asked, "nobody needs to know when all is well"
    assert stage.meter.throttled(stage.now, sent=99.9, retry_after=5.0)
    operation = stage.database.asked[-1][0]
    assert operation["do"] == "throttled"
    assert operation["retry_after"] == 5.0
    assert operation["sent"] == pytest.approx(99.9, abs=0.001)
    assert not stage.meter.throttled(stage.now, sent=99.95)
    stage.meter.answered(sent=105.1)
    assert stage.database.asked[-1][0]["do"] == "answered"


async def test_request_that_leaves_late_skips_a_slot() -> None:
    """Requests that a slow disk held up leave all at once."""
    stage = Stage()
    stage.meter.left(100.02, slot=100.0)
    assert not stage.database.asked
    stage.meter.left(100.2, slot=100.0)
    assert stage.database.asked[-1][0]["do"] == "skip"


async def test_alone_it_keeps_to_its_share_and_streams_wait() -> None:
    """Four pools alone must not use the quota four times."""
    stage = Stage()
    stage.want(awaited=1)
    await stage.database.fail()
    stage.meter.go_alone(lambda: 0.5)
    first = 100.0 + 1.5 * 0.4  # what left just now was counted by the row
    assert stage.meter.next_slot(stage.now, Lane.AWAITED) == pytest.approx(first)
    assert stage.meter.next_slot(stage.now, Lane.STREAMED) == math.inf
    stage.now = first
    stage.meter.use(stage.now, Lane.AWAITED)
    assert stage.meter.next_slot(stage.now) == pytest.approx(first + 0.4)
    assert stage.meter.step(stage.now) == pytest.approx(0.4)
    stage.want(awaited=5)
    assert len(stage.books) == 1, "nobody is asked"


async def test_once_it_is_back_nothing_is_booked_for_a_second() -> None:
    """Others may still go by their shares."""
    stage = Stage()
    stage.meter.go_alone(lambda: 0.0)
    stage.meter.share_again()
    stage.want(awaited=1)
    assert stage.books == []
    assert [at for at, _ in stage.later] == [101.0]
    stage.now = 101.0
    stage.later[0][1]()
    assert stage.refreshed[-1] is False
    stage.want(awaited=1)
    assert stage.books == [(1, False)]


async def test_once_it_is_back_it_asks_how_the_row_stands() -> None:
    """A crash may have taken it, and a new one gives no slot for a second."""
    stage = Stage()
    stage.meter.go_alone(lambda: 0.0)
    stage.meter.share_again()
    assert stage.database.asked[-1][0] == {"do": "look", "rate": "MA"}
    await stage.database.answer(paused_for=30.0)
    assert stage.meter.paused_until == pytest.approx(130.0)


async def test_pause_that_began_alone_is_told_once_it_is_back() -> None:
    """It would book slots in a row that knows of no pause, and throw each away."""
    stage = Stage()
    stage.meter.go_alone(lambda: 0.0)
    stage.meter.throttled(stage.now, sent=99.9, retry_after=30.0)
    stage.now = 110.0
    stage.meter.share_again()
    operation = stage.database.asked[-1][0]
    assert operation["do"] == "throttled"
    assert operation["sent"] == pytest.approx(110.0, abs=0.001)
    assert operation["retry_after"] == pytest.approx(20.0)


async def test_alone_it_keeps_to_a_smaller_share_once_more_have_come() -> None:
    """Those that open meanwhile book all but what one of so many may have."""
    stage = Stage()
    stage.meter.share_alone()
    assert stage.meter.step(stage.now) == pytest.approx(0.1), "it isn't alone"
    stage.meter.go_alone(lambda: 0.5)
    assert stage.meter.step(stage.now) == pytest.approx(0.4)
    stage.shares.pools = 8
    stage.meter.share_alone()
    assert stage.meter.step(stage.now) == pytest.approx(0.8)


async def test_pools_that_are_lost_keep_their_share() -> None:
    """One that is cut off goes on by itself, and both count."""
    stage = Stage()
    stage.shares.available = 0.75
    stage.want(awaited=1)
    assert stage.database.asked[-1][0]["interval"] == pytest.approx(0.1 / 0.75)


async def test_share_that_another_needs_is_given_up_of_what_is_booked() -> None:
    """A second of slots is booked ahead, while the other sends by itself already."""
    stage = Stage()
    stage.want(streamed=1)
    slots = [100.5 + number / 60 for number in range(12)]
    await stage.database.answer(slots=slots)
    stage.meter.thin(0.75, lambda: 0.5)
    kept = []
    while (slot := stage.meter.next_slot(stage.now)) < math.inf:
        stage.meter.use(stage.now, Lane.STREAMED)
        kept.append(slot)
    assert kept == pytest.approx([slots[n] for n in range(12) if n % 4 != 2])
    assert stage.refreshed[-1] is False, "the queue asks for the next one again"
    stage.meter.taken(slots[2:3])
    assert stage.database.asked[-1][0]["do"] == "book", (
        "none was used that is another's"
    )


async def test_failed_booking_is_tried_again() -> None:
    """One lost statement must not end the pool's slots."""
    stage = Stage()
    stage.want(urgent=1, awaited=1)
    for _, future in stage.database.asked:
        assert future is not None
        future.set_exception(AwayError("away"))
    await asyncio.sleep(0)
    stage.want(urgent=1, awaited=1)
    assert len(stage.books) == 4


async def test_slot_is_booked_for_one_that_is_coming_unless_it_joins() -> None:
    """A double click would cost two slots."""
    stage = Stage()
    stage.want(coming=1)
    operation = stage.database.asked[-1][0]
    assert (operation["count"], operation["coming"]) == (1, 1)
    await stage.database.answer(slots=[100.0])
    stage.want(coming=1)
    assert len(stage.books) == 1, "it has its slot"
    stage.now += 1.0
    stage.want(awaited=1, coming=1)
    operation = stage.database.asked[-1][0]
    assert (operation["count"], operation["coming"]) == (1, 0)


@pytest.mark.parametrize(("round_trip", "late"), [(0.001, 0.014), (0.02, 0.0)])
async def test_slot_may_be_over_when_it_is_booked_but_not_when_it_comes(
    round_trip: float, late: float
) -> None:
    """It would be thrown away; and without it what was late is never caught up."""
    stage = Stage(round_trip=round_trip)
    stage.want(awaited=1)
    assert stage.database.asked[-1][0]["late"] == pytest.approx(late)


async def test_slot_of_a_stream_that_another_pool_took_is_given_up() -> None:
    """Both would leave, and one draw a 429."""
    stage = Stage()
    stage.want(streamed=1)
    assert stage.database.asked[-1][0]["streamed"]
    await stage.database.answer(slots=[100.5])
    stage.meter.taken([100.4])
    assert stage.meter.next_slot(stage.now) < math.inf
    stage.meter.taken([100.5])
    assert stage.meter.next_slot(stage.now) == math.inf
    stage.want(streamed=1)
    assert len(stage.books) == 2


async def test_slot_of_a_look_may_be_taken_as_a_stream_s() -> None:
    """A question about a call must hold up no transfer of another pool."""
    stage = Stage()
    stage.want(looked=1)
    assert stage.database.asked[-1][0]["streamed"]
    await stage.database.answer(slots=[100.5])
    stage.meter.taken([100.5])
    stage.want(looked=2, awaited=1)
    assert not stage.database.asked[-1][0]["streamed"]


async def test_awaited_books_though_its_stream_has_a_slot_much_later() -> None:
    """It would wait behind the streams of all pools."""
    stage = Stage()
    stage.want(streamed=1)
    await stage.database.answer(slots=[100.5])
    stage.want(awaited=1, streamed=1)
    assert not stage.database.asked[-1][0]["streamed"]
    assert len(stage.books) == 2
    await stage.database.answer(slots=[100.06])
    assert stage.meter.next_slot(stage.now) == pytest.approx(100.06, abs=0.001)
    stage.want(awaited=1, streamed=1)
    assert len(stage.books) == 2


@pytest.mark.parametrize("why", ["awaited", "deaf", "far"])
async def test_slot_is_not_to_be_taken(why: str) -> None:
    """One that isn't told would use it all the same."""
    stage = Stage(round_trip=0.1 if why == "far" else 0.001)
    stage.database.coordinated = why != "deaf"
    stage.want(streamed=1, awaited=int(why == "awaited"))
    assert not stage.database.asked[-1][0]["streamed"]


async def test_pause_between_two_slots_is_not_taken_for_the_pace() -> None:
    """All who wait would be refused, though the rate is as ever."""
    stage = Stage()
    stage.want(awaited=50)
    await stage.database.answer(slots=[100.0])
    stage.want(awaited=49)
    await stage.database.answer(slots=[103.0])
    assert stage.meter.step(stage.now) < 0.3


async def test_less_lateness_is_asked_for_while_slots_come_too_late() -> None:
    """A busy machine would throw away what it could have used, and book again."""
    stage = Stage()
    for late in (0.014, 0.007, 0.0035):
        stage.want(awaited=1)
        operation = stage.database.asked[-1][0]
        assert operation["late"] == pytest.approx(late, abs=0.0005)
        await stage.database.answer(slots=[stage.now])
        stage.now += 0.1
        assert stage.meter.next_slot(stage.now) == math.inf
    for _ in range(50):
        stage.want(awaited=1)
        await stage.database.answer(slots=[stage.now])
        assert stage.meter.next_slot(stage.now) < math.inf
        stage.meter.use(stage.now, Lane.AWAITED)
    stage.want(awaited=1)
    assert stage.database.asked[-1][0]["late"] == pytest.approx(0.014)


@pytest.mark.parametrize("is_used", [True, False])
async def test_slot_that_was_taken_after_it_was_used_is_paid_for(
    *, is_used: bool
) -> None:
    """Two have left by it: on a busy machine that would add up to a 429."""
    stage = Stage()
    stage.want(streamed=1)
    await stage.database.answer(slots=[100.5])
    stage.now = 100.5 if is_used else 100.6
    if stage.meter.next_slot(stage.now) <= stage.now:
        stage.meter.use(stage.now, Lane.STREAMED)
    stage.meter.taken([100.5])
    stage.meter.taken([100.5])
    asked = [operation["do"] for operation, _ in stage.database.asked]
    assert asked.count("skip") == int(is_used)
