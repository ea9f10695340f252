"""One request of a handover: it leaves only while it is right, and means something."""

from collections.abc import Callable

from aiophlo.actions import Action
from aiophlo.handover.states import Input
from aiophlo.outcomes import Accepted, InDoubt, NotSent, Outcome
from aiophlo.sending import Journey, Sender
from aiophlo.transport import Departure


class NotNowError(Exception):
    """What was about to leave is no longer right."""


class CheckedJourney(Journey):
    """A journey that looks, before each of its requests, whether it is still right.

    Args:
        sender: Sends for the account.
        action: What is asked for.
        within: Seconds after which it is worthless.
        check: Says whether it is right now. If not, `NotNowError` is raised, and
            nothing leaves.
    """

    __slots__ = ("check",)

    def __init__(
        self, sender: Sender, action: Action, within: float, check: Callable[[], bool]
    ) -> None:
        super().__init__(sender, action, within)
        self.check = check

    def _begin(self) -> Departure:
        if not self.check():
            raise NotNowError
        return super()._begin()


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
