"""Listens to the other pools, and holds the advisory lock that says: this one lives."""

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any, Final

from aiophlo.logs import logger
from aiophlo.postgres.connection import Connection

_PROBE_EVERY: Final = 2.0  # seconds: a stopped server says nothing of it
_REPEAT_EVERY: Final = 1.0  # seconds: who has just opened, or was deaf, didn't hear
_ALONE: Final = (
    "SELECT pg_notify($1, json_build_array(json_build_array("
    "$3::text, $2::text, extract(epoch FROM clock_timestamp())))::text)"
)
_OTHERS: Final = (
    'SELECT count(*) FROM "{}".pools WHERE id <> $1::bigint'
    " AND seen > extract(epoch FROM clock_timestamp()) - 60.0"
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
        is_alone: Says whether this pool goes on by itself, which the others are told.
        counted: Called with how many there are, while it does.

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
        *,
        is_alone: Callable[[], bool],
        counted: Callable[[int], None],
    ) -> None:
        self._connection = Connection(url, self._hear)
        self._schema = schema
        self._pool = pool
        self._told = told
        self._ready = ready
        self._is_alone = is_alone
        self._counted = counted
        self._loop = asyncio.get_running_loop()
        self._news = self._loop.create_future()  # done: whether it is alone has changed
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
        self._ready()
        was_alone = False
        while not connection.lost.done():
            self._news = self._loop.create_future()
            probed = self._loop.time()
            is_alone = self._is_alone()
            if is_alone:
                await self._tell_alone("still_alone" if was_alone else "alone")
            else:
                await connection.fetch("SELECT 1")
            self.heard_until, was_alone = probed, is_alone
            await asyncio.wait(
                {connection.lost, self._news},
                timeout=_REPEAT_EVERY if is_alone else _PROBE_EVERY,
                return_when=asyncio.FIRST_COMPLETED,
            )
        raise connection.lost.result()

    async def _tell_alone(self, kind: str) -> None:
        connection = self._connection
        await connection.fetch(_ALONE, self._schema, self._pool, kind)
        others = await connection.fetch(_OTHERS.format(self._schema), self._pool)
        if self._is_alone():
            self._counted(int(others or 0) + 1)

    def hurry(self) -> None:
        """Tell the others at once if this pool goes on by itself now."""
        if not self._news.done():
            self._news.set_result(None)

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
