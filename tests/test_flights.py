"""Single flight: a double click rings once, and everybody hears the same."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Literal

import attrs
import pytest
from virtual_time import VirtualTimeLoop, run_virtually

from aiophlo.actions import AbortTransfer, Action, ColdTransfer, Hangup, WarmTransfer
from aiophlo.flights import MEMORY, Flights
from aiophlo.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason, Rejected
from aiophlo.wire import Answer, decode

ACTION = WarmTransfer(
    phlo_id="p", node_id="n", trigger_source="+14155550100", to="+14155550199"
)
ACCEPTED = Accepted(action=ACTION)
ABORT = AbortTransfer(phlo_id="p", node_id="n", member="+14155550100")
HANGUP = Hangup(phlo_id="p", node_id="n", member=ACTION.to)
REJECTED = Rejected(action=ACTION, status=404)
IN_DOUBT = InDoubt(action=ACTION, reason=Reason.SILENT)
EXPIRED = NotSent(action=ACTION, reason=Reason.EXPIRED)
NEVER_LEFT = NotSent(action=ACTION, reason=Reason.CANCELLED)
CUT_OFF = InDoubt(action=ACTION, reason=Reason.CANCELLED)

Told = Outcome | Literal["cancelled"] | None


def joined(outcome: Outcome) -> Outcome:
    """Return what one is told who joined the flight that came to `outcome`."""
    return attrs.evolve(outcome, joined=True)


def virtually(test: Callable[[], Any]) -> Callable[[], None]:
    """Run an async test on a clock that jumps."""

    def run() -> None:
        run_virtually(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Clicks:
    """Some who click at the same moment; each leads, or hears of the leader's end.

    Attributes:
        leaders: Who led, in order.
        told: What each was told in the end.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self.loop = loop
        self.flights = Flights(loop)
        self.leaders: list[str] = []
        self.told: dict[str, Told] = {}
        self.left = asyncio.Event()
        self.end: asyncio.Future[Outcome] = loop.create_future()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def click(self, *names: str, key: str = "k") -> None:
        """Let each of these click, in this order."""
        for name in names:
            self._tasks[name] = asyncio.create_task(self._click(name, key))
        await asyncio.sleep(0)

    async def cancel(self, *names: str) -> None:
        """Cancel each of these in the same moment."""
        for name in names:
            self._tasks[name].cancel()
        await self.settle()

    async def land(self, outcome: Outcome) -> None:
        """Let the leader's action come to its end."""
        self.end.set_result(outcome)
        await self.settle()
        self.end = self.loop.create_future()

    async def settle(self) -> None:
        """Let everybody do what they can now."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def _click(self, name: str, key: str) -> None:
        try:
            leads = self.flights.lead(key)
            outcome = None if leads else await self.flights.join(key, ACTION)
            if outcome is None:
                self.leaders.append(name)
                outcome = await self._lead(key)
        except asyncio.CancelledError:
            self.told[name] = "cancelled"
            raise
        self.told[name] = outcome

    async def _lead(self, key: str) -> Outcome:
        try:
            outcome = await asyncio.shield(self.end)
        except asyncio.CancelledError:
            self.flights.land(key, CUT_OFF if self.left.is_set() else NEVER_LEFT)
            raise
        self.flights.land(key, outcome)
        return outcome


@pytest.mark.parametrize(
    "outcome",
    [ACCEPTED, REJECTED, EXPIRED, IN_DOUBT],
    ids=lambda outcome: outcome.verdict,
)
def test_everybody_hears_what_the_leader_heard(outcome: Outcome) -> None:
    """Two who click once each must not be told two stories, or ring two phones."""

    async def main() -> None:
        clicks = Clicks()
        await clicks.click("a", "b", "c")
        await clicks.land(outcome)
        assert clicks.leaders == ["a"]
        assert clicks.told == {"a": outcome, "b": joined(outcome), "c": joined(outcome)}

    run_virtually(main())


@virtually
async def test_other_dials_fly_for_themselves() -> None:
    """Two customers' transfers must not become one."""
    clicks = Clicks()
    await clicks.click("a", key="1")
    await clicks.click("b", key="2")
    assert clicks.leaders == ["a", "b"]
    assert len(clicks.flights) == 2
    await clicks.land(ACCEPTED)


@pytest.mark.parametrize("outcome", [ACCEPTED, IN_DOUBT], ids=["accepted", "in_doubt"])
def test_end_is_remembered_for_three_seconds(outcome: Outcome) -> None:
    """The second click of a double click often comes after the answer."""

    async def main() -> None:
        clicks = Clicks()
        await clicks.click("a")
        await clicks.land(outcome)
        clicks.loop.now += 2.999
        await clicks.click("b")
        assert clicks.told["b"] == joined(outcome)
        clicks.loop.now += 0.001
        await clicks.click("c")
        assert clicks.leaders == ["a", "c"]
        await clicks.land(REJECTED)

    assert MEMORY == 3.0
    run_virtually(main())


@pytest.mark.parametrize(
    "answer",
    [
        Answer(201, {"Date": "today"}, b'{"api_id": "7", "error": null, "more": [1]}'),
        Answer(204, {}, b""),
    ],
    ids=["json", "no content"],
)
def test_what_is_remembered_is_told_whole(answer: Answer) -> None:
    """Who clicks twice may look up the second one's id, too."""
    mine = attrs.evolve(ACTION, key="mine")

    async def main() -> None:
        outcome = decode(
            ACTION, answer, now=time.time, attempts=3, seconds=1.25, waited=0.5
        )
        flights = Dials().flights
        assert flights.lead("k")
        flights.land("k", outcome, answer)
        told = await flights.join("k", mine)
        assert told == joined(attrs.evolve(outcome, action=mine))
        assert told is not None
        assert told.action.key == "mine"
        assert (told.attempts, told.seconds, told.waited) == (3, 1.25, 0.5)

    run_virtually(main())


@virtually
async def test_memory_does_not_grow_with_each_click() -> None:
    """A customer who rings again after a while must get through."""
    clicks = Clicks()
    await clicks.click("a")
    await clicks.land(ACCEPTED)
    for number in range(5):
        clicks.loop.now += 0.59
        await clicks.click(str(number))
    clicks.loop.now += 0.1
    await clicks.click("z")
    assert clicks.leaders == ["a", "z"]
    await clicks.land(REJECTED)


@pytest.mark.parametrize("outcome", [REJECTED, EXPIRED], ids=["rejected", "not_sent"])
def test_what_rang_no_phone_is_not_remembered(outcome: Outcome) -> None:
    """A click after a refusal is a new try, not a double click."""

    async def main() -> None:
        clicks = Clicks()
        await clicks.click("a", "b")
        await clicks.land(outcome)
        assert len(clicks.flights) == 0
        await clicks.click("c")
        assert clicks.leaders == ["a", "c"]
        await clicks.land(ACCEPTED)

    run_virtually(main())


@virtually
async def test_first_joiner_takes_over_when_the_leader_never_left() -> None:
    """One browser tab that closes must not take the other's transfer with it."""
    clicks = Clicks()
    await clicks.click("a", "b", "c")
    await clicks.cancel("a")
    assert clicks.leaders == ["a", "b"]
    await clicks.click("d")
    await clicks.land(ACCEPTED)
    assert clicks.told == {
        "a": "cancelled",
        "b": ACCEPTED,
        "c": joined(ACCEPTED),
        "d": joined(ACCEPTED),
    }


@virtually
async def test_joiners_are_in_doubt_when_the_leader_goes_after_leaving() -> None:
    """A phone may be ringing: nobody may be sent off to ring it again."""
    clicks = Clicks()
    await clicks.click("a", "b", "c")
    clicks.left.set()
    await clicks.cancel("a")
    await clicks.click("d")
    assert clicks.leaders == ["a"]
    assert clicks.told == {
        "a": "cancelled",
        **dict.fromkeys("bcd", joined(CUT_OFF)),
    }


@virtually
async def test_flight_ends_when_its_lone_leader_never_left() -> None:
    """Who gives up alone must be able to try again at once."""
    clicks = Clicks()
    await clicks.click("a")
    await clicks.cancel("a")
    assert len(clicks.flights) == 0
    await clicks.click("b")
    assert clicks.leaders == ["a", "b"]
    await clicks.land(ACCEPTED)


@virtually
async def test_cancelled_joiner_harms_nobody() -> None:
    """One who hangs up must not end the transfer that others wait for."""
    clicks = Clicks()
    await clicks.click("a", "b", "c")
    await clicks.cancel("b")
    await clicks.land(ACCEPTED)
    assert clicks.told == {"a": ACCEPTED, "b": "cancelled", "c": joined(ACCEPTED)}


@virtually
async def test_cancelled_joiner_is_not_made_leader() -> None:
    """A flight led by nobody would keep all who join it waiting for ever."""
    clicks = Clicks()
    await clicks.click("a", "b", "c")
    await clicks.cancel("b")
    await clicks.cancel("a")
    assert clicks.leaders == ["a", "c"]
    await clicks.land(ACCEPTED)
    assert clicks.told["c"] is ACCEPTED


@pytest.mark.parametrize("gone", ["ab", "ba", "abc", "cba", "bca"])
def test_all_cancelled_at_once_hear_just_that(gone: str) -> None:
    """A service that stops cancels everybody in the same moment."""

    async def main() -> None:
        clicks = Clicks()
        await clicks.click(*"abc")
        await clicks.cancel(*gone)
        assert {name: clicks.told.get(name) for name in gone} == dict.fromkeys(
            gone, "cancelled"
        )
        if "c" not in gone:
            assert clicks.leaders[-1] == "c"
            await clicks.land(ACCEPTED)
            assert clicks.told["c"] is ACCEPTED
        else:
            assert len(clicks.flights) == 0

    run_virtually(main())


@virtually
async def test_new_leader_cancelled_at_once_hands_on() -> None:
    """The lead must not get lost between two who go away."""
    clicks = Clicks()
    await clicks.click("a", "b", "c")
    key = "k"
    clicks.flights.land(key, NEVER_LEFT)  # b is to lead, and has not run yet
    clicks._tasks["b"].cancel()  # noqa: SLF001 -- in the very same moment
    await clicks.settle()
    assert clicks.told["b"] == "cancelled"
    assert clicks.leaders == ["a", "c"]
    await clicks.land(ACCEPTED)


@virtually
async def test_new_leader_cancelled_at_once_and_alone_ends_the_flight() -> None:
    """The next click must not wait for somebody who is gone."""
    clicks = Clicks()
    await clicks.click("a", "b")
    clicks.flights.land("k", NEVER_LEFT)
    clicks._tasks["b"].cancel()  # noqa: SLF001 -- in the very same moment
    await clicks.settle()
    assert len(clicks.flights) == 0
    await clicks.click("c")
    assert clicks.leaders == ["a", "c"]
    clicks.end.cancel()
    await clicks.settle()


@virtually
async def test_joiner_told_and_cancelled_in_one_moment_is_just_cancelled() -> None:
    """The flight has ended: nobody may take over what has rung already."""
    clicks = Clicks()
    await clicks.click("a", "b")
    clicks.flights.land("k", ACCEPTED)
    clicks._tasks["b"].cancel()  # noqa: SLF001 -- in the very same moment
    await clicks.settle()
    assert clicks.told["b"] == "cancelled"
    await clicks.click("c")
    assert clicks.told["c"] == joined(ACCEPTED)
    assert clicks.leaders == ["a"]


@virtually
async def test_nothing_is_kept_once_the_memory_has_passed() -> None:
    """A service that runs for months must not remember every transfer."""
    clicks = Clicks()
    for number in range(200):
        assert clicks.flights.lead(f"{number}")
        clicks.flights.land(f"{number}", ACCEPTED)
        clicks.loop.now += 0.1
    assert len(clicks.flights) <= 2 * 31  # those of this period and the last
    clicks.loop.now += 2 * MEMORY
    clicks.flights.key(ACTION)  # as every dial does first
    assert len(clicks.flights) == 0


@virtually
async def test_flight_that_ends_as_a_joiner_goes_ends_for_the_rest() -> None:
    """One who hangs up as the answer comes must not keep it from the others."""
    clicks = Clicks()
    await clicks.click("a", "b", "c")
    clicks._tasks["b"].cancel()  # noqa: SLF001 -- in the very same moment
    clicks.flights.land("k", ACCEPTED)
    await clicks.settle()
    assert clicks.told == {"b": "cancelled", "c": joined(ACCEPTED)}


@virtually
async def test_joiners_that_went_are_forgotten_while_it_flies() -> None:
    """A client that asks and gives up in a loop must not fill the memory."""
    clicks = Clicks()
    await clicks.click("a")
    for number in range(50):
        await clicks.click(str(number))
        await clicks.cancel(str(number))
    assert not clicks.flights._under_way["k"]  # noqa: SLF001 -- no other sign
    await clicks.land(ACCEPTED)


class Dials:
    """One agent's dials of one phone, and the aborts between.

    Attributes:
        flights: What tells a double click from another try.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self._loop, self._began = loop, loop.now
        self.flights = Flights(loop)

    def at(self, seconds: float) -> None:
        """Let time pass."""
        self._loop.now = self._began + seconds

    def abort(self, action: Action = ABORT) -> None:
        """Abort the agent's transfer, or cut it off otherwise."""
        self.flights.note(action)

    async def rings(self, *, end: Outcome | None = ACCEPTED) -> bool:
        """Dial, and say whether the phone rings; without an end, it goes on."""
        key = self.flights.key(ACTION)
        if not self.flights.lead(key):
            return False
        if end is not None:
            self.flights.land(key, end)
        return True


@pytest.mark.parametrize("first", [2.9, 3.0, 3.1, 5.4, 6.1, 9.0])
@pytest.mark.parametrize("cut", [ABORT, HANGUP], ids=["abort", "hang-up"])
@pytest.mark.parametrize("aborts", [(0.0,), (0.0, 0.5), (0.0, 2.5)], ids=str)
def test_double_click_rings_once_however_long_ago_an_abort_was(
    aborts: tuple[float, ...], cut: Action, first: float
) -> None:
    """An agent who tries again after an abort, and clicks twice, rings two phones."""

    async def main() -> list[bool]:
        dials = Dials()
        for seconds in aborts:
            dials.at(seconds)
            dials.abort(cut)
        rang = []
        for after in (0.0, 0.2, 0.4, 2.9, 3.0):
            dials.at(first + after)
            rang.append(await dials.rings())
        return rang

    assert run_virtually(main()) == [True, False, False, False, True]


@virtually
async def test_double_click_rings_once_while_a_dial_after_an_abort_lasts() -> None:
    """The first click may wait longer for its slot than an abort is remembered."""
    dials = Dials()
    dials.abort()
    assert await dials.rings(end=None)
    joiners = []
    for seconds in range(1, 20):
        dials.at(seconds)
        joiners.append(asyncio.create_task(dials.rings()))
        await asyncio.sleep(0)
    dials.flights.land(dials.flights.key(ACTION), REJECTED)
    assert not any(await asyncio.gather(*joiners))


@pytest.mark.parametrize("landed_at", [2.9, 5.9, 20.0])
def test_dial_rings_after_an_abort_however_long_the_aborted_one_lasts(
    landed_at: float,
) -> None:
    """An agent who tries again hears of the new ring, not of the one cut off."""

    async def main() -> bool:
        dials = Dials()
        aborted = dials.flights.key(ACTION)
        assert dials.flights.lead(aborted)
        dials.at(0.5)
        dials.abort()
        for seconds in range(1, int(landed_at)):
            dials.at(seconds)
            dials.flights.note(attrs.evolve(ABORT, member="+14155550777"))
        dials.at(landed_at)
        dials.flights.land(aborted, ACCEPTED)
        dials.at(landed_at + 0.6)
        return await dials.rings()

    assert run_virtually(main())


@pytest.mark.parametrize("after", [2.9, 3.1, 4.0, 5.9])
@pytest.mark.parametrize("began", [0.0, 1.0, 2.9])
def test_end_is_remembered_whenever_it_comes(began: float, after: float) -> None:
    """A double click rings once, at whatever time of the day."""

    async def main() -> bool:
        dials = Dials()
        dials.at(began)
        assert await dials.rings()
        for number in range(1, 5):  # others fly meanwhile
            dials.at(began + after * number / 5)
            assert dials.flights.lead(f"{number}")
            dials.flights.land(f"{number}", ACCEPTED)
        dials.at(began + after)
        return await dials.rings()

    assert run_virtually(main()) is (after >= MEMORY)


@virtually
async def test_end_is_remembered_when_it_comes_after_a_long_wait() -> None:
    """A dial that waited for its slot for long is a double click like any other."""
    dials = Dials()
    key = dials.flights.key(ACTION)
    assert dials.flights.lead(key)
    dials.at(5.0)
    dials.flights.land(key, ACCEPTED)
    dials.at(7.0)
    assert not await dials.rings()


@virtually
async def test_latest_end_counts_when_there_were_two() -> None:
    """Who rings again after a while, and clicks twice, hears of the later ring."""
    clicks = Clicks()
    await clicks.click("a")
    await clicks.land(ACCEPTED)
    clicks.loop.now += 3.1
    await clicks.click("b", "c")
    await clicks.land(IN_DOUBT)
    clicks.loop.now += 0.1
    await clicks.click("d")
    assert clicks.leaders == ["a", "b"]
    assert clicks.told["c"] == clicks.told["d"] == joined(IN_DOUBT)


@pytest.mark.parametrize("end", [ACCEPTED, REJECTED, NEVER_LEFT])
def test_aborts_are_forgotten_with_the_dials_that_followed(end: Outcome) -> None:
    """A service that runs for months must not remember every hang-up."""

    async def main() -> int:
        dials = Dials()
        for number in range(10):
            dials.at(number)
            dials.abort()
            dials.at(number + 0.5)
            await dials.rings(end=end)
        for later in (9.2, 12.7, 20.0):  # kept for its dial at first, then no longer
            dials.at(later + MEMORY)
            dials.flights.key(ACTION)  # as every dial does first
        return len(dials.flights)

    assert run_virtually(main()) == 0


@virtually
async def test_aborts_alone_are_forgotten_too() -> None:
    """A batch of a million hang-ups must not fill the memory."""
    dials = Dials()
    for number in range(200):
        dials.at(0.1 * number)
        dials.flights.note(attrs.evolve(ABORT, member=f"+1415555{number:04d}"))
    assert len(dials.flights) <= 2 * 31


@virtually
async def test_only_equal_dials_are_one_double_click() -> None:
    """A transfer to somebody else must not be answered with another one's outcome."""
    fields: dict[str, Any] = {
        "phlo_id": "p2",
        "node_id": "n2",
        "trigger_source": "+14155550198",
        "to": "+14155550197",
        "role": "customer",
    }
    others = [attrs.evolve(ACTION, **{field: value}) for field, value in fields.items()]
    swapped = attrs.evolve(ACTION, to=ACTION.trigger_source, trigger_source=ACTION.to)
    cold = ColdTransfer(**attrs.asdict(ACTION))
    flights = Dials().flights
    keys = {flights.key(action) for action in (ACTION, *others, swapped, cold)}
    assert len(keys) == 1 + len(fields) + 2
    assert flights.key(attrs.evolve(ACTION, key="row 7")) == flights.key(ACTION)


@virtually
async def test_dial_rings_again_when_the_dialled_one_was_hung_up() -> None:
    """Told that it was accepted, the customer would wait for a phone that is silent."""
    dials = Dials()
    callee, agent = (
        Hangup(phlo_id="p", node_id="n", member=member)
        for member in (ACTION.to, ACTION.trigger_source)
    )
    assert await dials.rings()
    for ending in (callee, agent, callee, callee):
        dials.flights.note(ending)
        assert await dials.rings()
        assert not await dials.rings()
