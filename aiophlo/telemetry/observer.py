"""The observer that makes spans and metrics."""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import (
    NoOpTracer,
    ProxyTracerProvider,
    TracerProvider,
    get_tracer,
    get_tracer_provider,
)

from aiophlo._version import __version__
from aiophlo.instrumentation import ClosingObserver, PoolObserver
from aiophlo.model.invalid_input import refuse
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
from aiophlo.telemetry.backlog import Backlog
from aiophlo.telemetry.metrics import DURATIONS, Metrics
from aiophlo.telemetry.spans import Attempt, Spans, UnderWay

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
        without: Names of durations that aren't measured, as each of the three that
            every transfer has costs as much as the rest of this does.

    Raises:
        InvalidInputError: An argument can't be right.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        with_account: bool = False,
        without: Collection[str] = (),
    ) -> None:
        check_type(with_account, bool, "with_account")
        if isinstance(without, str) or not DURATIONS.issuperset(without):
            refuse("without", f"some of {', '.join(sorted(DURATIONS))}", without)
        self._with_account = with_account
        self._tracer = get_tracer(
            "aiophlo", __version__, tracer_provider, schema_url=_SCHEMA
        )
        meter = get_meter("aiophlo", __version__, meter_provider, schema_url=_SCHEMA)
        self._global = tracer_provider is None
        self._metrics = Metrics(meter, with_account=with_account, without=without)
        self._alone = self._of(Backlog(waits=False))

    def __repr__(self) -> str:
        return "<OpenTelemetry>"

    def __call__(self, event: ObservedEvent) -> None:
        """Hear an event that is of no pool: of a receiver, or of a journal."""
        self._alone(event)

    def of_pool(self, pool: "SessionPool") -> Observer:
        """Return the observer of one pool; its state is in the metrics from now on."""
        backlog = Backlog()
        self._metrics.watch(pool, backlog)
        return self._of(backlog)

    def _of(self, backlog: Backlog) -> "_Telemetry":
        spans = Spans(self._tracer, with_account=self._with_account)
        return _Telemetry(self._metrics, spans, backlog, self._traces)

    def _traces(self) -> bool:
        """Say whether spans go anywhere."""
        if self._global:
            return not isinstance(get_tracer_provider(), ProxyTracerProvider)
        return not isinstance(self._tracer, NoOpTracer)


class _Telemetry(ClosingObserver):
    """Spans and metrics of one pool: actions' ids are unique only there."""

    def __init__(
        self,
        metrics: Metrics,
        spans: Spans,
        backlog: Backlog,
        traces: Callable[[], bool],
    ) -> None:
        self._metrics = metrics
        self._spans = spans
        self._backlog = backlog
        self._traces = traces
        self._is_traced = False
        backlog.before = self._ask
        self._heard: Mapping[type, Callable[[Any], None]] = {
            ActionBegun: spans.action_begun,
            AttemptBegun: spans.attempt_begun,
            AttemptEnded: self._attempt_ended,
            ActionEnded: self._action_ended,
            ActionJoined: self._action_ended,
            HandoverStep: self._handover_step,
            HandoverEnded: self._handover_ended,
            WebhookReceived: metrics.webhook,
            JournalCommitted: metrics.committed,
        }

    def __repr__(self) -> str:
        return "<OpenTelemetry>"

    def __call__(self, event: ObservedEvent) -> None:
        self._heard[type(event)](event)

    def _ask(self) -> None:
        """Ask whether spans go anywhere: that costs as much as recording one."""
        self._is_traced = self._traces()

    def close(self) -> None:
        """Record what still waits: the pool is closed."""
        self._backlog.close()
        self._metrics.leave(self._backlog, id(self))

    def _attempt_ended(self, event: AttemptEnded) -> None:
        attempt = self._spans.attempt_ended(event)
        if attempt is not None:
            self._backlog.add(self._record_attempt, attempt, event)

    def _record_attempt(self, attempt: Attempt, event: AttemptEnded) -> None:
        self._metrics.attempt_ended(attempt.begun, event, attempt.parent)
        if attempt.is_alone:
            self._spans.record_alone(attempt)

    def _action_ended(self, event: ActionEnded | ActionJoined) -> None:
        self._backlog.add(self._record, event, *self._spans.action_ended(event))

    def _record(
        self,
        event: ActionEnded | ActionJoined,
        action: UnderWay | None,
        ended_at: int,
    ) -> None:
        if isinstance(event, ActionJoined):
            self._metrics.action_joined(event)
        caller = Context() if action is None else action.parent
        self._metrics.action_ended(event, caller)
        if action is not None and self._is_traced:
            self._spans.record(action, event, ended_at)

    def _handover_step(self, event: HandoverStep) -> None:
        self._metrics.handover_step(event, id(self))
        self._spans.handover_step(event)

    def _handover_ended(self, event: HandoverEnded) -> None:
        self._metrics.handover_ended(event, id(self))
        self._spans.handover_ended(event)
