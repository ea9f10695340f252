"""What has begun in a handover ends, whoever waits for it or doesn't."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from aiophlo import (
    Account,
    Consult,
    CustomerOnHoldError,
    EngagedError,
    EventRouter,
    HandoverError,
    Journal,
    NotFoundError,
    OpenHandover,
    PartnerLeftError,
    Quota,
    Reason,
    VerdictError,
)
from aiophlo.handover import bringing_back, ringing
from aiophlo.handover.status import HandoverStatus
from aiophlo.protocol.codec import Answer, NoAnswer, Request
from aiophlo.sending.sender import Sender
from aiophlo.simulator import Fault
from aiophlo.webhooks.events import Event, parse_event
from tests.support.doubles import ACCEPTED, ScriptedHttpClient, ScriptedPool
from tests.support.handover_stage import (
    AGENT,
    CUSTOMER,
    FIRST,
    LEFT,
    SECOND,
    TALKING,
    Stage,
    set_stage,
)
from tests.support.virtual_time import run_virtually


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Give a call whose agent wants to hand the customer over."""
    async with set_stage() as stage:
        yield stage


async def comes(condition: Callable[[], bool]) -> bool:
    """Say whether something holds within two seconds."""
    for _ in range(200):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return False


async def heard(phase: str, consult: Consult) -> None:
    """Wait until events have led somewhere."""
    assert await comes(lambda: phase in repr(consult))


async def comes_free(stage: Stage) -> bool:
    """Say whether the agent, whose call is over, is refused as engaged no longer."""
    for _ in range(200):
        with suppress(EngagedError):
            with pytest.raises(NotFoundError):
                await stage.consult().start()
            return True
        await asyncio.sleep(0.01)
    return False


async def test_handover_ends_when_started_by_hand_with_a_router(
    stage: Stage, tmp_path: Path
) -> None:
    """The agent could never hand anybody over again."""
    async with Journal(tmp_path / "journal") as journal:
        consult = stage.consult(journal=journal)
        await consult.start()
        await heard("consulting", consult)
        assert await consult.complete() == FIRST
    async with Journal(tmp_path / "journal") as journal:
        assert journal.handovers.left_open() == []
    with pytest.raises(NotFoundError):  # not refused as engaged: the call is over
        await stage.consult().start()


async def test_completed_handover_is_forgotten_while_its_block_goes_on(
    stage: Stage, tmp_path: Path
) -> None:
    """After a crash, the partner's talk with the customer must not be aborted."""
    path = tmp_path / "journal"
    async with Journal(path) as journal, stage.consult(journal=journal) as consult:
        with Journal.read(path) as reader:
            assert len(reader.handovers()) == 1
        await consult.complete()
        with Journal.read(path) as reader:
            assert reader.handovers() == []


@pytest.mark.parametrize("targets", [[FIRST], [FIRST, SECOND]])
async def test_nobody_stays_engaged_when_ended_just_as_an_attempt_has(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, targets: list[str]
) -> None:
    """A supervisor whom nobody can reach until the service is restarted."""
    stage.people_are("ignores", *targets, after=30.0)
    consult = stage.consult(to=targets)
    aborting: list[asyncio.Future[None]] = []

    async def end_attempt(status: HandoverStatus, sender: Sender) -> None:
        await bringing_back.end_attempt(status, sender)
        aborting.append(asyncio.ensure_future(consult.abort()))  # by another task

    monkeypatch.setattr(ringing, "end_attempt", end_attempt)
    with pytest.raises(HandoverError, match="ended from elsewhere"):
        await consult.__aenter__()
    await aborting[0]
    monkeypatch.undo()
    assert stage.customer_is_with_agent
    assert stage.rung == [FIRST]
    stage.people_are("answers", *targets)
    for target in targets:
        async with stage.consult(to=target):
            pass


async def test_alarm_is_raised_in_the_block_when_the_customer_is_left_alone(
    stage: Stage,
) -> None:
    """The agent's screen may stay in the block for an hour."""
    consult = await stage.consult().__aenter__()
    stage.call.leave(stage.call[AGENT])
    await heard("checking", consult)
    stage.call.leave(stage.call[FIRST])
    assert await comes(lambda: len(stage.alarms) == 1)
    with pytest.raises(CustomerOnHoldError):
        await consult.abort()
    assert len(stage.alarms) == 1


async def test_handover_ends_when_it_was_completed_by_hand_too_late(
    stage: Stage,
) -> None:
    """Customer and agent talk again: the agent may ask somebody else."""
    consult = stage.consult()
    await consult.start()
    await heard("consulting", consult)
    stage.call.leave(stage.call[FIRST])
    await asyncio.wait_for(consult.partner_left(), 2.0)
    with pytest.raises(PartnerLeftError):
        await consult.complete()
    assert stage.customer_is_with_agent
    async with stage.consult(to=[SECOND]) as other:
        await other.complete()


@pytest.mark.parametrize("reaction", ["busy", "ignores"])
async def test_alarm_is_raised_when_the_agent_left_what_nobody_answers(
    stage: Stage, reaction: str
) -> None:
    """Started by hand, only the agent would have said that it rings in vain."""
    stage.people_are(reaction, FIRST, after=0.1 if reaction == "busy" else 30.0)
    consult = stage.consult()
    await consult.start()
    stage.call.leave(stage.call[AGENT])
    assert await comes(lambda: len(stage.alarms) == 1)
    with pytest.raises(CustomerOnHoldError):
        await consult.abort()
    with pytest.raises(NotFoundError):  # not refused as engaged: the agent is gone
        await stage.consult().start()


async def test_nobody_is_rung_by_hand_for_a_customer_who_has_left(stage: Stage) -> None:
    """A supervisor would pick up, and find nobody to help."""
    stage.people_are("ignores", FIRST, after=30.0)
    consult = stage.consult()
    await consult.start()
    stage.call.leave(stage.call[CUSTOMER])
    assert await comes(lambda: stage.reached == set())
    await consult.abort()
    assert stage.alarms == []
    with suppress(VerdictError):  # whatever the API says: it is not refused here
        await stage.consult().start()


async def test_talk_goes_on_by_hand_when_the_customer_has_left(stage: Stage) -> None:
    """Agent and partner may still have something to say about them."""
    consult = stage.consult()
    await consult.start()
    await heard("consulting", consult)
    told = len(stage.simulator.posts)
    stage.call.leave(stage.call[CUSTOMER])
    assert await comes(lambda: len(stage.simulator.posts) > told)
    assert "consulting" in repr(consult)
    assert stage.reached == {FIRST}
    await consult.abort()
    assert stage.reached == set()


async def test_handover_ends_by_itself_when_the_agent_completed_it_by_hand(
    stage: Stage,
) -> None:
    """Nobody calls complete() after hanging up."""
    consult = stage.consult()
    await consult.start()
    await heard("consulting", consult)
    stage.call.leave(stage.call[AGENT])
    await heard("with_partner", consult)
    assert await consult.complete() == FIRST
    assert await comes_free(stage)


async def test_customer_is_back_at_once_when_accept_is_stuck(stage: Stage) -> None:
    """A speech model that hangs must not keep the caller on hold."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def accept(consult: Consult) -> bool:
        del consult
        begun.set()
        while not go_on.is_set():
            with suppress(asyncio.CancelledError):
                await go_on.wait()
        raise ZeroDivisionError

    handing = asyncio.ensure_future(
        stage.pool.hand_over(stage.node, **stage.options(), accept=accept)
    )
    await asyncio.wait_for(begun.wait(), 2.0)
    handing.cancel()
    try:
        await asyncio.wait({handing}, timeout=1.0)
        assert handing.cancelled()
        assert stage.customer_is_with_agent
    finally:
        go_on.set()


async def test_next_one_is_rung_when_accept_is_stuck_and_the_partner_left(
    stage: Stage,
) -> None:
    """It asks somebody who is gone."""
    go_on = asyncio.Event()

    async def accept(consult: Consult) -> bool:
        if consult.partner == FIRST:
            stage.call.leave(stage.call[FIRST])
            while not go_on.is_set():
                with suppress(asyncio.CancelledError):
                    await go_on.wait()
        return True

    options = stage.options(to=[FIRST, SECOND])
    try:
        async with asyncio.timeout(3.0):
            partner = await stage.pool.hand_over(stage.node, **options, accept=accept)
        assert partner == SECOND
    finally:
        go_on.set()


async def test_alarm_is_raised_when_the_pool_gives_up(stage: Stage) -> None:
    """A cancellation that nobody asked for would hide who is on hold."""
    stage.simulator.answer_next(502, action="abort_transfer", dialled=False, times=None)

    async def hold() -> None:
        async with stage.consult():
            pass

    holding = asyncio.ensure_future(hold())
    requests = stage.simulator.ledger.requests
    await stage.simulator.wait_for(
        lambda _: any(one.action == "abort_transfer" for one in requests)
    )
    for task in asyncio.all_tasks():
        if getattr(task.get_coro(), "__name__", "") == "_clean_up":
            task.cancel()
    await asyncio.wait({holding}, timeout=2.0)
    assert not holding.cancelled()
    assert isinstance(holding.exception(), CustomerOnHoldError)


async def test_customer_is_back_when_a_phone_given_up_is_answered_late(
    stage: Stage,
) -> None:
    """Hanging the agent up would leave the customer to two strangers."""
    stage.people_are("declines", FIRST)
    stage.simulator.answer_next(502, action="warm_transfer")
    async with stage.consult(to=[FIRST, SECOND]) as consult:
        assert consult.partner == SECOND
        late = {"event": "ConferenceEnter", "direction": "outbound", "to": FIRST}
        where = {"conference_uuid": stage.call.conference_uuid, "call_uuid": "late"}
        assert stage.router.feed(parse_event({**late, **where}))
        with pytest.raises(HandoverError, match="ending"):
            await consult.complete()
    assert stage.customer_is_with_agent
    assert stage.alarms == []
    assert stage.simulator.ledger.applied("hangup", AGENT) == 0


async def test_late_event_of_a_phone_that_is_known_to_be_out_ends_nothing(
    stage: Stage,
) -> None:
    """An agent would be torn out of a talk that goes well."""
    stage.people_are("declines", FIRST)
    async with stage.consult(to=[FIRST, SECOND]) as consult:
        late = {"event": "ConferenceEnter", "direction": "outbound", "to": FIRST}
        where = {"conference_uuid": stage.call.conference_uuid, "call_uuid": "late"}
        assert stage.router.feed(parse_event({**late, **where})) is None
        assert await consult.complete() == SECOND
    assert stage.alarms == []


async def test_second_handover_in_one_conversation_is_refused_when_it_is_named(
    stage: Stage,
) -> None:
    """It would hear of no answer, and give up on a partner who is there."""
    uuid = stage.call.conference_uuid
    another = {"agent": "+14152228888", "to": [SECOND], "conference_uuid": uuid}
    async with stage.consult() as consult:
        for _ in "12":  # nothing is left of the first try
            with pytest.raises(EngagedError, match="conference_uuid"):
                await stage.consult(**another).__aenter__()
        await consult.complete()
    assert stage.rung == [FIRST]


async def test_next_one_is_not_rung_before_events_could_have_told_of_the_first(
    stage: Stage,
) -> None:
    """Two refused aborts within a moment don't say what a slow request will do."""
    stage.simulator.fault_next(Fault.DROP_BEFORE_READ, action="warm_transfer")
    clock = asyncio.get_running_loop().time
    started = clock()
    async with stage.consult(to=[FIRST, SECOND], ring_for=0.01, told_within=0.6):
        assert clock() - started > 0.6
        assert stage.rung == [SECOND]


async def test_transfer_under_way_is_heard_out_when_its_block_is_cancelled(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """A target who can't be rung would be called one who may be ringing."""
    with stage.simulator.hold_answers():
        entering = asyncio.ensure_future(stage.consult().__aenter__())
        await stage.simulator.wait_for(held=1)
        entering.cancel()
        await asyncio.sleep(0)  # it hears of it before the answer comes
    with suppress(asyncio.CancelledError):
        await entering
    await stage.until(TALKING, TALKING, LEFT)
    assert "cancelled" not in {getattr(it, "phlo_reason", "") for it in caplog.records}


async def test_hangup_under_way_is_heard_out_when_completing_is_cancelled(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """A customer who was handed over would be fetched back, or given up for lost."""
    with suppress(asyncio.CancelledError):
        async with stage.consult() as consult:
            with stage.simulator.hold_answers():
                completing = asyncio.ensure_future(consult.complete())
                await stage.simulator.wait_for(held=1)
                completing.cancel()
                await asyncio.sleep(0)  # it hears of it before the answer comes
            await completing
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)
    assert stage.alarms == []
    assert "cancelled" not in {getattr(it, "phlo_reason", "") for it in caplog.records}


async def test_customer_is_back_when_the_hangup_itself_is_cancelled(
    stage: Stage,
) -> None:
    """Ctrl-C cancels all tasks at once, and the customer would stay on hold."""
    with suppress(asyncio.CancelledError):
        async with stage.consult() as consult:
            stage.simulator.drop_next_answer(action="hangup")
            with stage.simulator.hold_answers():
                completing = asyncio.ensure_future(consult.complete())
                await stage.simulator.wait_for(held=1)
                for task in asyncio.all_tasks():
                    if getattr(task.get_coro(), "__name__", "") == "complete":
                        task.cancel()
                await asyncio.sleep(0)
            await completing
    assert stage.alarms == []


async def test_phone_that_may_be_answered_late_is_rung_by_nobody_else(
    stage: Stage,
) -> None:
    """Whoever answers it would have two agents on the line, and end both talks."""
    stage.people_are("declines", FIRST)
    stage.simulator.answer_next(502, action="warm_transfer")
    async with stage.consult(to=[FIRST, SECOND]) as consult:
        assert consult.partner == SECOND
        other = stage.consult(agent="+14152220001", customer="+14152220002")
        with pytest.raises(EngagedError, match="to:"):
            await other.__aenter__()


async def test_nothing_stays_written_when_cancelled_while_it_is_written(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start would abort the agent's newer transfer, for one never begun."""
    written = asyncio.Event()
    path = tmp_path / "journal"
    async with Journal(path) as journal:
        begin = journal.handovers.begin

        async def begin_slowly(handover: OpenHandover) -> None:
            await begin(handover)
            written.set()
            await asyncio.Event().wait()  # the disk has it, and nobody is told yet

        monkeypatch.setattr(journal.handovers, "begin", begin_slowly)
        entering = asyncio.ensure_future(stage.consult(journal=journal).__aenter__())
        await asyncio.wait_for(written.wait(), 5.0)
        entering.cancel()
        with suppress(asyncio.CancelledError):
            await entering
        with Journal.read(path) as reader:
            assert reader.handovers() == []
    assert stage.rung == []


async def test_agent_is_not_hung_up_when_the_handover_ends_meanwhile(
    stage: Stage,
) -> None:
    """Somebody pressed cancel while the hang-up waited for a pause to end."""
    stage.simulator.answer_next(429, action="hangup", headers={"Retry-After": "1"})
    async with stage.consult() as consult:
        completing = asyncio.ensure_future(consult.complete())
        await stage.simulator.wait_for(lambda ledger: ledger.refused_429 == 1)
        await consult.abort()
        with pytest.raises(HandoverError):
            await completing
    assert stage.customer_is_with_agent
    assert stage.simulator.ledger.applied("hangup", AGENT) == 0


async def test_customer_is_back_when_the_block_is_thrown_away(stage: Stage) -> None:
    """A coroutine that is closed may not wait: the pool goes on alone."""
    consult = await stage.consult().__aenter__()

    async def block() -> None:
        try:
            await asyncio.sleep(0)
        except GeneratorExit as error:
            await consult.__aexit__(GeneratorExit, error, None)
            raise

    thrown_away = block()
    thrown_away.send(None)
    thrown_away.close()  # RuntimeError if it waited
    await stage.until(TALKING, TALKING, LEFT)
    await consult.abort()
    assert stage.alarms == []


def test_closing_goes_on_until_all_that_may_bring_the_customer_back_was_tried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Given up earlier, nobody asks any more for who may be alone."""
    asked: list[str] = []
    silent = NoAnswer(left=True, reason=Reason.SILENT)

    async def answer(request: Request) -> Answer | NoAnswer:
        asked.append((request.body or b"").decode().split('"')[3])
        return silent if asked[-1] == "hangup" else ACCEPTED

    def event(name: str, member: str, direction: str = "outbound") -> Event:
        who = {"from": member} if direction == "inbound" else {"to": member}
        where = {"conference_uuid": "here", "call_uuid": member}
        return parse_event({"event": name, "direction": direction, **who, **where})

    async def main() -> None:
        router = EventRouter()
        quota = Quota(2, per=29.95)  # a slot in 30 s
        account = Account("MACLOSING00000000001", "token", quota=quota)
        http_client = ScriptedHttpClient(answer)
        async with ScriptedPool(account, transports=[http_client]) as pool:
            router.feed(event("ConferenceEnter", CUSTOMER, "inbound"))
            router.feed(event("ConferenceEnter", AGENT))
            node = pool.phlo("p").multi_party_call("n")
            consult = pool.consult(
                node,
                agent=AGENT,
                customer=CUSTOMER,
                to=FIRST,
                router=router,
                send_within=60.0,
            )
            asking = asyncio.create_task(consult.__aenter__())
            await asyncio.sleep(1.0)
            router.feed(event("ConferenceEnter", FIRST))
            await asking
            router.feed(event("ConferenceExit", AGENT))  # which nothing confirms

    run_virtually(main())
    assert asked == ["warm_transfer", *["hangup"] * 3, "abort_transfer"]
    assert "closed before handovers had ended" not in caplog.text
