"""Questions to Plivo's list of calls: GETs that a look makes, as actions.

They go the way of every action: slot, exchange, verdict, observers. Nobody builds one
but `aiophlo.looking`.
"""

from typing import ClassVar, Literal

import attrs

from aiophlo.model.actions import Action, Lane
from aiophlo.model.redaction import mask, mask_id, masked_repr

CallStatus = Literal["", "live", "queued"]  # "" for those that are over
PAGE = 20  # calls at most in one answer


@attrs.frozen(kw_only=True)
class CallQuery(Action):
    """What questions to the list of calls have in common; `phlo_id` is not sent.

    Attributes:
        status: In which of the three lists.
    """

    verb: ClassVar[str] = ""
    idempotent: ClassVar[bool] = True
    reads: ClassVar[bool] = True
    dials: ClassVar[bool] = False
    ends_dials: ClassVar[bool] = False
    lane: ClassVar[Lane] = Lane.LOOKED
    undone_by: ClassVar[frozenset[str]] = frozenset()
    status: CallStatus


@attrs.frozen(kw_only=True)
class ListCalls(CallQuery):
    """List calls.

    Attributes:
        to: Those to this address alone, if given.
        ended_from: Those that ended at this Unix time or later, if given.
        offset: How many to pass over.

    Source:
        Plivo docs, "Calls"; plivo-python, `calls.py`, `live_calls.py` and
        `queued_calls.py`: queued calls can't be filtered by number.
    """

    to: str | None = attrs.field(default=None, repr=masked_repr(mask))
    ended_from: float | None = None
    offset: int = 0


@attrs.frozen(kw_only=True)
class GetCall(CallQuery):
    """Describe one call.

    Attributes:
        call_uuid: Which.

    Source:
        As for `ListCalls`.
    """

    call_uuid: str = attrs.field(repr=masked_repr(mask_id))
