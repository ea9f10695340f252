"""Records of a handover: each target with how its ring ended, and an open handover."""

import os
import time

import attrs

from aiophlo.model.enums import MaskedStrEnum
from aiophlo.model.redaction import mask


class Ending(MaskedStrEnum):
    """How the ring of a target ended.

    Events tell of most of these; Plivo may not tell why nobody answered, and then it
    is `no_answer`.
    """

    ANSWERED = "answered"  #: they took the call, and are the partner
    NO_ANSWER = "no_answer"  #: nobody answered in time
    BUSY = "busy"  #: the line was busy
    DECLINED = "declined"  #: they pressed the red button
    FAILED = "failed"  #: the network could not ring them
    LEFT = "left"  #: they answered, and left before the customer could be joined
    NOT_TAKEN = "not_taken"  #: `accept` said no, or took too long
    NOT_SEEN = "not_seen"  #: no event of the call came; check the webhooks, not them
    REFUSED = "refused"  #: Plivo refused to ring them
    ENGAGED = "engaged"  #: in another open handover, and so not rung
    NOT_SENT = "not_sent"  #: the request to ring them couldn't be sent


def new_handover_id() -> str:
    """Return a random id for one more handover."""
    return os.urandom(8).hex()  # as `secrets` does, which would load four modules


@attrs.frozen
class Tried:
    """A target of a handover, and how its ring ended.

    Attributes:
        to: Address.
        ending: What came of it.
    """

    to: str = attrs.field(repr=mask)
    ending: Ending


@attrs.frozen(kw_only=True)
class OpenHandover:
    """A handover whose customer may be on hold.

    Attributes:
        account: auth_id of the account.
        phlo_id: PHLO the call runs in.
        node_id: Its multi-party-call node.
        agent: Address of the agent, in the clear.
        customer: Address of the customer, masked.
        targets: Those whom the agent was to reach, masked.
        began_at: Unix time.
        id: Random.
    """

    account: str
    phlo_id: str
    node_id: str
    agent: str = attrs.field(repr=mask)
    customer: str
    targets: str
    began_at: float = attrs.field(factory=time.time)
    id: str = attrs.field(factory=new_handover_id)
