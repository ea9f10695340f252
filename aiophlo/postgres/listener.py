"""Listens to the other pools, and holds the advisory lock that says: this one lives."""

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any, Final

from aiophlo.logs import logger
from aiophlo.postgres.connection import Connection

_PROBE_EVERY: Final = 2.0  # seconds: a stopped server says nothing of it
_ALONE: Final = (
    "SELECT pg_notify($1, json_build_array(json_build_array("
    "'alone', $2::text, extract(epoch FROM clock_timestamp())))::text)"
)
_STRANGE: Final = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    RecursionError,  # of what is nested too deep
)


class Listener:
    """Hears the notices of one namespace, over a connection of its own.

    Args:
        url: Where, directly, as a pooler in transaction mode passes no notices on.
        schema: Whose notices.
        pool: This pool's number, whose lock it holds.
        told: Called with the kind and the details of each notice.
        ready: Called once it hears.

    Attributes:
        heard_until: Loop time until which all notices are sure to have been heard.
    """

    def __init__(
        self,
        url: str,
        schema: str,
        pool: int,
        told: Callable[[str, list[Any]], None],
        ready: Callable[[], None],
    ) -> None:
        self._connection = Connection(url, self._hear)
        self._schema = schema
        self._pool = pool
        self._told = told
        self._ready = ready
        self._loop = asyncio.get_running_loop()
        self._alone = self._loop.create_future()  # done: to be said
        self.heard_until = -math.inf

    async def run(self) -> None:
        """Hear until the connection is lost.

        Raises:
            AwayError: It is.
        """
        connection = self._connection
        await connection.open()
        # Shared, as the server may not have noticed yet that an earlier one is lost.
        await connection.fetch("SELECT pg_advisory_lock_shared($1::bigint)", self._pool)
        await connection.fetch(f'LISTEN "{self._schema}"')
        self.heard_until = self._loop.time()
        self._alone = self._loop.create_future()
        self._ready()
        while True:
            waits = {connection.lost, self._alone}
            await asyncio.wait(
                waits, timeout=_PROBE_EVERY, return_when=asyncio.FIRST_COMPLETED
            )
            if connection.lost.done():
                raise connection.lost.result()
            probed = self._loop.time()
            if self._alone.done():
                self._alone = self._loop.create_future()
                await connection.fetch(_ALONE, self._schema, self._pool)
            else:
                await connection.fetch("SELECT 1")
            self.heard_until = probed

    def tell_alone(self) -> None:
        """Tell the others, if it hears them, that this pool goes on by itself."""
        if not self._alone.done():
            self._alone.set_result(None)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _hear(self, payload: str) -> None:
        """Hear what a notice tells; others may notify theirs by the same name."""
        try:
            for kind, *details in json.loads(payload):
                self._told(kind, details)
        except _STRANGE:
            logger.debug("a notice by %s that is none of aiophlo's", self._schema)
