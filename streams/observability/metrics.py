"""What each process counts for Prometheus, and where one without an address tells it.

What the database knows, whichever process is asked, `streams.web.health` tells.
"""

import logging
import time

from django.conf import settings
from prometheus_client import Counter, Gauge, Histogram, start_http_server

logger = logging.getLogger(__name__)
BUCKETS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)  # seconds, for a first token

FIRST_TOKEN = Histogram(
    "unspool_first_token_seconds",
    "From the question until the model's first token",
    buckets=BUCKETS,
)
DELTAS_APPENDED = Counter("unspool_deltas_appended", "Pieces of replies said")
APPENDS_REJECTED = Counter(
    "unspool_appends_rejected", "Pieces refused: their run was another's, or over"
)
RUNS_ENDED = Counter("unspool_runs_ended", "Runs that this process has ended", ["status", "code"])
SWEEPS = Counter("unspool_sweeps", "Looks for what nobody is doing")
RUNS_REDISPATCHED = Counter("unspool_runs_redispatched", "Runs found waiting, and rung again")
OPEN_STREAMS = Gauge("unspool_followers", "Open streams of this process")
REPLAYS = Counter("unspool_replays", "Readings of the log for one follower")
RESETS = Counter("unspool_resets", "Followers sent to a snapshot", ["reason"])
GAPS_RECOVERED = Counter("unspool_gaps_recovered", "Gaps in what arrived live, filled from the log")
SUBSCRIPTIONS = Counter("unspool_subscriptions", "Connections made to hear Redis; beyond one, anew")
SUBSCRIPTION_START = Gauge(
    "unspool_redis_subscription_start_seconds",
    "When the subscription began; 0 while lost",
    ["server"],
)


def set_subscription(server: int, up: bool) -> None:
    """Note that the subscription to this server has begun, or is lost."""
    SUBSCRIPTION_START.labels(server).set(time.time() if up else 0)
    if up:
        SUBSCRIPTIONS.inc()


def serve() -> None:
    """Answer at METRICS_PORT, where one is set: a worker has no other address."""
    if not settings.METRICS_PORT:
        return
    try:
        start_http_server(settings.METRICS_PORT, addr=settings.HOST)
    except OSError as error:
        logger.error("no metrics at port %s: %s", settings.METRICS_PORT, error.strerror)
