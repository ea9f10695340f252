"""Everything aiophlo raises on purpose, one branch per verdict.

::

    PhloError
    ├── InvalidInputError (also ValueError)   nothing was sent
    │   └── InvalidAddressError
    ├── JournalError                          a batch's memory can't be trusted
    ├── HandoverError                         a handover didn't come off
    │   ├── NobodyAnsweredError               the customer is back with the agent
    │   ├── PartnerLeftError                  the customer is back with the agent
    │   ├── CustomerLeftError                 the customer hung up
    │   └── CustomerOnHoldError               the customer may be alone: act now
    └── VerdictError                          carries its outcome
        ├── RejectedError                     Plivo said no
        │   ├── CredentialsError              401, 403
        │   └── NotFoundError                 404: no such PHLO, node or member
        ├── NotSentError                      nothing rings
        └── InDoubtError                      a phone may be ringing
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiophlo.handover.table import OpenHandover
    from aiophlo.handover.tries import Tried
    from aiophlo.outcomes import InDoubt, NotSent, Outcome, Rejected


class PhloError(Exception):
    """Base of everything aiophlo raises on purpose."""


class InvalidInputError(PhloError, ValueError):
    """A value can't be used; nothing was sent.

    The message names the field and what would be right, and masks the value.

    Attributes:
        field: Name of the field at fault.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)  # args stay (message,), so it pickles and copies
        self.field = field


class InvalidAddressError(InvalidInputError):
    """An address is neither an E.164 number nor a SIP endpoint."""


class JournalError(PhloError):
    """A batch's journal can't be opened, read or written.

    What was waiting on it counts as unrecorded: send nothing for it.
    """


class HandoverError(PhloError):
    """A handover didn't come off; unless it says otherwise, all is as before."""


class NobodyAnsweredError(HandoverError):
    """Nobody of those who were to be reached took the call.

    The customer is back with the agent.

    Attributes:
        tried: Who was tried, in order, and what came of it.
    """

    def __init__(self, message: str, *, tried: tuple[Tried, ...] = ()) -> None:
        super().__init__(message)
        self.tried = tried


class PartnerLeftError(HandoverError):
    """The partner left before the customer was joined to them.

    The customer is back with the agent.
    """


class CustomerLeftError(HandoverError):
    """The customer hung up; nobody rings for them any more."""


class CustomerOnHoldError(HandoverError):
    """Nobody can say that the customer isn't alone or hearing music: act now.

    Attributes:
        handover: Which one, with the agent's address in the clear.
    """

    def __init__(self, message: str, *, handover: OpenHandover | None = None) -> None:
        super().__init__(message)
        self.handover = handover


class VerdictError(PhloError):
    """An action was not accepted.

    Attributes:
        outcome: What is known, with the action, attempts and seconds.
    """

    def __init__(self, message: str, *, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome


class RejectedError(VerdictError):
    """Plivo said no: nothing rings, and asking again would not help.

    Attributes:
        outcome: The `Rejected`, with status, error text and body.
    """

    outcome: Rejected | None


class CredentialsError(RejectedError):
    """Plivo refused the account's credentials (401, 403)."""


class NotFoundError(RejectedError):
    """Plivo knows no such PHLO, node or member (404)."""


class NotSentError(VerdictError):
    """Nothing rings: the request never left, or every answer was 429.

    Attributes:
        outcome: The `NotSent`; its `reason` says why.
    """

    outcome: NotSent | None


class InDoubtError(VerdictError):
    """The request left and no clear answer came back: a phone may be ringing.

    Attributes:
        outcome: The `InDoubt`; its `reason` says what went wrong.
    """

    outcome: InDoubt | None
