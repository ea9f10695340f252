"""What a crash left open is found, and the customer brought back."""

import asyncio
import os
import signal
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path

import pytest

from aiophlo import (
    EngagedError,
    InvalidInputError,
    Journal,
    JournalError,
    OpenHandover,
    Recovery,
)
from aiophlo.coordination import Whereabouts
from aiophlo.observed_events import (
    ActionBegun,
    ActionEnded,
    HandoverEnded,
    HandoverStep,
    ObservedEvent,
)
from aiophlo.simulator import AUTH_TOKEN, Habit, Simulator
from tests.support.doubles import pool_of
from tests.support.handover_process import child, stage_of
from tests.support.handover_stage import (
    AGENT,
    CONSULTING,
    CUSTOMER,
    FIRST,
    LEFT,
    NODE,
    ON_HOLD,
    PHLO,
    RINGING,
    SECOND,
    TALKING,
    Stage,
    set_stage,
)
from tests.support.shared_leases import SharedLeases

ROOT = Path(__file__).parents[2]


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


async def test_observers_hear_of_a_recovery_and_which_actions_are_its(
    stage: Stage, journal: Journal
) -> None:
    """A wallboard must not lose a customer on hold because a worker was killed."""
    heard: list[ObservedEvent] = []
    await crash(stage, journal)
    async with pool_of(stage.simulator, observers=[heard.append]) as pool:
        (found,) = await pool.recover_handovers(journal)
        await remember(stage, journal, age=400.0)
        (old,) = await pool.recover_handovers(journal)
    steps = [one for one in heard if isinstance(one, HandoverStep)]
    assert [(one.id, one.before, one.phase, one.cause) for one in steps] == [
        (found.handover.id, "", "bringing_back", "recovered"),
        (found.handover.id, "bringing_back", "with_agent", "accepted"),
        (old.handover.id, "", "on_hold", "too_old"),
    ]
    (begun,) = [one for one in heard if isinstance(one, ActionBegun)]
    assert begun.handover == found.handover.id


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
        with pytest.raises(EngagedError, match="agent"):
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
        await stage.pool.recover_handovers(tmp_path / "none")
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


WORKER = """
import asyncio, sys
from pathlib import Path
from aiophlo import Account, Journal, SessionPool
from aiophlo.simulator import AUTH_ID

async def main(base_url, token, folder):
    own = Path(folder, f"{sys.argv[4]}.journal")
    async with (
        Journal(own),
        SessionPool(Account(AUTH_ID, token, quota=None), base_url=base_url) as pool,
    ):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        found = await pool.recover_handovers(folder)
        print([str(one.recovery) for one in found], flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main(*sys.argv[1:4]))
"""


async def test_journals_that_are_being_begun_are_passed_over_in_silence(
    stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Three workers that start at once would warn of lost handovers at each start."""
    for name in ("a.journal", "b.journal-journal"):
        (tmp_path / name).touch()
    sqlite3.connect(tmp_path / "c.journal").close()
    (tmp_path / "b.journal-journal").write_bytes(b"SQLite's own, for a moment")
    assert await stage.pool.recover_handovers(tmp_path) == []
    assert caplog.text == ""
    (tmp_path / "another.txt").write_text("no journal")
    assert await stage.pool.recover_handovers(tmp_path) == []
    assert "another.txt" in caplog.text


async def test_workers_recover_what_a_dead_one_left_open_once(tmp_path: Path) -> None:
    """Three workers start at once, and one of them brings the customer back."""
    folder = tmp_path / "journals"
    folder.mkdir()
    (folder / "notes.txt").write_text("not a journal")
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(Simulator(quota=None, strict=True))
        async with child(simulator, folder / "dead.journal") as process:
            staged = stage_of(simulator)
            await staged.until(CONSULTING, ON_HOLD, CONSULTING)
            process.kill()
            await process.wait()
        workers = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", WORKER, simulator.base_url, AUTH_TOKEN),
                *(str(folder), f"worker-{number}"),
                stdin=PIPE,
                stdout=PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            for number in range(3)
        ]
        said = []
        for worker in workers:
            assert worker.stdin is not None
            assert worker.stdout is not None
            assert await worker.stdout.readline() == b"ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(b"go\n")
        for worker in workers:
            assert worker.stdout is not None
            said.append((await worker.stdout.readline()).decode().strip())
        for worker in workers:
            await worker.communicate(b"end\n")
            assert worker.returncode == 0
    assert sorted(said) == ["['brought_back']", "[]", "[]"]
    assert staged.customer_is_with_agent
    aborts = [r for r in simulator.ledger.requests if r.action == "abort_transfer"]
    assert len(aborts) == 1


async def test_journal_of_a_living_worker_is_left_alone(
    stage: Stage, journal: Journal, tmp_path: Path
) -> None:
    """A worker that starts must not end the talks of those at work."""
    await crash(stage, journal)
    assert await stage.pool.recover_handovers(tmp_path) == []
    assert stage.states()[:2] == (CONSULTING, ON_HOLD)
    await stage.pool.recover_handovers(journal)


async def test_adopted_journal_stays_open_until_all_is_noted(
    stage: Stage, tmp_path: Path
) -> None:
    """A start that is cancelled must not leave an entry for a customer who is well."""
    async with Journal(tmp_path / "dead") as journal:
        await crash(stage, journal)
    with stage.simulator.hold_answers():
        recovering = asyncio.ensure_future(stage.pool.recover_handovers(tmp_path))
        await stage.simulator.wait_for(held=1)
        recovering.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([recovering])
    assert recovering.cancelled()
    with Journal.read(tmp_path / "dead") as reader:
        assert reader.handovers() == []


@pytest.mark.parametrize(
    ("whereabouts", "recovery", "phase"),
    [
        (Whereabouts.WITH_PARTNER, Recovery.WITH_PARTNER, "with_partner"),
        (Whereabouts.OVER, Recovery.OVER, "over"),
    ],
)
async def test_agent_who_left_the_customer_to_somebody_is_no_alarm(
    stage: Stage,
    journal: Journal,
    whereabouts: Whereabouts,
    recovery: Recovery,
    phase: str,
) -> None:
    """Who is called to a customer who is well looks less closely the next time."""
    shared = SharedLeases()
    shared.whereabouts = whereabouts
    heard: list[ObservedEvent] = []
    await crash(stage, journal)
    await stage.node.member(AGENT).hangup()
    async with pool_of(stage.simulator, observers=[heard.append]) as pool:
        pool._handovers().shared = shared  # noqa: SLF001 -- what a coordinator would do
        (found,) = await pool.recover_handovers(journal)
    assert found.recovery is recovery
    assert stage.alarms == []
    assert journal.handovers.left_open() == []
    (end,) = [one for one in heard if isinstance(one, HandoverEnded)]
    assert (end.phase, end.alarm) == (phase, False)


async def test_events_count_only_where_the_agent_is_known_to_be_out(
    stage: Stage, journal: Journal
) -> None:
    """They may be of the agent's call before, and the customer waits in this one."""
    shared = SharedLeases()
    shared.whereabouts = Whereabouts.WITH_PARTNER
    stage.pool._handovers().shared = shared  # noqa: SLF001 -- as above
    await crash(stage, journal)
    stage.simulator.answer_next(502, action="abort_transfer", dialled=False)
    (found,) = await stage.pool.recover_handovers(journal)
    assert found.recovery is Recovery.BROUGHT_BACK
    assert stage.customer_is_with_agent


@pytest.mark.parametrize(
    ("whereabouts", "recovery"),
    [
        (Whereabouts.OVER, Recovery.OVER),
        (Whereabouts.WITH_PARTNER, Recovery.WITH_PARTNER),
    ],
)
async def test_nothing_is_sent_for_an_agent_who_is_in_a_newer_call(
    stage: Stage,
    journal: Journal,
    whereabouts: Whereabouts,
    recovery: Recovery,
) -> None:
    """Plivo knows the agent alone: it would end the transfer of their newer call."""
    shared = SharedLeases()
    shared.elsewhere = whereabouts
    stage.pool._handovers().shared = shared  # noqa: SLF001 -- as above
    await crash(stage, journal)
    received = stage.simulator.ledger.received
    (found,) = await stage.pool.recover_handovers(journal)
    assert found.recovery is recovery
    assert stage.simulator.ledger.received == received
    assert stage.alarms == []


async def test_abort_is_not_repeated_once_the_agent_is_in_a_newer_call(
    stage: Stage, journal: Journal
) -> None:
    """Its answer was lost, and the customer long gone: whose talk would it end now?"""
    shared = SharedLeases()
    aborts: list[ActionEnded] = []

    def hear(event: ObservedEvent) -> None:
        if isinstance(event, ActionEnded):
            aborts.append(event)
            shared.elsewhere = Whereabouts.OVER

    await crash(stage, journal)
    stage.simulator.answer_next(502, action="abort_transfer", dialled=True, times=None)
    async with pool_of(stage.simulator, observers=[hear]) as pool:
        pool._handovers().shared = shared  # noqa: SLF001 -- as above
        (found,) = await pool.recover_handovers(journal)
    assert found.recovery is Recovery.OVER
    assert len(aborts) == 1
    assert stage.alarms == []


async def test_abort_is_not_repeated_once_the_agent_transfers_anew(
    stage: Stage, journal: Journal
) -> None:
    """No event tells of the next call, but this pool has begun its transfer."""
    await crash(stage, journal)
    stage.simulator.answer_next(502, action="abort_transfer", dialled=True, times=None)
    recovering = asyncio.ensure_future(stage.pool.recover_handovers(journal))
    await stage.until(TALKING, TALKING, LEFT)
    newer = stage.simulator.place_call(PHLO, NODE, agent=AGENT, customer=SECOND)
    await stage.node.warm_transfer(to=FIRST, trigger_source=AGENT)
    (found,) = await recovering
    assert found.recovery is Recovery.UNKNOWN
    assert newer[AGENT].state is CONSULTING
    assert len(stage.alarms) == 1
