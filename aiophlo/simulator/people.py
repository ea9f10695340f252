"""What people do when their phone rings."""

import enum
from typing import Final

import attrs


@attrs.frozen
class HangupCause:
    """Why a call ended, as Plivo's call records tell.

    Attributes:
        code: Plivo's number for it.
        name: In Plivo's words.
        source: Who ended it.

    Source:
        Plivo docs, "Hangup causes".
    """

    code: int
    name: str
    source: str


CANCELED: Final = HangupCause(1000, "Canceled", "API Request")
NO_ANSWER: Final = HangupCause(3000, "No Answer", "Carrier")
BUSY: Final = HangupCause(3010, "Busy Line", "Carrier")
REJECTED: Final = HangupCause(3020, "Rejected", "Carrier")
NORMAL: Final = HangupCause(4000, "Normal Hangup", "Callee")


class Reaction(enum.StrEnum):
    """What becomes of a ringing phone."""

    ANSWERS = "answers"
    MACHINE = "machine"
    BUSY = "busy"
    DECLINES = "declines"
    IGNORES = "ignores"


@attrs.frozen
class Habit:
    """How an address takes calls.

    Attributes:
        reaction: What they do.
        after: Seconds of ringing until they do it, or until Plivo gives up on somebody
            who ignores it.
        stays: Seconds until they hang up, even in the middle of a consult; None for as
            long as it takes.
    """

    reaction: Reaction = attrs.field(default=Reaction.ANSWERS, converter=Reaction)
    after: float = 0.0
    stays: float | None = None

    @property
    def picks_up(self) -> bool:
        """Whether a person or a machine comes on the line."""
        return self.reaction in {Reaction.ANSWERS, Reaction.MACHINE}

    @property
    def hangup(self) -> HangupCause:
        """Why a call to somebody with this habit ends, if nobody else ends it."""
        return _HANGUPS.get(self.reaction, NORMAL)


_HANGUPS: Final = {
    Reaction.BUSY: BUSY,
    Reaction.DECLINES: REJECTED,
    Reaction.IGNORES: NO_ANSWER,
}


class People:
    """The habits of all addresses."""

    def __init__(self) -> None:
        self._habits: dict[str, Habit] = {}
        self._usual = Habit()

    def reset(self) -> None:
        """Forget all habits: every address answers at once again."""
        self._habits.clear()
        self._usual = Habit()

    def set(self, habit: Habit, address: str | None) -> None:
        """Set the habit of one address, or of all that have none of their own."""
        if address is None:
            self._usual = habit
        else:
            self._habits[address] = habit

    def of(self, address: str) -> Habit:
        """Give the habit of an address."""
        return self._habits.get(address, self._usual)
