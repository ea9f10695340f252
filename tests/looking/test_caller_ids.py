"""What dials call from is learned only where nearly all of them agree."""

import attrs

from aiophlo import CallState, WarmTransfer
from aiophlo.looking.call_list import Reading
from aiophlo.looking.call_records import CallRecord
from aiophlo.looking.caller_ids import CallerIds
from aiophlo.looking.recent_dials import MadeDial, RecentDials
from aiophlo.sending.dial_log import DialLog
from tests.support.doubles import address

NODE = ("p", "n")
OURS, OTHERS = "14155550100", "14155550199"
DIAL = WarmTransfer(phlo_id="p", node_id="n", trigger_source=address(9), to=address(0))


class Office:
    """A pool's dials, one a minute, and the calls that are listed of each."""

    def __init__(self, *given: str) -> None:
        self.now = 0.0
        self.log = DialLog(lambda: self.now)
        recent = RecentDials(self.log)
        self.ids = CallerIds(frozenset(given), recent, lambda: self.now)
        self.calls: dict[str, list[CallRecord]] = {}
        self.asked: list[str] = []
        self.complete = True

    def dial(self, *callers: str) -> None:
        """Dial a phone of its own, which these numbers are listed to call."""
        self.now += 60.0
        to = address(len(self.calls))
        self.log.note(attrs.evolve(DIAL, to=to))
        self.calls[to] = [
            CallRecord(
                call_uuid=f"{to} {caller}",
                to=to,
                from_=caller,
                is_outbound=True,
                state=CallState.ENDED,
                began_at=self.now,
            )
            for caller in callers
        ]

    async def read(self, dial: MadeDial) -> Reading:
        """Return what is listed."""
        self.asked.append(dial.to)
        return Reading(records=self.calls[dial.to], complete=self.complete)

    async def learn(self) -> frozenset[str]:
        """Let it learn some while later; return what is known."""
        self.now += 60.0
        await self.ids.learn(NODE, self.read)
        return self.ids.known(NODE)


async def test_number_behind_nearly_all_dials_is_learned() -> None:
    """Then another's call to the same phone is not taken for a dial's."""
    office = Office()
    for callers in ([OURS], [OURS, OTHERS], [OURS], [OTHERS], [OURS], [OURS]):
        office.dial(*callers)
    assert await office.learn() == {OURS}
    assert len(office.asked) == 6
    assert await office.learn() == {OURS}
    assert len(office.asked) == 6, "once is enough"
    assert office.ids.known(("p", "other")) == frozenset()


async def test_what_was_given_is_not_looked_for() -> None:
    """Questions cost slots."""
    office = Office("+14155550100")
    for _ in range(6):
        office.dial(OTHERS)
    assert await office.learn() == {"+14155550100"}
    assert office.asked == []


async def test_numbers_that_differ_teach_nothing_and_are_given_up() -> None:
    """Some nodes call from the customer's own number."""
    office = Office()
    for number in range(40):
        office.dial(f"1415666{number:04}")
    for _ in range(10):
        assert await office.learn() == frozenset()
    assert len(office.asked) == 18


async def test_two_numbers_behind_all_dials_teach_nothing() -> None:
    """A dialler that always calls the same phones at once: which one is ours?"""
    office = Office()
    for _ in range(6):
        office.dial(OURS, OTHERS)
    assert await office.learn() == frozenset()


async def test_number_that_never_calls_alone_is_not_learned() -> None:
    """A dialler calls all the same phones, while ours use the customer's number."""
    office = Office()
    for number in range(40):
        office.dial(OTHERS, f"1415666{number:04}")
    for _ in range(10):
        assert await office.learn() == frozenset()


async def test_too_few_dials_teach_nothing_yet() -> None:
    """Five in a row may be chance."""
    office = Office()
    for _ in range(5):
        office.dial(OURS)
    assert await office.learn() == frozenset()
    office.dial(OURS)
    assert await office.learn() == {OURS}
    assert len(office.asked) == 6


async def test_dial_that_may_not_be_listed_yet_teaches_nothing() -> None:
    """Another's call is listed before it."""
    office = Office()
    for _ in range(6):
        office.dial(OURS)
    await office.ids.learn(NODE, office.read)
    assert len(office.asked) == 5


async def test_list_that_is_not_read_whole_teaches_nothing() -> None:
    """What is missing may be ours."""
    office = Office()
    for _ in range(6):
        office.dial(OTHERS)
    office.complete = False
    assert await office.learn() == frozenset()


async def test_phone_that_was_dialled_twice_teaches_nothing() -> None:
    """Its calls can't be told apart."""
    office = Office()
    for _ in range(6):
        office.dial(OURS)
    office.log.note(attrs.evolve(DIAL, to=address(5)))
    assert await office.learn() == frozenset()
    assert len(office.asked) == 5


async def test_it_is_said_whether_it_may_still_be_learned() -> None:
    """Until then a call from any number is no proof."""
    office = Office()
    for number in range(6):
        assert not office.ids.may_learn(NODE), number
        office.dial(OURS)
    assert office.ids.may_learn(NODE)
    await office.learn()
    assert not office.ids.may_learn(NODE), "it is known"
    varying = Office()
    for number in range(40):
        varying.dial(f"1415666{number:04}")
    for _ in range(3):
        assert varying.ids.may_learn(NODE)
        await varying.learn()
    assert not varying.ids.may_learn(NODE), "there is nothing to learn"
    unlisted = Office()
    for _ in range(8):
        unlisted.dial()
    await unlisted.learn()
    assert not unlisted.ids.may_learn(NODE), "too few of them are listed"
