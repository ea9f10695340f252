"""One loop, one process: a pool that is used elsewhere says so, and nothing rings."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

import pytest
import uvloop

from aiophlo import EventRouter, InvalidInputError, Journal, SessionPool, WarmTransfer
from aiophlo.loop_guard import LoopGuard
from aiophlo.simulator import Simulator, in_thread
from aiophlo.webhooks import Receiver, parse_event
from tests.support.doubles import AGENT, NODE_ID, PHLO_ID, act, address, pool_of

TRANSFER: Final = act(WarmTransfer)
CALL: Final[dict[str, Any]] = {
    "agent": AGENT,
    "customer": address(1),
    "to": address(2),
}


async def send(pool: SessionPool) -> None:
    """Send one action."""
    await pool.send(TRANSFER)


async def stream(pool: SessionPool) -> None:
    """Begin a batch."""
    async with pool.stream([TRANSFER]):
        pass


async def consult(pool: SessionPool) -> None:
    """Begin a handover."""
    pool.consult(pool.phlo(PHLO_ID).multi_party_call(NODE_ID), **CALL)


async def hand_over(pool: SessionPool) -> None:
    """Let a bot hand over."""

    async def accept(_consult: object) -> bool:
        return True

    node = pool.phlo(PHLO_ID).multi_party_call(NODE_ID)
    await pool.hand_over(node, **CALL, accept=accept, router=EventRouter())


async def recover(pool: SessionPool) -> None:
    """Look for handovers that a crash left open."""
    journal = Journal("never opened")
    await pool.recover_handovers(journal)


async def test_event_fed_on_another_thread_is_refused_while_a_handover_is_open() -> (
    None
):
    """Flask's threads would change what the handover is just reading."""
    event = parse_event({"Event": "ConferenceEnter", "To": address(1)})
    router = EventRouter()
    assert await asyncio.to_thread(router.feed, event) is None  # nobody listens yet
    watch = router.watch(agent=AGENT, customer=address(1), tell=lambda *_: None)
    with pytest.raises(InvalidInputError, match="run_coroutine_threadsafe"):
        await asyncio.to_thread(router.feed, event)
    assert router.feed(event) == watch.id
    router.forget(watch)
    assert await asyncio.to_thread(router.feed, event) is None


async def test_receiver_says_that_its_events_come_on_another_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Handovers that hear nothing, or half, would have no reason in any log."""
    router = EventRouter()
    router.watch(agent=AGENT, customer=address(1), tell=lambda *_: None)
    receiver = Receiver(router.feed, allow_unsigned=True)
    url = f"http://x/?Event=ConferenceEnter&To=%2B{address(1)[1:]}"
    assert await asyncio.to_thread(receiver.receive, "GET", url, None) == 500
    assert receiver.receive("GET", url, None) == 200
    assert "router: it is used from a thread" in caplog.text


async def close(pool: SessionPool) -> None:
    """Close it."""
    await pool.close()


USES: Final[list[Callable[[SessionPool], Coroutine[Any, Any, None]]]] = [
    send,
    stream,
    consult,
    hand_over,
    recover,
    close,
]
EACH_USE = pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)


@pytest.fixture
def threaded() -> Iterator[Simulator]:
    """Give a simulator that outlives the event loops of a test."""
    with in_thread(Simulator(quota=None)) as simulator:
        yield simulator


def refusal_of(use: Coroutine[Any, Any, None]) -> str:
    """Run it on a new event loop, and return what it was refused with."""
    with pytest.raises(InvalidInputError) as caught:
        asyncio.run(use)
    return str(caught.value)


@EACH_USE
def test_pool_of_an_ended_loop_is_refused(
    threaded: Simulator, use: Callable[[SessionPool], Coroutine[Any, Any, None]]
) -> None:
    """A script with an `asyncio.run` for each step rang, and was told "in doubt"."""
    with asyncio.Runner() as runner:
        pool = runner.run(pool_of(threaded).open())
        said = refusal_of(use(pool))
        assert threaded.ledger.received == 0
        runner.run(pool.close())
    assert said.startswith("pool: it was opened on another event loop")


@EACH_USE
async def test_pool_of_another_thread_is_refused(
    simulator: Simulator,
    use: Callable[[SessionPool], Coroutine[Any, Any, None]],
) -> None:
    """Two threads in one loop's sockets: answers and requests get mixed up."""
    async with pool_of(simulator) as pool:
        said = await asyncio.to_thread(refusal_of, use(pool))
        assert simulator.ledger.received == 0
    assert said.startswith("pool: it was opened on another thread's event loop")


async def test_thread_without_a_loop_is_told_of_threadsafe_calls(
    simulator: Simulator,
) -> None:
    """A WSGI thread that builds a stream needs to know what else to do."""
    async with pool_of(simulator) as pool:
        with pytest.raises(InvalidInputError, match="run_coroutine_threadsafe"):
            await asyncio.to_thread(pool.stream, [TRANSFER])


def _in_child(action: Callable[[], None]) -> bytes:
    """Run `action` in a forked child, and return what it was refused with."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            action()
        except InvalidInputError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as said:  # noqa: PTH123 -- a file descriptor
        text = said.read()
    os.waitpid(child, 0)
    return text


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@EACH_USE
def test_pool_is_refused_in_a_forked_child(
    threaded: Simulator, use: Callable[[SessionPool], Coroutine[Any, Any, None]]
) -> None:
    """Two processes on one socket are told each other's answers."""
    with asyncio.Runner() as runner:
        pool = runner.run(pool_of(threaded).open())
        runner.run(pool.send(act(WarmTransfer, 7)))  # so that a connection is kept
        said = _in_child(lambda: runner.run(use(pool)))
        assert threaded.ledger.received == 1
        runner.run(pool.close())
    assert b"and this is its child" in said


async def _stream_and_fork(simulator: Simulator) -> tuple[list[str], bytes]:
    """Fork after the first outcome; return what the parent and the child were told."""
    told: list[str] = []
    rows = [act(WarmTransfer, number) for number in range(5)]
    reading, writing = os.pipe()
    async with (
        pool_of(simulator) as pool,
        pool.stream(rows, concurrency=1) as outcomes,
    ):
        told.append((await anext(outcomes)).verdict)
        child = os.fork()  # with a connection kept, and the next row about to leave
        if not child:
            try:
                while outcomes.counts.total() < 2:  # noqa: ASYNC110 -- it has no loop
                    await asyncio.sleep(0)
                _ = [outcome async for outcome in outcomes]
            except InvalidInputError as error:
                said = f"{dict(outcomes.counts)} {error}"
                os.write(writing, said.encode())
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading, "rb") as answer:  # noqa: ASYNC230, PTH123 -- it must come first
            said_there = answer.read()
        os.waitpid(child, 0)  # noqa: ASYNC222 -- it has ended
        told += [outcome.verdict async for outcome in outcomes]
    return told, said_there


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize(
    "factory",
    [asyncio.new_event_loop, uvloop.new_event_loop],
    ids=["asyncio", "uvloop"],
)
def test_child_forked_in_mid_stream_sends_nothing(
    threaded: Simulator, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """It has the loop, its tasks and its sockets: 20 phones of 60 rang twice."""
    with asyncio.Runner(loop_factory=factory) as runner:
        told, said = runner.run(_stream_and_fork(threaded))
    assert told == ["accepted"] * 5
    assert threaded.ledger.received == 5
    assert said.startswith(b"{'accepted': 1, 'not_sent': 1} pool: ")
    assert b"and this is its child" in said


async def test_stream_made_here_and_entered_elsewhere_is_refused(
    simulator: Simulator,
) -> None:
    """It would make its tasks in somebody else's loop."""
    async with pool_of(simulator) as pool:
        made = pool.stream([TRANSFER])

        async def enter() -> None:
            async with made:
                pass

        said = await asyncio.to_thread(refusal_of, enter())
        assert simulator.ledger.received == 0
    assert "another thread" in said


async def test_consult_made_here_and_begun_elsewhere_is_refused(
    simulator: Simulator,
) -> None:
    """It would ring from somebody else's loop."""
    async with pool_of(simulator) as pool:
        made = pool.consult(pool.phlo(PHLO_ID).multi_party_call(NODE_ID), **CALL)

        said = await asyncio.to_thread(refusal_of, made.start())
        assert simulator.ledger.received == 0
    assert "another thread" in said


def test_close_of_a_closed_pool_says_nothing_anywhere(threaded: Simulator) -> None:
    """A shutdown hook runs wherever it likes; there is nothing left to harm."""
    pool = asyncio.run(_opened_and_closed(threaded))
    asyncio.run(pool.close())


async def _opened_and_closed(simulator: Simulator) -> SessionPool:
    async with pool_of(simulator) as pool:
        return pool


def test_guard_lets_its_own_loop_pass() -> None:
    """Every send asks it."""

    async def check() -> None:
        guard = LoopGuard("journal")
        guard.check()
        await asyncio.sleep(0)
        guard.check()

    asyncio.run(check())


def test_guard_names_what_it_guards_and_a_loop_that_does_not_run() -> None:
    """Who reads the error has a pool and a journal, and code between two runs."""

    async def make() -> LoopGuard:
        return LoopGuard("journal")

    with asyncio.Runner() as runner:
        guard = runner.run(make())
        with pytest.raises(InvalidInputError, match=r"^journal: .* isn't running"):
            guard.check()
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(_refusal(guard)))
    thread.start()
    thread.join()
    assert "isn't running" in told[0]


def _refusal(guard: LoopGuard) -> str:
    with pytest.raises(InvalidInputError) as caught:
        guard.check()
    return str(caught.value)
