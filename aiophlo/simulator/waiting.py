"""Waiting for something to have happened, from any loop and any thread."""

import concurrent.futures
from collections.abc import Callable


class Watch:
    """Conditions that somebody waits for, checked whenever something has changed."""

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
        """Look at every condition; an error in one goes to whoever waits for it."""
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
