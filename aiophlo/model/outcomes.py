"""Outcomes: what came of an action, exactly one of four verdicts.

The question behind all four is whether a phone can be ringing. They are made
for `match`::

    match outcome:
        case Accepted(api_id=api_id): ...
        case Rejected(status=status, error=error): ...
        case NotSent(reason=reason): ...
        case InDoubt(reason=reason): ...
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, TypeAlias

import attrs

from aiophlo.model.actions import Action
from aiophlo.model.enums import MaskedStrEnum
from aiophlo.model.redaction import mask_id, mask_text, masked_repr

CREDENTIALS_REFUSED: Final = frozenset({401, 403})  # statuses about who asks


class Reason(MaskedStrEnum):
    """Why an action was not sent, or is in doubt."""

    # not sent
    UNREACHABLE = "unreachable"  #: no connection, so no request
    STALE_CONNECTION = "stale_connection"  #: the kept one had ended before the body
    OUT_OF_FILES = "out_of_files"  #: no file descriptor is left for a connection
    MISCONFIGURED = "misconfigured"  #: no connection, and no further try will get one
    EXPIRED = "expired"  #: it could not leave within `send_within`
    THROTTLED = "throttled"  #: every answer was 429
    NO_BUDGET = "no_budget"  #: the account's retries are used up
    CLOSED = "closed"  #: the pool or its session is closed
    NOT_COORDINATED = "not_coordinated"  #: a handover that other pools can't know of
    SUPERSEDED = "superseded"  #: what undoes it was asked for before it left
    DUPLICATE = "duplicate"  #: its key or an equal dial came before in this batch
    INVALID = "invalid"  #: it is no action, or its account or key can't be right
    STOPPED = "stopped"  #: the batch stopped by itself
    # in doubt
    SILENT = "silent"  #: no answer within `answer_within`, or a 408
    DISCONNECTED = "disconnected"  #: the connection ended before an answer
    SERVER_ERROR = "server_error"  #: 5xx
    UNREADABLE = "unreadable"  #: an answer that can't be understood
    REDIRECTED = "redirected"  #: 301 to 303, and a server may have acted on it
    CANCELLED = "cancelled"  #: the caller went away while it was in flight
    INTERRUPTED = "interrupted"  #: the process ended before the outcome was noted
    UNKNOWN = "unknown"  #: anything not foreseen

    __repr__ = MaskedStrEnum.__str__


@attrs.frozen(kw_only=True)
class _Outcome:
    """What the four verdicts have in common."""

    verdict: ClassVar[str] = ""
    action: Action
    attempts: int = 1
    seconds: float = attrs.field(default=0.0, eq=False)
    waited: float = attrs.field(default=0.0, eq=False)
    status: int | None = None
    api_id: str | None = attrs.field(default=None, repr=masked_repr(mask_id))
    body: Mapping[str, Any] = attrs.field(factory=dict, repr=False, hash=False)
    error: str | None = attrs.field(default=None, repr=masked_repr(mask_text))
    joined: bool = False
    request_id: str | None = attrs.field(
        default=None, eq=False, repr=masked_repr(mask_id)
    )


@attrs.frozen(kw_only=True)
class Accepted(_Outcome):
    """Plivo said yes, or its list of calls shows that the phone was rung.

    Attributes:
        sighted: Plivo never said yes: `SessionPool.look` saw the call.
        action: What was asked.
        attempts: How many requests were begun for it.
        seconds: From asking to knowing.
        waited: Seconds of these until the last attempt had its slot.
        status: HTTP status of the answer that decided, if there was one.
        api_id: Plivo's id of that request, never of a call.
        request_id: What the answer's `X-Request-ID` says, if it has one.
        body: The answer's JSON object, else empty.
        error: What Plivo or the connection said went wrong. May quote a
            number: `repr` and exceptions mask it, you should too.
        joined: This is the outcome of an equal action already under way.
    """

    verdict: ClassVar[str] = "accepted"
    sighted: bool = False


class Rejected(_Outcome):
    """Plivo said no: nothing rings.

    Attributes:
        action: What was asked.
        attempts: How many requests were begun for it.
        seconds: From asking to knowing.
        waited: Seconds of these until the last attempt had its slot.
        status: HTTP status of the answer that decided, if there was one.
        api_id: Plivo's id of that request, never of a call.
        request_id: What the answer's `X-Request-ID` says, if it has one.
        body: The answer's JSON object, else empty.
        error: What Plivo or the connection said went wrong. May quote a
            number: `repr` and exceptions mask it, you should too.
        joined: This is the outcome of an equal action already under way.
    """

    __slots__ = ()
    verdict: ClassVar[str] = "rejected"


@attrs.frozen(kw_only=True)
class NotSent(_Outcome):
    """Nothing rings: the request never left, or every answer was 429.

    Attributes:
        reason: Why.
        retry_after: Seconds that Plivo asked to wait, if it did.
        action: What was asked.
        attempts: How many requests were begun for it.
        seconds: From asking to knowing.
        waited: Seconds of these until the last attempt had its slot.
        status: HTTP status of the answer that decided, if there was one.
        api_id: Plivo's id of that request, never of a call.
        request_id: What the answer's `X-Request-ID` says, if it has one.
        body: The answer's JSON object, else empty.
        error: What Plivo or the connection said went wrong. May quote a
            number: `repr` and exceptions mask it, you should too.
        joined: This is the outcome of an equal action already under way.
    """

    verdict: ClassVar[str] = "not_sent"
    reason: Reason
    retry_after: float | None = None


@attrs.frozen(kw_only=True)
class InDoubt(_Outcome):
    """The request left and no clear answer came back: a phone may be ringing.

    Attributes:
        reason: What happened instead of an answer.
        left_at: Unix time at which the request in doubt was about to leave, where
            that is known.
        looked: How often its phone was looked for in Plivo's list of calls.
        action: What was asked.
        attempts: How many requests were begun for it.
        seconds: From asking to knowing.
        waited: Seconds of these until the last attempt had its slot.
        status: HTTP status of the answer that decided, if there was one.
        api_id: Plivo's id of that request, never of a call.
        request_id: What the answer's `X-Request-ID` says, if it has one.
        body: The answer's JSON object, else empty.
        error: What Plivo or the connection said went wrong. May quote a
            number: `repr` and exceptions mask it, you should too.
        joined: This is the outcome of an equal action already under way.
    """

    verdict: ClassVar[str] = "in_doubt"
    reason: Reason
    left_at: float | None = attrs.field(default=None, eq=False)
    looked: int = 0


SIGHTED: Final = "sighted"  # in a journal or a file of results

# A union and not their base: a type checker sees when `match` forgets one.
Outcome: TypeAlias = Accepted | Rejected | NotSent | InDoubt
VERDICTS: Final = tuple(kind.verdict for kind in (Accepted, Rejected, NotSent, InDoubt))


def reason_of(outcome: Outcome) -> Reason | None:
    """Return why an action was not sent or is in doubt; None if it is neither."""
    return outcome.reason if isinstance(outcome, NotSent | InDoubt) else None


def why_of(outcome: Outcome) -> str | None:
    """Return what a journal and a file of results have for a reason.

    That is `reason_of`, and `SIGHTED` where a look has shown that it is accepted.
    """
    if isinstance(outcome, Accepted):
        return SIGHTED if outcome.sighted else None
    reason = reason_of(outcome)
    return None if reason is None else str(reason)


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
