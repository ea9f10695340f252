"""On a signal, let handovers end before the server stops listening.

Servers stop listening as soon as they get SIGTERM, and the answer to a phone that
rings is never heard. In a program that handles signals itself, such as one with
`aiohttp.web.AppRunner`, await `SessionPool.drain` first. uvicorn, also below
gunicorn, handles them: there use `drain_on_signal` in the lifespan.
"""

import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final

from aiophlo.logs import logger
from aiophlo.model.redaction import mask_error
from aiophlo.pool import SessionPool

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def drain_on_signal(
    pool: SessionPool,
    *,
    within: float = 60.0,
    signals: Sequence[signal.Signals] = SIGNALS,
) -> Iterator[None]:
    """Drain a pool on the first signal, and only then let the server have it.

    A second signal goes to the server at once. Enter it in the main thread once the
    server has installed its handlers, as in an ASGI lifespan; handlers that were
    installed by `loop.add_signal_handler`, as aiohttp's `run_app` does, can't be
    handed on to.

    Args:
        pool: Which.
        within: Seconds that open handovers have to end by themselves.
        signals: Which ones.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in signals}
    tasks: set[asyncio.Task[None]] = set()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    async def drain(number: int) -> None:
        try:
            await pool.drain(within=within)
        except Exception as error:  # noqa: BLE001 -- the server has to stop all the same
            logger.error("draining failed: %s", mask_error(error))
        finally:
            signal.raise_signal(number)

    def begin(number: int) -> None:
        tasks.add(loop.create_task(drain(number)))

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        restore()
        loop.call_soon_threadsafe(begin, number)

    for number in signals:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        restore()
