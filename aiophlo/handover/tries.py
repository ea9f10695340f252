"""Who was to be reached, and what came of it."""

from enum import StrEnum

import attrs

from aiophlo.addresses import mask


class Ending(StrEnum):
    """What came of trying to reach somebody."""

    NO_ANSWER = "no_answer"  # nobody answered in time: ignored, busy or declined
    LEFT = "left"  # they left before the customer could be joined
    NOT_TAKEN = "not_taken"  # `accept` said no
    REFUSED = "refused"  # Plivo refused to ring them
    ENGAGED = "engaged"  # another open handover is about them: they were not rung


@attrs.frozen
class Tried:
    """Somebody who was to be reached.

    Attributes:
        to: Address.
        ending: What came of it.
    """

    to: str = attrs.field(repr=mask)
    ending: Ending
