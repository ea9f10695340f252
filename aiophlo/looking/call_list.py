"""Reads Plivo's three lists of calls, page by page: queued, live, finished.

In the order in which a call goes through them: one that moves on between two questions
is read twice, and never missed.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final

import attrs

from aiophlo.looking.call_records import CallRecord, read_finished, read_under_way
from aiophlo.model.actions import Lane
from aiophlo.model.call_queries import PAGE, CallQuery, CallStatus, GetCall, ListCalls
from aiophlo.model.outcomes import Accepted, Outcome
from aiophlo.protocol.codec import Answer
from aiophlo.sending.delivery import Delivery
from aiophlo.sending.sender import Sender

_MOST_PAGES: Final = 3  # of one list
_MOST_DESCRIBED: Final = 10  # calls under way that are looked at one by one
_TRUSTED: Final = 1.0  # seconds that Plivo's clock may be off and count as ours


@attrs.define
class Reading:
    """What the lists said.

    Attributes:
        records: Every call that was read.
        complete: All that was asked for was read, and understood.
        ahead: Seconds by which Plivo's clock is ahead of this machine's.
        last: The last answer to a list that didn't show it; None if there is none.
    """

    records: list[CallRecord] = attrs.field(factory=list)
    complete: bool = True
    ahead: float = 0.0
    last: Outcome | None = None


class CallList:
    """The calls of one account, as Plivo lists them.

    Args:
        sender: Sends to the Voice API for the account.
        now: Gives Unix time.
    """

    def __init__(self, sender: Sender, now: Callable[[], float] = time.time) -> None:
        self._sender = sender
        self._now = now

    async def read(
        self,
        phlo_id: str,
        to: str | None,
        *,
        since: float,
        within: float,
        queued: bool = True,
    ) -> Reading:
        """Read the queued, the live and the finished calls to an address.

        Args:
            phlo_id: PHLO whose dial is looked for.
            to: Whom it has dialled; None for calls to anybody.
            since: Unix time, by this machine's clock, from which finished calls count.
            within: Seconds after which a question is worthless.
            queued: Whether the queued ones are read, too.
        """
        reader = _Reader(self._sender, self._now, phlo_id, to, within)
        if queued:
            await reader.read_under_way("queued")
        await reader.read_under_way("live")
        await reader.read_finished(since)
        return reader.reading


class _Reader:
    def __init__(
        self,
        sender: Sender,
        now: Callable[[], float],
        phlo_id: str,
        to: str | None,
        within: float,
    ) -> None:
        self.reading = Reading()
        self._sender = sender
        self._now = now
        self._phlo_id = phlo_id
        self._to = to
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + within

    async def read_under_way(self, status: CallStatus) -> None:
        listed = await self._pages(status, "calls")
        if len(listed) > _MOST_DESCRIBED:
            self.reading.complete = False
        for call_uuid in listed[:_MOST_DESCRIBED]:
            if isinstance(call_uuid, str) and call_uuid:
                query = GetCall(
                    phlo_id=self._phlo_id, status=status, call_uuid=call_uuid
                )
                body = await self._ask(query)
                if body is not None:
                    self._take(read_under_way(body))
            else:
                self.reading.complete = False

    async def read_finished(self, since: float) -> None:
        since += self.reading.ahead
        for document in await self._pages("", "objects", since=since):
            self._take(read_finished(document))

    def _take(self, record: CallRecord | None) -> None:
        if record is None:
            self.reading.complete = False
        else:
            self.reading.records.append(record)

    async def _pages(
        self, status: CallStatus, name: str, since: float | None = None
    ) -> Sequence[Any]:
        """Return what a list holds, as far as its pages are read."""
        found: list[Any] = []
        for _ in range(_MOST_PAGES):
            query = ListCalls(
                phlo_id=self._phlo_id,
                status=status,
                to=None if status == "queued" else self._to,
                ended_from=since,
                offset=len(found),
            )
            body = await self._ask(query)
            page = None if body is None else body.get(name)
            if body is None or not isinstance(page, list):
                self.reading.complete = False
                return found
            found += page
            if not page or (len(page) < PAGE and not _says_more(body, len(found))):
                break
        else:
            self.reading.complete = False
            return found
        if _says_more(body, len(found)):
            self.reading.complete = False
        return found

    async def _ask(self, query: CallQuery) -> Mapping[str, Any] | None:
        """Return the answer to one question; None if there is no sound one."""
        within = max(self._deadline - self._loop.time(), 0.0)
        delivery = Delivery(self._sender.context, query, within, lane=Lane.LOOKED)
        outcome = await self._sender.run(delivery)
        if not isinstance(outcome, Accepted):
            self.reading.complete = False
            if isinstance(query, ListCalls):  # a call may end before it is described
                self.reading.last = outcome
            return None
        if isinstance(delivery.answer, Answer):
            self._set_clock(delivery.answer.headers)
        return outcome.body

    def _set_clock(self, headers: Mapping[str, str]) -> None:
        date = next((headers[name] for name in headers if name.lower() == "date"), "")
        try:
            theirs = parsedate_to_datetime(date).timestamp() + 0.5  # whole seconds
        except (ValueError, OverflowError):
            return
        ahead = theirs - self._now()
        self.reading.ahead = 0.0 if math.fabs(ahead) <= _TRUSTED else ahead


def _says_more(body: Mapping[str, Any], number: int) -> bool:
    """Say whether a list has more than so many calls, by its own word.

    Source:
        Plivo docs, "Calls": `meta` with `next` and `total_count`.
    """
    meta = body.get("meta")
    if not isinstance(meta, Mapping):
        return False
    total = meta.get("total_count")
    return bool(meta.get("next")) or (isinstance(total, int) and total > number)
