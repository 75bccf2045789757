"""The endpoints for the platform: liveness, readiness and Prometheus metrics."""

import math

from django.db import DatabaseError
from django.db.models import Count, Min, Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from streams.chat.broker_queue import queue_length
from streams.chat.model_names import kinds
from streams.chat.redis_memory import tell_memory
from streams.models import Run
from streams.web.health_checks import probes

FRESH = {"Cache-Control": "no-store"}


@csrf_exempt
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """200 as long as the process answers."""
    return JsonResponse({"status": "ok"}, headers=FRESH)


@csrf_exempt
@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """200 if the database can be written, otherwise 503. It answers within two seconds.

    Without Redis the status is `degraded`, but still 200: the service accepts messages, and its
    streams are silent. If Redis refuses the service commands that it needs, `refused` names them.
    """
    database_probe, redis_probe = probes()
    database_answer, redis_answer = database_probe.ask(), redis_probe.ask()  # both in parallel
    database, redis = database_answer(), redis_answer()
    status = "ok" if database == "ok" and redis == {"redis": "ok"} else "degraded"
    return JsonResponse(
        {"status": status, "database": database, **redis},
        status=200 if database == "ok" else 503,
        headers=FRESH,
    )


@csrf_exempt
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Metrics in Prometheus' text format: the runs of all processes, and this process's counts.

    503 if the database is away.
    """
    registry = CollectorRegistry()
    try:
        _collect_runs(registry)
        tell_memory(registry)
    except DatabaseError:
        return HttpResponse("The database is away.\n", status=503, content_type="text/plain")
    text = generate_latest(registry) + generate_latest()
    return HttpResponse(text, content_type=CONTENT_TYPE_LATEST, headers=FRESH)


def _collect_runs(registry: CollectorRegistry) -> None:
    queued = Q(status=Run.Status.QUEUED)
    counts = Run.active().aggregate(
        queued=Count("pk", filter=queued),
        oldest=Min("created_at", filter=queued),
        running=Count("pk", filter=~queued),
    )
    age = (timezone.now() - counts["oldest"]).total_seconds() if counts["oldest"] else 0
    runs = Gauge("unspool_live_runs", "Runs that have not ended", ["status"], registry=registry)
    runs.labels("queued").set(counts["queued"])
    runs.labels("running").set(counts["running"])
    tasks = "Tasks in the broker's queue"
    queue = Gauge("unspool_queue_length", tasks, ["kind"], registry=registry)
    for kind in kinds():
        length = queue_length(kind)
        queue.labels(kind).set(math.nan if length is None else length)
    waiting = "How long the oldest queued run has waited"
    Gauge("unspool_oldest_queued_run_seconds", waiting, registry=registry).set(max(0.0, age))
