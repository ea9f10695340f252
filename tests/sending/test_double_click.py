"""One dial per double click, however the first one was sent."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import attrs
import pytest

from aiophlo import (
    AbortTransfer,
    Account,
    Action,
    NotSent,
    Outcome,
    Quota,
    Reason,
    SessionPool,
    WarmTransfer,
)
from aiophlo.protocol.codec import Answer, Request
from aiophlo.simulator import Simulator
from tests.support.doubles import (
    ACCEPTED,
    AGENT,
    NODE_ID,
    PHLO_ID,
    RINGS,
    ScriptedHttpClient,
    ScriptedPool,
    act,
    address,
    outcome_of,
    pool_of,
)
from tests.support.virtual_time import run_virtually

ACCOUNT: Final = Account("MACLICKS000000000001", "token", quota=None)
TRANSFER: Final = act(WarmTransfer, 1)
Sending = Callable[[SessionPool, Action], Coroutine[Any, Any, object]]


async def on_purpose(pool: SessionPool, action: Action) -> object:
    """Ring whatever else rings."""
    return await pool.send(action, on_duplicate="send")


async def streamed(pool: SessionPool, action: Action) -> object:
    """Ring from a batch."""
    return await pool.send_all([action])


async def consulted(pool: SessionPool, action: Action) -> object:
    """Ring by a handover, by hand."""
    assert isinstance(action, WarmTransfer)
    node = pool.phlo(PHLO_ID).multi_party_call(NODE_ID)
    consult = pool.consult(node, agent=AGENT, customer=address(99), to=action.to)
    await consult.start()
    return consult


WAYS: Final[list[Sending]] = [on_purpose, streamed, consulted]
EACH_WAY = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@EACH_WAY
async def test_awaited_one_joins_its_equal_under_way(
    simulator: Simulator, way: Sending
) -> None:
    """The supervisor's phone rang twice: once for the batch, once for the agent."""
    mine = attrs.evolve(TRANSFER, key="mine")
    async with pool_of(simulator) as pool:
        with simulator.hold_answers():
            first = asyncio.create_task(way(pool, TRANSFER))
            await simulator.wait_for(held=1)
            second = asyncio.create_task(pool.send(mine))
            await asyncio.sleep(0.01)
        await first
        joined = await second
        assert joined.joined
        assert joined.action is mine
        assert joined.action.key == "mine"
    assert simulator.ledger.dials() == 1


@EACH_WAY
async def test_awaited_one_joins_what_was_just_accepted(
    simulator: Simulator, way: Sending
) -> None:
    """A click half a second after the batch's ring is one of that ring's."""
    mine = attrs.evolve(TRANSFER, key="mine")
    async with pool_of(simulator) as pool:
        await way(pool, TRANSFER)
        joined = await pool.send(mine)
        assert joined.joined
        assert joined.action is mine
    assert simulator.ledger.dials() == 1


@pytest.mark.parametrize("kind", RINGS)
async def test_every_dial_is_registered_when_it_is_sent_on_purpose(
    simulator: Simulator, kind: type[Action]
) -> None:
    """'Ring again' means this one; the click after it is a double click."""
    action = act(kind, 1)
    async with pool_of(simulator) as pool:
        for _ in range(3):
            assert not (await pool.send(action, on_duplicate="send")).joined
        assert (await pool.send(action)).joined
    assert simulator.ledger.dials() == 3


async def test_doubt_left_by_a_stream_is_joined(simulator: Simulator) -> None:
    """That phone may be ringing, whoever rang it."""
    simulator.drop_next_answer()
    async with pool_of(simulator) as pool:
        report = await pool.send_all([TRANSFER])
        assert report.in_doubt == 1
        joined = await outcome_of(pool.send(TRANSFER))
    assert (joined.verdict, joined.joined) == ("in_doubt", True)
    assert simulator.ledger.dials() == 1


async def test_equal_rows_of_a_stream_do_not_join(simulator: Simulator) -> None:
    """Whether a batch may ring somebody twice is for the batch to say."""
    async with pool_of(simulator) as pool:
        report = await pool.send_all([TRANSFER, TRANSFER], on_duplicate="send")
        assert [one.joined for one in report.outcomes] == [False, False]
        assert (await pool.send(TRANSFER)).joined
    assert simulator.ledger.dials() == 2


def paced(rung: list[str]) -> ScriptedPool:
    """Return a pool with one slot a second, whose answers take no time."""

    async def answer(request: Request) -> Answer:
        rung.append(request.path)
        return ACCEPTED

    account = attrs.evolve(ACCOUNT, quota=Quota(1, per=30.0))
    return ScriptedPool(account, transports=[ScriptedHttpClient(answer)])


def test_awaited_one_joins_a_streamed_one_that_queues_for_its_slot() -> None:
    """Both would leave within a second of each other."""
    rung: list[str] = []

    async def main() -> None:
        async with paced(rung) as pool:
            await pool.send(act(AbortTransfer, 5))  # takes the free slot
            batch = asyncio.create_task(pool.send_all([TRANSFER]))
            await asyncio.sleep(0.1)
            joined = await pool.send(TRANSFER, send_within=60.0)
            assert joined.joined
            await batch

    run_virtually(main())
    assert len(rung) == 2


def test_awaited_one_does_not_outwait_its_own_send_within() -> None:
    """An agent with ten seconds must not be held by a batch that waits for minutes."""
    rung: list[str] = []

    async def main() -> Outcome:
        loop = asyncio.get_running_loop()
        async with paced(rung) as pool:
            await pool.send(act(AbortTransfer, 5))
            batch = asyncio.create_task(pool.send_all([TRANSFER]))
            await asyncio.sleep(0.1)
            began = loop.time()
            outcome = await outcome_of(pool.send(TRANSFER, send_within=10.0))
            assert loop.time() - began == pytest.approx(10.0)
            assert (await batch).accepted == 1
            return outcome

    outcome = run_virtually(main())
    assert isinstance(outcome, NotSent)
    assert (outcome.reason, outcome.attempts) == (Reason.EXPIRED, 0)
    assert not outcome.joined
    assert len(rung) == 2


def test_joiner_takes_over_from_a_streamed_one_that_was_stopped() -> None:
    """Who left the batch gave up its row, not the agent's click."""
    rung: list[str] = []

    async def main() -> Outcome:
        async with paced(rung) as pool:
            await pool.send(act(AbortTransfer, 5))
            async with pool.stream([TRANSFER]):
                await asyncio.sleep(0.1)
                sending = asyncio.create_task(pool.send(TRANSFER, send_within=60.0))
                await asyncio.sleep(0.1)
            return await sending

    outcome = run_virtually(main())
    assert (outcome.verdict, outcome.joined) == ("accepted", False)
    assert len(rung) == 2


@pytest.mark.parametrize("after", [2.9, 3.1])
def test_three_seconds_count_from_the_end_and_not_from_the_beginning(
    after: float,
) -> None:
    """An answer that took four seconds must not make the next click ring."""
    rung: list[str] = []

    async def answer(request: Request) -> Answer:
        rung.append(request.path)
        await asyncio.sleep(4.0)
        return ACCEPTED

    async def main() -> None:
        async with ScriptedPool(
            ACCOUNT, transports=[ScriptedHttpClient(answer)]
        ) as pool:
            await pool.send(TRANSFER)
            await asyncio.sleep(after)
            await pool.send(TRANSFER)

    run_virtually(main())
    assert len(rung) == (1 if after < 3.0 else 2)


def test_dial_after_an_abort_that_is_still_under_way_rings() -> None:
    """The agent aborts and rings again before the abort's answer is in."""
    rung: list[str] = []
    answered = asyncio.Event()

    async def answer(request: Request) -> Answer:
        rung.append(str(request.body))
        if b"abort" in (request.body or b""):
            await answered.wait()
        return ACCEPTED

    async def main() -> None:
        async with ScriptedPool(
            ACCOUNT, transports=[ScriptedHttpClient(answer)]
        ) as pool:
            await pool.send(TRANSFER)
            abort = AbortTransfer(phlo_id=PHLO_ID, node_id=NODE_ID, member=AGENT)
            aborting = asyncio.create_task(pool.send(abort))
            await asyncio.sleep(0.1)
            assert not (await pool.send(TRANSFER)).joined
            answered.set()
            await aborting

    run_virtually(main())
    assert len(rung) == 3
