"""Sightings: what Plivo's list of calls shows of a dial that is in doubt."""

from typing import ClassVar

import attrs

from aiophlo.model.enums import MaskedStrEnum
from aiophlo.model.outcomes import Accepted, InDoubt
from aiophlo.model.redaction import mask_id, masked_repr


class CallState(MaskedStrEnum):
    """What the call is doing that a dial has made, as far as it was seen."""

    UNSEEN = "unseen"  #: no call that is certainly the dial's, which proves nothing
    QUEUED = "queued"  #: Plivo has it, and will dial
    RINGING = "ringing"  #: the phone rings
    TALKING = "talking"  #: it was answered
    ENDED = "ended"  #: it is over; `hangup_cause` says why


@attrs.frozen(kw_only=True)
class Sighting:
    """What looking for a dial's call came to.

    Attributes:
        state: What was seen: one of `Sighting.UNSEEN`, `QUEUED`, `RINGING`, `TALKING`
            and `ENDED`.
        outcome: What the dial comes to: `Accepted`, `sighted`, where its call was seen;
            else the same `InDoubt`, `looked` for once more.
        call_uuid: Plivo's id of the call, if it was seen.
        began_at: Unix time by Plivo's clock at which it was begun.
        answered_at: When it was answered.
        ended_at: When it ended.
        hangup_cause: Why it ended, in Plivo's words.
        hangup_code: Plivo's number for that.
        candidates: How many calls could be the dial's. Two are no proof.
        others: How many more went out to its phone at that time from other numbers,
            or up to a minute later.
        complete: The lists were read to their end, late enough, and often enough for
            all that they would show. Only then unseen says anything: that it
            wasn't listed.
    """

    UNSEEN: ClassVar[CallState] = CallState.UNSEEN
    QUEUED: ClassVar[CallState] = CallState.QUEUED
    RINGING: ClassVar[CallState] = CallState.RINGING
    TALKING: ClassVar[CallState] = CallState.TALKING
    ENDED: ClassVar[CallState] = CallState.ENDED

    state: CallState
    outcome: Accepted | InDoubt
    call_uuid: str | None = attrs.field(default=None, repr=masked_repr(mask_id))
    began_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    hangup_cause: str | None = None
    hangup_code: int | None = None
    candidates: int = 0
    others: int = 0
    complete: bool = True

    @property
    def nothing_listed(self) -> bool:
        """Whether lists that were read whole show no call that could be the dial's."""
        return self.complete and not (self.candidates or self.others)

    @property
    def seen(self) -> bool:
        """Whether the dial's call was seen, which proves that it was made."""
        return self.state is not CallState.UNSEEN
