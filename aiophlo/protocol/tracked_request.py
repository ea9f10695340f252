"""What is known of one request while it is under way."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import StreamReader

    from aiophlo.protocol.kept_connections import StaleConnectionError


class TrackedRequest:
    """Whether one request left, and how it is taken back.

    There is one for every request, so what it says at first stands on the class.

    Attributes:
        left: The request was handed to the network; until then it can't have
            reached Plivo. Once set, it stays.
        may_leave: Asked, if there is one, in the moment of leaving.
        silent: There was no answer in time.
        stale: The connection that it was to leave on could not be used.
        status: HTTP status of its answer, once that much of it is there.
        proxy: Host and port of the proxy that it goes through, if it was seen.
        watched: Of a GET that a session sends: `left` is noted, and no longer
            assumed.
    """

    left = False
    may_leave: Callable[[], bool] | None = None
    silent = False
    stale: "StaleConnectionError | None" = None
    status: int | None = None
    proxy = ""
    watched = False
    _transport: asyncio.WriteTransport | None = None
    _content: "StreamReader | None" = None

    def check_may_leave(self) -> None:
        """Ask, in the moment of leaving, whether it may.

        Raises:
            ConnectionAbortedError: It may not leave any more.
        """
        if self.may_leave is not None and not self.may_leave():
            raise ConnectionAbortedError("it may not leave any more")

    def leave(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Write all of it to a connection that is its own until it is answered."""
        self.left = True
        self._transport = transport
        transport.write(data)

    def answered(self, status: int, content: "StreamReader") -> None:
        """Note that an answer begins, and what its body is read from."""
        self.status, self._content = status, content

    def end(self) -> None:
        """Note that its answer is whole: its connection is no longer its own."""
        self._transport = self._content = None

    def give_up(self) -> None:
        """End the wait for the answer, unless all of it was read."""
        if self._transport is None:
            return
        self.silent = True
        content = self._content
        self.drop()
        if content is not None:
            # Whoever closed the connection may have left its reader waiting.
            content.set_exception(TimeoutError())

    def drop(self) -> None:
        """Take back what the network has not delivered yet, as far as possible."""
        if self._transport is not None:
            self._transport.abort()
            self.end()
