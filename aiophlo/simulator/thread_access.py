"""Thread safety: runs calls in an object's event loop, and waits from any thread."""

import abc
import asyncio
import concurrent.futures
import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from aiophlo.simulator.conditions import Conditions
from aiophlo.simulator.ledger import Ledger

_P = ParamSpec("_P")
_T = TypeVar("_T")
_R = TypeVar("_R", bound="ThreadAccess")


class ThreadAccess(abc.ABC):
    """An object with a ledger and an event loop, used from any thread.

    Args:
        ledger: Where it enters what happens.

    Attributes:
        ledger: The same.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._loop: asyncio.AbstractEventLoop | None = None
        self._conditions = Conditions()

    @property
    @abc.abstractmethod
    def held(self) -> int:
        """Number of answers that are being held."""

    def in_its_loop(self, call: Callable[[], _T]) -> _T:
        """Run `call` where this runs, and wait for it, from any thread."""
        loop = self._loop
        if loop is None or not loop.is_running() or loop is _running_loop():
            return call()
        done: concurrent.futures.Future[_T] = concurrent.futures.Future()
        loop.call_soon_threadsafe(_run_into, done, call)
        return done.result()

    async def wait_for(
        self,
        condition: Callable[[Ledger], bool] | None = None,
        *,
        requests: int = 0,
        dials: int = 0,
        held: int = 0,
        within: float = 5.0,
    ) -> None:
        """Wait until all of this is so, counted from the start.

        Args:
            condition: Holds for the ledger, or for anything else that it looks at:
                it is tried whenever a request has come, a call has changed, an event
                has been posted or a connection closed.
            requests: So many requests have arrived.
            dials: So many dials have been made.
            held: So many answers are being held.
            within: Seconds to wait at most.

        Raises:
            TimeoutError: It didn't happen in time.
        """
        met = self._watch_for(condition, requests, dials, held)
        await asyncio.wait_for(asyncio.wrap_future(met), within)

    def wait(
        self,
        condition: Callable[[Ledger], bool] | None = None,
        *,
        requests: int = 0,
        dials: int = 0,
        held: int = 0,
        within: float = 5.0,
    ) -> None:
        """Do as `wait_for` does, blocking this thread, which must be another one.

        Raises:
            RuntimeError: It is the thread that would have to make it happen.
            TimeoutError: It didn't happen in time.
        """
        if self._loop is not None and self._loop is _running_loop():
            raise RuntimeError("this would block the simulator: await wait_for()")
        self._watch_for(condition, requests, dials, held).result(within)

    def _watch_for(
        self,
        condition: Callable[[Ledger], bool] | None,
        requests: int,
        dials: int,
        held: int,
    ) -> concurrent.futures.Future[None]:
        def is_met() -> bool:
            return (
                self.ledger.received >= requests
                and self.ledger.dialled_total >= dials
                and self.held >= held
                and (condition is None or condition(self.ledger))
            )

        met: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.in_its_loop(lambda: self._conditions.add(is_met, met))
        return met


def in_its_loop(
    method: Callable[Concatenate[_R, _P], _T],
) -> Callable[Concatenate[_R, _P], _T]:
    """Let any thread call a method: it always runs where its object runs."""

    @functools.wraps(method)
    def call(self: _R, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self.in_its_loop(functools.partial(method, self, *args, **kwargs))

    return call


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _run_into(done: "concurrent.futures.Future[_T]", call: Callable[[], _T]) -> None:
    try:
        done.set_result(call())
    except Exception as error:  # noqa: BLE001 -- it is the caller's, in its own thread
        done.set_exception(error)
