"""What the platform asks: is it alive, may it be sent requests, and is anybody waiting."""

import math

from django.db import DatabaseError
from django.db.models import Count, Min, Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from streams.chat.broker_queue import queue_length
from streams.chat.redis_memory import tell_memory
from streams.models import Run
from streams.web.health_checks import probes

FRESH = {"Cache-Control": "no-store"}


@csrf_exempt
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"}, headers=FRESH)


@csrf_exempt
@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """The database can be written. Without Redis the service accepts, and its streams are silent.

    It answers within two seconds, whatever the parts do. Where Redis answers, but refuses its user
    what the service needs, that is named.
    """
    of_database, of_redis = probes()
    database_answer, redis_answer = of_database.ask(), of_redis.ask()  # both at the same time
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
    """In Prometheus' text format: the runs, whichever process is asked, and this one's counts."""
    registry = CollectorRegistry()
    try:
        _tell_runs(registry)
        tell_memory(registry)
    except DatabaseError:
        return HttpResponse("The database is away.\n", status=503, content_type="text/plain")
    told = generate_latest(registry) + generate_latest()
    return HttpResponse(told, content_type=CONTENT_TYPE_LATEST, headers=FRESH)


def _tell_runs(registry: CollectorRegistry) -> None:
    queued = Q(status=Run.Status.QUEUED)
    seen = Run.active().aggregate(
        queued=Count("pk", filter=queued),
        oldest=Min("created_at", filter=queued),
        running=Count("pk", filter=~queued),
    )
    age = (timezone.now() - seen["oldest"]).total_seconds() if seen["oldest"] else 0
    runs = Gauge("unspool_live_runs", "Runs that have not ended", ["status"], registry=registry)
    runs.labels("queued").set(seen["queued"])
    runs.labels("running").set(seen["running"])
    queue = Gauge("unspool_queue_length", "Tasks in the broker's queue", registry=registry)
    length = queue_length()
    queue.set(math.nan if length is None else length)
    waiting = "How long the oldest queued run has waited"
    Gauge("unspool_oldest_queued_run_seconds", waiting, registry=registry).set(max(0.0, age))
