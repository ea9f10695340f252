"""The spans: one per action, one per attempt, one per handover with its phases.

No address, and no part of one, is in a span.
"""

from collections import OrderedDict
from contextvars import Token
from time import monotonic_ns, time_ns
from typing import Final, TypeAlias

import attrs
from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)

from aiophlo.model.actions import DialAction
from aiophlo.model.outcomes import Accepted, Outcome
from aiophlo.observed_events import (
    ActionBegun,
    ActionEnded,
    ActionJoined,
    AttemptBegun,
    AttemptEnded,
    HandoverEnded,
    HandoverStep,
)
from aiophlo.telemetry.attributes import (
    LANES,
    base_of,
    error_type,
    name_of,
    place_of,
    redacted,
    redacted_id,
)

# The API has no public name for it; the instrumentors read it by this one.
_SUPPRESS: Final[str | None] = getattr(
    contexts, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", None
)
_JOINABLE: Final = 1_024  # dials whose span a double click may still be linked to
_Token: TypeAlias = Token[Context]
_Attributes: TypeAlias = dict[str, str | int | bool]


@attrs.define
class Attempt:
    """A request, under way or ended.

    Attributes:
        begun: Its beginning.
        began_at: When that was, by the monotonic clock, in nanoseconds.
        parent: Context of the action's caller.
        token: Gives the context of its task back, if it was changed.
        ended: Its end.
        ended_at: When that was.
        is_alone: Whether its action's beginning was not heard.
    """

    begun: AttemptBegun
    began_at: int
    parent: Context
    token: _Token | None
    ended: AttemptEnded | None = None
    ended_at: int = 0
    is_alone: bool = False


@attrs.define
class UnderWay:
    """An action under way.

    Attributes:
        begun: Its beginning.
        unix_offset: What makes Unix time of the monotonic clock's, in nanoseconds.
        began_at: When it began, by the monotonic clock.
        parent: Context of its caller, or of its handover.
        attempts: Its requests that have ended.
    """

    begun: ActionBegun
    unix_offset: int
    began_at: int
    parent: Context
    attempts: list[Attempt] = attrs.field(factory=list)


class Spans:
    """The spans of one pool. Those of actions are made when they have ended.

    So nothing is spent on them while a phone is waited for, and a clock that is set
    meanwhile makes none of them longer.

    Args:
        tracer: Makes them.
        with_account: Say on each whose it is, by its `auth_id`.
    """

    def __init__(self, tracer: Tracer, *, with_account: bool) -> None:
        self._tracer = tracer
        self._with_account = with_account
        self._actions: dict[int, UnderWay] = {}
        self._attempts: dict[int, Attempt] = {}
        self._handovers: dict[str, Span] = {}
        self._dials: OrderedDict[int, SpanContext] = OrderedDict()
        self._silenced: tuple[Context | None, Context] = None, Context()

    def action_begun(self, event: ActionBegun) -> None:
        """Note when an action began, and under which span."""
        parent = contexts.get_current()
        if event.handover is not None:
            handover = self._handovers.get(event.handover)
            if handover is not None:
                parent = set_span_in_context(handover, parent)
        now = monotonic_ns()
        self._actions[event.id] = UnderWay(event, time_ns() - now, now, parent)

    def attempt_begun(self, event: AttemptBegun) -> None:
        """Note when a request left, and keep other instrumentation from it.

        The aiohttp instrumentor's span would have the member's number in its URL, and
        its header would go to Plivo.
        """
        action = self._actions.get(event.id)
        parent = contexts.get_current() if action is None else action.parent
        token = None
        if _SUPPRESS is not None and not contexts.get_value(_SUPPRESS):
            # Only one of several observers: they aren't told of ends in reverse order.
            token = contexts.attach(self._silence(parent, _SUPPRESS))
        self._attempts[event.id] = Attempt(event, monotonic_ns(), parent, token)

    def attempt_ended(self, event: AttemptEnded) -> Attempt | None:
        """Note when a request was answered; return it, if its beginning was heard."""
        attempt = self._attempts.pop(event.id, None)
        if attempt is None:
            return None
        if attempt.token is not None:
            contexts.detach(attempt.token)
        attempt.ended, attempt.ended_at = event, monotonic_ns()
        action = self._actions.get(event.id)
        if action is None:
            attempt.is_alone = True
        else:
            action.attempts.append(attempt)
        return attempt

    def action_ended(
        self, event: ActionEnded | ActionJoined
    ) -> tuple[UnderWay | None, int]:
        """Return the action, if its beginning was heard, and when it ended."""
        return self._actions.pop(event.id, None), monotonic_ns()

    def record(
        self, action: UnderWay, event: ActionEnded | ActionJoined, ended_at: int
    ) -> None:
        """Make the spans of an action that has ended, and of its requests."""
        offset, outcome = action.unix_offset, event.outcome
        name = name_of(action.begun.action)
        span = self._tracer.start_span(
            f"aiophlo {name}",
            action.parent,
            attributes={"aiophlo.action": name},  # a sampler may go by it
            links=self._links(event),
            start_time=action.began_at + offset,
        )
        if span.is_recording():
            span.set_attributes(self._about(action, event))
            self._remember(action.begun, span)
            inside = set_span_in_context(span, action.parent)
            for attempt in action.attempts:
                self._record_attempt(attempt, inside, offset)
            _describe_error(span, outcome)
        span.end(ended_at + offset)

    def record_alone(self, attempt: Attempt) -> None:
        """Make the span of a request whose action's beginning nobody heard."""
        offset = time_ns() - monotonic_ns()
        self._record_attempt(attempt, attempt.parent, offset)

    def _record_attempt(self, attempt: Attempt, inside: Context, offset: int) -> None:
        if attempt.ended is None:
            return
        span = self._tracer.start_span(
            attempt.begun.method,
            inside,
            SpanKind.CLIENT,
            attributes=_about_request(attempt.begun, attempt.ended.outcome),
            start_time=attempt.began_at + offset,
        )
        if span.is_recording():
            _describe_error(span, attempt.ended.outcome)
        span.end(attempt.ended_at + offset)

    def _about(
        self, action: UnderWay, event: ActionEnded | ActionJoined
    ) -> _Attributes:
        begun, outcome = action.begun, event.outcome
        about: _Attributes = {
            "aiophlo.lane": LANES[begun.lane],
            "aiophlo.verdict": outcome.verdict,
            "aiophlo.attempts": outcome.attempts,
        }
        if begun.handover is not None:
            about["aiophlo.handover.id"] = begun.handover
        if self._with_account:
            about["aiophlo.account"] = begun.account.auth_id
        if outcome.api_id is not None:
            about["aiophlo.api_id"] = redacted_id(outcome.api_id)
        if outcome.request_id is not None:
            about["aiophlo.request_id"] = redacted_id(outcome.request_id)
        if isinstance(event, ActionJoined):
            about["aiophlo.joined"] = True
        return _with_error(about, outcome)

    def _links(self, event: ActionEnded | ActionJoined) -> tuple[Link, ...]:
        joined = self._dials.get(event.joined) if type(event) is ActionJoined else None
        return () if joined is None else (Link(joined),)

    def _remember(self, begun: ActionBegun, span: Span) -> None:
        if isinstance(begun.action, DialAction):
            self._dials[begun.id] = span.get_span_context()
            if len(self._dials) > _JOINABLE:
                self._dials.popitem(last=False)

    def _silence(self, parent: Context, key: str) -> Context:
        """Return a context in which instrumentation of HTTP is off: often the last."""
        of, silenced = self._silenced
        if of is not parent:
            silenced = contexts.set_value(key, value=True, context=parent)
            self._silenced = parent, silenced
        return silenced

    def handover_step(self, event: HandoverStep) -> None:
        """Note a phase; the first one begins the span, under the caller's."""
        span = self._handovers.get(event.id)
        if span is None:
            about = {"aiophlo.handover.id": event.id}
            if self._with_account:
                about["aiophlo.account"] = event.account.auth_id
            span = self._handovers[event.id] = self._tracer.start_span(
                "aiophlo handover", attributes=about
            )
        if span.is_recording():
            span.add_event(event.phase, {"aiophlo.cause": event.cause})

    def handover_ended(self, event: HandoverEnded) -> None:
        """End a handover's span."""
        span = self._handovers.pop(event.id, None)
        if span is None:
            return
        if span.is_recording():
            span.set_attribute("aiophlo.phase", event.phase)
            if event.unseen:
                span.set_attribute("aiophlo.handover.unseen", event.unseen)
            if event.alarm:
                span.set_attribute("error.type", "on_hold")
                text = "the customer may be on hold or alone"
                span.set_status(Status(StatusCode.ERROR, text))
        span.end()


def _about_request(begun: AttemptBegun, outcome: Outcome) -> _Attributes:
    host, port = place_of(base_of(begun.url))
    about: _Attributes = {
        "http.request.method": begun.method,
        "server.address": host,
        "server.port": port,
        "url.full": redacted(begun.url),
    }
    if begun.attempt > 1:
        about["http.request.resend_count"] = begun.attempt - 1
    if outcome.status is not None:
        about["http.response.status_code"] = outcome.status
    return _with_error(about, outcome)


def _with_error(about: _Attributes, outcome: Outcome) -> _Attributes:
    error = error_type(outcome)
    return about if error is None else {**about, "error.type": error}


def _describe_error(span: Span, outcome: Outcome) -> None:
    if not isinstance(outcome, Accepted):
        text = f"{outcome.verdict} ({error_type(outcome)})"
        span.set_status(Status(StatusCode.ERROR, text))
