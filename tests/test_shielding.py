"""Shielding: what has to end does, and nobody's cancel is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import pytest

from aiophlo.shielding import RepeatedCancels, finish, wait_past_repeats


async def ended(work: "asyncio.Future[None]", log: list[str]) -> None:
    """Wait for something that must be waited for."""
    await work
    log.append("ended")


async def cancelled_by_anyio(waits: Callable[[], Awaitable[object]]) -> None:
    """Run something in a scope that is cancelled from the start."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await waits()


async def turns(count: int = 5) -> None:
    """Let the loop turn, and anyio deliver its cancel again."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_work_ends_before_its_cancel_is_told() -> None:
    """A file that is still being closed can't be opened by the next run."""
    log: list[str] = []
    work = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(finish(ended(work, log)))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel("mine")
    await turns()
    assert not task.done()
    work.set_result(None)
    with pytest.raises(asyncio.CancelledError, match="mine"):
        await task
    assert log == ["ended"]


async def test_result_and_error_of_work_come_through() -> None:
    """Nobody cancelled: it is as if nothing stood in between."""
    assert await finish(asyncio.sleep(0, "result")) == "result"

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await finish(fail())


async def test_error_of_work_is_seen_when_the_caller_was_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An "exception was never retrieved" at exit sends people after ghosts."""
    work = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(finish(work))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    work.set_exception(ZeroDivisionError())
    with pytest.raises(asyncio.CancelledError):
        await task
    del work
    assert not caplog.records


async def test_time_limit_around_it_is_a_timeout() -> None:
    """`asyncio.timeout` has to know its own cancel again."""
    log: list[str] = []
    work = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.02, work.set_result, None)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await finish(ended(work, log))
    assert log == ["ended"]


async def test_anyio_scope_is_left_once_the_work_has_ended() -> None:
    """A service on Starlette is cancelled at every turn of the loop."""
    log: list[str] = []
    work = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(cancelled_by_anyio(lambda: finish(ended(work, log))))
    await turns()
    assert not task.done()
    work.set_result(None)
    await task
    assert log == ["ended"]
    assert not task.cancelling()


async def test_repeats_of_a_cancel_are_waited_past() -> None:
    """The customer is still on hold when anyio cancels for the second time."""
    work = asyncio.get_running_loop().create_future()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as cancel:
            await wait_past_repeats(work, cancel)
            raise

    task = asyncio.ensure_future(cancelled_by_anyio(waits))
    await turns()
    assert not task.done()
    work.set_result(None)
    await task


async def test_second_cancel_of_somebody_else_is_no_repeat() -> None:
    """Who presses Ctrl-C twice doesn't want to wait."""
    work = asyncio.get_running_loop().create_future()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as cancel:
            await wait_past_repeats(work, cancel)

    task = asyncio.ensure_future(waits())
    for _ in range(2):
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not work.done()
    with suppress(asyncio.CancelledError):
        await wait_past_repeats(asyncio.ensure_future(asyncio.sleep(0)), None)


async def test_cancel_merged_with_a_repeat_is_no_repeat() -> None:
    """Beside one of anyio, always under way, Ctrl-C would never be heard."""
    work = asyncio.get_running_loop().create_future()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as cancel:
            await wait_past_repeats(work, cancel)

    task = asyncio.ensure_future(cancelled_by_anyio(waits))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_repeat_is_known_by_what_it_says() -> None:
    """Two cancels that say nothing are two cancels."""

    def includes(first: BaseException | None, *args: str) -> bool:
        return RepeatedCancels(first).include(asyncio.CancelledError(*args))

    assert includes(asyncio.CancelledError("scope 1"), "scope 1")
    assert not includes(asyncio.CancelledError("scope 1"), "scope 2")
    assert not includes(asyncio.CancelledError())
    assert not includes(ValueError("scope 1"), "scope 1")
    assert not includes(None, "scope 1")
