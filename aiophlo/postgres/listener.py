"""What other pools tell this one; and, by a lock that it holds, that this one lives."""

import json
from collections.abc import Callable
from typing import Any, Final

import psycopg

from aiophlo.logs import logger
from aiophlo.postgres.connection import AwayError, Connection, said

_PROBE_EVERY: Final = 2.0  # seconds: a stopped server says nothing of it


class Listener:
    """Hears the notices of one namespace, over a connection of its own.

    Args:
        connection: Direct, as a pooler in transaction mode passes no notices on.
        schema: Whose notices.
        pool: This pool's number, whose lock it holds.
        told: Called with the kind and the details of each notice.
        ready: Called once it hears.
    """

    def __init__(
        self,
        connection: Connection,
        schema: str,
        pool: int,
        told: Callable[[str, list[Any]], None],
        ready: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._pool = pool
        self._told = told
        self._ready = ready

    async def run(self) -> None:
        """Hear until the connection is lost.

        Raises:
            AwayError: It is.
        """
        connection = await self._connection.open()
        # Shared, as the server may not have noticed yet that an earlier one is lost.
        await self._connection.fetch("SELECT pg_advisory_lock_shared(%s)", self._pool)
        await self._connection.fetch(f"LISTEN {self._schema}")
        self._ready()
        try:
            while True:
                async for notice in connection.notifies(timeout=_PROBE_EVERY):
                    self._hear(notice.payload)
                await self._connection.fetch("SELECT 1")
        except psycopg.Error as error:
            raise AwayError(said(error)) from error

    def _hear(self, payload: str) -> None:
        """Hear what a notice tells; others may notify theirs by the same name."""
        try:
            for kind, *details in json.loads(payload):
                self._told(kind, details)
        except (ValueError, TypeError, LookupError, AttributeError):
            logger.debug("a notice by %s that is none of aiophlo's", self._schema)
