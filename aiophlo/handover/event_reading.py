"""What an event tells of a call, as routers go by it.

Pure.
"""

from typing import Final

from aiophlo.model.call_events import CallEvent
from aiophlo.webhooks.events import Event, MemberJoined, MemberLeft

# Statuses of a call that was never answered.
UNANSWERED: Final = frozenset(
    {"busy", "cancel", "canceled", "failed", "no-answer", "rejected", "timeout"}
)


def read_event(event: Event) -> CallEvent | None:
    """Return what an event tells of a joining or a leaving; None if of neither."""
    unanswered = _unanswered(event)
    left = unanswered is not None or isinstance(event, MemberLeft)
    if not left and not isinstance(event, MemberJoined):
        return None
    return CallEvent(
        event.member_keys,
        event.call_uuid or "",
        event.conference_uuid or "",
        event.called_in,
        left,
        unanswered,
    )


def _unanswered(event: Event) -> str | None:
    """Return the status of a call that nobody answered, if an event tells of one."""
    status = (event.call_status or "").lower()
    return status if status in UNANSWERED else None
