"""What a pool promises, whether it is alone or shares it with another.

Each test runs twice: with one pool that is asked twice, and with two that share a
database and are asked once each.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import attrs
import pytest

from aiophlo import (
    AbortTransfer,
    Accepted,
    Account,
    ActionJoined,
    EngagedError,
    EventRouter,
    Hold,
    InDoubt,
    NotSent,
    ObservedEvent,
    Quota,
    Reason,
    SessionPool,
    Unhold,
    WarmTransfer,
)
from aiophlo.model.handover_records import Ending
from aiophlo.postgres import PostgresCoordinator
from aiophlo.simulator import Simulator
from tests.postgres.conftest import send
from tests.support.doubles import AGENT, account_of, act, address, pool_of
from tests.support.handover_stage import (
    FIRST,
    SECOND,
    TALKING,
    Stage,
    set_stage,
)

Pools = Callable[..., Coroutine[Any, Any, tuple[SessionPool, SessionPool]]]


@pytest.fixture(params=["one pool", "two pools"])
def coordinate(
    request: pytest.FixtureRequest,
) -> Callable[[], PostgresCoordinator | None]:
    """Give what makes the coordinator of each pool; None for a pool alone."""
    if request.param == "one pool":
        return lambda: None
    postgres = request.getfixturevalue("postgres")
    namespace = request.getfixturevalue("namespace")
    return lambda: PostgresCoordinator(postgres.url, namespace=namespace)


@pytest.fixture
async def pools(
    coordinate: Callable[[], PostgresCoordinator | None], simulator: Simulator
) -> AsyncIterator[Pools]:
    """Give what opens one pool, and gives it twice, or two."""
    async with AsyncExitStack() as stack:

        async def open_both(
            *accounts: Account,
            **options: Any,  # noqa: ANN401 -- SessionPool's own
        ) -> tuple[SessionPool, SessionPool]:
            async def open_one() -> SessionPool:
                pool = pool_of(
                    simulator, *accounts, coordinator=coordinate(), **options
                )
                return await stack.enter_async_context(pool)

            one = await open_one()
            return one, one if one._coordinator is None else await open_one()  # noqa: SLF001 -- is it alone?

        yield open_both


@pytest.fixture
async def stages(
    coordinate: Callable[[], PostgresCoordinator | None],
) -> AsyncIterator[list[Stage]]:
    """Give a call that one pool, or either of two, may hand over."""
    shared = coordinate()
    async with set_stage(coordinator=shared) as stage, AsyncExitStack() as stack:
        pool = stage.pool
        if shared is not None:
            other = pool_of(stage.simulator, coordinator=coordinate())
            pool = await stack.enter_async_context(other)
        yield [stage, attrs.evolve(stage, pool=pool)]


async def test_one_that_clicks_twice_rings_once_wherever_it_lands(
    pools: Pools, simulator: Simulator
) -> None:
    """Of 17 double clicks on two workers, all rang two phones."""
    heard: list[ObservedEvent] = []
    one, two = await pools(observers=[heard.append])
    for number in range(20):
        transfer = act(WarmTransfer, number)
        outcomes = await asyncio.gather(send(one, transfer), send(two, transfer))
        assert {it.verdict for it in outcomes} == {"accepted"}
        assert len({it.api_id for it in outcomes}) == 1
        assert sorted(it.joined for it in outcomes) == [False, True]
        assert outcomes[1].action is transfer
    assert simulator.ledger.dials() == 20
    joined = [event for event in heard if isinstance(event, ActionJoined)]
    assert all(event.outcome.joined for event in joined)


async def test_second_click_joins_what_was_just_accepted_elsewhere(
    pools: Pools, simulator: Simulator
) -> None:
    """The second click of a slow hand lands on another worker."""
    one, two = await pools()
    first = await send(one, act(WarmTransfer))
    second = await send(two, act(WarmTransfer))
    assert isinstance(second, Accepted)
    assert second.joined
    assert second.api_id == first.api_id
    assert simulator.ledger.dials() == 1


async def test_streamed_dial_is_joined_in_another_pool(
    pools: Pools, simulator: Simulator
) -> None:
    """A campaign and an agent dial the same number at the same moment."""
    one, two = await pools()
    held = simulator.hold_answers()
    streamed = asyncio.create_task(one.send_all([act(WarmTransfer)]))
    await simulator.wait_for(requests=1)
    awaited = asyncio.create_task(send(two, act(WarmTransfer)))
    await asyncio.sleep(0.1)
    held.release()
    outcome = await awaited
    assert outcome.joined
    assert (await streamed).accepted == 1
    assert simulator.ledger.dials() == 1


async def test_dial_rings_again_when_that_is_asked_for(
    pools: Pools, simulator: Simulator
) -> None:
    """Who says `send` means it."""
    one, two = await pools()
    await send(one, act(WarmTransfer))
    again = await send(two, act(WarmTransfer), on_duplicate="send")
    assert not again.joined
    assert simulator.ledger.dials() == 2


@pytest.mark.parametrize("who", [AGENT, address(0)])
async def test_dial_after_an_abort_elsewhere_rings(
    pools: Pools, simulator: Simulator, who: str
) -> None:
    """An agent who dials again after an abort must not be told of the old dial."""
    one, two = await pools()
    transfer = act(WarmTransfer)
    assert isinstance(transfer, WarmTransfer)
    await send(one, transfer)
    abort = AbortTransfer(
        phlo_id=transfer.phlo_id, node_id=transfer.node_id, member=who
    )
    await send(two, abort)
    await asyncio.sleep(0.1)  # a notice takes some milliseconds
    for pool in (one, two):
        again = await send(pool, transfer)
        await send(two, abort)
        assert not again.joined
        await asyncio.sleep(0.1)
    assert simulator.ledger.dials() == 3


async def test_joiner_takes_over_from_one_that_went_away_before_leaving(
    pools: Pools, simulator: Simulator
) -> None:
    """The caller who is still there must be served."""
    slow = Quota(1, per=1.5)
    account = account_of(simulator, quota=slow)
    one, two = await pools(account)
    await send(one, act(WarmTransfer, 1))  # uses the slot
    leader = asyncio.create_task(send(one, act(WarmTransfer)))
    await asyncio.sleep(0.2)
    joiner = asyncio.create_task(send(two, act(WarmTransfer)))
    await asyncio.sleep(0.2)
    leader.cancel()
    outcome = await joiner
    assert isinstance(outcome, Accepted)
    assert not outcome.joined
    assert simulator.ledger.dials() == 2


async def test_joiner_is_not_sent_when_the_other_does_not_leave_in_its_time(
    pools: Pools, simulator: Simulator
) -> None:
    """Whoever has a second left must hear within it."""
    account = account_of(simulator, quota=Quota(1, per=6.0))
    one, two = await pools(account)
    await send(one, act(WarmTransfer, 1))
    leader = asyncio.create_task(send(one, act(WarmTransfer), send_within=None))
    await asyncio.sleep(0.2)
    outcome = await send(two, act(WarmTransfer), send_within=0.7)
    assert isinstance(outcome, NotSent)
    assert outcome.reason is Reason.EXPIRED
    assert 0.7 < outcome.seconds < 1.2
    leader.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leader
    assert simulator.ledger.dials() == 1


async def test_joiner_waits_for_one_that_has_left(
    pools: Pools, simulator: Simulator
) -> None:
    """A phone rings: "not sent" would have the agent dial again."""
    one, two = await pools()
    held = simulator.hold_answers()
    leader = asyncio.create_task(send(one, act(WarmTransfer)))
    await simulator.wait_for(requests=1)
    joiner = asyncio.create_task(send(two, act(WarmTransfer), send_within=0.5))
    await asyncio.sleep(1.5)
    assert not joiner.done()
    held.release()
    assert (await joiner).joined
    await leader
    assert simulator.ledger.dials() == 1


async def test_joiner_waits_for_one_that_left_just_in_its_time(
    pools: Pools, simulator: Simulator
) -> None:
    """The agent would be told "not sent" with a phone that has begun to ring."""
    account = account_of(simulator, quota=Quota(1, per=1.5))
    one, two = await pools(account)
    loop = asyncio.get_running_loop()
    await send(one, act(WarmTransfer, 1))
    slot = loop.time() + 1.5
    held = simulator.hold_answers()
    leader = asyncio.create_task(send(one, act(WarmTransfer)))
    await asyncio.sleep(0.2)
    within = slot + 0.15 - loop.time()
    joiner = asyncio.create_task(send(two, act(WarmTransfer), send_within=within))
    await simulator.wait_for(requests=2)
    await asyncio.sleep(0.5)
    assert not joiner.done()
    held.release()
    assert (await joiner).joined
    await leader


async def test_third_click_waits_for_one_that_has_left_in_another_pool(
    pools: Pools, simulator: Simulator
) -> None:
    """It joins a joiner, whose own request never leaves, and the phone rings."""
    one, two = await pools()
    held = simulator.hold_answers()
    leader = asyncio.create_task(send(one, act(WarmTransfer)))
    await simulator.wait_for(requests=1)
    second = asyncio.create_task(send(two, act(WarmTransfer)))
    await asyncio.sleep(0.1)
    third = asyncio.create_task(send(two, act(WarmTransfer), send_within=0.4))
    await asyncio.sleep(0.8)
    assert not third.done()
    held.release()
    assert (await third).joined
    assert (await second).joined
    await leader
    assert simulator.ledger.dials() == 1


async def test_hold_that_waits_is_not_sent_after_an_unhold_elsewhere(
    pools: Pools, simulator: Simulator
) -> None:
    """A customer would stay on hold though somebody took them off."""
    account = account_of(simulator, quota=Quota(1, per=2.0))
    one, two = await pools(account)
    await send(one, act(WarmTransfer, 1))
    hold = asyncio.create_task(send(one, act(Hold)))
    await asyncio.sleep(0.2)
    await send(two, act(Unhold))
    outcome = await hold
    assert isinstance(outcome, NotSent)
    assert outcome.reason is Reason.SUPERSEDED


async def test_abort_is_not_repeated_after_a_transfer_elsewhere(
    pools: Pools, simulator: Simulator
) -> None:
    """It would end the new transfer."""
    one, two = await pools()
    simulator.answer_next(502, action="abort_transfer", delay=1.0)
    abort = attrs.evolve(act(AbortTransfer), member=AGENT)  # type: ignore[call-arg]
    aborting = asyncio.create_task(send(one, abort))
    await simulator.wait_for(requests=1)
    await asyncio.sleep(0.1)
    await send(two, act(WarmTransfer))
    assert isinstance(await aborting, InDoubt)
    assert [it.action for it in simulator.ledger.requests] == [
        "abort_transfer",
        "warm_transfer",
    ]


async def test_pause_after_a_429_holds_for_all(
    pools: Pools, simulator: Simulator
) -> None:
    """Each pool would draw its own 429 to learn of it."""
    account = account_of(simulator, quota=Quota(1_000, per=1.0))
    one, two = await pools(account)
    await send(two, act(WarmTransfer, 1))
    simulator.answer_next(429, headers={"Retry-After": "1"})
    refused = asyncio.create_task(send(one, act(WarmTransfer, 2)))
    await simulator.wait_for(requests=2)
    await asyncio.sleep(0.2)
    assert two.state().paused_for > 0.3
    assert two.state().pace == pytest.approx(0.8, abs=0.05)
    waited = (await send(two, act(WarmTransfer, 3))).waited
    assert waited > 0.3
    assert isinstance(await refused, Accepted)
    assert simulator.ledger.refused_429 == 1


async def test_unhold_is_tried_in_a_pause_though_a_transfer_waits_for_its_end(
    pools: Pools, simulator: Simulator
) -> None:
    """A customer is not left on hold because of a quota."""
    one, two = await pools()
    await send(one, act(WarmTransfer, 1))
    simulator.answer_next(429, headers={"Retry-After": "6"})
    waits = asyncio.create_task(send(one, act(WarmTransfer, 2)))
    await simulator.wait_for(requests=2)
    await asyncio.sleep(0.2)
    assert two.state().paused_for > 5.0
    assert (await send(two, act(Unhold))).waited < 3.0
    assert isinstance(await waits, Accepted)


async def test_second_click_in_another_process_is_refused_and_harms_nothing(
    stages: list[Stage],
) -> None:
    """Each would undo what the other did, and alarm of a customer who is well."""
    one, two = stages
    async with one.consult() as consult:
        with pytest.raises(EngagedError, match="agent") as caught:
            await two.consult().__aenter__()
        assert caught.value.field == "agent"
        assert AGENT not in str(caught.value)
        await consult.complete()
    assert one.rung == [FIRST]
    assert one.alarms == []


async def test_agent_may_hand_over_again_once_the_first_has_ended(
    stages: list[Stage],
) -> None:
    """An agent who is engaged for ever is an agent who can't work."""
    one, two = stages
    consult = two.consult()
    async with one.consult():
        with pytest.raises(EngagedError):
            await consult.__aenter__()
    assert one.customer_is_with_agent
    async with consult:  # the same one, since nothing came of it
        await consult.complete()
    assert one.rung == [FIRST, FIRST]


async def test_partner_in_a_handover_elsewhere_is_passed_over(
    stages: list[Stage],
) -> None:
    """Their phone would ring in the middle of a private talk."""
    one, two = stages
    call = one.simulator.place_call(
        "p", "n", agent="+14153330001", customer="+14153330002"
    )
    await one.simulator.wait_for(lambda _: len(one.simulator.posts) == 4)
    async with one.consult():
        with pytest.raises(EngagedError, match="to"):
            await two.consult(
                agent="+14153330001", customer="+14153330002"
            ).__aenter__()
        async with two.consult(
            agent="+14153330001", customer="+14153330002", to=[FIRST, SECOND]
        ) as other:
            assert other.partner == SECOND
            assert other.tried[0].ending is Ending.ENGAGED
            await other.complete()
    assert one.rung == [FIRST, SECOND]
    assert call["+14153330002"].state is TALKING


async def test_who_did_not_answer_is_free_for_others_at_once(
    stages: list[Stage],
) -> None:
    """Else every colleague would wait until the last of a long list was tried."""
    one, two = stages
    one.people_are("declines", FIRST)
    one.simulator.place_call("p", "n", agent="+14153330001", customer="+14153330002")
    await one.simulator.wait_for(lambda _: len(one.simulator.posts) == 4)
    async with one.consult(to=[FIRST, SECOND]):
        one.people_are("answers", FIRST)
        async with two.consult(agent="+14153330001", customer="+14153330002") as other:
            assert other.partner == FIRST


async def test_conversation_is_in_one_handover_alone(stages: list[Stage]) -> None:
    """Its events would be told to both."""
    one, two = stages
    uuid = one.call.conference_uuid
    router = (
        one.router if one.pool is two.pool else EventRouter()
    )  # each process its own
    async with one.consult(conference_uuid=uuid):
        with pytest.raises(EngagedError) as caught:
            await two.consult(
                agent="+14153330001",
                customer=None,
                to=[SECOND],
                conference_uuid=uuid,
                router=router,
            ).__aenter__()
    assert caught.value.field == "conference_uuid"
