"""Refuses use on another event loop, in another thread or in a forked process.

Sockets and futures belong to the loop that made them, and a forked child shares
its parent's sockets: two processes would read each other's answers.
"""

import asyncio
import os

from aiophlo.errors import InvalidInputError


class _Forks:
    """How many forks lie behind this process, without asking the system.

    `os.getpid()` is a system call, and three of them were a fifteenth of a transfer. A
    fork of which Python isn't told, which would break Python itself, isn't counted.

    Attributes:
        number: As many.
    """

    def __init__(self) -> None:
        self.number = 0
        if hasattr(os, "register_at_fork"):  # Windows doesn't fork
            os.register_at_fork(after_in_child=self._count)

    def _count(self) -> None:
        self.number += 1


forks = _Forks()


class LoopGuard:
    """Remembers the event loop and process that something was opened in.

    Made on the running event loop.

    Args:
        what: What was opened, as an error names it: `"pool"`.
    """

    __slots__ = ("_forks", "_loop", "_process", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._forks = forks.number

    def check(self) -> None:
        """Refuse to be used anywhere else.

        Raises:
            InvalidInputError: This is another process, thread or event loop.
        """
        # A loop that runs here runs in this thread; in a forked child it may be
        # the same object.
        if (
            asyncio._get_running_loop() is not self._loop  # noqa: SLF001 -- documented for frameworks; doesn't raise
            or forks.number != self._forks
        ):
            raise InvalidInputError(f"{self._what}: {self._why()}")

    def _why(self) -> str:
        process = os.getpid()
        if process != self._process:
            return (
                f"it was opened in process {self._process}, and this is its child"
                f" {process}: open one of its own after the fork"
            )
        running = asyncio._get_running_loop()  # noqa: SLF001 -- as above
        if running is None and self._loop.is_running():
            return (
                "it is used from a thread without its event loop: hand the coroutine"
                " to the loop with asyncio.run_coroutine_threadsafe()"
            )
        if running is None:
            return "it was opened on an event loop that isn't running here"
        if self._loop.is_running():
            return (
                "it was opened on another thread's event loop: open one for each loop"
            )
        return (
            "it was opened on another event loop, which has ended: open one in each"
            " asyncio.run()"
        )
