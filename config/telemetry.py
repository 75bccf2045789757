"""Where traces go: to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names, over HTTP."""

from django.conf import settings

PATIENCE = 1.0  # seconds for one delivery: it must not hold up the end of a process


def begin(part: str) -> None:
    """From now on this process delivers its spans, if there is a collector."""
    if not settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        return
    # Who traces nothing does not pay for what is imported.
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = Resource.create({"service.namespace": "unspool", "service.name": f"unspool-{part}"})
    told = named.merge(OTELResourceDetector().detect())  # what the operator says comes first
    provider = TracerProvider(resource=told)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=PATIENCE)))
    trace.set_tracer_provider(provider)
