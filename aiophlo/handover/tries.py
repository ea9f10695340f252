"""What a handover makes of Plivo's answers: who was tried, what a refusal proves."""

import re
from enum import StrEnum
from typing import Final

import attrs

from aiophlo.addresses import mask
from aiophlo.handover.states import Input
from aiophlo.outcomes import Accepted, InDoubt, NotSent, Outcome

# Plivo's words for it aren't known; these can mean nothing else.
_NO_TRANSFER: Final = re.compile(
    r"\bno (?:\w+ ){0,3}transfer\b"
    r"|\btransfer (?:(?:was|is|isn't) )?(?:not|never|no longer) "
    r"(?:\w+ )?(?:found|in progress|active|started)\b",
    re.IGNORECASE,
)
_CONFLICT: Final = 409
_BARE: Final = 3  # conflicts in a row that prove as much as words do
_LATE: Final = 2  # refusals for one whose transfer may take effect late
_REFUSALS: Final = 5  # of another kind in a row, until repeating is pointless


class Ending(StrEnum):
    """What came of trying to reach somebody."""

    NO_ANSWER = "no_answer"  # nobody answered in time: ignored, busy or declined
    LEFT = "left"  # they left before the customer could be joined
    NOT_TAKEN = "not_taken"  # `accept` said no
    REFUSED = "refused"  # Plivo refused to ring them
    ENGAGED = "engaged"  # another open handover is about them: they were not rung


@attrs.frozen
class Tried:
    """Somebody who was to be reached.

    Attributes:
        to: Address.
        ending: What came of it.
    """

    to: str = attrs.field(repr=mask)
    ending: Ending


class AbortAnswers:
    """Weighs what became of one abort after the other.

    A refusal proves that there is no transfer if it says so in words; a mere
    409 might be about anything, and counts if it comes three times in a row.

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
        """Say what an abort's outcome means, with those before."""
        self._others += 1
        match outcome:
            case Accepted():
                return Input.ACCEPTED
            case InDoubt() | NotSent():
                self._bare = self._others = 0
                is_sent = isinstance(outcome, InDoubt)
                return Input.IN_DOUBT if is_sent else Input.NOT_SENT
        if _NO_TRANSFER.search(outcome.error or ""):
            self._others = 0
            self._said += 1
        self._bare = self._bare + 1 if outcome.status == _CONFLICT else 0
        if self._said >= self._needed or self._bare >= _BARE:
            return Input.NO_TRANSFER
        return Input.REFUSED


def input_of(outcome: Outcome) -> Input:
    """Say what a transfer's or a hang-up's outcome means."""
    match outcome:
        case Accepted():
            return Input.ACCEPTED
        case NotSent():
            return Input.NOT_SENT
        case InDoubt():
            return Input.IN_DOUBT
    return Input.REFUSED
