"""The spans: one per action, one per attempt, one per handover with its phases.

No address, and no part of one, is in a span.
"""

from collections import OrderedDict
from contextvars import Token
from typing import Final, TypeAlias

import attrs
from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import (
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


@attrs.define
class Attempt:
    """A request under way.

    Attributes:
        method: `GET` or `POST`.
        url: Where it goes.
        span: Its span.
        token: Gives the caller's context back.
    """

    method: str
    url: str
    span: Span
    token: _Token


class Spans:
    """The spans of one pool that are open.

    Args:
        tracer: Makes them.
        with_account: Say on each whose it is, by its `auth_id`.
    """

    def __init__(self, tracer: Tracer, *, with_account: bool) -> None:
        self._tracer = tracer
        self._with_account = with_account
        self._actions: dict[int, tuple[Span, Context]] = {}
        self._attempts: dict[int, Attempt] = {}
        self._handovers: dict[str, Span] = {}
        self._dials: OrderedDict[int, SpanContext] = OrderedDict()

    def action_begun(self, event: ActionBegun) -> None:
        """Begin an action's span, under its caller's or its handover's."""
        name = name_of(event.action)
        handover = self._handovers.get(event.handover or "")
        parent = contexts.get_current()
        if handover is not None:
            parent = set_span_in_context(handover, parent)
        span = self._tracer.start_span(f"aiophlo {name}", parent)
        self._actions[event.id] = span, parent
        if not span.is_recording():
            return
        span.set_attribute("aiophlo.action", name)
        span.set_attribute("aiophlo.lane", event.lane.name.lower())
        if event.handover is not None:
            span.set_attribute("aiophlo.handover.id", event.handover)
        if self._with_account:
            span.set_attribute("aiophlo.account", event.account.auth_id)
        if isinstance(event.action, DialAction):
            self._dials[event.id] = span.get_span_context()
            if len(self._dials) > _JOINABLE:
                self._dials.popitem(last=False)

    def attempt_begun(self, event: AttemptBegun) -> None:
        """Begin an attempt's span, and keep other instrumentation from its request.

        The aiohttp instrumentor's span would have the member's number in its URL, and
        its header would go to Plivo.
        """
        span, parent = self._actions.get(event.id, (None, None))
        if span is None or span.is_recording():
            inside = contexts.get_current() if parent is None else parent
            if span is not None:
                inside = set_span_in_context(span, inside)
            span = self._tracer.start_span(event.method, inside, SpanKind.CLIENT)
            inside = set_span_in_context(span, inside)
        else:  # nobody looks at this trace
            inside = set_span_in_context(span, parent)
        if _SUPPRESS is not None:
            inside = contexts.set_value(_SUPPRESS, value=True, context=inside)
        token = contexts.attach(inside)
        self._attempts[event.id] = Attempt(event.method, event.url, span, token)
        if span.is_recording():
            _describe_request(span, event)

    def attempt_ended(self, event: AttemptEnded) -> Attempt | None:
        """End an attempt's span; return the attempt, if its beginning was heard."""
        attempt = self._attempts.pop(event.id, None)
        if attempt is None:
            return None
        contexts.detach(attempt.token)
        span = attempt.span
        if span.is_recording() and event.outcome.status is not None:
            span.set_attribute("http.response.status_code", event.outcome.status)
        _end(span, event.outcome)
        return attempt

    def action_ended(self, event: ActionEnded | ActionJoined) -> None:
        """End an action's span; of a double click, link it with the one it joined."""
        span, _ = self._actions.pop(event.id, (None, None))
        if span is None:
            return
        outcome = event.outcome
        if span.is_recording():
            span.set_attribute("aiophlo.verdict", outcome.verdict)
            span.set_attribute("aiophlo.attempts", outcome.attempts)
            if outcome.api_id is not None:
                span.set_attribute("aiophlo.api_id", redacted_id(outcome.api_id))
            if outcome.request_id is not None:
                span.set_attribute(
                    "aiophlo.request_id", redacted_id(outcome.request_id)
                )
            if isinstance(event, ActionJoined):
                span.set_attribute("aiophlo.joined", value=True)
                if (joined := self._dials.get(event.joined)) is not None:
                    span.add_link(joined)
        _end(span, outcome)

    def handover_step(self, event: HandoverStep) -> None:
        """Note a phase; the first one begins the span, under the caller's."""
        span = self._handovers.get(event.id)
        if span is None:
            span = self._handovers[event.id] = self._tracer.start_span(
                "aiophlo handover"
            )
            if span.is_recording():
                span.set_attribute("aiophlo.handover.id", event.id)
                if self._with_account:
                    span.set_attribute("aiophlo.account", event.account.auth_id)
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


def _describe_request(span: Span, event: AttemptBegun) -> None:
    host, port = place_of(base_of(event.url))
    span.set_attributes(
        {
            "http.request.method": event.method,
            "server.address": host,
            "server.port": port,
            "url.full": redacted(event.url),
        }
    )
    if event.attempt > 1:
        span.set_attribute("http.request.resend_count", event.attempt - 1)


def _end(span: Span, outcome: Outcome) -> None:
    if span.is_recording() and not isinstance(outcome, Accepted):
        error = error_type(outcome) or ""
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR, f"{outcome.verdict} ({error})"))
    span.end()
