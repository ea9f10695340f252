"""An event loop that never waits: its clock jumps to the next timer."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Spends a wait by moving the clock instead of sleeping."""

    def __init__(self, spend: Callable[[float | None], None]) -> None:
        super().__init__()
        self._spend = spend

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            self._spend(timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves only when everybody waits.

    Attributes:
        now: The time; a test may move it forward to let timers fire late.
    """

    def __init__(self) -> None:
        self.now = 1_000.0
        super().__init__(_JumpingSelector(self._spend))

    def time(self) -> float:
        """Return the virtual time."""
        return self.now

    def _spend(self, timeout: float | None) -> None:
        if timeout is None:
            raise RuntimeError("everybody waits, and no timer will wake anybody")
        self.now += timeout


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a fresh `VirtualTimeLoop`, as `asyncio.run` does.

    What its callbacks raise, and tasks that it left behind, fails it too.
    """
    failures: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.get_loop().set_exception_handler(
            lambda _, context: failures.append(context)
        )
        result = runner.run(main)
    assert not failures, failures
    return result
