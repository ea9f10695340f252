"""A condition variable: futures fulfilled when their condition has come to hold."""

import concurrent.futures
from collections.abc import Callable


class Conditions:
    """Conditions that are waited for, checked whenever the simulator has changed."""

    def __init__(self) -> None:
        self._waiting: list[
            tuple[Callable[[], bool], concurrent.futures.Future[None]]
        ] = []

    def add(
        self, condition: Callable[[], bool], met: concurrent.futures.Future[None]
    ) -> None:
        """Fulfil `met` once `condition` holds, which may be at once."""
        self._waiting.append((condition, met))
        self.check()

    def check(self) -> None:
        """Check every condition; an error in one goes to its own waiter."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for condition, met in waiting:
            if not met.done() and not _settle(condition, met):
                self._waiting.append((condition, met))


def _settle(
    condition: Callable[[], bool], met: concurrent.futures.Future[None]
) -> bool:
    try:
        if not condition():
            return False
    except Exception as error:  # noqa: BLE001 -- it's the waiter's condition and error
        met.set_exception(error)
    else:
        met.set_result(None)
    return True
