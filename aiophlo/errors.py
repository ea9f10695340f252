"""Everything aiophlo raises on purpose, one branch per verdict.

::

    PhloError
    ├── InvalidInputError (also ValueError)   nothing was sent
    │   └── InvalidAddressError
    ├── JournalError                          a batch's memory can't be trusted
    │   └── JournalInUseError                 another runner has it
    ├── HandoverError                         a handover didn't come off
    │   ├── EngagedError                      they are in another one: nothing was sent
    │   ├── NobodyAnsweredError               the customer is back with the agent
    │   ├── PartnerLeftError                  the customer is back with the agent
    │   ├── CustomerLeftError                 the customer hung up
    │   ├── TakenOverError                    another process sees to the customer
    │   └── CustomerOnHoldError               the customer may be alone: act now
    └── VerdictError                          carries its outcome
        ├── RejectedError                     Plivo said no
        │   ├── CredentialsError              401, 403
        │   └── NotFoundError                 404: no such PHLO, node or member
        ├── NotSentError                      nothing rings
        └── InDoubtError                      a phone may be ringing
"""

from typing import Any, TypeVar

from aiophlo.model.actions import Action
from aiophlo.model.handover_records import OpenHandover, Tried
from aiophlo.model.invalid_input import (
    InvalidAddressError,
    InvalidInputError,
    PhloError,
)
from aiophlo.model.outcomes import (
    CREDENTIALS_REFUSED,
    Accepted,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    Rejected,
    reason_of,
)
from aiophlo.model.redaction import mask, mask_text

__all__ = [
    "CredentialsError",
    "CustomerLeftError",
    "CustomerOnHoldError",
    "EngagedError",
    "HandoverError",
    "InDoubtError",
    "InvalidAddressError",
    "InvalidInputError",
    "JournalError",
    "JournalInUseError",
    "NobodyAnsweredError",
    "NotFoundError",
    "NotSentError",
    "PartnerLeftError",
    "PhloError",
    "RejectedError",
    "TakenOverError",
    "VerdictError",
    "accepted_or_raise",
    "engaged_error",
    "error_of",
]

_ErrorT = TypeVar("_ErrorT", bound=BaseException)


class JournalError(PhloError):
    """A batch's journal can't be opened, read or written.

    What was waiting on it counts as unrecorded: send nothing for it.
    """


class JournalInUseError(JournalError):
    """Another runner has the journal: wait for it, or use a journal of your own."""


class HandoverError(PhloError):
    """A handover didn't come off; unless it says otherwise, all is as before."""


class EngagedError(HandoverError):
    """A party is in another open handover; nothing was sent, and all is as before.

    Attributes:
        field: Who: `agent`, `to` if it is everybody to be reached, or
            `conference_uuid`.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def engaged_error(field: str, *addresses: str) -> EngagedError:
    """Return the error about who is in another open handover, masked.

    Args:
        field: As `EngagedError` has it.
        addresses: Theirs; none for a conversation.
    """
    shown = ", ".join(map(mask, addresses)) or "one conversation"
    return EngagedError(f"{field}: {shown} can't be in two open handovers", field=field)


class NobodyAnsweredError(HandoverError):
    """Nobody of those who were to be reached took the call.

    The customer is back with the agent; where the message says that nobody is known to
    have taken it, only if the agent is in the call, of which no event came.

    Attributes:
        tried: Who was tried, in order, and what came of it.
    """

    def __init__(self, message: str, *, tried: tuple[Tried, ...] = ()) -> None:
        super().__init__(message)
        self.tried = tried


class TakenOverError(HandoverError):
    """Another process has taken the handover over, as this one was stopped or cut off.

    It brings the customer back to the agent, and raises the alarm where it can't: do
    nothing more for this call.
    """


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

    outcome: Rejected | NotSent | InDoubt

    def __init__(
        self,
        message: str,
        *,
        outcome: Rejected | NotSent | InDoubt,
    ) -> None:
        super().__init__(message)
        self.outcome = outcome

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled by its arguments alone it would lack its outcome when it is built.
        return _bare, (type(self), *self.args), self.__dict__

    @property
    def action(self) -> Action:
        """What was asked."""
        return self.outcome.action

    @property
    def attempts(self) -> int:
        """How many requests were begun for it."""
        return self.outcome.attempts

    @property
    def seconds(self) -> float:
        """From asking to knowing."""
        return self.outcome.seconds

    @property
    def status(self) -> int | None:
        """HTTP status of the answer that decided, if there was one."""
        return self.outcome.status

    @property
    def reason(self) -> Reason | None:
        """Why, if it was not sent or is in doubt."""
        return reason_of(self.outcome)


def _bare(kind: type[_ErrorT], *args: object) -> _ErrorT:
    """Return an error without its attributes, which copying and unpickling set."""
    return kind.__new__(kind, *args)


class RejectedError(VerdictError):
    """Plivo said no: nothing rings, and asking again would not help.

    Attributes:
        outcome: The `Rejected`, with status, error text and body.
    """

    outcome: Rejected

    def __init__(self, message: str, *, outcome: Rejected) -> None:
        super().__init__(message, outcome=outcome)


class CredentialsError(RejectedError):
    """Plivo refused the account's credentials (401, 403)."""


class NotFoundError(RejectedError):
    """Plivo knows no such PHLO, node or member (404)."""


class NotSentError(VerdictError):
    """Nothing rings: the request never left, or every answer was 429.

    Of `Consult.complete` it says that the agent wasn't hung up: a partner had
    answered, and leaving the block ends that.

    Attributes:
        outcome: The `NotSent`; its `reason` says why.
    """

    outcome: NotSent

    def __init__(self, message: str, *, outcome: NotSent) -> None:
        super().__init__(message, outcome=outcome)

    @property
    def reason(self) -> Reason:
        """Why it was not sent."""
        return self.outcome.reason


class InDoubtError(VerdictError):
    """The request left and no clear answer came back: a phone may be ringing.

    Attributes:
        outcome: The `InDoubt`; its `reason` says what went wrong.
    """

    outcome: InDoubt

    def __init__(self, message: str, *, outcome: InDoubt) -> None:
        super().__init__(message, outcome=outcome)

    @property
    def reason(self) -> Reason:
        """What happened instead of an answer."""
        return self.outcome.reason


def accepted_or_raise(outcome: Outcome) -> Accepted:
    """Return an accepted `outcome`; raise the exception of any other.

    Raises:
        RejectedError: Plivo said no.
        NotSentError: Nothing rings.
        InDoubtError: A phone may be ringing.
    """
    if isinstance(outcome, Accepted):
        return outcome
    raise error_of(outcome)


def error_of(outcome: Outcome) -> VerdictError:
    """Return the exception that carries `outcome`, its message masked."""
    kind = type(outcome.action).__name__
    if isinstance(outcome, Rejected):
        return _rejected_class(outcome.status)(
            f"{kind} was rejected{_details(outcome)}", outcome=outcome
        )
    if isinstance(outcome, NotSent):
        return NotSentError(
            f"{kind} was not sent ({outcome.reason}){_details(outcome)}",
            outcome=outcome,
        )
    if isinstance(outcome, InDoubt):
        return InDoubtError(
            f"{kind} is in doubt ({outcome.reason}){_details(outcome)}",
            outcome=outcome,
        )
    raise TypeError(f"expected an outcome other than Accepted, got {outcome!r}")


def _rejected_class(status: int | None) -> type[RejectedError]:
    if status in CREDENTIALS_REFUSED:
        return CredentialsError
    return NotFoundError if status == 404 else RejectedError  # noqa: PLR2004 -- HTTP's


def _details(outcome: Outcome) -> str:
    parts = []
    if outcome.status is not None:
        parts.append(f"status {outcome.status}")
    if outcome.attempts > 1:
        parts.append(f"{outcome.attempts} attempts")
    if isinstance(outcome, InDoubt) and outcome.looked:
        parts.append(f"looked for {outcome.looked} times")
    if outcome.error:
        parts.append(mask_text(outcome.error))
    return f": {', '.join(parts)}" if parts else ""
