"""The simulator in a thread of its own, for code that blocks."""

import asyncio
import concurrent.futures
import contextlib
import functools
from collections.abc import Callable, Iterator

from aiophlo.simulator.server import Simulator


@contextlib.contextmanager
def in_thread(simulator: Simulator) -> Iterator[Simulator]:
    """Run a simulator in a thread and an event loop of its own.

    Args:
        simulator: One that doesn't run yet.

    Yields:
        The same one, listening.

    Raises:
        OSError: The address or port can't be had.
    """
    ready: concurrent.futures.Future[Callable[[], object]] = concurrent.futures.Future()
    with concurrent.futures.ThreadPoolExecutor(1, "phlo-simulator") as thread:
        running = thread.submit(asyncio.run, _run(simulator, ready))
        stop = ready.result()
        try:
            yield simulator
        finally:
            stop()
            running.result()


async def _run(
    simulator: Simulator,
    ready: "concurrent.futures.Future[Callable[[], object]]",
) -> None:
    """Run until told to stop by what `ready` is given."""
    try:
        await simulator.start()
    except BaseException as error:  # noqa: BLE001 -- raised in the thread that waits for it
        ready.set_exception(error)
        return
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    ready.set_result(functools.partial(loop.call_soon_threadsafe, over.set))
    await over.wait()
    await simulator.stop()
