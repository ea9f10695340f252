"""The rows of a list that several runners work through together.

Each runner reads the whole list, and claims it a page at a time. What another runner
has in hand is kept, and asked for again until it has an outcome, or is free to be
claimed: so a stream yields an outcome for each of its rows, whoever sent it, and ends
once all have one.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from aiophlo.journal.shared import ClaimingJournal, Held, SharedRow
from aiophlo.model.actions import Action
from aiophlo.model.invalid_input import PhloError
from aiophlo.model.outcomes import NotSent, Outcome, Reason
from aiophlo.model.validation import check_type

PAGE: Final = 200  # rows claimed at once
_COMPANY: Final = 0.01  # seconds that a slow source's row waits for others
_FIRST_LOOK: Final = 0.5  # seconds until a row that another runner has is asked for
_LAST_LOOK: Final = 2.0  # and at most, from one time to the next
_MOST_HELD: Final = 10_000  # rows of others that are kept


@attrs.frozen
class ClaimedRow:
    """A row that can be dealt with.

    Attributes:
        row: Which.
        known: What is known of it; None if it is claimed.
    """

    row: SharedRow
    known: Outcome | None


@attrs.define(eq=False)
class _HeldRow:
    """A row that another runner has.

    Attributes:
        row: Which.
        wait: Seconds until it is asked for.
        due: Loop time of that.
    """

    row: SharedRow
    wait: float
    due: float


class SharedRows:
    """Takes rows from a list, claims them, and gives them one by one.

    Args:
        take: Takes the next action; raises `StopAsyncIteration` at the end.
        journal: What they are claimed in.
        include_in_doubt: Claim what an earlier run left in doubt, too.
        is_repeat: Says whether an action asks for the same dial as an earlier one.
    """

    def __init__(
        self,
        take: Callable[[], Awaitable[Action]],
        journal: ClaimingJournal,
        *,
        include_in_doubt: bool,
        is_repeat: Callable[[Action], bool],
    ) -> None:
        self._take_action = take
        self._is_repeat = is_repeat
        self._journal = journal
        self._include_in_doubt = include_in_doubt
        self._loop = asyncio.get_running_loop()
        self._reader: asyncio.Task[None] | None = None
        self._came: asyncio.Future[None] | None = None
        self._read: list[SharedRow] = []  # and not yet claimed
        self._number = 0
        self._ended = False
        self._held: deque[_HeldRow] = deque()  # by when they are due
        self._ready: deque[ClaimedRow] = deque()

    async def take(self) -> ClaimedRow:
        """Return the next row that can be dealt with.

        Raises:
            StopAsyncIteration: There is none.
            JournalError: Rows can't be claimed.
        """
        while not self._ready:
            if self._held and self._held[0].due <= self._loop.time():
                await self._ask_again()
            elif not self._ended and len(self._held) < _MOST_HELD:
                await self._claim_page()
            elif self._held:
                await asyncio.sleep(self._held[0].due - self._loop.time())
            else:
                raise StopAsyncIteration
        return self._ready.popleft()

    async def close(self) -> None:
        """Stop reading, and give back what was claimed and not taken."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        with contextlib.suppress(PhloError):  # then its lease runs out
            for claimed in self._ready:
                if claimed.known is None:
                    self._journal.release(claimed.row.key)
        self._ready.clear()

    async def _ask_again(self) -> None:
        now = self._loop.time()
        page: list[_HeldRow] = []
        while self._held and len(page) < PAGE and self._held[0].due <= now:
            page.append(self._held.popleft())
        await self._claim([(one.row, one.wait) for one in page])

    async def _claim_page(self) -> None:
        """Read on, and claim what came, as soon as something has."""
        if not self._read:
            await self._read_on()
        page, self._read = self._read, []
        if page:
            await self._claim([(row, 0.0) for row in page])

    async def _claim(self, page: list[tuple[SharedRow, float]]) -> None:
        answers = await self._journal.claim(
            [row for row, _ in page], include_in_doubt=self._include_in_doubt
        )
        now = self._loop.time()
        for (row, waited), answer in zip(page, answers, strict=True):
            if isinstance(answer, Held):
                wait = min(waited * 2 or _FIRST_LOOK, _LAST_LOOK)
                self._held.append(_HeldRow(row, wait, now + wait))
            else:
                self._ready.append(ClaimedRow(row, answer))

    async def _read_on(self) -> None:
        """Wait until something was read, or a row that another runner has is due."""
        if self._reader is not None and self._reader.done():
            self._reader.result()  # what was read before it failed has been claimed
            self._reader = None
        if self._reader is None:
            self._reader = self._loop.create_task(self._read_page())
        reader = self._reader
        self._came = self._loop.create_future()
        within = self._held[0].due - self._loop.time() if self._held else None
        await asyncio.wait(
            {reader, self._came}, timeout=within, return_when=asyncio.FIRST_COMPLETED
        )
        if self._read and not reader.done():
            await asyncio.wait({reader}, timeout=_COMPANY)

    async def _read_page(self) -> None:
        for _ in range(PAGE):
            try:
                action = await self._take_action()
            except StopAsyncIteration:
                self._ended = True
                return
            number = self._number
            self._number += 1
            try:
                check_type(action, Action, "actions")
                row = self._journal.row(number, action)
                row.equal = self._is_repeat(action)
            except Exception as error:  # noqa: BLE001 -- one bad action never sinks the rest
                self._ready.append(_invalid(number, action, error))
            else:
                self._read.append(row)
            if self._came is not None and not self._came.done():
                self._came.set_result(None)


def _invalid(number: int, action: Action, error: Exception) -> ClaimedRow:
    outcome = NotSent(
        action=action, attempts=0, reason=Reason.INVALID, error=str(error)
    )
    row = SharedRow(number, action, "", "", 0, "", repeated=False)
    return ClaimedRow(row, outcome)
