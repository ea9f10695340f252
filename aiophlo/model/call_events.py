"""What an event tells of a call, in the few words that handovers go by."""

import math
from collections.abc import Collection

import attrs


@attrs.define  # and not frozen, which would take a sixth of what an event costs
class CallEvent:
    """Somebody joined a conversation, or left it; never changed.

    Between pools the keys and ids are keyed digests; `WITHHELD` and what is empty
    stay as they are.

    Attributes:
        keys: Of the member, as `aiophlo.model.address_matching` says; none if it
            can't be told who the event is about.
        call_uuid: The member's call; empty if it wasn't said.
        conference_uuid: The conversation; empty if it wasn't said.
        called_in: Whether it is said that the member called in.
        left: Whether they left; or else joined.
        unanswered: The status of a call that nobody took, in lower case, if the event
            tells of one.
        id: Random; 0 for one that no other pool hears of.
        at: When a pool first heard of it, by the clock of whoever compares it;
            infinity for now.
    """

    keys: tuple[str, ...] = attrs.field(repr=False)
    call_uuid: str = attrs.field(repr=False)
    conference_uuid: str = attrs.field(repr=False)
    called_in: bool
    left: bool
    unanswered: str | None = None
    id: int = 0
    at: float = math.inf

    def is_of(self, keys: Collection[str]) -> bool:
        """Say whether it is about who has one of these keys."""
        return any(key in keys for key in self.keys)
