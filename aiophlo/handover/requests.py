"""One request of a handover: checked as it leaves; its outcome as an input."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from aiophlo.coordination import Claim, Lease
from aiophlo.handover.states import Input
from aiophlo.model.actions import AbortTransfer, Action
from aiophlo.model.outcomes import (
    Accepted,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    Rejected,
)
from aiophlo.protocol.tracked_request import TrackedRequest
from aiophlo.sending.delivery import Delivery, DeliveryContext
from aiophlo.sending.sender import Sender

_NOT_FOUND: Final = HTTPStatus.NOT_FOUND


class NotNowError(Exception):
    """A request that was about to leave may not, or is not wanted any more."""


class CheckedDelivery(Delivery):
    """A delivery that checks, before each of its requests, whether it may leave.

    Args:
        context: What the deliveries of its account share.
        action: What is asked for.
        within: Seconds after which it is worthless.
        check: Says why it may not; None if it may. If not, `NotNowError` is raised,
            and nothing leaves.
    """

    __slots__ = ("_check", "_why")

    def __init__(
        self,
        context: DeliveryContext,
        action: Action,
        within: float,
        check: Callable[[], Reason | None],
    ) -> None:
        super().__init__(context, action, within)
        self._check = check
        self._why = Reason.CANCELLED

    def begin_request(self) -> TrackedRequest:
        """Count one more request as under way, if it may leave.

        It is checked again in the moment of leaving: connecting takes its time.

        Raises:
            NotNowError: It may not.
        """
        why = self._check()
        if why is not None:
            self._why = why
            self.prevented_by = NotNowError()
            raise self.prevented_by
        tracked = super().begin_request()
        also = tracked.may_leave
        tracked.may_leave = lambda: self._check() is None and (also is None or also())
        return tracked

    def cancelled(self) -> Outcome:
        """Return the verdict on an action that was kept back, or whose caller left."""
        return self._unfinished(self._why)


def kept_back(*, wanted: bool, leased: bool) -> Reason | None:
    """Say why a request may not leave; None if it may.

    Args:
        wanted: Whether the handover still needs it.
        leased: Whether its lease allows it.
    """
    if not wanted:
        return Reason.CANCELLED
    return None if leased else Reason.NOT_COORDINATED


async def abort_once(
    action: AbortTransfer,
    within: float,
    *,
    sender: Sender,
    lease: Lease,
    handover: str,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Outcome:
    """Ask once for a customer to be brought back, unless another process does.

    Args:
        action: What is asked for.
        within: Seconds after which it is worthless.
        sender: Sends for the account.
        lease: Of the handover.
        handover: Its id.
        is_wanted: Says whether it is right still, when the request is about to leave.
    """
    if await lease.claim() not in {Claim.HELD, Claim.UNCLAIMED}:
        return NotSent(action=action, reason=Reason.NOT_COORDINATED, attempts=0)
    delivery = CheckedDelivery(
        sender.context,
        action,
        within,
        lambda: kept_back(wanted=is_wanted(), leased=lease.may_bring_back),
    )
    delivery.handover = handover
    try:
        return await sender.run(delivery)
    except NotNowError:
        return delivery.cancelled()


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
