"""Completing a handover: the agent is hung up, and the partner has the customer."""

from aiophlo.errors import HandoverError, PartnerLeftError, error_of
from aiophlo.handover.bringing_back import end_attempt, settle
from aiophlo.handover.hanging_up import HANGUPS, hang_up_once
from aiophlo.handover.states import Input, Phase
from aiophlo.handover.status import HandoverStatus
from aiophlo.model.outcomes import InDoubt, Outcome, Rejected
from aiophlo.sending.sender import Sender


async def complete(status: HandoverStatus, sender: Sender) -> None:
    """Hang the agent up, if the partner is there, and see what comes of it.

    Raises:
        HandoverError, VerdictError: As `Consult.complete` says.
    """
    outcome: Outcome | None = None
    if status.situation.may_complete:
        outcome = await _hang_up(status, sender)
    elif status.phase is Phase.CONSULTING:
        await end_attempt(status, sender)
    await settle(status, sender)
    if _is_complete(status):
        return
    if status.phase is Phase.CONSULTING and not status.situation.may_complete:
        await end_attempt(status, sender)
    status.raise_if_ended()
    if status.giving_up and not isinstance(outcome, InDoubt):
        raise HandoverError(f"the handover was ended from elsewhere ({status!r})")
    if isinstance(outcome, InDoubt) or status.situation.may_complete:
        assert outcome is not None  # noqa: S101 -- it was what kept us here
        raise error_of(outcome)
    raise PartnerLeftError("the partner has left; the customer is with the agent")


def _is_complete(status: HandoverStatus) -> bool:
    """Say whether customer and partner talk, or have talked."""
    gone = status.phase is Phase.OVER and status.situation.agent_left
    return gone or status.phase is Phase.WITH_PARTNER


async def _hang_up(status: HandoverStatus, sender: Sender) -> Outcome:
    """Hang the agent up, and repeat it while that is in doubt."""
    status.tell(Input.COMPLETE)
    first: Outcome | None = None
    for _ in range(HANGUPS):
        async with status.settling:  # an event may tell of it before the answer
            outcome = await hang_up_once(
                status,
                sender,
                lambda: status.situation.may_complete and not status.giving_up,
            )
        first = first or outcome
        if status.phase is Phase.COMPLETING or isinstance(first, Rejected):
            await status.while_so()  # the agent may be gone
        if status.phase is not Phase.COMPLETING:
            return first
        if not status.situation.may_complete:
            break
    status.tell(Input.TIME_OVER)
    assert first is not None  # noqa: S101 -- one was sent at least
    return first
