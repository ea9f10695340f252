"""One request of a handover: rechecked when it leaves; its outcome as an input."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from aiophlo.handover.states import Input
from aiophlo.model.actions import Action
from aiophlo.model.outcomes import Accepted, InDoubt, NotSent, Outcome, Rejected
from aiophlo.protocol.tracked_request import TrackedRequest
from aiophlo.sending.delivery import Delivery, DeliveryContext

_NOT_FOUND: Final = HTTPStatus.NOT_FOUND


class NotNowError(Exception):
    """A request that was about to leave is not wanted any more."""


class CheckedDelivery(Delivery):
    """A delivery that checks, before each of its requests, whether it is still wanted.

    Args:
        context: What the deliveries of its account share.
        action: What is asked for.
        within: Seconds after which it is worthless.
        check: Says whether it is still wanted. If not, `NotNowError` is raised, and
            nothing leaves.
    """

    __slots__ = ("check",)

    def __init__(
        self,
        context: DeliveryContext,
        action: Action,
        within: float,
        check: Callable[[], bool],
    ) -> None:
        super().__init__(context, action, within)
        self.check = check

    def begin_request(self) -> TrackedRequest:
        """Count one more request as under way, if it is still wanted.

        Raises:
            NotNowError: It isn't.
        """
        if not self.check():
            self.prevented_by = NotNowError()
            raise self.prevented_by
        return super().begin_request()


def input_of(outcome: Outcome) -> Input:
    """Return the state machine's input for a transfer's outcome."""
    match outcome:
        case Accepted():
            return Input.ACCEPTED
        case NotSent():
            return Input.NOT_SENT
        case InDoubt():
            return Input.IN_DOUBT
    return Input.REFUSED


def input_about_agent(outcome: Outcome) -> Input:
    """Return the state machine's input for the outcome of an action on the agent.

    Source:
        Plivo docs, "PHLO API": 404. Assumed: where the same node has just taken a
        transfer, it is the member who isn't there.
    """
    if isinstance(outcome, Rejected) and outcome.status == _NOT_FOUND:
        return Input.NO_AGENT
    return input_of(outcome)
