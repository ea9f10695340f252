"""Ctrl-C: once to end what is in flight, twice to stop at once."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """How often a block was interrupted.

    Attributes:
        number: So far.
    """

    def __init__(self) -> None:
        self.number = 0


@contextlib.contextmanager
def interrupts(tell: Callable[[int], None]) -> Iterator[Interrupts]:
    """Call `tell` on the running loop with the number of each interruption.

    After the second the usual handlers are back. Off the main thread no
    signal comes, and nothing is changed.
    """
    loop = asyncio.get_running_loop()
    seen = Interrupts()

    def handle(_number: int, _frame: FrameType | None) -> None:
        seen.number += 1
        if seen.number > 1:
            restore()
        loop.call_soon_threadsafe(tell, seen.number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield seen
    finally:
        restore()
