"""A way to a server that takes its time, or is cut so that neither end is told."""

import asyncio
from typing import Self


class Relay:
    """Passes on what comes to a port of its own, until it is cut.

    Args:
        port: Where to, on this machine.
        delay: Seconds that everything takes, each way.

    Attributes:
        port: Its own.
        to: Where to; may be changed, for new connections.
        delay: As given; may be changed.
    """

    def __init__(self, port: int, delay: float = 0.0) -> None:
        self.to = port
        self.port = 0
        self.delay = delay
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._cuts = 0
        self._is_cut = False

    @property
    def url(self) -> str:
        """Return where a Postgres is found behind it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        self.hang_up()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Pass nothing on any more, not even that somebody hung up."""
        self._is_cut = True
        self._cuts += 1

    def mend(self) -> None:
        """Pass on what comes by new connections."""
        self._is_cut = False

    def hang_up(self) -> None:
        """End all connections, with everybody told."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._writers.add(writer)
        if self._is_cut:
            return
        try:
            theirs = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.close()
            return
        self._writers.add(theirs[1])
        for one, other in ((reader, theirs[1]), (theirs[0], writer)):
            self._tasks.add(asyncio.create_task(self._pass_on(one, other, self._cuts)))

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cuts: int
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await reader.read(65_536):
                if cuts == self._cuts:
                    loop.call_later(self.delay, writer.write, data)
        except OSError:
            pass
        if cuts == self._cuts:
            loop.call_later(self.delay, writer.close)
