"""A batch that stops by itself: when, how it makes sure, and what goes on."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import attrs
import pytest

from aiophlo import (
    Accepted,
    Account,
    Action,
    ColdTransfer,
    GetPhlo,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    Rejected,
    RetryPolicy,
    RunPhlo,
    SessionPool,
    WarmTransfer,
)
from aiophlo.batch.circuit_breaker import DOUBTS, CircuitBreakers
from aiophlo.protocol.codec import NoAnswer, Request
from aiophlo.simulator import Simulator
from tests.support.doubles import (
    AGENT,
    NODE_ID,
    PHLO_ID,
    ScriptedHttpClient,
    ScriptedPool,
    account_of,
    act,
    address,
    pool_of,
)
from tests.support.virtual_time import run_virtually

ACCOUNT = Account("MABREAKER00000000001", "token", quota=None)
OTHER_NODE = "0e4d-other-node"


def transfers(number: int) -> list[Action]:
    """Return so many transfers, each to a phone of its own."""
    return [act(WarmTransfer, n) for n in range(number)]


def elsewhere(number: int) -> list[Action]:
    """Return so many transfers on another node, which the script tells apart."""
    return [
        ColdTransfer(
            phlo_id=PHLO_ID,
            node_id=OTHER_NODE,
            to=address(10_000 + n),
            trigger_source=AGENT,
        )
        for n in range(number)
    ]


async def outcomes_of(
    pool: SessionPool,
    actions: Sequence[Action],
    *,
    account: Account | None = None,
    concurrency: int = 1,
) -> list[Outcome]:
    """Return what a stream says of each action, in the order in which it does."""
    async with pool.stream(
        actions, account=account, concurrency=concurrency
    ) as outcomes:
        return [outcome async for outcome in outcomes]


def asked(simulator: Simulator) -> Counter[str]:
    """Count what the simulator was asked, by action."""
    return Counter(record.action for record in simulator.ledger.requests)


def reasons(outcomes: Sequence[Outcome]) -> Counter[str]:
    """Count verdicts and their reasons."""
    return Counter(str(getattr(it, "reason", it.verdict)) for it in outcomes)


async def test_batch_stops_when_nothing_answers(simulator: Simulator) -> None:
    """Each further transfer might ring a phone that nobody accounts for."""
    simulator.drop_next_answer(times=None)
    async with pool_of(simulator) as pool:
        outcomes = await outcomes_of(pool, transfers(40))
    assert [type(it) for it in outcomes[:10]] == [InDoubt] * 10
    assert reasons(outcomes[10:]) == {"stopped": 30}
    assert [record.action for record in simulator.ledger.requests[:11]] == [
        *["warm_transfer"] * 10,
        "get_phlo",
    ]
    assert set(asked(simulator)) == {"warm_transfer", "get_phlo"}
    assert asked(simulator)["warm_transfer"] == 10


@pytest.mark.parametrize("concurrency", [1, 20])
def test_batch_stops_when_nobody_can_be_reached_for_long(concurrency: int) -> None:
    """A million rows tried in vain would all have to be looked at again."""

    async def nobody(_: Request) -> NoAnswer:
        return NoAnswer(left=False, reason=Reason.UNREACHABLE)

    async def main() -> tuple[list[Outcome], float]:
        transport = ScriptedHttpClient(nobody)
        async with ScriptedPool(ACCOUNT, transports=[transport]) as pool:
            loop = asyncio.get_running_loop()
            began = loop.time()
            outcomes = await outcomes_of(pool, transfers(40), concurrency=concurrency)
            return outcomes, loop.time() - began

    outcomes, took = run_virtually(main())
    told = reasons(outcomes)
    assert set(told) == {"unreachable", "stopped"}
    assert 10 <= told["unreachable"] <= 10 + concurrency
    assert 60.0 <= took <= 120.0  # half a minute each for the first and the probe


async def test_batch_goes_on_when_the_probe_is_answered(simulator: Simulator) -> None:
    """Ten unlucky transfers are no reason to forget the other thousands."""
    simulator.drop_next_answer(times=10)
    async with pool_of(simulator) as pool:
        outcomes = await outcomes_of(pool, transfers(30))
    assert reasons(outcomes) == {"disconnected": 10, "accepted": 20}
    assert asked(simulator) == {"warm_transfer": 30, "get_phlo": 1}


async def test_nine_in_a_row_ask_nothing(simulator: Simulator) -> None:
    """A probe for every hiccup would cost slots that transfers need."""
    actions = transfers(38)
    for number, action in enumerate(actions):
        if number % 19 < 9:
            simulator.drop_next_answer(to=getattr(action, "to", ""))
    async with pool_of(simulator) as pool:
        await outcomes_of(pool, actions)
    assert asked(simulator) == {"warm_transfer": 38}


@pytest.mark.parametrize("status", [401, 403])
async def test_batch_stops_when_credentials_are_refused(
    simulator: Simulator, status: int
) -> None:
    """A thousand refusals may get the account locked."""
    simulator.answer_next(status, times=None)
    async with pool_of(simulator) as pool:
        outcomes = await outcomes_of(pool, transfers(10))
    assert [it.status for it in outcomes[:3]] == [status] * 3
    assert reasons(outcomes[3:]) == {"stopped": 7}
    assert asked(simulator) == {"warm_transfer": 3, "get_phlo": 1}


async def test_batch_goes_on_when_credentials_hold_after_all(
    simulator: Simulator,
) -> None:
    """A gateway that hiccups with 403 must not end the batch."""
    simulator.answer_next(403, times=3)
    async with pool_of(simulator) as pool:
        outcomes = await outcomes_of(pool, transfers(10))
    assert reasons(outcomes) == {"rejected": 3, "accepted": 7}


async def test_missing_node_stops_itself_alone(simulator: Simulator) -> None:
    """The rows of the other nodes are somebody else's customers."""
    for action in ("warm_transfer", "get_node"):
        simulator.answer_next(404, action=action, times=None)
    mixed = [
        it for pair in zip(transfers(20), elsewhere(20), strict=True) for it in pair
    ]
    async with pool_of(simulator) as pool:
        outcomes = await outcomes_of(pool, mixed)
    assert reasons(outcomes) == {"accepted": 20, "rejected": 3, "stopped": 17}
    assert asked(simulator) == {"warm_transfer": 3, "get_node": 1, "cold_transfer": 20}
    (probe,) = (it for it in simulator.ledger.requests if it.action == "get_node")
    assert (probe.phlo_id, probe.node_id) == (PHLO_ID, NODE_ID)


async def test_missing_phlo_is_asked_for_when_runs_are_refused(
    simulator: Simulator,
) -> None:
    """A run names no node, so only the PHLO itself can be asked for."""
    simulator.answer_next(404, times=None)
    runs = [act(RunPhlo, n) for n in range(6)]
    async with pool_of(simulator) as pool:
        outcomes = await outcomes_of(pool, runs)
    assert reasons(outcomes) == {"rejected": 3, "stopped": 3}
    assert asked(simulator) == {"run_phlo": 3, "get_phlo": 1}


async def test_members_that_are_gone_do_not_stop_their_node(
    simulator: Simulator,
) -> None:
    """A 404 for somebody who hung up says nothing about the node."""
    simulator.answer_next(404, action="warm_transfer", times=6)
    async with pool_of(simulator) as pool:
        outcomes = await outcomes_of(pool, transfers(10))
    assert reasons(outcomes) == {"rejected": 6, "accepted": 4}
    assert asked(simulator) == {"warm_transfer": 10, "get_node": 2}


async def test_other_accounts_go_on_when_one_is_locked_out(
    simulator: Simulator,
) -> None:
    """One tenant's stale token is no reason to stop the others."""
    good = account_of(simulator)
    bad = attrs.evolve(good, auth_id="MALOCKEDOUT000000001")
    actions = transfers(20)
    owners = {action: (good, bad)[n % 2] for n, action in enumerate(actions)}
    async with (
        pool_of(simulator, good, bad) as pool,
        pool.stream(actions, account=owners.__getitem__, concurrency=1) as stream,
    ):
        outcomes = [outcome async for outcome in stream]
    assert reasons(outcomes) == {"accepted": 10, "rejected": 3, "stopped": 7}


async def test_refusals_of_other_kinds_stop_nothing(simulator: Simulator) -> None:
    """A row whose number Plivo won't dial is that row's own trouble."""
    simulator.answer_next(400, times=None)
    async with pool_of(simulator) as pool:
        outcomes = await outcomes_of(pool, transfers(30))
    assert {type(it) for it in outcomes} == {Rejected}
    assert asked(simulator) == {"warm_transfer": 30}


async def test_nothing_leaves_while_the_probe_is_out(simulator: Simulator) -> None:
    """Fifty queue behind the tenth: none may slip out meanwhile."""
    simulator.drop_next_answer(times=18, action="warm_transfer")
    simulator.answer_next(delay=0.1, action="get_phlo")
    async with (
        pool_of(simulator, connections_per_account=5) as pool,
        pool.stream(transfers(100), concurrency=50) as stream,
    ):
        await simulator.wait_for(lambda _: asked(simulator)["get_phlo"] == 1)
        for _ in range(10):
            await anext(stream)
        assert asked(simulator)["warm_transfer"] <= 10 + 4  # those in flight
        rest = [outcome async for outcome in stream]
    assert reasons(rest) == {"disconnected": 8, "accepted": 82}


async def test_what_is_in_hand_stays_unsent_when_the_batch_stops(
    simulator: Simulator,
) -> None:
    """At 59 a second, the 200 in hand would go on dialling for three seconds."""
    simulator.answer_next(401, times=None)
    async with pool_of(simulator, connections_per_account=2) as pool:
        outcomes = await outcomes_of(pool, transfers(300), concurrency=200)
    assert asked(simulator)["warm_transfer"] <= 3 + 2
    assert reasons(outcomes)["stopped"] >= 295


async def test_batch_can_be_left_while_the_probe_is_out(simulator: Simulator) -> None:
    """Ctrl-C in an outage must not wait for a GET that nobody answers."""
    simulator.drop_next_answer(times=10, action="warm_transfer")
    async with pool_of(simulator) as pool:
        async with pool.stream(transfers(30), concurrency=1) as stream:
            for _ in range(10):
                await anext(stream)
            simulator.hold_answers()
            await simulator.wait_for(held=1)
        assert asked(simulator) == {"warm_transfer": 10, "get_phlo": 1}
        (left,) = stream.unread
        assert isinstance(left, NotSent)
        assert left.reason is Reason.STOPPED
        simulator.release_answers()


async def test_clear_answer_during_the_probe_lets_the_batch_go_on(
    simulator: Simulator,
) -> None:
    """An account that has just accepted a transfer is not dead."""
    slow = 0
    simulator.answer_next(delay=0.1, to=address(slow))
    simulator.drop_next_answer(times=10, action="warm_transfer")
    simulator.fault_next("drop_after_read", delay=0.1, action="get_phlo", times=None)
    async with pool_of(simulator) as pool:
        outcomes = await outcomes_of(pool, transfers(30), concurrency=2)
    assert reasons(outcomes) == {"disconnected": 10, "accepted": 20}


async def test_stream_of_reads_is_watched_too(simulator: Simulator) -> None:
    """A check of a thousand PHLOs has the same use for stopping."""
    simulator.answer_next(401, times=None)
    questions: list[Action] = [GetPhlo(phlo_id=f"p{n}") for n in range(10)]
    async with pool_of(simulator) as pool:
        outcomes = await outcomes_of(pool, questions)
    assert reasons(outcomes) == {"rejected": 3, "stopped": 7}
    assert not any(isinstance(it, Accepted) for it in outcomes)


@pytest.mark.parametrize(
    ("reason", "attempts", "asks"),
    [
        (Reason.EXPIRED, 0, False),  # its slot would have come too late
        (Reason.EXPIRED, 1, True),  # no connection came about in its time
        (Reason.STALE_CONNECTION, 100, True),
        (Reason.UNREACHABLE, 4, True),
        (Reason.NO_BUDGET, 2, True),
        (Reason.MISCONFIGURED, 1, True),
        (Reason.THROTTLED, 4, False),
        (Reason.SUPERSEDED, 0, False),
    ],
)
async def test_plivo_is_asked_only_after_failures_that_are_its_silence(
    reason: Reason, attempts: int, *, asks: bool
) -> None:
    """A paced batch whose rows come too late must not be stopped as an outage."""

    async def silent(_: Request) -> NoAnswer:
        return NoAnswer(left=True, reason=Reason.SILENT)

    transport, breakers = ScriptedHttpClient(silent), CircuitBreakers()
    account = Account("MABREAKER00000000001", "a-made-up-token", quota=None)
    policy = RetryPolicy(attempts=1)
    async with ScriptedPool(account, transports=[transport], retry=policy) as pool:
        sender = pool.sender(account)
        for action in transfers(DOUBTS):
            breakers.note(
                sender, NotSent(action=action, reason=reason, attempts=attempts)
            )
        admitted = await breakers.admits(sender, act(WarmTransfer, DOUBTS))
    assert (len(transport.requests), admitted) == (int(asks), not asks)
