"""Ending a transfer: the customer comes back, and its target is known to be out."""

from aiophlo.handover.aborting import AbortAnswers, bring_back
from aiophlo.handover.standing import Standing
from aiophlo.handover.states import Input, Phase
from aiophlo.outcomes import Outcome
from aiophlo.routing import Presence
from aiophlo.sending import Journey, Sender


async def end_attempt(standing: Standing, sender: Sender) -> None:
    """End the transfer, and make sure that its target is out."""
    standing.tell(Input.GIVE_UP)
    await settle(standing, sender)
    if standing.phase is not Phase.WITH_AGENT:
        return
    inside = standing.situation.partner is Presence.INSIDE  # perhaps just gone
    if inside or (standing.may_join_late and not standing.giving_up):
        await look_again(standing, sender)


async def look_again(standing: Standing, sender: Sender) -> None:
    """Wait for news that may contradict what was inferred, and act on them."""
    if not standing.situation.ended:  # an end can't be contradicted
        await standing.while_so()
        await settle(standing, sender)


async def settle(standing: Standing, sender: Sender) -> None:
    """Take what has begun to where it may stay."""
    while standing.phase in {Phase.BRINGING_BACK, Phase.CHECKING}:
        if standing.phase is Phase.BRINGING_BACK:
            await _bring_back(standing, sender)
        else:
            await _check(standing)


async def _check(standing: Standing) -> None:
    """See whether the partner stays with the customer."""
    await standing.while_so()
    if standing.situation.partner is Presence.LEFT:
        await standing.while_so()  # has the customer left, too?
    standing.tell(Input.TIME_OVER)


async def _bring_back(standing: Standing, sender: Sender) -> None:
    plan = standing.plan

    async def abort(within: float) -> Outcome:
        return await sender.run(Journey(sender, plan.abort(), within))

    def tell(what: Input) -> bool:
        standing.return_in_doubt = what is not Input.ACCEPTED
        return standing.tell(what)

    await bring_back(
        abort,
        tell,
        AbortAnswers(late=standing.may_join_late),
        within=plan.bring_back_within,
        pause=plan.told_within / 4,
    )
