"""What came of an action: exactly one of four verdicts.

The question behind all four is whether a phone can be ringing. They are made
for `match`::

    match outcome:
        case Accepted(api_id=api_id): ...
        case Rejected(status=status, error=error): ...
        case NotSent(reason=reason): ...
        case InDoubt(reason=reason): ...
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, Final

import attrs

from aiophlo.actions import Action
from aiophlo.addresses import mask_id, mask_text
from aiophlo.errors import (
    CredentialsError,
    InDoubtError,
    NotFoundError,
    NotSentError,
    RejectedError,
    VerdictError,
)

CREDENTIALS_REFUSED: Final = frozenset({401, 403})  # statuses about who asks


class Reason(StrEnum):
    """Why an action was not sent, or is in doubt."""

    # not sent
    UNREACHABLE = "unreachable"  # no connection, so no request
    EXPIRED = "expired"  # it could not leave within `send_within`
    THROTTLED = "throttled"  # every answer was 429
    NO_BUDGET = "no_budget"  # the account's retries are used up
    CLOSED = "closed"  # the pool or its session is closed
    OVERTAKEN = "overtaken"  # what undoes it was asked for before it left
    DUPLICATE = "duplicate"  # its key came before in this batch
    INVALID = "invalid"  # it is no action, or its account or key can't be right
    STOPPED = "stopped"  # the batch stopped by itself
    # in doubt
    SILENT = "silent"  # no answer within `answer_within`, or a 408
    DISCONNECTED = "disconnected"  # the connection ended before an answer
    SERVER_ERROR = "server_error"  # 5xx
    UNREADABLE = "unreadable"  # an answer that can't be understood
    REDIRECTED = "redirected"  # 301 to 303: somebody may have acted on it
    CANCELLED = "cancelled"  # the caller went away while it was in flight
    INTERRUPTED = "interrupted"  # the process ended before the outcome was noted
    UNKNOWN = "unknown"  # anything not foreseen

    __repr__ = StrEnum.__str__


def _repr_text(text: str | None) -> str:
    return repr(None if text is None else mask_text(text))


def _repr_id(value: str | None) -> str:
    return repr(None if value is None else mask_id(value))


@attrs.frozen(kw_only=True)
class Outcome:
    """What every outcome tells; it is always one of the four subclasses.

    Attributes:
        action: What was asked.
        attempts: How many requests were begun for it.
        seconds: From asking to knowing.
        waited: Seconds of these until the last attempt had its slot.
        status: HTTP status of the answer that decided, if there was one.
        api_id: Plivo's id of that request, never of a call.
        body: The answer's JSON object, else empty.
        error: What Plivo or the connection said went wrong. May quote a
            number: `repr` and exceptions mask it, you should too.
        joined: This is the outcome of an equal action already under way.
    """

    verdict: ClassVar[str] = ""
    action: Action
    attempts: int = 1
    seconds: float = attrs.field(default=0.0, eq=False)
    waited: float = attrs.field(default=0.0, eq=False)
    status: int | None = None
    api_id: str | None = attrs.field(default=None, repr=_repr_id)
    body: Mapping[str, Any] = attrs.field(factory=dict, repr=False, hash=False)
    error: str | None = attrs.field(default=None, repr=_repr_text)
    joined: bool = False


class Accepted(Outcome):
    """Plivo said yes."""

    __slots__ = ()
    verdict: ClassVar[str] = "accepted"


class Rejected(Outcome):
    """Plivo said no: nothing rings."""

    __slots__ = ()
    verdict: ClassVar[str] = "rejected"


@attrs.frozen(kw_only=True)
class NotSent(Outcome):
    """Nothing rings: the request never left, or every answer was 429.

    Attributes:
        reason: Why.
        retry_after: Seconds that Plivo asked to wait, if it did.
    """

    verdict: ClassVar[str] = "not_sent"
    reason: Reason
    retry_after: float | None = None


@attrs.frozen(kw_only=True)
class InDoubt(Outcome):
    """The request left and no clear answer came back: a phone may be ringing.

    Attributes:
        reason: What happened instead of an answer.
    """

    verdict: ClassVar[str] = "in_doubt"
    reason: Reason


def combine(earlier: Outcome | None, latest: Outcome) -> Outcome:
    """Return the verdict on an action after one more attempt at it.

    Accepted wins. Otherwise an attempt in doubt stays in doubt, whatever a
    later one was told: the first may have been carried out all the same.

    Args:
        earlier: The verdict before this attempt.
        latest: This attempt's own; its counts and times are the sum.
    """
    if isinstance(latest, Accepted) or not isinstance(earlier, (Accepted, InDoubt)):
        return latest
    return attrs.evolve(
        earlier,
        attempts=latest.attempts,
        seconds=latest.seconds,
        waited=latest.waited,
    )


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
    if outcome.error:
        parts.append(mask_text(outcome.error))
    return f": {', '.join(parts)}" if parts else ""
