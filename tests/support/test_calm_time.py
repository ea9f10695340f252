"""The clock that most tests go by passes over stalls, and over nothing else."""

import asyncio
import socket
import time

STALL = 0.3  # seconds


async def test_timer_does_not_run_out_in_a_stall() -> None:
    """Tests would fail on a busy machine, and people cease to believe them."""
    near, far = socket.socketpair()
    with near, far:
        far.settimeout(0)
        loop = asyncio.get_running_loop()
        reading = asyncio.ensure_future(loop.sock_recv(far, 1))
        async with asyncio.timeout(STALL / 3):
            await asyncio.sleep(0)
            near.send(b"x")
            time.sleep(STALL)  # noqa: ASYNC251 -- this is the stall
            assert await reading == b"x"


async def test_timer_runs_out_when_nothing_comes() -> None:
    """Whatever waits for too long must fail, rather than hang."""
    loop = asyncio.get_running_loop()
    began, asleep = time.monotonic(), loop.time()
    await asyncio.sleep(0.05)
    assert time.monotonic() - began >= 0.05
    assert 0.05 <= loop.time() - asleep < 0.06


async def test_timer_runs_out_while_others_are_busy() -> None:
    """A test that goes round and round must come to an end, too."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_later(0.05, over.set_result, None)
    latest = time.monotonic() + 10.0
    while not over.done():
        assert time.monotonic() < latest
        await asyncio.sleep(0)


async def test_timers_run_out_in_their_order_after_a_stall() -> None:
    """What was to happen first must not be superseded."""
    loop = asyncio.get_running_loop()
    began, rung = loop.time(), dict[float, float]()
    for delay in (0.03, 0.01, 0.02):
        loop.call_later(delay, lambda it: rung.update({it: loop.time() - began}), delay)
    time.sleep(STALL)  # noqa: ASYNC251 -- this is the stall
    await asyncio.sleep(0.04)
    assert list(rung) == [0.01, 0.02, 0.03]
    assert all(delay <= at < delay + 0.02 for delay, at in rung.items())
