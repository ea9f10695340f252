"""OpenTelemetry: what an SRE sees of transfers and handovers, and no number in it."""

import asyncio
import contextvars
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, Final

import attrs
import pytest
from aiohttp import web
from opentelemetry import trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from aiophlo import (
    AbortTransfer,
    Account,
    CustomerOnHoldError,
    Hold,
    InvalidInputError,
    Journal,
    Quota,
    RetryPolicy,
    SessionPool,
    VerdictError,
    WarmTransfer,
)
from aiophlo.observed_events import (
    HandoverEnded,
    HandoverStep,
    WebhookReceived,
    WebhookResult,
)
from aiophlo.simulator import Simulator
from aiophlo.telemetry import OpenTelemetry
from tests.support.doubles import account_of, pool_of
from tests.support.handover_stage import AGENT, CUSTOMER, FIRST, set_stage
from tests.support.ports import free_port

AGENT_2: Final = "+14155550100"
TO: Final = "+14155550101"
TRANSFER: Final = WarmTransfer(
    phlo_id="p", node_id="n", trigger_source=AGENT_2, to=TO, key="order 7"
)
NUMBERS: Final = (AGENT, CUSTOMER, FIRST, AGENT_2, TO)


@attrs.define
class Recorder:
    """OpenTelemetry's SDK, keeping all in memory.

    Attributes:
        tracers: Makes spans.
        meters: Makes metrics.
    """

    exporter: InMemorySpanExporter = attrs.field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = attrs.field(factory=InMemoryMetricReader)
    tracers: TracerProvider = attrs.field(factory=TracerProvider)
    meters: MeterProvider = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader])

    def telemetry(self, **options: Any) -> OpenTelemetry:  # noqa: ANN401 -- its own
        """Return an observer that records here."""
        return OpenTelemetry(self.tracers, self.meters, **options)

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Return those that have ended, in order, of one name."""
        spans = self.exporter.get_finished_spans()
        return [span for span in spans if not name or span.name == name]

    def points(self, name: str) -> list[Any]:
        """Return the data points of a metric."""
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in ([] if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if metric.name == name
        ]

    def values(self, name: str) -> list[tuple[dict[str, Any], float]]:
        """Return each set of attributes with its value, or with how many there were."""
        return [
            (
                dict(point.attributes),
                getattr(point, "value", getattr(point, "count", 0)),
            )
            for point in self.points(name)
        ]

    def everything(self) -> str:
        """Return all words that would be exported: not times, nor random ids."""
        words = [json.loads(span.to_json()) for span in self.spans()]
        data = self.reader.get_metrics_data()
        if data is not None:
            words.append(json.loads(data.to_json()))
        return "\n".join(_words(words))


_RANDOM: Final = {"trace_id", "span_id", "parent_id", "start_time", "end_time"}
_RANDOM_TOO: Final = {
    "timestamp",
    "service.instance.id",
    "aiophlo.api_id",
    "aiophlo.request_id",
}


def _words(told: object, name: str = "") -> Iterator[str]:
    match told:
        case dict():
            for key, value in told.items():
                yield str(key)
                yield from _words(value, key)
        case list():
            for value in told:
                yield from _words(value, name)
        case str() if name not in _RANDOM | _RANDOM_TOO | {"aiophlo.handover.id"}:
            yield told
        case int() if name in {"http.response.status_code", "aiophlo.attempts"}:
            yield str(told)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Give what keeps spans and metrics."""
    recorder = Recorder()
    yield recorder
    recorder.tracers.shutdown()
    recorder.meters.shutdown()


async def transfer(pool: SessionPool, **options: Any) -> None:  # noqa: ANN401 -- send's own
    """Send a transfer, whatever comes of it."""
    with suppress(VerdictError):
        await pool.send(TRANSFER, **options)


def about(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's attributes."""
    return dict(span.attributes or {})


async def test_transfer_is_a_span_with_its_request_below(
    simulator: Simulator, recorder: Recorder
) -> None:
    """Who looks for a slow transfer must see whether it was Plivo or the queue."""
    async with pool_of(simulator, observers=[recorder.telemetry()]) as pool:
        with recorder.tracers.get_tracer("caller").start_as_current_span("click"):
            await transfer(pool)
    click, request, action = recorder.spans()  # as they were recorded
    assert (action.name, action.kind) == (
        "aiophlo warm_transfer",
        trace.SpanKind.INTERNAL,
    )
    assert (request.name, request.kind) == ("POST", trace.SpanKind.CLIENT)
    assert request.parent is not None
    assert action.parent is not None
    assert request.parent.span_id == action.context.span_id
    assert action.parent.span_id == click.context.span_id
    port = int(simulator.base_url.partition("://")[2].partition("/")[0].split(":")[1])
    assert about(request) == {
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "server.port": port,
        "url.full": f"{simulator.base_url}/phlo/p/multi_party_call/n",
        "http.response.status_code": 201,
    }
    assert about(action)["aiophlo.verdict"] == "accepted"
    assert about(action)["aiophlo.request_id"].startswith("r-")


async def test_repeat_says_which_it_is_and_what_went_wrong(
    simulator: Simulator, recorder: Recorder
) -> None:
    """Two requests that look alike hide the one that failed."""
    simulator.answer_next(429)
    async with pool_of(simulator, observers=[recorder.telemetry()]) as pool:
        await (
            pool.phlo("p")
            .multi_party_call("n")
            .warm_transfer(to=TO, trigger_source=AGENT_2)
        )
    first, second = map(about, recorder.spans("POST"))
    assert (first["error.type"], first["http.response.status_code"]) == ("429", 429)
    assert "http.request.resend_count" not in first
    assert second["http.request.resend_count"] == 1
    assert recorder.values("aiophlo.throttled") == [({}, 1)]


async def test_doubt_and_refusal_are_errors(
    simulator: Simulator, recorder: Recorder
) -> None:
    """What may ring unanswered must stand out in a list of traces."""
    telemetry = recorder.telemetry()
    async with pool_of(simulator, observers=[telemetry]) as pool:
        simulator.drop_next_answer()
        await transfer(pool)
        simulator.answer_next(404)
        await transfer(pool, on_duplicate="send")
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    async with SessionPool(
        account_of(simulator),
        base_url=nowhere,
        retry=RetryPolicy(attempts=1),
        observers=[telemetry],
    ) as pool:
        await transfer(pool)
    doubt, refused, unsent = recorder.spans("aiophlo warm_transfer")
    assert doubt.status.status_code is trace.StatusCode.ERROR
    assert about(doubt)["error.type"] == "disconnected"
    assert about(refused)["error.type"] == "404"
    assert about(unsent)["error.type"] == "unreachable"
    verdicts = {
        (told["aiophlo.verdict"], told["error.type"]): count
        for told, count in recorder.values("aiophlo.client.operation.duration")
    }
    assert verdicts == {
        ("in_doubt", "disconnected"): 1,
        ("rejected", "404"): 1,
        ("not_sent", "unreachable"): 1,
    }


async def test_double_click_is_linked_with_the_one_it_joined(
    simulator: Simulator, recorder: Recorder
) -> None:
    """A click without a request would look lost."""
    async with pool_of(simulator, observers=[recorder.telemetry()]) as pool:
        await asyncio.gather(transfer(pool), transfer(pool))
    spans = recorder.spans("aiophlo warm_transfer")
    (joined,) = [span for span in spans if about(span).get("aiophlo.joined")]
    (led,) = [span for span in spans if span is not joined]
    assert [link.context.span_id for link in joined.links] == [led.context.span_id]
    assert recorder.values("aiophlo.joined") == [
        ({"aiophlo.action": "warm_transfer"}, 1)
    ]


async def test_stream_is_under_its_callers_span(
    simulator: Simulator, recorder: Recorder
) -> None:
    """A batch's transfers belong to the batch."""
    async with pool_of(simulator, observers=[recorder.telemetry()]) as pool:
        transfers = [attrs.evolve(TRANSFER, to=f"+1415555{n:04}") for n in range(20)]
        with recorder.tracers.get_tracer("caller").start_as_current_span("batch"):
            async with pool.stream(transfers, concurrency=3) as outcomes:
                assert len([outcome async for outcome in outcomes]) == 20
        assert trace.get_current_span() is trace.INVALID_SPAN
    (batch,) = recorder.spans("batch")
    actions = recorder.spans("aiophlo warm_transfer")
    parents = {span.parent and span.parent.span_id for span in actions}
    assert (len(actions), parents) == (20, {batch.context.span_id})
    lanes = {
        told["aiophlo.lane"]: count
        for told, count in recorder.values("aiophlo.client.queue.duration")
    }
    assert lanes == {"streamed": 20}


async def test_handover_is_a_span_with_an_event_per_phase(recorder: Recorder) -> None:
    """Where a customer spent their minutes on hold is the question."""
    telemetry = recorder.telemetry()
    async with set_stage(observers=[telemetry]) as stage:
        stage.people_are("answers", FIRST)
        with recorder.tracers.get_tracer("caller").start_as_current_span("call"):
            async with stage.consult(ring_for=10.0) as consult:
                await consult.complete()
    (call,) = recorder.spans("call")
    (handover,) = recorder.spans("aiophlo handover")
    assert handover.parent is not None
    assert handover.parent.span_id == call.context.span_id
    phases = [event.name for event in handover.events]
    assert phases[:3] == ["asking", "ringing", "consulting"]
    assert phases[-1] == "with_partner"
    below = {
        span.name
        for span in recorder.spans()
        if span.parent is not None and span.parent.span_id == handover.context.span_id
    }
    assert below == {"aiophlo warm_transfer", "aiophlo hangup"}
    assert [
        (told, count) for told, count in recorder.values("aiophlo.handover.duration")
    ] == [({"aiophlo.phase": "with_partner"}, 1)]
    assert recorder.values("aiophlo.handover.active") == [({}, 0)]
    heard = recorder.values("aiophlo.webhook.received")
    assert {told["aiophlo.event"] for told, _ in heard} >= {"MemberJoined"}
    assert {told["aiophlo.result"] for told, _ in heard} == {"fed"}


async def test_customer_on_hold_is_counted(recorder: Recorder) -> None:
    """This is what somebody is to be woken for."""
    async with set_stage(observers=[recorder.telemetry()]) as stage:
        assert recorder.values("aiophlo.handover.on_hold") == [({}, 0)]
        stage.people_are("ignores", FIRST)
        stage.simulator.answer_next(503, action="abort_transfer", times=None)
        with pytest.raises(CustomerOnHoldError):
            async with stage.consult(bring_back_within=0.1):
                pass
        assert recorder.values("aiophlo.handover.on_hold") == [({}, 1)]
    (handover,) = recorder.spans("aiophlo handover")
    assert handover.status.status_code is trace.StatusCode.ERROR
    [(told, _)] = recorder.values("aiophlo.handover.duration")
    assert told["error.type"] == "on_hold"


def test_alarm_that_comes_late_makes_no_second_handover(recorder: Recorder) -> None:
    """Of one customer, one handover: it is told again with what is known by now."""
    telemetry = recorder.telemetry()
    account = Account("MAAAAAAAAAAAAAAAAAAA", "t" * 40)
    telemetry(HandoverStep(account, "h", "with_partner", "completing"))
    for alarm in (False, True):
        telemetry(HandoverEnded(account, "h", "with_partner", 9.0, alarm))
    assert recorder.values("aiophlo.handover.duration") == [
        ({"aiophlo.phase": "with_partner"}, 1)
    ]
    assert recorder.values("aiophlo.handover.on_hold") == [({}, 1)]


def test_refused_webhook_is_counted(recorder: Recorder) -> None:
    """A wrong token at the receiver makes every handover blind."""
    telemetry = recorder.telemetry()
    telemetry(WebhookReceived(None, result=WebhookResult.REFUSED))
    assert recorder.values("aiophlo.webhook.received") == [
        ({"aiophlo.event": "none", "aiophlo.result": "refused"}, 1)
    ]


async def test_state_is_there_when_metrics_are_collected(
    simulator: Simulator, recorder: Recorder
) -> None:
    """Pace against its limit says who spends the quota; nothing was sent yet."""
    accounts = [account_of(simulator, quota=Quota(300, per=5.0))]
    telemetry = recorder.telemetry(with_account=True)
    async with SessionPool(
        *accounts, base_url=simulator.base_url, observers=[telemetry]
    ):
        whose = {"aiophlo.account": accounts[0].auth_id}
        [(told, limit)] = recorder.values("aiophlo.pace.limit")
        assert (told, round(limit, 1)) == (whose, 59.2)
        assert recorder.values("aiophlo.pace") == [(whose, limit)]
        assert recorder.values("aiophlo.client.requests.in_flight") == [(whose, 0)]
        waiting = recorder.values("aiophlo.client.requests.waiting")
        assert {told["aiophlo.lane"] for told, _ in waiting} == {
            "urgent",
            "awaited",
            "streamed",
            "looked",
        }


async def test_quota_of_a_closed_pool_is_not_counted_again(
    simulator: Simulator, recorder: Recorder
) -> None:
    """With its successor's, others would seem to leave half of the quota."""
    telemetry = recorder.telemetry()
    account = account_of(simulator, quota=Quota(300, per=5.0))
    async with pool_of(simulator, account, observers=[telemetry]) as former:
        [(_, limit)] = recorder.values("aiophlo.pace.limit")
    async with pool_of(simulator, account, observers=[telemetry]):
        assert recorder.values("aiophlo.pace.limit") == [({}, limit)]
        assert recorder.values("aiophlo.pace") == [({}, limit)]
    assert recorder.values("aiophlo.pace") == []
    del former


async def test_waiting_and_in_flight_are_counted_while_they_are(
    simulator: Simulator, recorder: Recorder
) -> None:
    """A queue that grows is seen before its callers give up."""
    async with pool_of(simulator, observers=[recorder.telemetry()]) as pool:
        with simulator.hold_answers():
            sending = asyncio.ensure_future(transfer(pool))
            await simulator.wait_for(lambda _: simulator.held == 1)
            assert recorder.values("aiophlo.client.requests.in_flight") == [({}, 1)]
        await sending


async def test_two_pools_of_one_observer_are_told_apart(
    simulator: Simulator, recorder: Recorder
) -> None:
    """Each counts its actions from 1; a span would end with another's verdict."""
    telemetry = recorder.telemetry()
    async with (
        pool_of(simulator, observers=[telemetry]) as one,
        pool_of(simulator, observers=[telemetry]) as other,
    ):
        await asyncio.gather(transfer(one), other.send(HOLD))
    names = sorted(span.name for span in recorder.spans())
    assert names == ["POST", "POST", "aiophlo hold", "aiophlo warm_transfer"]
    for request in recorder.spans("POST"):
        (action,) = [
            span
            for span in recorder.spans()
            if request.parent and span.context.span_id == request.parent.span_id
        ]
        assert ("members" in about(request)["url.full"]) == ("hold" in action.name)


async def test_commit_of_a_journal_is_timed(
    simulator: Simulator,
    recorder: Recorder,
    tmp_path: Any,  # noqa: ANN401 -- a path
) -> None:
    """A slow disk holds every request of a batch up."""
    telemetry = recorder.telemetry()
    async with (
        pool_of(simulator, observers=[telemetry]) as pool,
        Journal(tmp_path / "journal", observers=[telemetry]) as journal,
        pool.stream([TRANSFER], journal=journal) as outcomes,
    ):
        assert len([outcome async for outcome in outcomes]) == 1
    [(told, count)] = recorder.values("aiophlo.journal.commit.duration")
    assert told == {}
    assert count >= 2  # the intent, and the outcome


HOLD: Final = Hold(phlo_id="p", node_id="n", member=AGENT_2)
ABORT: Final = AbortTransfer(phlo_id="p", node_id="n", member=AGENT_2)


@pytest.fixture
def instrumentor(recorder: Recorder) -> Iterator[None]:
    """Instrument aiohttp as people do, for all sessions made from now on."""
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(
        tracer_provider=recorder.tracers, meter_provider=recorder.meters
    )
    yield
    instrumentor.uninstrument()


@attrs.define
class Api:
    """An API that keeps the headers that it is sent.

    Attributes:
        url: Where it is.
        headers: Those of each request.
    """

    url: str = ""
    headers: list[dict[str, str]] = attrs.field(factory=list)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """Serve an API that accepts everything."""
    api = Api()

    async def answer(request: web.Request) -> web.Response:
        api.headers.append(dict(request.headers))
        await request.read()
        return web.json_response({"api_id": "1", "error": ""}, status=201)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield api
    await runner.cleanup()


async def send_all(url: str, *observers: Any) -> None:  # noqa: ANN401 -- observers
    """Send actions whose numbers are in the path, in the body, or in both."""
    account = Account("MAAAAAAAAAAAAAAAAAAA", "t" * 40, quota=None)
    async with SessionPool(account, base_url=url, observers=observers) as pool:
        for action in (TRANSFER, HOLD, ABORT):
            await pool.send(action)
        async with pool.stream([HOLD, ABORT]) as outcomes:
            assert len([outcome async for outcome in outcomes]) == 2


@pytest.mark.usefixtures("instrumentor")
async def test_instrumentor_alone_tells_numbers(api: Api, recorder: Recorder) -> None:
    """If it didn't, the next test would show nothing."""
    await send_all(api.url)
    assert AGENT_2[1:] in recorder.everything()
    assert any("traceparent" in headers for headers in api.headers)


@pytest.mark.usefixtures("instrumentor")
async def test_no_digit_of_a_number_leaves_beside_the_aiohttp_instrumentor(
    api: Api, recorder: Recorder
) -> None:
    """Whoever may look at traces may not look at who calls whom."""
    await send_all(api.url, recorder.telemetry())
    told = recorder.everything()
    for number in NUMBERS:
        assert number[-4:] not in told
        assert f"…{number[-2:]}" not in told
    assert not re.search(r"members/(?!REDACTED)", told)
    assert len(recorder.spans("POST")) == 5
    assert [
        name for headers in api.headers for name in headers if "trace" in name
    ] == []


@pytest.mark.usefixtures("instrumentor")
async def test_no_digit_of_a_handovers_numbers_leaves(recorder: Recorder) -> None:
    """Its events and its causes are in the span."""
    async with set_stage(observers=[recorder.telemetry()]) as stage:
        stage.people_are("answers", FIRST)
        async with stage.consult(ring_for=10.0):
            pass
    told = recorder.everything()
    assert "aiophlo handover" in told
    for number in NUMBERS:
        assert number[-6:] not in told


async def test_metrics_are_complete_whenever_they_are_collected(
    simulator: Simulator, recorder: Recorder
) -> None:
    """What is recorded later would be missing from a program's last export."""
    async with pool_of(simulator, observers=[recorder.telemetry()]) as pool:
        for number in range(1, 4):
            await transfer(pool, on_duplicate="send")
            [(_, count)] = recorder.values("http.client.request.duration")
            assert count == number
            [(_, count)] = recorder.values("aiophlo.client.operation.duration")
            assert count == number


async def test_spans_are_there_when_the_pool_is_closed(
    simulator: Simulator, recorder: Recorder
) -> None:
    """A program that ends shuts the provider down next."""
    async with pool_of(simulator, observers=[recorder.telemetry()]) as pool:
        await transfer(pool)
    assert len(recorder.spans()) == 2


async def test_clock_that_is_set_makes_no_span_longer(
    simulator: Simulator, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a leap of an hour, each transfer under way would look lost."""
    async with pool_of(simulator, observers=[recorder.telemetry()]) as pool:
        with simulator.hold_answers():
            sending = asyncio.ensure_future(transfer(pool))
            await simulator.wait_for(lambda _: simulator.held == 1)
            now = time.time_ns()
            monkeypatch.setattr("aiophlo.telemetry.spans.time_ns", lambda: now - 10**13)
        await sending
    for span in recorder.spans():
        assert span.start_time is not None
        assert span.end_time is not None
        assert 0 <= span.end_time - span.start_time < 60 * 10**9


async def test_measurement_is_an_example_of_its_callers_trace(
    simulator: Simulator, recorder: Recorder
) -> None:
    """A slow bucket leads to a trace, and to no other caller's."""
    async with pool_of(simulator, observers=[recorder.telemetry()]) as pool:
        tracer = recorder.tracers.get_tracer("caller")
        with tracer.start_as_current_span("click") as click:
            await transfer(pool)
        with tracer.start_as_current_span("collects"):
            points = recorder.points("aiophlo.client.operation.duration")
    ids = {example.span_id for point in points for example in point.exemplars}
    assert ids == {click.get_span_context().span_id}


async def test_duration_that_is_left_out_is_not_measured(
    simulator: Simulator, recorder: Recorder
) -> None:
    """Each costs, and not everybody looks at all of them."""
    left_out = "aiophlo.client.queue.duration"
    telemetry = recorder.telemetry(without=[left_out])
    async with pool_of(simulator, observers=[telemetry]) as pool:
        await transfer(pool)
    assert recorder.values(left_out) == []
    assert len(recorder.values("aiophlo.client.operation.duration")) == 1


@pytest.mark.parametrize(
    "without", ["aiophlo.client.queue.duration", ["queue.duration"]]
)
def test_duration_that_there_is_none_of_cannot_be_left_out(without: Any) -> None:  # noqa: ANN401 -- what can't be right
    """A slip would leave nothing out, and nobody would notice."""
    with pytest.raises(InvalidInputError, match="without"):
        OpenTelemetry(without=without)


async def test_observer_given_twice_ends_each_span_once(
    simulator: Simulator, recorder: Recorder
) -> None:
    """A slip in the setup shows double, and breaks nothing."""
    telemetry = recorder.telemetry()
    async with pool_of(simulator, observers=[telemetry, telemetry]) as pool:
        before = dict(contextvars.copy_context())
        await transfer(pool)
        assert dict(contextvars.copy_context()) == before
    assert len({span.context.span_id for span in recorder.spans()}) == 4


class _Broken(SpanProcessor):
    """A processor that raises."""

    def on_end(self, span: ReadableSpan) -> None:
        """Raise."""
        raise RuntimeError(f"no room for {TO} {span.name}")


async def test_processor_that_raises_costs_no_outcome_and_no_metric(
    simulator: Simulator, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else's exporter is broken, and calls go on."""
    recorder.tracers.add_span_processor(_Broken())
    async with pool_of(simulator, observers=[recorder.telemetry()]) as pool:
        for _ in range(3):
            await pool.send(TRANSFER, on_duplicate="send")
        [(_, count)] = recorder.values("aiophlo.client.operation.duration")
        assert count == 3
    failures = [one for one in caplog.records if one.name == "aiophlo"]
    assert len([one for one in failures if "logged once" in one.getMessage()]) == 1
    assert TO[1:] not in caplog.text


async def test_providers_that_are_shut_down_first_harm_nothing(
    simulator: Simulator, recorder: Recorder
) -> None:
    """A program's last lines are in no good order."""
    async with pool_of(simulator, observers=[recorder.telemetry()]) as pool:
        await pool.send(TRANSFER)
        recorder.tracers.shutdown()
        recorder.meters.shutdown()
        await pool.send(TRANSFER, on_duplicate="send")
