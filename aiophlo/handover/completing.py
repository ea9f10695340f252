"""Leaving the customer to the partner: the agent is hung up."""

from aiophlo.errors import PartnerLeftError
from aiophlo.handover.requests import CheckedJourney, NotNowError, input_of
from aiophlo.handover.returning import end_attempt, settle
from aiophlo.handover.standing import Standing
from aiophlo.handover.states import Input, Phase
from aiophlo.outcomes import InDoubt, Outcome, Rejected, error_of
from aiophlo.sending import Sender

_HANGUPS = 3  # requests to hang the agent up, while they stay in doubt


async def complete(standing: Standing, sender: Sender) -> None:
    """Hang the agent up, if the partner is there, and see what comes of it.

    Raises:
        HandoverError, VerdictError: As `Consult.complete` says.
    """
    outcome: Outcome | None = None
    if standing.situation.may_complete:
        outcome = await _hang_up(standing, sender)
    elif standing.phase is Phase.CONSULTING:
        await end_attempt(standing, sender)
    await settle(standing, sender)
    if _is_complete(standing):
        return
    if standing.phase is Phase.CONSULTING and not standing.situation.may_complete:
        await end_attempt(standing, sender)
    standing.raise_if_ended()
    if isinstance(outcome, InDoubt) or standing.situation.may_complete:
        assert outcome is not None  # noqa: S101 -- it was what kept us here
        raise error_of(outcome)
    raise PartnerLeftError("the partner has left; the customer is with the agent")


def _is_complete(standing: Standing) -> bool:
    """Say whether customer and partner talk, or have talked."""
    gone = standing.phase is Phase.OVER and standing.situation.agent_left
    return gone or standing.phase is Phase.WITH_PARTNER


async def _hang_up(standing: Standing, sender: Sender) -> Outcome:
    """Hang the agent up, and repeat it while that is in doubt."""
    standing.tell(Input.COMPLETE)
    first: Outcome | None = None
    for _ in range(_HANGUPS):
        outcome = await _hang_up_once(standing, sender)
        first = first or outcome
        if standing.phase is Phase.COMPLETING or isinstance(first, Rejected):
            await standing.while_so()  # the agent may be gone
        if standing.phase is not Phase.COMPLETING:
            return first
        if not standing.situation.may_complete:
            break
    standing.tell(Input.TIME_OVER)
    assert first is not None  # noqa: S101 -- one was sent at least
    return first


async def _hang_up_once(standing: Standing, sender: Sender) -> Outcome:
    journey = CheckedJourney(
        sender,
        standing.plan.hangup(),
        standing.plan.send_within,
        lambda: standing.situation.may_complete and not standing.giving_up,
    )
    outcome: Outcome | None = None
    try:
        outcome = await sender.run(journey)
    except NotNowError:
        outcome = journey.cancelled()
    finally:
        standing.tell(input_of(journey.cancelled() if outcome is None else outcome))
    return outcome
