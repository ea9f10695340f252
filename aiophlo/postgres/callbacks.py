"""Tells URLs what came of queued actions; what they answer changes no outcome."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
import tenacity

from aiophlo.errors import JournalError
from aiophlo.logs import logger
from aiophlo.model.redaction import mask_exchange_error, mask_id
from aiophlo.postgres.connection import unawaited
from aiophlo.postgres.queue_journal import QueueJournal

SIGNATURE: Final = "X-Aiophlo-Signature"
_MOST: Final = 100  # at once
_WITHIN: Final = 10.0  # seconds for an answer
_TRIES: Final = 4
_TOLD: Final = "key", "verdict", "reason", "status", "api_id", "attempts", "seconds"
_GOOD: Final = range(200, 300)


class Callbacks:
    """Posts outcomes to those who asked for it, again if it fails.

    Args:
        journal: Says whom to tell.
        sign: Returns a signature of a body, or None.
    """

    def __init__(
        self, journal: QueueJournal, sign: Callable[[bytes], str | None]
    ) -> None:
        self._journal = journal
        self._sign = sign
        self._calls: set[asyncio.Task[Any]] = set()
        self._session: aiohttp.ClientSession | None = None

    async def call(self) -> None:
        """Begin to tell those whose turn it is.

        Raises:
            JournalError: It can't be known who that is.
        """
        while room := _MOST - len(self._calls):
            found = await self._journal.callbacks(room)
            for one in found:
                unawaited(self._call(one), self._calls)
            if len(found) < room:
                return

    async def close(self) -> None:
        """Give up what is under way, which is told later, and close the connections."""
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)
        if self._session is not None:
            await self._session.close()

    async def _call(self, one: Mapping[str, Any]) -> None:
        try:
            async for attempt in tenacity.AsyncRetrying(
                stop=tenacity.stop_after_attempt(_TRIES),
                wait=tenacity.wait_exponential(min=1.0, max=20.0),
                reraise=True,
            ):
                with attempt:
                    await self._post(one)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            said = ": ".join(filter(None, (type(error).__name__, str(error))))
            logger.warning(
                "a callback is given up, about %r: %s",
                mask_id(one["key"]),
                mask_exchange_error(said),
            )
        with contextlib.suppress(JournalError):  # then it is told once more
            await self._journal.called(one["name"])

    async def _post(self, one: Mapping[str, Any]) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_WITHIN)
            )
        told = {name: one[name] for name in (*_TOLD, "ended_at")}
        body = json.dumps(told).encode()
        headers = {"Content-Type": "application/json"}
        signature = self._sign(body)
        if signature is not None:
            headers[SIGNATURE] = signature
        async with self._session.post(
            one["url"], data=body, headers=headers, allow_redirects=False
        ) as answer:
            if answer.status not in _GOOD:
                answer.raise_for_status()
                raise aiohttp.ClientError(f"status {answer.status}")
