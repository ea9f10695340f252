"""Checks that a kept connection may carry one more request.

HTTP/1.1 tells answers apart by their order alone: what comes while nothing was
asked would be taken for the answer to the next request. So a connection on which
anything came while it was idle is not used again, nor one that the server is about
to close, nor one that is so old that its address may be out of date.
"""

import asyncio
import contextlib
import os
import re
import select
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Final
from weakref import ref

from aiohttp.client_proto import ResponseHandler

from aiophlo.loop_guard import forks
from aiophlo.protocol.aiohttp_contract import has_part_of_a_message

DEFAULT_KEEPALIVE: Final = 4.0
"""Seconds for which an idle connection is kept: many servers close it after 5."""

_KEEP_ALIVE = re.compile(r"(?:^|[,;\s])timeout\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_MARGIN = 1.0  # seconds that a connection is given up before the server does
_SUSPICION = 600.0  # seconds for which a lost request shortens what is kept idle
# Closing sends a reset, and the kernel forgets what it had not delivered yet.
_RESET_ON_CLOSE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class StaleConnectionError(ConnectionAbortedError):
    """A connection can't be used: nothing of the request was written to it.

    Attributes:
        new: No request had gone out on it before; None if that is not known.
    """

    def __init__(self, message: str, *, new: bool | None = None) -> None:
        super().__init__(message)
        self.new = new


class ForkedError(ConnectionAbortedError):
    """The connection is the parent process's: nothing was written to it."""

    def __init__(self) -> None:
        super().__init__("this process was forked from the one that opened the pool")


class _Known:
    """What is known of one connection.

    Attributes:
        protocol: Its protocol, which is not kept alive.
        retire_at: Loop time from which it is not kept.
        idle_until: Loop time up to which the server keeps it idle.
        answered_at: Loop time of its last answer, if requests were lost before that.
    """

    __slots__ = ("_poll", "answered_at", "idle_until", "protocol", "retire_at")

    def __init__(
        self,
        protocol: "ref[ResponseHandler]",
        transport: asyncio.BaseTransport,
        retire_at: float,
    ) -> None:
        self.protocol = protocol
        self.retire_at = retire_at
        self.idle_until = float("inf")
        self.answered_at: float | None = None
        self._poll: Callable[[int], list[tuple[int, int]]] | None = None
        sock = transport.get_extra_info("socket")
        if sock is None:
            return
        with contextlib.suppress(OSError, ValueError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(sock.fileno(), select.POLLIN)
            self._poll = poll.poll

    def has_unread(self) -> bool:
        """Say whether something came, or the end, that the loop has not read yet."""
        return self._poll is not None and bool(self._poll(0))


class Connections:
    """The connections that requests of a pool went out on.

    Args:
        lifetime: Seconds for which a connection is used.

    Attributes:
        note_all: `answered` wants to hear of every answer, not only of one that says
            how long its connection is kept.
    """

    def __init__(self, lifetime: float = float("inf")) -> None:
        self._lifetime = lifetime
        self._forks = forks.number
        # By id, which is a third of what a WeakKeyDictionary costs; an id is free to
        # be another's once the protocol is gone, and then its entry is, too.
        self._known: dict[int, _Known] = {}
        self.note_all = False
        self._longest_idle = float("inf")
        self._suspicious_until = float("-inf")

    def __len__(self) -> int:
        return len(self._known)

    @property
    def inherited(self) -> bool:
        """Whether they belong to the process that this one was forked from."""
        return forks.number != self._forks

    def use(self, protocol: ResponseHandler, now: float) -> None:
        """Note that a request is about to be written to a connection.

        From then on it is reset when it is closed, whoever closes it: what the
        kernel still holds of a request that was given up must not be delivered.

        Args:
            protocol: The connection's protocol.
            now: Loop time.

        Raises:
            StaleConnectionError: It must not be used for a request.
            ForkedError: This process was forked since, and goes on with what its
                parent had begun: both would send it.
        """
        if self.inherited:
            raise ForkedError
        transport, known = protocol.transport, self._known.get(id(protocol))
        new = known is None
        if transport is None or transport.is_closing():
            raise StaleConnectionError("the kept connection was closed", new=new)
        if protocol.should_close or has_part_of_a_message(protocol):
            raise StaleConnectionError("something came unasked", new=new)
        if known is None:
            known = self._add(protocol, transport, now)
            if transport.get_extra_info("sslcontext") is not None:
                return  # what TLS itself sends at the start is no answer
        elif now > known.idle_until:
            raise StaleConnectionError("the server keeps it no longer", new=False)
        if known.has_unread():
            raise StaleConnectionError("closed, or something came unasked", new=new)
        if now > known.retire_at:
            protocol.force_close()  # once this exchange is over

    def _add(
        self, protocol: ResponseHandler, transport: asyncio.BaseTransport, now: float
    ) -> _Known:
        key, all_known = id(protocol), self._known

        def forget(_: object) -> None:
            all_known.pop(key, None)

        known = _Known(ref(protocol, forget), transport, now + self._lifetime)
        all_known[key] = known
        return known

    def answered(
        self, protocol: ResponseHandler, headers: Mapping[str, str], now: float
    ) -> None:
        """Note how long the server will keep a connection idle.

        Args:
            protocol: The connection's protocol.
            headers: Of the answer that came on it.
            now: Loop time.
        """
        known = self._known.get(id(protocol))
        if known is None:
            return
        match = _KEEP_ALIVE.search(headers.get("Keep-Alive", ""))
        if match is not None:
            # A second or less leaves no time in which it is safe to use.
            wait = float(match[1]) - _MARGIN
            known.idle_until = now + wait if wait > 0 else float("-inf")
        if self.note_all:
            if now > self._suspicious_until:
                self.note_all, self._longest_idle = False, float("inf")
            known.answered_at = now
            until = now + self._longest_idle
            known.idle_until = until if match is None else min(known.idle_until, until)

    def lost(self, protocol: ResponseHandler | None, now: float) -> None:
        """Note that a connection ended without a byte of the answer to its request.

        If it had been idle, its server may close what is idle so long. From the
        first loss on, only what has a timed answer is used again, and each further
        one halves the time for which it is: soon that is less than the server's,
        however long the way is. A server that dies with its requests costs no more
        than connections that are made anew.

        Args:
            protocol: The connection's protocol.
            now: Loop time.
        """
        self.note_all = True
        self._suspicious_until = now + _SUSPICION
        known = self._known.get(id(protocol))
        if known is not None and known.answered_at is not None:
            idle = now - known.answered_at
            self._longest_idle = min(self._longest_idle, idle) / 2
        for one in self._known.values():
            if one.answered_at is None:
                one.idle_until = float("-inf")
            else:
                until = one.answered_at + self._longest_idle
                one.idle_until = min(one.idle_until, until)
