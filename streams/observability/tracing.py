"""OpenTelemetry spans from a POST to the last token, if the operator has set a collector.

`config.telemetry` starts the SDK. Without the SDK, OpenTelemetry's calls here do nothing. Spans
have ids, counts and the operator's names, but no message text, no key, and no client's text.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from time import time_ns
from uuid import UUID

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponseBase
from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from streams.models import Run
from streams.observability.request_id import current

# W3C Trace Context §3.2. `tracestate` and `baggage` are not read, because they may hold any text.
PARENT = "traceparent"
SECOND = 1_000_000_000  # nanoseconds

tracer = trace.get_tracer("unspool")
propagator = TraceContextTextMapPropagator()
_run: ContextVar[UUID | None] = ContextVar("run", default=None)

GetResponse = Callable[[HttpRequest], HttpResponseBase]
Attributes = Mapping[str, str | int]


def trace_posts(get_response: GetResponse) -> GetResponse:
    """Django middleware: a span for each POST to the API, in the caller's trace if it sent one.

    Raises `MiddlewareNotUsed` if no collector is set.
    """
    if not settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        raise MiddlewareNotUsed

    def traced(request: HttpRequest) -> HttpResponseBase:
        if request.method != "POST" or not request.path.startswith("/api/"):
            return get_response(request)
        parent = _context(request.headers.get(PARENT))
        with _span("POST", parent, SpanKind.SERVER, {"unspool.request": current()}) as span:
            response = get_response(request)
            if request.resolver_match:
                span.update_name(f"POST /{request.resolver_match.route}")
            span.set_attribute("http.response.status_code", response.status_code)
            return response

    return traced


def inject_headers(run: UUID) -> dict[str, str]:
    """The headers that carry this thread's trace in the task of a dispatched run.

    Empty if the thread has no trace, or works for another run.
    """
    span = trace.get_current_span()
    if not span.get_span_context().is_valid or _run.get() not in (None, run):
        return {}
    span.set_attribute("unspool.run", str(run))
    headers: dict[str, str] = {}
    propagator.inject(headers)
    return {PARENT: headers[PARENT]}


@contextmanager
def task_span(run: UUID, parent: object) -> Iterator[None]:
    """A context for work on this run, in the trace that the run's task carries as `parent`."""
    run_token = _run.set(run)
    context_token = context.attach(_context(parent))
    try:
        yield
    finally:
        context.detach(context_token)
        _run.reset(run_token)


@contextmanager
def attempt_span(run: Run) -> Iterator[None]:
    """The span of one attempt. A run's first attempt also gets a span for its wait in the queue."""
    attributes: Attributes = {
        "unspool.run": str(run.id),
        "unspool.conversation": str(run.conversation_id),
        "unspool.attempt": run.attempt,
        "unspool.request": current(),
        "gen_ai.request.model": run.model,
    }
    if run.attempt == 1 and run.started_at:
        queued = tracer.start_span("queued", start_time=_nanoseconds(run.created_at))
        queued.end(_nanoseconds(run.started_at))
    with _span("attempt", None, SpanKind.CONSUMER, attributes):
        yield


def record_first_token(seconds: float) -> None:
    """Record a span of this many seconds that ends now, with the model's first token."""
    now = time_ns()
    tracer.start_span("first token", start_time=now - int(seconds * SECOND)).end(now)


class ToolSpan:
    """The span of one tool call, from its beginning until `end`."""

    def __init__(self, tool: str, *, agent: str) -> None:
        self._span = tracer.start_span(
            f"execute_tool {tool}",
            attributes={
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": tool,
                "gen_ai.agent.name": agent,
            },
        )

    def end(self, *, failed: bool) -> None:
        """End the span, because the call has its result or the reply has ended."""
        if failed:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


@contextmanager
def finish_span(outcome: str, pieces: int) -> Iterator[None]:
    """The span in which a run's end is stored and its final event published."""
    attributes: Attributes = {"unspool.outcome": outcome, "unspool.pieces": pieces}
    with _span("ending", None, SpanKind.INTERNAL, attributes):
        yield


@contextmanager
def _span(
    name: str,
    parent: context.Context | None,
    kind: SpanKind,
    attributes: Attributes,
) -> Iterator[Span]:
    span = tracer.start_span(name, parent, kind, attributes)
    # An error's message may hold a client's text, so the span only records that there was one.
    with trace.use_span(span, True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except Exception:
            span.set_status(StatusCode.ERROR)
            raise


def _context(parent: object) -> context.Context:
    headers = {PARENT: parent} if isinstance(parent, str) else {}
    return propagator.extract(headers, context.Context())


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * SECOND)
