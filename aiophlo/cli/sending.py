"""Sending from a command: one action for its outcome, whatever the verdict."""

from aiophlo.errors import VerdictError
from aiophlo.model.actions import Action
from aiophlo.model.outcomes import Outcome
from aiophlo.pool import SessionPool


async def outcome_of(
    pool: SessionPool, action: Action, *, send_within: float | None
) -> Outcome:
    """Send `action` and return its outcome instead of raising it.

    Args:
        pool: Open, with one account.
        action: What is asked.
        send_within: Seconds after which sending is worthless; None never.
    """
    try:
        return await pool.send(action, send_within=send_within)
    except VerdictError as error:
        if error.outcome is None:
            raise
        return error.outcome
