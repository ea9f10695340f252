"""Spans and metrics as they leave a program: OTLP over HTTP, to a collector's port."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import attrs
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from aiophlo import Hold, WarmTransfer
from aiophlo.simulator import Simulator
from aiophlo.telemetry import OpenTelemetry
from tests.support.doubles import pool_of

AGENT: Final = "+14155550100"
TO: Final = "+14155550101"
TRANSFER: Final = WarmTransfer(phlo_id="p", node_id="n", trigger_source=AGENT, to=TO)
HOLD: Final = Hold(phlo_id="p", node_id="n", member=AGENT)
KINDS: Final[dict[str, tuple[Any, Any]]] = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
}


@attrs.define
class Collector:
    """A collector that keeps what it is sent.

    Attributes:
        url: Where it listens.
        bodies: What came, as it was, by path.
    """

    url: str = ""
    bodies: list[tuple[str, bytes]] = attrs.field(factory=list)

    def scopes(self, path: str, kind: str) -> list[Any]:
        """Return what came to a path, of aiophlo's own."""
        messages = [
            KINDS[path][0].FromString(body) for to, body in self.bodies if to == path
        ]
        return [
            scope
            for message in messages
            for resource in getattr(message, f"resource_{kind}")
            for scope in getattr(resource, f"scope_{kind}")
            if scope.scope.name == "aiophlo"
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Run a collector in a thread."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.bodies.append((self.path, body))
            answer = KINDS[self.path][1]().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    yield collector
    server.shutdown()
    server.server_close()
    thread.join()


async def test_transfers_arrive_at_a_collector_without_a_number(
    simulator: Simulator, collector: Collector
) -> None:
    """What leaves the program is what somebody else keeps for years."""
    tracers = TracerProvider()
    exporter = OTLPSpanExporter(f"{collector.url}/v1/traces")
    tracers.add_span_processor(BatchSpanProcessor(exporter))
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(f"{collector.url}/v1/metrics"),
        export_interval_millis=3_600_000,
    )
    meters = MeterProvider([reader])
    telemetry = OpenTelemetry(tracers, meters)
    simulator.answer_next(200, action="hold", times=None)
    async with pool_of(simulator, observers=[telemetry]) as pool:
        await pool.send(TRANSFER)
        await pool.send(HOLD)
    tracers.shutdown()
    meters.shutdown()
    spans = [
        span
        for scope in collector.scopes("/v1/traces", "spans")
        for span in scope.spans
    ]
    assert sorted(span.name for span in spans) == [
        *("POST", "POST", "aiophlo hold", "aiophlo warm_transfer")
    ]
    counts = {
        metric.name: sum(point.count for point in metric.histogram.data_points)
        for scope in collector.scopes("/v1/metrics", "metrics")
        for metric in scope.metrics
    }
    assert counts["http.client.request.duration"] == 2
    assert counts["aiophlo.client.operation.duration"] == 2
    everything = b"".join(body for _, body in collector.bodies)
    for number in (AGENT, TO):
        assert number[1:].encode() not in everything
        assert number[-8:].encode() not in everything
