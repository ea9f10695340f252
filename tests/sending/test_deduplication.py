"""Single flight: a double click rings once, and everybody hears the same."""

import asyncio
import gc
import time
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any, Literal

import attrs
import pytest

from aiophlo.model.actions import (
    AbortTransfer,
    Action,
    ColdTransfer,
    Hangup,
    WarmTransfer,
)
from aiophlo.model.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason, Rejected
from aiophlo.protocol.codec import Answer, decode
from aiophlo.sending.deduplication import MEMORY, DialRegistry, RegisteredDial
from tests.support.virtual_time import VirtualTimeLoop, run_virtually

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


def flown(dials: DialRegistry, key: str, outcome: Outcome) -> None:
    """Let a dial begin and end at once."""
    click = Click()
    dials.begin(key, click)
    dials.finish(key, click, outcome)


def virtually(test: Callable[[], Any]) -> Callable[[], None]:
    """Run an async test on a clock that jumps."""

    def run() -> None:
        run_virtually(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Click(RegisteredDial):
    """A dial of somebody's.

    Args:
        action: What is asked.

    Attributes:
        has_left: A phone may be ringing for it.
    """

    has_left = False

    def __init__(self, action: Action = ACTION) -> None:
        super().__init__()
        self.action = action


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
        self.dials = DialRegistry(loop)
        self.leaders: list[str] = []
        self.clicks: dict[str, Click] = {}
        self.told: dict[str, Told] = {}
        self.left = asyncio.Event()
        self.end: asyncio.Future[Outcome] = loop.create_future()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def click(self, *names: str, key: str = "k") -> None:
        """Let each of these click, in this order."""
        for name in names:
            self._tasks[name] = asyncio.create_task(self._click(name, key))
        await asyncio.sleep(0)

    def lead(self, name: str) -> None:
        """Let one lead whose end the test tells, so that no task tells another."""
        click = self.clicks[name] = Click()
        self.dials.begin("k", click)
        self.leaders.append(name)

    async def cancel(self, *names: str) -> None:
        """Cancel each of these in the same moment."""
        for name in names:
            self._tasks[name].cancel()
        await self.settle()

    async def finish(self, outcome: Outcome) -> None:
        """Let the leader's action come to its end."""
        self.end.set_result(outcome)
        await self.settle()
        self.end = self.loop.create_future()

    async def settle(self) -> None:
        """Let everybody do what they can now."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def _click(self, name: str, key: str) -> None:
        click = self.clicks[name] = Click()
        try:
            outcome: Outcome | None = None
            if self.dials.has_equal(key):
                joined = await self.dials.wait(key, click)
                assert joined is None or joined[0] is not None
                outcome = joined and joined[0]
            else:
                self.dials.begin(key, click)
            if outcome is None:
                self.leaders.append(name)
                outcome = await self._lead(key, click)
        except asyncio.CancelledError:
            self.told[name] = "cancelled"
            raise
        self.told[name] = outcome

    async def _lead(self, key: str, click: Click) -> Outcome:
        try:
            outcome = await asyncio.shield(self.end)
        except asyncio.CancelledError:
            went = CUT_OFF if self.left.is_set() else NEVER_LEFT
            self.dials.finish(key, click, went)
            raise
        self.dials.finish(key, click, outcome)
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
        await clicks.finish(outcome)
        assert clicks.leaders == ["a"]
        assert clicks.told == {"a": outcome, "b": outcome, "c": outcome}

    run_virtually(main())


@virtually
async def test_other_dials_fly_for_themselves() -> None:
    """Two customers' transfers must not become one."""
    clicks = Clicks()
    await clicks.click("a", key="1")
    await clicks.click("b", key="2")
    assert clicks.leaders == ["a", "b"]
    assert len(clicks.dials) == 2
    await clicks.finish(ACCEPTED)


@pytest.mark.parametrize("outcome", [ACCEPTED, IN_DOUBT], ids=["accepted", "in_doubt"])
def test_end_is_remembered_for_three_seconds(outcome: Outcome) -> None:
    """The second click of a double click often comes after the answer."""

    async def main() -> None:
        clicks = Clicks()
        await clicks.click("a")
        await clicks.finish(outcome)
        clicks.loop.now += 2.999
        await clicks.click("b")
        assert clicks.told["b"] == outcome
        clicks.loop.now += 0.001
        await clicks.click("c")
        assert clicks.leaders == ["a", "c"]
        await clicks.finish(REJECTED)

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
        dials = Dials().dials
        click = Click()
        click.id = 7
        dials.begin("k", click)
        dials.finish("k", click, outcome, answer)
        found = await dials.wait("k", Click(mine))
        assert found is not None
        told, number = found
        assert told == attrs.evolve(outcome, action=mine)
        assert told is not None
        assert number == 7
        assert told.action.key == "mine"
        assert (told.attempts, told.seconds, told.waited) == (3, 1.25, 0.5)

    run_virtually(main())


@virtually
async def test_memory_does_not_grow_with_each_click() -> None:
    """A customer who rings again after a while must get through."""
    clicks = Clicks()
    await clicks.click("a")
    await clicks.finish(ACCEPTED)
    for number in range(5):
        clicks.loop.now += 0.59
        await clicks.click(str(number))
    clicks.loop.now += 0.1
    await clicks.click("z")
    assert clicks.leaders == ["a", "z"]
    await clicks.finish(REJECTED)


@pytest.mark.parametrize("outcome", [REJECTED, EXPIRED], ids=["rejected", "not_sent"])
def test_what_rang_no_phone_is_not_remembered(outcome: Outcome) -> None:
    """A click after a refusal is a new try, not a double click."""

    async def main() -> None:
        clicks = Clicks()
        await clicks.click("a", "b")
        await clicks.finish(outcome)
        assert len(clicks.dials) == 0
        await clicks.click("c")
        assert clicks.leaders == ["a", "c"]
        await clicks.finish(ACCEPTED)

    run_virtually(main())


@virtually
async def test_first_joiner_takes_over_when_the_leader_never_left() -> None:
    """One browser tab that closes must not take the other's transfer with it."""
    clicks = Clicks()
    await clicks.click("a", "b", "c")
    await clicks.cancel("a")
    assert clicks.leaders == ["a", "b"]
    await clicks.click("d")
    await clicks.finish(ACCEPTED)
    assert clicks.told == {
        "a": "cancelled",
        "b": ACCEPTED,
        "c": ACCEPTED,
        "d": ACCEPTED,
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
        **dict.fromkeys("bcd", CUT_OFF),
    }


@virtually
async def test_flight_ends_when_its_lone_leader_never_left() -> None:
    """Who gives up alone must be able to try again at once."""
    clicks = Clicks()
    await clicks.click("a")
    await clicks.cancel("a")
    assert len(clicks.dials) == 0
    await clicks.click("b")
    assert clicks.leaders == ["a", "b"]
    await clicks.finish(ACCEPTED)


@virtually
async def test_cancelled_joiner_harms_nobody() -> None:
    """One who hangs up must not end the transfer that others wait for."""
    clicks = Clicks()
    await clicks.click("a", "b", "c")
    await clicks.cancel("b")
    await clicks.finish(ACCEPTED)
    assert clicks.told == {"a": ACCEPTED, "b": "cancelled", "c": ACCEPTED}


@virtually
async def test_cancelled_joiner_is_not_made_leader() -> None:
    """A dial without a leader would keep all that join it waiting for ever."""
    clicks = Clicks()
    await clicks.click("a", "b", "c")
    await clicks.cancel("b")
    await clicks.cancel("a")
    assert clicks.leaders == ["a", "c"]
    await clicks.finish(ACCEPTED)
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
            await clicks.finish(ACCEPTED)
            assert clicks.told["c"] is ACCEPTED
        else:
            assert len(clicks.dials) == 0

    run_virtually(main())


@virtually
async def test_new_leader_cancelled_at_once_hands_on() -> None:
    """The lead must not get lost between two who go away."""
    clicks = Clicks()
    clicks.lead("a")
    await clicks.click("b", "c")
    key = "k"
    clicks.dials.finish(
        key, clicks.clicks["a"], NEVER_LEFT
    )  # b is to lead, and has not run yet
    clicks._tasks["b"].cancel()  # noqa: SLF001 -- in the very same moment
    await clicks.settle()
    assert clicks.told["b"] == "cancelled"
    assert clicks.leaders == ["a", "c"]
    await clicks.finish(ACCEPTED)


@virtually
async def test_new_leader_cancelled_at_once_and_alone_ends_the_dial() -> None:
    """The next click must not wait for somebody who is gone."""
    clicks = Clicks()
    clicks.lead("a")
    await clicks.click("b")
    clicks.dials.finish("k", clicks.clicks["a"], NEVER_LEFT)
    clicks._tasks["b"].cancel()  # noqa: SLF001 -- in the very same moment
    await clicks.settle()
    assert len(clicks.dials) == 0
    await clicks.click("c")
    assert clicks.leaders == ["a", "c"]
    clicks.end.cancel()
    await clicks.settle()


@virtually
async def test_joiner_told_and_cancelled_in_one_moment_is_just_cancelled() -> None:
    """The dial has ended: nobody may take over what has rung already."""
    clicks = Clicks()
    clicks.lead("a")
    await clicks.click("b")
    clicks.dials.finish("k", clicks.clicks["a"], ACCEPTED)
    clicks._tasks["b"].cancel()  # noqa: SLF001 -- in the very same moment
    await clicks.settle()
    assert clicks.told["b"] == "cancelled"
    await clicks.click("c")
    assert clicks.told["c"] == ACCEPTED
    assert clicks.leaders == ["a"]


@virtually
async def test_dial_that_has_ended_takes_few_bytes() -> None:
    """A stream without a quota has tens of thousands of them at every moment."""
    dials, number = DialRegistry(asyncio.get_running_loop()), 10_000
    tracemalloc.start()
    try:
        for each in range(number):
            action = attrs.evolve(ACTION, to=f"+1415{each:07d}")
            key, click = dials.key(action), Click(action)
            dials.begin(key, click)
            answer = Answer(201, {}, b'{"api_id":"%036d","error":""}' % each)
            dials.finish(key, click, ACCEPTED, answer)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(dials) == number
    assert taken / number <= 220


@virtually
async def test_nothing_is_kept_once_the_memory_has_passed() -> None:
    """A service that runs for months must not remember every transfer."""
    clicks = Clicks()
    for number in range(200):
        flown(clicks.dials, f"{number}", ACCEPTED)
        clicks.loop.now += 0.1
    assert len(clicks.dials) <= 41  # of four seconds: a third is over at most
    clicks.loop.now += 2 * MEMORY
    clicks.dials.key(ACTION)  # as every dial does first
    assert len(clicks.dials) == 0


@virtually
async def test_flight_that_ends_as_a_joiner_goes_ends_for_the_rest() -> None:
    """One who hangs up as the answer comes must not keep it from the others."""
    clicks = Clicks()
    clicks.lead("a")
    await clicks.click("b", "c")
    clicks._tasks["b"].cancel()  # noqa: SLF001 -- in the very same moment
    clicks.dials.finish("k", clicks.clicks["a"], ACCEPTED)
    await clicks.settle()
    assert clicks.told == {"b": "cancelled", "c": ACCEPTED}


@virtually
async def test_joiners_that_went_are_forgotten_while_it_flies() -> None:
    """A client that asks and gives up in a loop must not fill the memory."""
    clicks = Clicks()
    await clicks.click("a")
    for number in range(50):
        await clicks.click(str(number))
        await clicks.cancel(str(number))
    assert not clicks.clicks["a"].joiners
    await clicks.finish(ACCEPTED)


class Dials:
    """One agent's dials of one phone, and the aborts between.

    Attributes:
        dials: What tells a double click from another try.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self._loop, self._began = loop, loop.now
        self.dials = DialRegistry(loop)

    def at(self, seconds: float) -> None:
        """Let time pass."""
        self._loop.now = self._began + seconds

    def abort(self, action: Action = ABORT) -> None:
        """Abort the agent's transfer, or cut it off otherwise."""
        self.dials.note(action)

    async def rings(self, *, end: Outcome | None = ACCEPTED) -> bool:
        """Dial, and say whether the phone rings; without an end, it goes on."""
        key = self.dials.key(ACTION)
        if self.dials.has_equal(key):
            return False
        self.begin(key)
        if end is not None:
            self.finish(key, end)
        return True

    def begin(self, key: str) -> None:
        """Let a dial begin."""
        self.under_way = Click()
        self.dials.begin(key, self.under_way)

    def finish(self, key: str, outcome: Outcome) -> None:
        """End the dial that was begun last."""
        self.dials.finish(key, self.under_way, outcome)


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
    dials.finish(dials.dials.key(ACTION), REJECTED)
    assert not any(await asyncio.gather(*joiners))


@pytest.mark.parametrize("landed_at", [2.9, 5.9, 20.0])
def test_dial_rings_after_an_abort_however_long_the_aborted_one_lasts(
    landed_at: float,
) -> None:
    """An agent who tries again hears of the new ring, not of the one cut off."""

    async def main() -> bool:
        dials = Dials()
        aborted = dials.dials.key(ACTION)
        dials.begin(aborted)
        dials.at(0.5)
        dials.abort()
        for seconds in range(1, int(landed_at)):
            dials.at(seconds)
            dials.dials.note(attrs.evolve(ABORT, member="+14155550777"))
        dials.at(landed_at)
        dials.finish(aborted, ACCEPTED)
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
            flown(dials.dials, f"{number}", ACCEPTED)
        dials.at(began + after)
        return await dials.rings()

    assert run_virtually(main()) is (after >= MEMORY)


@virtually
async def test_end_is_remembered_when_it_comes_after_a_long_wait() -> None:
    """A dial that waited for its slot for long is a double click like any other."""
    dials = Dials()
    key = dials.dials.key(ACTION)
    dials.begin(key)
    dials.at(5.0)
    dials.finish(key, ACCEPTED)
    dials.at(7.0)
    assert not await dials.rings()


@virtually
async def test_latest_end_counts_when_there_were_two() -> None:
    """Who rings again after a while, and clicks twice, hears of the later ring."""
    clicks = Clicks()
    await clicks.click("a")
    await clicks.finish(ACCEPTED)
    clicks.loop.now += 3.1
    await clicks.click("b", "c")
    await clicks.finish(IN_DOUBT)
    clicks.loop.now += 0.1
    await clicks.click("d")
    assert clicks.leaders == ["a", "b"]
    assert clicks.told["c"] == clicks.told["d"] == IN_DOUBT


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
            dials.dials.key(ACTION)  # as every dial does first
        return len(dials.dials)

    assert run_virtually(main()) == 0


@virtually
async def test_aborts_alone_are_forgotten_too() -> None:
    """A batch of a million hang-ups must not fill the memory."""
    dials = Dials()
    for number in range(200):
        dials.at(0.1 * number)
        dials.dials.note(attrs.evolve(ABORT, member=f"+1415555{number:04d}"))
    assert len(dials.dials) <= 2 * 31


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
    dials = Dials().dials
    keys = {dials.key(action) for action in (ACTION, *others, swapped, cold)}
    assert len(keys) == 1 + len(fields) + 2
    assert dials.key(attrs.evolve(ACTION, key="row 7")) == dials.key(ACTION)
    endpoint, same = "sip:sup@h.example", "sips:%73up@H.example:5060;transport=udp"
    for field in ("to", "trigger_source"):
        spelled: list[dict[str, Any]] = [{field: endpoint}, {field: same}]
        equal = (attrs.evolve(ACTION, **fields) for fields in spelled)
        assert len(set(map(dials.key, equal))) == 1


@virtually
async def test_abort_of_an_endpoint_spelled_otherwise_makes_a_new_dial_too() -> None:
    """The dial after it would join the one that was aborted, and ring nobody."""
    dials = Dials()
    member = "sip:agent@H.example:5060"
    endpoint = "sip:agent@h.example"
    either: list[dict[str, Any]] = [{"trigger_source": endpoint}, {"to": endpoint}]
    for fields in either:
        action = attrs.evolve(ACTION, **fields)
        before = dials.dials.key(action)
        dials.dials.note(Hangup(phlo_id="p", node_id="n", member=member))
        assert dials.dials.key(action) != before


@virtually
async def test_dial_rings_however_soon_or_late_after_an_abort() -> None:
    """It would be answered with the outcome of the dial that was aborted."""
    dials = Dials()
    for number, pause in enumerate((0.0, 1.1, 2.2, 2.9, 3.1)):
        began = 20.0 * number
        dials.at(began)
        assert await dials.rings()
        dials.abort()
        dials.at(began + pause)
        assert await dials.rings()


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
        dials.dials.note(ending)
        assert await dials.rings()
        assert not await dials.rings()


@virtually
async def test_equal_dials_under_way_are_told_apart_as_they_end() -> None:
    """Who rings again on purpose must not end the first one's joiners."""
    dials = Dials()
    first, second, third = Click(), Click(), Click()
    for click in (first, second, third):
        dials.dials.begin("k", click)
    joiner = Click()
    joining = asyncio.create_task(dials.dials.wait("k", joiner))
    await asyncio.sleep(0)
    dials.dials.finish("k", second, REJECTED)
    await asyncio.sleep(0)
    assert not joining.done()
    dials.dials.finish("k", first, IN_DOUBT)
    assert await joining == (IN_DOUBT, 0)
    dials.dials.finish("k", third, REJECTED)
    assert len(dials.dials) == 1


@virtually
async def test_phone_that_may_ring_is_told_of_before_one_that_may_yet() -> None:
    """An agent must hear at once of the call there is, not wait for a second one."""
    dials = Dials()
    first, second = Click(), Click()
    for click in (first, second):
        dials.dials.begin("k", click)
    dials.dials.finish("k", first, ACCEPTED)
    joining = asyncio.create_task(dials.dials.wait("k", Click()))
    await asyncio.sleep(0)
    assert joining.done()
    assert joining.result() == (ACCEPTED, 0)
    assert not second.joiners


@virtually
async def test_nothing_is_kept_of_a_joiner_that_was_told_in_time() -> None:
    """A pool of long deadlines must not remember until then who clicked twice."""
    dials = Dials()
    leader, joiner = Click(), Click()
    dials.dials.begin("k", leader)
    deadline = asyncio.get_running_loop().time() + 3_600.0
    joining = asyncio.create_task(dials.dials.wait("k", joiner, deadline=deadline))
    await asyncio.sleep(0)
    dials.dials.finish("k", leader, REJECTED)
    assert await joining == (REJECTED, 0)
    kept = weakref.ref(joiner)
    del joining, joiner, leader
    gc.collect()
    assert kept() is None


@virtually
async def test_dial_leads_if_its_equal_is_forgotten_between_two_looks() -> None:
    """An agent who clicks at just that moment must not be shown a KeyError."""
    dials = Dials()
    dials.begin("k")
    dials.finish("k", ACCEPTED)
    dials.at(MEMORY - 0.001)
    assert dials.dials.has_equal("k")
    dials.at(MEMORY)
    late = Click()
    assert await dials.dials.wait("k", late) is None
    joining = asyncio.create_task(dials.dials.wait("k", Click()))
    await asyncio.sleep(0)
    dials.dials.finish("k", late, REJECTED)
    assert await joining == (REJECTED, 0)


@virtually
async def test_the_one_that_has_left_is_joined_first() -> None:
    """What still queues may never leave; what has left rings now."""
    dials = Dials()
    queued, left = Click(), Click()
    left.has_left = True
    dials.dials.begin("k", queued)
    dials.dials.begin("k", left)
    joining = asyncio.create_task(dials.dials.wait("k", Click()))
    await asyncio.sleep(0)
    dials.dials.finish("k", left, ACCEPTED)
    assert await joining == (ACCEPTED, 0)


@pytest.mark.parametrize("has_left", [False, True])
def test_joiner_waits_past_its_deadline_only_for_what_has_left(
    has_left: bool,
) -> None:
    """An agent with ten seconds must not wait for a batch that pauses for a minute."""

    async def main() -> tuple[Outcome | None, int] | None:
        dials = Dials()
        leader = Click()
        leader.has_left = has_left
        dials.dials.begin("k", leader)
        loop = asyncio.get_running_loop()
        joining = dials.dials.wait("k", Click(), deadline=loop.time() + 10.0)
        loop.call_later(60.0, dials.dials.finish, "k", leader, ACCEPTED)
        began = loop.time()
        told = await joining
        assert loop.time() - began == pytest.approx(60.0 if has_left else 10.0)
        if not has_left:
            assert leader.joiners == {}
        return told

    assert run_virtually(main()) == ((ACCEPTED, 0) if has_left else (None, 0))


@virtually
async def test_heir_of_one_of_many_takes_its_place_with_its_joiners() -> None:
    """A leader that goes must not leave its joiners to wait for ever."""
    dials = Dials()
    first, second, heir = Click(), Click(), Click()
    dials.dials.begin("k", first)
    dials.dials.begin("k", second)
    joining = [
        asyncio.create_task(dials.dials.wait("k", one)) for one in (heir, Click())
    ]
    await asyncio.sleep(0)
    dials.dials.finish("k", first, NEVER_LEFT)
    assert await joining[0] is None
    dials.dials.finish("k", second, REJECTED)
    dials.dials.finish("k", heir, ACCEPTED)
    assert await joining[1] == (ACCEPTED, 0)
    assert len(dials.dials) == 1


@virtually
async def test_tenth_cut_makes_a_new_dial_too() -> None:
    """'10' sorts before '9': the tenth transfer would join the ninth, cut off."""
    dials = DialRegistry(asyncio.get_running_loop())
    keys = []
    for _ in range(12):
        for cut in (ABORT, HANGUP):  # of who dials, then of who is dialled
            dials.note(cut)
            keys.append(dials.key(ACTION))
        flown(dials, keys[-1], ACCEPTED)
    assert len(set(keys)) == len(keys) == 24
