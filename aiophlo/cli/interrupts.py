"""Ctrl-C: once to end what is in flight, twice to stop at once.

A service manager's SIGTERM and a closed terminal's SIGHUP count as Ctrl-C.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_OTHERS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows has no SIGHUP
)
_LAST_TOLD = 2
_Handler = Callable[[int, FrameType | None], object]


@contextlib.contextmanager
def handled(handler: _Handler, *, also_interrupts: bool = True) -> Iterator[None]:
    """Have `handler` called for every signal that asks a command to end.

    What is ignored stays so, as `nohup` wants it, but for SIGINT, which shells
    ignore for what runs in the background. Off the main thread no signal comes,
    and nothing is changed.

    Args:
        handler: Called in the main thread, between two steps of any code.
        also_interrupts: Have it called for SIGINT too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for n in _OTHERS if signal.getsignal(n) is not signal.SIG_IGN]
    if also_interrupts:
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Have every such signal do what SIGINT does, whatever handles that.

    A SIGINT that is ignored would leave asyncio without its own handler, which
    cancels the main task; the interruption would fall into any other then.
    """
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if before is signal.SIG_IGN:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                stack.callback(signal.signal, signal.SIGINT, before)
        stack.enter_context(handled(_interrupt, also_interrupts=False))
        yield


def _interrupt(number: int, frame: FrameType | None) -> None:
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        handler = signal.default_int_handler
    handler(number, frame)


@contextlib.contextmanager
def interrupts(tell: Callable[[int], None]) -> Iterator[list[int]]:
    """Call `tell` on the running loop with the number of each interruption.

    After the second, another one interrupts at once.

    Yields:
        The signals so far.
    """
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > _LAST_TOLD:
            signal.default_int_handler(number, frame)
        loop.call_soon_threadsafe(tell, len(seen))

    with handled(handle):
        yield seen
