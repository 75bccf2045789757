"""Tracing: exports spans over OTLP/HTTP to the collector at OTEL_EXPORTER_OTLP_ENDPOINT."""

import os

from django.conf import settings

EXPORT_TIMEOUT = "1"  # seconds for one export, so that it does not delay the exit of a process


def begin(part: str) -> None:
    """Export the spans of this process from now on, if a collector is configured."""
    if not settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        return
    # Imported here so that a process without tracing does not pay for it.
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.namespace": "unspool", "service.name": f"unspool-{part}"})
    merged = resource.merge(OTELResourceDetector().detect())  # the operator's OTEL_* variables win
    provider = TracerProvider(resource=merged)
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", EXPORT_TIMEOUT)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
