"""Bringing the customer back: the transfer is aborted, its target known to be out."""

from aiophlo.handover.aborting import AbortAnswers, bring_back
from aiophlo.handover.conversations import Presence
from aiophlo.handover.hanging_up import prove_that_the_agent_left
from aiophlo.handover.requests import abort_once
from aiophlo.handover.states import Input, Phase
from aiophlo.handover.status import HandoverStatus
from aiophlo.model.outcomes import Outcome
from aiophlo.sending.sender import Sender


async def end_attempt(status: HandoverStatus, sender: Sender) -> None:
    """End the transfer, and make sure that its target is out."""
    status.tell(Input.GIVE_UP)
    await settle(status, sender)
    if status.phase is not Phase.WITH_AGENT:
        return
    inside = status.situation.partner is Presence.INSIDE  # perhaps just gone
    if inside or (status.may_join_late and not status.giving_up):
        await look_again(status, sender)


async def look_again(status: HandoverStatus, sender: Sender) -> None:
    """Wait for news that may contradict what was inferred, and act on them."""
    if not status.situation.ended:  # an end can't be contradicted
        await status.while_so()
        await settle(status, sender)


async def settle(status: HandoverStatus, sender: Sender) -> None:
    """Take what has begun to where it may stay."""
    async with status.settling:
        while status.phase in {Phase.BRINGING_BACK, Phase.CHECKING}:
            if status.phase is Phase.BRINGING_BACK:
                await _bring_back(status, sender)
            else:
                await _check(status, sender)


async def _check(status: HandoverStatus, sender: Sender) -> None:
    """See whether the agent is gone, and the partner stays with the customer."""
    if status.situation.may_prove:
        await prove_that_the_agent_left(status, sender)
    await status.while_so()
    if status.situation.partner is Presence.LEFT:
        await status.while_so()  # has the customer left, too?
    await status.lease.claim()  # has another process taken over meanwhile?
    status.note_newer_call()
    status.tell(Input.TIME_OVER)


async def _bring_back(status: HandoverStatus, sender: Sender) -> None:
    options = status.options

    def is_wanted() -> bool:
        status.note_newer_call()
        return status.phase is Phase.BRINGING_BACK

    async def abort(within: float) -> Outcome:
        return await abort_once(
            options.abort(),
            within,
            sender=sender,
            lease=status.lease,
            handover=status.entry.id,
            is_wanted=lambda: is_wanted() and not status.newer_transfers,
        )

    def tell(what: Input) -> bool:
        status.return_in_doubt = what is not Input.ACCEPTED
        status.tell(what)
        return is_wanted()

    await bring_back(
        abort,
        tell,
        AbortAnswers(late=status.may_join_late),
        claim=status.lease.claim,
        newer=status.newer_transfers,
        within=options.bring_back_within,
        pause=options.told_within / 4,
    )
