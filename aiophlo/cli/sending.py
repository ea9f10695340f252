"""Sending from a command: one action for its outcome, whatever the verdict."""

from aiophlo.cli.terminal_text import harmless
from aiophlo.errors import VerdictError
from aiophlo.model.actions import Action
from aiophlo.model.outcomes import Outcome, reason_of
from aiophlo.pool import SessionPool


async def outcome_of(
    pool: SessionPool,
    action: Action,
    *,
    send_within: float | None,
    look: bool = False,
) -> Outcome:
    """Send `action` and return its outcome instead of raising it.

    Args:
        pool: Open, with one account.
        action: What is asked.
        send_within: Seconds after which sending is worthless; None never.
        look: Look for it if it is in doubt.
    """
    try:
        return await pool.send(action, send_within=send_within, look=look)
    except VerdictError as error:
        return error.outcome


def known_of(outcome: Outcome) -> str:
    """Return what is known of an outcome besides its verdict; empty if nothing is."""
    status = None if outcome.status is None else f"status {outcome.status}"
    parts = (reason_of(outcome), status, harmless(outcome.error))
    return ", ".join(filter(None, parts))
