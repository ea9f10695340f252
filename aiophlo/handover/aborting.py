"""Aborting a transfer: what each answer proves, and when to ask again."""

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable
from typing import Final

from aiophlo.handover.requests import input_about_agent
from aiophlo.handover.states import Input
from aiophlo.model.outcomes import (
    CREDENTIALS_REFUSED,
    Accepted,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
)
from aiophlo.sending.superseding import NewerTransfers

# Plivo's words for it aren't known; these can mean nothing else.
_NO_TRANSFER: Final = re.compile(
    r"\bno (?:(?!to\b|for\b)\w+ ){0,3}transfer\b"
    r"|\btransfer (?:(?:was|is|isn't) )?(?:not|never|no longer) "
    r"(?:\w+ )?(?:found|in progress|active|started)\b",
    re.IGNORECASE,
)
_CONFLICT: Final = 409
_BARE: Final = 3  # conflicts in a row that prove as much as words do
_LATE: Final = 2  # refusals for one whose transfer may take effect late
_REFUSALS: Final = 5  # of another kind in a row, until repeating is pointless
_LONGEST_PAUSE: Final = 5.0  # seconds between two aborts


class AbortAnswers:
    """Decides, over the outcomes of one abort after the other, what they prove.

    A refusal proves that there is no transfer if it says so in words, and not for
    want of rights (401, 403); a mere 409 might be about anything, and counts if it
    comes three times in a row. A 404 says that the agent isn't in the call: whether
    there was a transfer, it doesn't say.

    Args:
        late: Whether the transfer itself is in doubt, and may take effect after
            an abort has been refused: then one refusal is not enough.

    Attributes:
        pointless: Whether it has been refused for other reasons so often that
            repeating it won't help.

    Source:
        Assumed: an abort without a transfer is refused, with 409 or in words.
    """

    def __init__(self, *, late: bool) -> None:
        self._needed = _LATE if late else 1
        self._said = 0
        self._bare = 0
        self._others = 0

    @property
    def pointless(self) -> bool:
        """Whether repeating it won't help."""
        return self._others >= _REFUSALS

    def weigh(self, outcome: Outcome) -> Input:
        """Return what an abort's outcome proves, together with those before."""
        self._others += 1
        match outcome:
            case Accepted():
                return Input.ACCEPTED
            case InDoubt() | NotSent():
                self._bare = self._others = 0
                is_sent = isinstance(outcome, InDoubt)
                return Input.IN_DOUBT if is_sent else Input.NOT_SENT
        about_call = outcome.status not in CREDENTIALS_REFUSED
        if about_call and _NO_TRANSFER.search(outcome.error or ""):
            self._others = 0
            self._said += 1
        self._bare = self._bare + 1 if outcome.status == _CONFLICT else 0
        if self._said >= self._needed or self._bare >= _BARE:
            return Input.NO_TRANSFER
        return input_about_agent(outcome)


async def bring_back(
    abort: Callable[[float], Awaitable[Outcome]],
    tell: Callable[[Input], bool],
    answers: AbortAnswers,
    *,
    claim: Callable[[], Awaitable[object]],
    newer: NewerTransfers | None = None,
    within: float,
    pause: float,
) -> None:
    """Abort a transfer, again and again, until something is known.

    Args:
        abort: Sends an abort within so many seconds.
        tell: Called with what each abort proves, once more before the next, as events
            may have come meanwhile, and with `TIME_OVER` when no more will be sent;
            says whether to go on.
        answers: Decides what they prove.
        claim: Learns, after each abort, whether another process has taken over while
            this one was stopped: what is known here is old then.
        newer: The agent's newer transfers: once there is one, no abort is sent, as it
            might end that.
        within: Seconds after which none is sent any more.
        pause: Seconds between the first two; it doubles.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + within
    for number in itertools.count():
        outcome = await abort(deadline - clock())
        await claim()
        proved = answers.weigh(outcome)
        if not tell(proved):
            return
        wait = min(pause * 2**number, _LONGEST_PAUSE)
        closed = isinstance(outcome, NotSent) and outcome.reason is Reason.CLOSED
        stopped = closed or (newer is not None and newer.begun)
        if answers.pointless or stopped or clock() + wait >= deadline:
            tell(Input.TIME_OVER)
            return
        await asyncio.sleep(wait)
        if not tell(proved):
            return
