"""OpenTelemetry: spans and metrics of a pool, from its observers' events.

Needs the extra `otel`, which is OpenTelemetry's API alone: without its SDK nothing is
recorded. No address, and no part of one, is in a span or a metric.
"""

from aiophlo.telemetry.observer import OpenTelemetry

__all__ = ["OpenTelemetry"]
