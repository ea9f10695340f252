"""The observer that makes spans and metrics."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import Tracer, TracerProvider, get_tracer

from aiophlo._version import __version__
from aiophlo.instrumentation import PoolObserver
from aiophlo.model.validation import check_type
from aiophlo.observed_events import (
    ActionBegun,
    ActionEnded,
    ActionJoined,
    AttemptBegun,
    AttemptEnded,
    HandoverEnded,
    HandoverStep,
    JournalCommitted,
    ObservedEvent,
    Observer,
    WebhookReceived,
)
from aiophlo.telemetry.metrics import Metrics
from aiophlo.telemetry.spans import Spans

if TYPE_CHECKING:
    from aiophlo.pool import SessionPool

_SCHEMA = "https://opentelemetry.io/schemas/1.37.0"


class OpenTelemetry(PoolObserver):
    """Makes OpenTelemetry's spans and metrics of what observers hear.

    Give one to any number of pools, `SessionPool(…, observers=[telemetry])`, and to
    receivers and journals. While a pool has it, OpenTelemetry's aiohttp
    instrumentation makes no span of that pool's requests, which would have members'
    numbers in them, and sends no header of its own to Plivo.

    Args:
        tracer_provider: Yours; by default the global one.
        meter_provider: Yours; by default the global one.
        with_account: Say on spans and metrics whose they are, by `auth_id`: with
            many accounts, as many times the series.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        with_account: bool = False,
    ) -> None:
        check_type(with_account, bool, "with_account")
        self._with_account = with_account
        self._tracer = get_tracer(
            "aiophlo", __version__, tracer_provider, schema_url=_SCHEMA
        )
        meter = get_meter("aiophlo", __version__, meter_provider, schema_url=_SCHEMA)
        self._metrics = Metrics(meter, with_account=with_account)
        self._alone = self._of(self._tracer)

    def __repr__(self) -> str:
        return "<OpenTelemetry>"

    def __call__(self, event: ObservedEvent) -> None:
        """Hear an event that is of no pool: of a receiver, or of a journal."""
        self._alone(event)

    def of_pool(self, pool: "SessionPool") -> Observer:
        """Return the observer of one pool; its state is in the metrics from now on."""
        self._metrics.watch(pool)
        return self._of(self._tracer)

    def _of(self, tracer: Tracer) -> "_Telemetry":
        return _Telemetry(self._metrics, Spans(tracer, with_account=self._with_account))


class _Telemetry:
    """Spans and metrics of one pool: actions' ids are unique only there."""

    def __init__(self, metrics: Metrics, spans: Spans) -> None:
        self._metrics = metrics
        self._spans = spans
        self._heard: Mapping[type, Callable[[Any], None]] = {
            ActionBegun: spans.action_begun,
            AttemptBegun: self._attempt_begun,
            AttemptEnded: self._attempt_ended,
            ActionEnded: self._action_ended,
            ActionJoined: self._action_joined,
            HandoverStep: self._handover_step,
            HandoverEnded: self._handover_ended,
            WebhookReceived: metrics.webhook,
            JournalCommitted: metrics.committed,
        }

    def __repr__(self) -> str:
        return "<OpenTelemetry>"

    def __call__(self, event: ObservedEvent) -> None:
        self._heard[type(event)](event)

    def _attempt_begun(self, event: AttemptBegun) -> None:
        self._metrics.attempt_begun(event)
        self._spans.attempt_begun(event)

    def _attempt_ended(self, event: AttemptEnded) -> None:
        attempt = self._spans.attempt_ended(event)
        if attempt is not None:
            self._metrics.attempt_ended(event, attempt.method, attempt.url)

    def _action_ended(self, event: ActionEnded) -> None:
        self._metrics.action_ended(event)
        self._spans.action_ended(event)

    def _action_joined(self, event: ActionJoined) -> None:
        self._metrics.action_joined(event)
        self._metrics.action_ended(event)
        self._spans.action_ended(event)

    def _handover_step(self, event: HandoverStep) -> None:
        self._metrics.handover_step(event, id(self))
        self._spans.handover_step(event)

    def _handover_ended(self, event: HandoverEnded) -> None:
        self._metrics.handover_ended(event, id(self))
        self._spans.handover_ended(event)
