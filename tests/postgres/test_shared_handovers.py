"""Leases in the database: whatever is lost on the way, one pool holds each, or none."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from random import Random, randrange
from typing import Any

import attrs
import psycopg
import pytest

from aiophlo import Account
from aiophlo.coordination import AwayError, Claim, Lease
from aiophlo.model.handover_records import OpenHandover
from aiophlo.postgres import PostgresCoordinator
from aiophlo.postgres.connection import Value
from aiophlo.postgres.lease import PostgresLease
from aiophlo.postgres.shared_handovers import PostgresHandovers
from tests.postgres.test_outage import until
from tests.support.postgres import Postgres

ACCOUNT = Account("MAXXXXXXXXXXXXXXXXXX", "token", quota=None)
OTHER = Account("SAXXXXXXXXXXXXXXXXXX", "another", quota=None)
AGENT, FIRST, SECOND = "+14152223333", "+14152225555", "+14152226666"


@attrs.frozen(kw_only=True)
class Desk:
    """A coordinator without a pool, and what it has taken over.

    Attributes:
        coordinator: The coordinator.
        handovers: Its handovers.
        taken: The handovers that it has taken over, with their leases.
        postgres: The server.
        schema: Of its tables.
    """

    coordinator: PostgresCoordinator
    handovers: PostgresHandovers
    taken: list[tuple[OpenHandover, Lease]]
    postgres: Postgres
    schema: str

    def lease(self, handover: OpenHandover) -> PostgresLease:
        """Return the lease of one that is about to begin."""
        return self.handovers.lease(handover)

    async def begun(self, handover: OpenHandover, *targets: str) -> PostgresLease:
        """Begin a handover, with some targets engaged."""
        lease = self.lease(handover)
        assert await lease.begin(targets=[], conference_uuid=None) is None
        for target in targets:
            assert await lease.engage(target)
        return lease

    def lose_answer(self, do: str) -> None:
        """Cut the connection when the next answer comes to an operation."""
        operations = self.handovers.operations
        came = operations._came  # noqa: SLF001 -- nothing else loses just this one

        def lost(sent: float, value: Value, error: Exception | None) -> None:
            asked = [one["do"] for one, _ in operations._under_way]  # noqa: SLF001 -- as above
            if do in asked and error is None:
                operations._came = came  # type: ignore[method-assign]  # noqa: SLF001 -- as above
                self.cut()
            else:
                came(sent, value, error)

        operations._came = lost  # type: ignore[method-assign]  # noqa: SLF001 -- as above

    def cut(self) -> None:
        """Lose the connection."""
        self.coordinator._books.close()  # noqa: SLF001 -- as above

    async def reconnected(self) -> None:
        """Lose the connection, and have it again."""
        self.cut()
        await until(lambda: not self.handovers.reached)
        await self.back()
        await self.done()

    async def done(self) -> None:
        """Wait until all that was asked so far, and what followed from it, is done."""
        for _ in range(3):
            await self.handovers.operations.ask({"do": "seen", "pool": 1})

    async def back(self) -> None:
        """Wait until the database is reached."""
        await until(lambda: self.handovers.reached)

    async def rows(self, query: str) -> list[Any]:
        """Return what the database holds."""
        connecting = psycopg.AsyncConnection.connect(self.postgres.url, autocommit=True)
        async with await connecting as connection:
            found = await connection.execute(query.format(s=self.schema).encode())
            return await found.fetchall() if found.description else []

    async def open_ids(self) -> list[str]:
        """Return the ids of open handovers."""
        found = await self.rows("SELECT id FROM {s}.handovers WHERE ended IS NULL")
        return [id_ for (id_,) in found]

    async def engaged(self) -> int:
        """Count who is engaged."""
        ((number,),) = await self.rows("SELECT count(*) FROM {s}.engagements")
        return int(number)

    async def all_ran_out(self) -> None:
        """Make all leases run out long ago."""
        await self.rows("UPDATE {s}.handovers SET until = until - 60")


def handover(agent: str = AGENT) -> OpenHandover:
    """Return a handover that is about to begin."""
    return OpenHandover(
        account=ACCOUNT.auth_id,
        phlo_id="p",
        node_id="n",
        agent=agent,
        customer="…44",
        targets="…55",
    )


OpenDesk = Callable[..., Any]


@pytest.fixture
async def desk(postgres: Postgres, namespace: str) -> AsyncIterator[OpenDesk]:
    """Give what opens one more desk."""
    opened: list[PostgresCoordinator] = []

    async def open_one(*accounts: Account) -> Desk:
        accounts = accounts or (ACCOUNT,)
        coordinator = PostgresCoordinator(postgres.url, namespace=namespace, lease=3.0)
        await coordinator.open(lambda: 0.0, accounts)
        opened.append(coordinator)
        taken: list[tuple[OpenHandover, Lease]] = []
        return Desk(
            coordinator=coordinator,
            handovers=coordinator.handovers(
                lambda it, lease, _: taken.append((it, lease))
            ),
            taken=taken,
            postgres=postgres,
            schema=namespace,
        )

    yield open_one
    for coordinator in opened:
        await coordinator.close()


async def test_refused_handover_is_not_claimed_with_what_is_prolonged(
    desk: OpenDesk,
) -> None:
    """It would be prolonged for ever, and its agent's next transfer aborted one day."""
    one, two = await desk(), await desk()
    first, second = handover(), handover()
    held = await one.begun(first)
    lease = two.lease(second)
    beginning = asyncio.ensure_future(lease.begin(targets=[], conference_uuid=None))
    await asyncio.sleep(0)
    two.handovers.beat()
    assert await beginning == "agent"
    lease.end()
    held.end()
    await held.ended()
    await two.done()
    assert await one.open_ids() == []
    assert await one.engaged() == 0


async def test_what_was_taken_over_by_an_answer_that_was_lost_is_taken_again(
    desk: OpenDesk,
) -> None:
    """Where one pool is left, nobody else would ever see to the customer."""
    one, two = await desk(), await desk()
    it = handover()
    one.handovers.forget(await one.begun(it))  # it was killed
    one.handovers.stop_taking_over()
    await one.all_ran_out()
    two.lose_answer("take_over")
    await until(lambda: not two.handovers.reached)
    assert await one.rows("SELECT epoch FROM {s}.handovers") == [(2,)]
    assert two.taken == []
    await one.all_ran_out()
    await until(lambda: bool(two.taken))
    assert two.taken[0][0] == it
    assert two.taken[0][1].holds


async def test_claim_whose_answer_was_lost_is_still_ours(desk: OpenDesk) -> None:
    """It would be called taken over, and nobody would see to the customer."""
    one, two = await desk(), await desk()
    it = handover()
    one.handovers.forget(await one.begun(it))
    lease = two.handovers.adopt(it)
    two.lose_answer("claim")
    assert await lease.claim() is Claim.HELD
    assert await two.handovers.adopt(it).claim() is Claim.TAKEN_OVER
    third = await desk()
    assert await third.handovers.adopt(it).claim() is Claim.TAKEN_OVER


async def test_nobody_is_rung_who_is_not_known_to_be_engaged(desk: OpenDesk) -> None:
    """They may be in another handover: the answer that would say so was lost."""
    one, two = await desk(), await desk()
    await one.begun(handover("+14153330001"), FIRST)
    lease = await two.begun(handover())
    two.lose_answer("engage")
    assert await lease.engage(FIRST)
    await two.back()
    assert lease.holds
    assert not lease.may_ring
    assert await lease.engage(SECOND)
    assert lease.may_ring


async def test_crash_that_forgets_whom_a_handover_has_engaged_is_made_good(
    desk: OpenDesk,
) -> None:
    """A crash takes the last moment; the partner would be rung in the private talk."""
    one = await desk()
    it = handover()
    await one.begun(it, FIRST)
    await one.rows("TRUNCATE {s}.engagements")
    await one.reconnected()
    assert await one.engaged() == 2 * 2


async def test_crash_that_forgets_a_handover_engages_all_of_it_again(
    desk: OpenDesk,
) -> None:
    """Else the partner, or the conversation, may get into another."""
    one, two = await desk(), await desk()
    lease = one.lease(handover())
    assert await lease.begin(targets=[], conference_uuid="c") is None
    assert await lease.engage(FIRST)
    assert await lease.engage(SECOND)
    lease.release(SECOND)
    await one.done()
    await one.rows("TRUNCATE {s}.engagements, {s}.handovers")
    await one.reconnected()
    await until(lambda: lease.holds)
    assert await one.engaged() == 2 * 2 + 1  # and the conversation
    other = two.lease(handover("+14153330001"))
    assert await other.begin(targets=[FIRST], conference_uuid=None) == "to"


async def test_crash_that_forgets_an_end_is_made_good(desk: OpenDesk) -> None:
    """The agent would be engaged, and then a newer transfer of theirs aborted."""
    one = await desk()
    lease = await one.begun(handover(), FIRST)
    await one.rows("CREATE TABLE {s}.before AS SELECT * FROM {s}.handovers")
    lease.end()
    await lease.ended()
    assert await one.open_ids() == []
    await one.rows("DELETE FROM {s}.handovers")
    await one.rows("INSERT INTO {s}.handovers SELECT * FROM {s}.before")
    assert await one.open_ids() == [lease.handover.id]
    await one.reconnected()
    assert await one.open_ids() == []


async def test_release_that_the_database_did_not_hear_is_made_good(
    desk: OpenDesk,
) -> None:
    """Who didn't answer would be engaged until the last of a long list was tried."""
    one, two = await desk(), await desk()
    lease = await one.begun(handover(), FIRST)
    one.cut()
    lease.release(FIRST)
    await until(lambda: not one.handovers.reached)
    await one.back()
    await one.done()
    other = await two.begun(handover("+14153330001"))
    assert await other.engage(FIRST)


async def test_end_of_a_lost_lease_does_not_end_the_one_that_came_after_it(
    desk: OpenDesk,
) -> None:
    """A pool that has lost a handover may take it over again from its rescuer."""
    one, two = await desk(), await desk()
    it = handover()
    lost = await one.begun(it)
    one.handovers.forget(lost)  # it was stopped
    await one.all_ran_out()
    one.handovers._take_over_from = math.inf  # noqa: SLF001 -- as above
    await until(lambda: bool(two.taken))
    two.handovers.forget(two.taken[0][1])  # and so is its rescuer
    two.handovers.stop_taking_over()
    one.handovers.keep(lost)
    lost.until -= 60
    await one.all_ran_out()
    one.handovers._take_over_from = 0.0  # noqa: SLF001 -- as above
    await until(lambda: bool(one.taken))
    assert not lost.holds
    lost.end()
    await lost.ended()
    again = one.taken[0][1]
    assert again.holds
    one.handovers.beat()
    await one.done()
    assert again.holds
    assert await one.open_ids() == [it.id]


async def test_owner_that_slept_for_hours_has_lost(desk: OpenDesk) -> None:
    """What was taken over and ended is forgotten by then, as if it had never been."""
    one = await desk()
    it = handover()
    lease = await one.begun(it)
    one.handovers.forget(lease)
    lease.until -= 13 * 3600.0
    await one.rows("DELETE FROM {s}.handovers")
    assert await lease.claim() is Claim.TAKEN_OVER


async def test_begin_whose_answer_was_lost_engages_nobody_for_good(
    desk: OpenDesk,
) -> None:
    """The agent couldn't begin another one."""
    one = await desk()
    one.lose_answer("begin_handover")
    lease = one.lease(handover())
    with pytest.raises(AwayError):
        await lease.begin(targets=[], conference_uuid=None)
    lease.end()
    await one.back()
    await one.done()
    assert await one.engaged() == 0


async def test_journal_may_be_recovered_of_a_handover_that_was_alarmed_of(
    desk: OpenDesk,
) -> None:
    """What was said to be in need of help isn't settled by that."""
    one, two = await desk(), await desk()
    it = handover()
    lease = await one.begun(it)
    lease.end(alarmed=True)
    await lease.ended()
    assert await one.engaged() == 0
    again = two.handovers.adopt(it)
    assert await again.claim() is Claim.HELD
    assert await one.engaged() == 2
    again.end()
    await again.ended()
    assert await one.handovers.adopt(it).claim() is Claim.TAKEN_OVER


async def test_nothing_is_claimed_of_an_agent_who_is_in_a_newer_handover(
    desk: OpenDesk,
) -> None:
    """The abort would end the newer transfer."""
    one, two = await desk(), await desk()
    old = handover()
    await one.begun(handover())
    assert await two.handovers.adopt(old).claim() is Claim.ENGAGED
    assert await one.open_ids() != [old.id]


async def test_talks_go_on_when_the_database_was_away_for_longer_than_a_lease(
    desk: OpenDesk,
) -> None:
    """Whoever is back first must not take over from owners who are well."""
    one, two = await desk(), await desk()
    lease = await one.begun(handover())
    for it in (one, two):
        it.cut()
    await one.all_ran_out()
    await until(lambda: not (one.handovers.reached or two.handovers.reached))
    two.handovers.operations.closed_at -= 60.0
    await until(lambda: two.handovers.reached)
    two.handovers.beat()
    await two.done()
    await one.back()
    await one.done()
    assert two.taken == []
    assert lease.holds


async def test_handover_that_was_taken_while_draining_began_is_given_back(
    desk: OpenDesk,
) -> None:
    """Nobody would see to the customer for as long as another lease."""
    one, two = await desk(), await desk()
    it = handover()
    one.handovers.forget(await one.begun(it))
    one.handovers.stop_taking_over()
    two.handovers._take_over_from = math.inf  # noqa: SLF001 -- as above
    await one.all_ran_out()
    two.handovers._take_over_from = 0.0  # noqa: SLF001 -- as above
    two.handovers.beat()
    two.handovers.stop_taking_over()
    await two.done()
    overdue = "SELECT until <= extract(epoch FROM clock_timestamp()) FROM {s}.handovers"
    assert await one.rows(overdue) == [(True,)]
    assert two.taken == []


async def test_handover_that_another_version_wrote_harms_no_other(
    desk: OpenDesk,
) -> None:
    """Workers are renewed one after the other."""
    one, two = await desk(), await desk()
    newer, older, well = handover(), handover("+14153330001"), handover("+14153330002")
    for it in (newer, older, well):
        one.handovers.forget(await one.begun(it))
    one.handovers.stop_taking_over()
    change = "UPDATE {{s}}.handovers SET entry = entry {} WHERE id = '{}'"
    await one.rows(change.format("""|| jsonb_build_object('more', 1)""", newer.id))
    await one.rows(change.format("- 'node_id'", older.id))
    await one.all_ran_out()
    await until(lambda: len(two.taken) == 2)
    assert {it.id for it, _ in two.taken} == {newer.id, well.id}


async def test_leases_of_thousands_are_prolonged_again_and_again(
    desk: OpenDesk,
) -> None:
    """A plan for an empty table took a second for them, and all were taken over."""
    one = await desk()
    leases = [one.lease(handover(f"+1415{number:07}")) for number in range(3_000)]
    for first in range(0, 3_000, 100):
        begun = [
            it.begin(targets=[], conference_uuid=None)
            for it in leases[first : first + 100]
        ]
        assert not any(await asyncio.gather(*begun))
    epochs = {it.handover.id: it.epoch for it in leases}
    for _ in range(8):
        answer = await one.handovers._set_until(epochs, 60.0)  # noqa: SLF001 -- as above
        assert answer["lost"] == []
    epochs["other"] = 1
    answer = await one.handovers._set_until(epochs, 60.0)  # noqa: SLF001 -- as above
    assert answer["lost"] == ["other"]


async def test_agent_of_several_accounts_is_in_one_handover_alone(
    desk: OpenDesk,
) -> None:
    """A person has one telephone, for whomever they work."""
    one, two = await desk(ACCOUNT, OTHER), await desk(ACCOUNT, OTHER)
    await one.begun(handover(), FIRST)
    its = two.lease(attrs.evolve(handover(), account=OTHER.auth_id))
    assert await its.begin(targets=[SECOND], conference_uuid=None) == "agent"
    its = two.lease(attrs.evolve(handover("+14153330001"), account=OTHER.auth_id))
    assert await its.begin(targets=[FIRST], conference_uuid=None) == "to"
    assert await its.begin(targets=[FIRST, SECOND], conference_uuid=None) is None
    assert not await its.engage(FIRST)
    assert await its.engage(SECOND)
    its.end()
    three = await desk(ACCOUNT)  # knows one of them alone
    assert not await (await three.begun(handover("+14153330002"))).engage(FIRST)


async def test_nothing_is_taken_over_when_the_clock_of_the_server_is_set(
    desk: OpenDesk,
) -> None:
    """All leases run out in that moment, and their owners are well."""
    desks = [await desk(), await desk()]
    one, two = desks
    lease = await one.begun(handover())
    for it in desks:
        it.handovers._take_over_from = 0.0  # noqa: SLF001 -- as above
        clock = it.coordinator._clock  # noqa: SLF001 -- as above
        clock.to_server = lambda loop, real=clock.to_server: real(loop) + 60.0
    await one.all_ran_out()  # as it seems to have been set forward by so much
    two.handovers.beat()
    prolonged = (
        "SELECT until > extract(epoch FROM clock_timestamp()) FROM {s}.handovers"
    )
    async with asyncio.timeout(10.0):
        while await one.rows(prolonged) != [(True,)]:  # noqa: ASYNC110 -- of the database
            await asyncio.sleep(0.05)
    two.handovers.beat()
    await two.done()
    assert two.taken == []
    assert lease.holds


@attrs.define(eq=False)
class Acting:
    """One who acts in a handover, for as long as the lease holds.

    Attributes:
        handover: Which.
        lease: Its lease.
        targets: Those whom it may ring.
    """

    handover: OpenHandover
    lease: PostgresLease
    targets: set[str] = attrs.field(factory=set)

    def disturbs(self, other: "Acting") -> bool:
        """Say whether somebody is in both."""
        if not (self.lease.holds and other.lease.holds):
            return False
        rings = self.lease.may_ring and other.lease.may_ring
        return self.handover.agent == other.handover.agent or (
            rings and bool(self.targets & other.targets)
        )


class Course:
    """What some pools do at random, in whose handovers nobody may be in two.

    Args:
        desks: The pools.
        random: Chooses.

    Attributes:
        killed: Handovers that were left behind, by id, until somebody ended them.
        taken: How many were taken over.
    """

    def __init__(self, desks: list[Desk], random: Random) -> None:
        self._desks = desks
        self._random = random
        self._acting: set[Acting] = set()
        self._seen: dict[int, int] = dict.fromkeys(range(len(desks)), 0)
        self.killed: set[str] = set()
        self.taken = 0

    async def begin(self, number: int) -> None:
        """Begin a handover, and see it through."""
        it, desk = handover(f"+1415333000{number % 5}"), self._desks[number % 3]
        lease = desk.lease(it)
        try:
            refusal = await lease.begin(targets=[], conference_uuid=None)
        except AwayError:
            refusal = "away"
        if refusal is None:
            await self._act(Acting(it, lease), desk)
        else:
            lease.end()

    async def rescue(self) -> None:
        """See those through that were taken over, until nothing is left behind."""
        while True:
            for number, desk in enumerate(self._desks):
                fresh = desk.taken[self._seen[number] :]
                self._seen[number] += len(fresh)
                self.taken += len(fresh)
                for it, lease in fresh:
                    assert isinstance(lease, PostgresLease)
                    await self._act(Acting(it, lease), desk)
            await asyncio.sleep(0.05)

    async def _act(self, it: Acting, desk: Desk) -> None:
        self._acting.add(it)
        try:
            for _ in range(self._random.randrange(6)):
                if await it.lease.claim() is Claim.TAKEN_OVER:
                    break
                target = self._random.choice([FIRST, SECOND])
                if target in it.targets:
                    it.targets.discard(target)
                    it.lease.release(target)
                elif await it.lease.engage(target) and it.lease.may_ring:
                    it.targets.add(target)
                disturbed = [one for one in self._acting - {it} if it.disturbs(one)]
                assert disturbed == []
                await asyncio.sleep(self._random.random() * 0.2)
        finally:
            self._acting.discard(it)
        if it.lease.holds and self._random.random() < 0.3:
            desk.handovers.forget(it.lease)
            self.killed.add(it.handover.id)
        else:
            it.lease.end()
            self.killed.discard(it.handover.id)

    async def break_down(self) -> None:
        """Lose an answer, or the connection, now and then."""
        asked = ["begin_handover", "engage", "prolong", "claim", "take_over"]
        while True:
            await asyncio.sleep(self._random.random() * 2)
            desk = self._random.choice(self._desks)
            do = self._random.choice([*asked, "end_handover", ""])
            if do:
                desk.lose_answer(do)
            else:
                desk.cut()


async def test_nobody_is_in_two_whatever_is_lost_and_none_is_left_behind(
    desk: OpenDesk,
) -> None:
    """What nobody has thought of is found by chance."""
    seed = randrange(10**6)  # noqa: S311 -- another one each time
    course = Course([await desk() for _ in range(3)], Random(seed))  # noqa: S311 -- as above
    rescuing = asyncio.ensure_future(course.rescue())
    breaking = asyncio.ensure_future(course.break_down())
    one = await desk()
    one.handovers.stop_taking_over()
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(course.begin(number))
                await asyncio.sleep(0.08)
        breaking.cancel()
        async with asyncio.timeout(30.0):
            while await one.open_ids() or course.killed:
                assert not rescuing.done()
                await asyncio.sleep(0.1)
        assert await one.engaged() == 0
        assert course.taken
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
    finally:
        rescuing.cancel()
        breaking.cancel()
        await asyncio.wait({rescuing, breaking})


async def test_journal_that_was_recovered_without_the_database_is_not_taken_over(
    desk: OpenDesk,
) -> None:
    """A minute later the agent may be in a newer transfer, which that would abort."""
    one, two = await desk(), await desk()
    it = handover()
    one.handovers.forget(await one.begun(it))  # it was killed
    two.cut()
    await until(lambda: not two.handovers.reached)
    two.handovers.operations.closed_at -= 60.0  # for long
    lease = two.handovers.adopt(it)
    assert await lease.claim() is Claim.UNCLAIMED
    assert lease.may_bring_back
    lease.end()
    await two.back()
    await two.done()
    assert await one.open_ids() == []
    assert await one.engaged() == 0
