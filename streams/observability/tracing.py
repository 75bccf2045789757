"""Spans from a POST to the last token, for whoever names a collector; for nobody else.

Without the SDK, which `config.telemetry` begins, each call here is OpenTelemetry's own nothing.
Spans hold ids, counts and names of the operator's: never a text, a key, or words of a client's.
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

PARENT = "traceparent"  # W3C Trace Context §3.2; its companions hold what a client pleases
SECOND = 1_000_000_000  # nanoseconds

tracer = trace.get_tracer("unspool")
propagator = TraceContextTextMapPropagator()
_run: ContextVar[UUID | None] = ContextVar("run", default=None)

Answer = Callable[[HttpRequest], HttpResponseBase]
Said = Mapping[str, str | int]


def trace_posts(answer: Answer) -> Answer:
    """Django middleware: a span for each POST to the API, in its caller's trace if it has one."""
    if not settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        raise MiddlewareNotUsed

    def traced(request: HttpRequest) -> HttpResponseBase:
        if request.method != "POST" or not request.path.startswith("/api/"):
            return answer(request)
        begun = _context(request.headers.get(PARENT))
        with _span("POST", begun, SpanKind.SERVER, {"unspool.request": current()}) as span:
            response = answer(request)
            if request.resolver_match:
                span.update_name(f"POST /{request.resolver_match.route}")
            span.set_attribute("http.response.status_code", response.status_code)
            return response

    return traced


def inject_headers(run: UUID) -> dict[str, str]:
    """What a ring takes along of the trace that this thread works in, if that is the run's."""
    span = trace.get_current_span()
    if not span.get_span_context().is_valid or _run.get() not in (None, run):
        return {}
    span.set_attribute("unspool.run", str(run))
    told: dict[str, str] = {}
    propagator.inject(told)
    return {PARENT: told[PARENT]}


@contextmanager
def task_span(run: UUID, parent: object) -> Iterator[None]:
    """Work for this run, in the trace that its ring brought along."""
    mine = _run.set(run)
    token = context.attach(_context(parent))
    try:
        yield
    finally:
        context.detach(token)
        _run.reset(mine)


@contextmanager
def attempt_span(run: Run) -> Iterator[None]:
    """The span of one attempt, after that of the wait for its worker."""
    told: Said = {
        "unspool.run": str(run.id),
        "unspool.conversation": str(run.conversation_id),
        "unspool.attempt": run.attempt,
        "unspool.request": current(),
        "gen_ai.request.model": run.model,
    }
    if run.attempt == 1 and run.started_at:
        queued = tracer.start_span("queued", start_time=_nanoseconds(run.created_at))
        queued.end(_nanoseconds(run.started_at))
    with _span("attempt", None, SpanKind.CONSUMER, told):
        yield


def record_first_token(seconds: float) -> None:
    """The model has just said its first piece, so long after it was asked."""
    now = time_ns()
    tracer.start_span("first token", start_time=now - int(seconds * SECOND)).end(now)


@contextmanager
def finish_span(outcome: str, pieces: int) -> Iterator[None]:
    """The span in which a run's end is stored and said, after its last token."""
    told: Said = {"unspool.outcome": outcome, "unspool.pieces": pieces}
    with _span("ending", None, SpanKind.INTERNAL, told):
        yield


@contextmanager
def _span(
    name: str,
    within: context.Context | None,
    kind: SpanKind,
    told: Said,
) -> Iterator[Span]:
    span = tracer.start_span(name, within, kind, told)
    # An error's words may be anybody's: only that there was one is told.
    with trace.use_span(span, True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except Exception:
            span.set_status(StatusCode.ERROR)
            raise


def _context(parent: object) -> context.Context:
    told = {PARENT: parent} if isinstance(parent, str) else {}
    return propagator.extract(told, context.Context())


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * SECOND)
