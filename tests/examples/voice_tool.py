"""A voice agent's tool: hand the caller over to a human, not to their voicemail."""

import asyncio
from collections.abc import Awaitable, Callable

from aiophlo import (
    Consult,
    CustomerOnHoldError,
    EventRouter,
    HandoverError,
    SessionPool,
    VerdictError,
)
from aiophlo.handles import MultiPartyCall

HUMANS = ["+14155550198", "+14155550199"]

# What the language model is told of it.
SCHEMA = {
    "name": "transfer_to_human",
    "description": "Hand the caller over to a human who can help them.",
    "parameters": {"type": "object", "properties": {}},
}


async def transfer_to_human(
    pool: SessionPool,
    node: MultiPartyCall,
    router: EventRouter,
    *,
    agent: str,
    caller: str,
    ask_partner: Callable[[str], Awaitable[str]],
) -> dict[str, str]:
    """Run the tool; `ask_partner` speaks to the partner and returns their answer."""

    async def accept(consult: Consult) -> bool:
        del consult
        try:
            async with asyncio.timeout(10.0):
                answer = await ask_partner("I have a caller for you. Will you take it?")
        except TimeoutError:  # it may be a machine: let the next one ring
            return False
        return answer.strip().lower().startswith("yes")

    try:
        await pool.hand_over(
            node, agent=agent, customer=caller, to=HUMANS, router=router, accept=accept
        )
    except CustomerOnHoldError:
        raise  # nothing to say to anybody: the operators have been alarmed
    except (HandoverError, VerdictError):
        return {"result": "failed", "say": "Nobody is free, so let me go on."}
    return {"result": "transferred"}
