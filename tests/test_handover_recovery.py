"""What a crash left open is found, and the customer brought back."""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path

import pytest
from doubles import pool_of
from handover_stage import (
    AGENT,
    CONSULTING,
    CUSTOMER,
    FIRST,
    LEFT,
    NODE,
    ON_HOLD,
    PHLO,
    RINGING,
    TALKING,
    Stage,
    set_stage,
)

from aiophlo import (
    EventRouter,
    InvalidInputError,
    Journal,
    JournalError,
    OpenHandover,
    Recovery,
)
from aiophlo.simulator import AUTH_TOKEN, Callback, Habit, Simulator

CHILD = Path(__file__).with_name("handover_child.py")
ROOT = Path(__file__).parent.parent


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Give a call whose agent wants to hand the customer over."""
    async with set_stage() as stage:
        yield stage


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """Give an open journal."""
    async with Journal(tmp_path / "journal") as journal:
        yield journal


async def crash(stage: Stage, journal: Journal, *, age: float = 0.0) -> None:
    """Leave a handover open, as a kill in the middle of the talk does."""
    await stage.node.warm_transfer(to=FIRST, trigger_source=AGENT)
    await stage.until(CONSULTING, ON_HOLD, CONSULTING)
    await remember(stage, journal, age=age)


async def remember(
    stage: Stage, journal: Journal, *, age: float = 0.0, node_id: str = NODE
) -> None:
    """Note a handover that nobody cares for."""
    handover = OpenHandover(
        account=stage.simulator.auth_id,
        phlo_id=PHLO,
        node_id=node_id,
        agent=AGENT,
        customer="…44",
        targets="…55",
        began_at=time.time() - age,
    )
    await journal.handovers.begin(handover)
    journal.handovers.let_go(handover)


async def test_customer_is_back_after_a_crash(stage: Stage, journal: Journal) -> None:
    """The caller has been listening to music since the power went."""
    await crash(stage, journal)
    (found,) = await stage.pool.recover_handovers(journal)
    assert found.recovery is Recovery.BROUGHT_BACK
    assert found.handover.customer == "…44"
    assert AGENT[:-2] not in repr(found)
    assert stage.customer_is_with_agent
    assert journal.handovers.left_open() == []
    assert await stage.pool.recover_handovers(journal) == []


async def test_nothing_is_done_when_nobody_is_on_hold(
    stage: Stage, journal: Journal
) -> None:
    """The crash came between two targets, or after the customer was back."""
    await remember(stage, journal)
    (found,) = await stage.pool.recover_handovers(journal)
    assert found.recovery is Recovery.NO_TRANSFER
    assert stage.alarms == []
    assert journal.handovers.left_open() == []


async def test_customer_is_back_when_a_killed_process_was_still_asking(
    stage: Stage, journal: Journal
) -> None:
    """Its request is slower than the restart: one refused abort proves nothing."""
    await remember(stage, journal)
    recovering = asyncio.ensure_future(stage.pool.recover_handovers(journal))
    requests = stage.simulator.ledger.requests
    await stage.simulator.wait_for(
        lambda _: [one.answered for one in requests] == [HTTPStatus.CONFLICT]
    )
    stage.call.start_transfer(stage.call[AGENT], stage.call.ring(FIRST, "agent"))
    (found,) = await recovering
    assert found.recovery is Recovery.BROUGHT_BACK
    assert stage.customer_is_with_agent
    assert stage.alarms == []


async def test_alarm_is_raised_when_the_customer_cannot_be_brought_back(
    stage: Stage, journal: Journal
) -> None:
    """It stays written down until somebody has helped."""
    await crash(stage, journal)
    stage.simulator.answer_next(502, action="abort_transfer", times=None)
    found = await stage.pool.recover_handovers(journal, bring_back_within=0.2)
    assert [one.recovery for one in found] == [Recovery.UNKNOWN]
    assert len(stage.alarms) == 1
    stage.simulator.clear_script()
    found = await stage.pool.recover_handovers(journal)
    assert [one.recovery for one in found] == [Recovery.NO_TRANSFER]


async def test_both_are_recovered_when_an_agent_has_left_two_open(
    stage: Stage, journal: Journal
) -> None:
    """What somebody was alarmed of before must not hide whom the crash put on hold."""
    await remember(stage, journal, age=60.0, node_id="other")
    await crash(stage, journal)
    found = await stage.pool.recover_handovers(journal, bring_back_within=1.0)
    assert [one.recovery for one in found] == [Recovery.UNKNOWN, Recovery.BROUGHT_BACK]
    assert stage.customer_is_with_agent
    assert len(stage.alarms) == 1  # of the other, which no longer exists
    assert [one.node_id for one in journal.handovers.left_open()] == ["other"]


async def test_alarm_is_raised_when_the_account_is_not_known(
    stage: Stage, journal: Journal
) -> None:
    """A journal of another configuration must not be passed over in silence."""
    handover = OpenHandover(
        account="MAOTHER",
        phlo_id=PHLO,
        node_id=NODE,
        agent=AGENT,
        customer="…44",
        targets="…55",
    )
    await journal.handovers.begin(handover)
    journal.handovers.let_go(handover)
    (found,) = await stage.pool.recover_handovers(journal)
    assert (found.handover, found.recovery) == (handover, Recovery.UNKNOWN)
    assert len(stage.alarms) == 1


async def test_old_handover_is_only_told_of(stage: Stage, journal: Journal) -> None:
    """An abort would end what the agent is doing an hour later."""
    await crash(stage, journal, age=400.0)
    (found,) = await stage.pool.recover_handovers(journal)
    assert found.recovery is Recovery.TOO_OLD
    assert len(stage.alarms) == 1  # the talk may just have been a long one
    assert stage.states()[:2] == (CONSULTING, ON_HOLD)
    assert journal.handovers.left_open() == []
    await remember(stage, journal, age=400.0)
    (found,) = await stage.pool.recover_handovers(journal, not_older_than=500.0)
    assert found.recovery is Recovery.BROUGHT_BACK


async def test_open_handover_of_this_process_is_left_alone(
    stage: Stage, journal: Journal
) -> None:
    """Recovering must not end the talks that go on."""
    async with stage.consult(journal=journal) as consult:
        assert await stage.pool.recover_handovers(journal) == []
        await consult.complete()


async def test_newer_handover_of_the_agent_is_left_alone(
    stage: Stage, journal: Journal
) -> None:
    """An abort for the old one would end the new one."""
    await remember(stage, journal)
    async with stage.consult() as consult:
        (found,) = await stage.pool.recover_handovers(journal)
        assert found.recovery is Recovery.ENGAGED
        assert len(stage.alarms) == 1  # of the old one: nobody saw to its customer
        await consult.complete()
    assert len(journal.handovers.left_open()) == 1


async def test_agent_is_engaged_while_recovered(stage: Stage, journal: Journal) -> None:
    """A new transfer that begins meanwhile would be aborted with the old."""
    await crash(stage, journal)
    with stage.simulator.hold_answers():
        recovering = asyncio.ensure_future(stage.pool.recover_handovers(journal))
        await stage.simulator.wait_for(held=1)
        with pytest.raises(InvalidInputError, match="agent"):
            await stage.consult().__aenter__()
        assert await stage.pool.recover_handovers(journal) == []
        closing = asyncio.ensure_future(stage.pool.close())
    (found,) = await recovering
    assert found.recovery is Recovery.BROUGHT_BACK
    await closing


async def test_what_cannot_be_recovered_from_is_refused(
    stage: Stage, journal: Journal, tmp_path: Path
) -> None:
    """A start-up script that recovers nothing must not look as if it had."""
    with pytest.raises(InvalidInputError, match="journal"):
        await stage.pool.recover_handovers(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="not_older_than"):
        await stage.pool.recover_handovers(journal, not_older_than=0)
    with pytest.raises(JournalError):
        await stage.pool.recover_handovers(Journal(tmp_path / "other"))
    await stage.pool.close()
    with pytest.raises(InvalidInputError, match="pool"):
        await stage.pool.recover_handovers(journal)


def kept_in(folder: Path) -> bytes:
    """Return all that a journal's files hold."""
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_address_is_gone_from_the_file_once_the_handover_has_ended(
    stage: Stage, tmp_path: Path
) -> None:
    """Who works here, and whom they called, is nobody's business a year later."""
    path = tmp_path / "journal"
    async with Journal(path) as journal, stage.consult(journal=journal):
        assert AGENT.encode() in kept_in(tmp_path)
        assert CUSTOMER.encode() not in kept_in(tmp_path)
        assert path.stat().st_mode & 0o777 == 0o600
    assert AGENT.encode() not in kept_in(tmp_path)


@asynccontextmanager
async def child(
    simulator: Simulator, path: Path, talk: float = 60.0
) -> AsyncIterator[Process]:
    """Run a service of its own that has begun to hand the customer over."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CHILD),
        simulator.base_url,
        AUTH_TOKEN,
        str(path),
        str(talk),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        simulator.post_events(Callback(url=url))
        simulator.place_call(PHLO, NODE, agent=AGENT, customer=CUSTOMER)
        await simulator.wait_for(lambda _: len(simulator.posts) == 2)
        process.stdin.write(b"go on\n")
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def stage_of(simulator: Simulator) -> Stage:
    """Look at the call that a child hands over."""
    (call,) = simulator.calls
    return Stage(simulator, pool_of(simulator), EventRouter(), call, [])


@pytest.mark.parametrize("ringing", [True, False])
async def test_customer_is_back_when_the_process_is_interrupted(
    tmp_path: Path, ringing: bool
) -> None:
    """Ctrl-C, or a container that is moved."""
    async with Simulator(quota=None, strict=True) as simulator:
        if ringing:
            simulator.set_habit(Habit("ignores", after=30.0), address=FIRST)
        async with child(simulator, tmp_path / "journal") as process:
            stage = stage_of(simulator)
            await stage.until(CONSULTING, ON_HOLD, RINGING if ringing else CONSULTING)
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.wait(), 20.0)
            assert stage.states()[:2] == (TALKING, TALKING)
            assert stage.reached == set()
    with Journal.read(tmp_path / "journal") as reader:
        assert reader.handovers() == []


async def test_interrupting_twice_is_an_alarm_and_is_recovered(tmp_path: Path) -> None:
    """An impatient operator must at least be told what they left behind."""
    async with Simulator(quota=None, strict=True) as simulator:
        async with child(simulator, tmp_path / "journal") as process:
            assert process.stdout is not None
            stage = stage_of(simulator)
            await stage.until(CONSULTING, ON_HOLD, CONSULTING)
            await process.stdout.readline()
            simulator.fault_next(
                "silence", action="abort_transfer", dialled=False, times=None
            )
            process.send_signal(signal.SIGINT)
            await simulator.wait_for(
                lambda ledger: ledger.requests[-1].action == "abort_transfer"
            )
            # It waits for an answer now. Were it at work, the second signal could meet
            # one of aiohttp's destructors, in which Python ignores an interruption.
            process.send_signal(signal.SIGINT)
            _, errors = await asyncio.wait_for(process.communicate(), 20.0)
            assert b"CRITICAL:aiophlo:customer \xe2\x80\xa644 may be on hold" in errors
        simulator.clear_script()
        async with Journal(tmp_path / "journal") as journal, stage.pool as pool:
            (found,) = await pool.recover_handovers(journal)
        assert found.recovery is Recovery.BROUGHT_BACK
        assert stage.customer_is_with_agent


@pytest.mark.parametrize("ringing", [True, False])
async def test_customer_is_back_after_a_kill(tmp_path: Path, ringing: bool) -> None:
    """Out of memory, in the middle of a transfer."""
    async with Simulator(quota=None, strict=True) as simulator:
        if ringing:
            simulator.set_habit(Habit("ignores", after=30.0), address=FIRST)
        async with child(simulator, tmp_path / "journal") as process:
            stage = stage_of(simulator)
            await stage.until(CONSULTING, ON_HOLD, RINGING if ringing else CONSULTING)
            process.kill()
            await process.wait()
        assert stage.states()[:2] == (CONSULTING, ON_HOLD)
        async with Journal(tmp_path / "journal") as journal, stage.pool as pool:
            (found,) = await pool.recover_handovers(journal)
        assert found.recovery is Recovery.BROUGHT_BACK
        assert stage.customer_is_with_agent


async def test_customer_stays_with_the_partner_after_a_kill(tmp_path: Path) -> None:
    """A crash right after the hang-up must not fetch anybody back."""
    async with Simulator(quota=None, strict=True) as simulator:
        async with child(simulator, tmp_path / "journal", talk=0.0) as process:
            stage = stage_of(simulator)
            await stage.until(LEFT, TALKING, TALKING)
            process.kill()
            await process.wait()
        async with Journal(tmp_path / "journal") as journal, stage.pool as pool:
            found = await pool.recover_handovers(journal, bring_back_within=0.3)
        assert stage.states()[:3] == (LEFT, TALKING, TALKING)
        # The agent is gone, which proves nothing without events: better alarmed.
        assert [one.recovery for one in found] == [Recovery.UNKNOWN]
