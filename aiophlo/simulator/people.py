"""What people do when their phone rings."""

import enum

import attrs


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
