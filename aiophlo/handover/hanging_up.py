"""Hanging the agent up: to complete a handover, or to prove that they have left."""

import asyncio
from collections.abc import Callable
from typing import Final

from aiophlo.handover.requests import (
    CheckedDelivery,
    NotNowError,
    input_about_agent,
    kept_back,
)
from aiophlo.handover.status import HandoverStatus
from aiophlo.model.outcomes import InDoubt, Outcome
from aiophlo.sending.sender import Sender

HANGUPS: Final = 3  # requests to hang the agent up, while they stay in doubt


async def hang_up_once(
    status: HandoverStatus, sender: Sender, may_leave: Callable[[], bool]
) -> Outcome:
    """Ask once for the agent to be hung up, and apply the answer.

    Args:
        status: Of the handover.
        sender: Sends for the account.
        may_leave: Says whether it is right still, when the request is about to leave.
    """
    options, lease = status.options, status.lease
    await lease.claim()
    delivery = CheckedDelivery(
        sender.context,
        options.hangup(),
        options.send_within,
        lambda: kept_back(
            wanted=may_leave()
            and not (status.newer_transfers or status.agent_is_elsewhere()),
            leased=lease.holds,
        ),
    )
    delivery.handover = status.entry.id
    try:
        return await sender.run(delivery)
    except NotNowError:
        return delivery.cancelled()
    finally:
        status.tell(input_about_agent(delivery.cancelled()))
        status.note_newer_call()


async def prove_that_the_agent_left(status: HandoverStatus, sender: Sender) -> None:
    """Hang an agent up who has left, if the event that said so is right.

    If it isn't, the agent is gone after it: the customer is with the partner either
    way. In doubt, it is asked again.
    """
    for number in range(HANGUPS):
        if number:
            await asyncio.sleep(status.options.told_within / 4)
        outcome = await hang_up_once(status, sender, lambda: status.situation.may_prove)
        if not (status.situation.may_prove and isinstance(outcome, InDoubt)):
            return
