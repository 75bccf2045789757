"""The Prometheus metrics that each process counts, and the port at which a worker serves them.

`streams.web.health` adds the metrics that come from the database, and are the same in all
processes. `streams.chat.redis_memory` adds the metrics of Redis' memory.
"""

import logging
import time

from django.conf import settings
from prometheus_client import Counter, Gauge, Histogram, start_http_server

logger = logging.getLogger(__name__)
BUCKETS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)  # seconds, for a first token

FIRST_TOKEN = Histogram(
    "unspool_first_token_seconds",
    "Seconds from the user's message to the model's first token",
    buckets=BUCKETS,
)
DELTAS_APPENDED = Counter("unspool_deltas_appended", "Deltas appended to the log")
APPENDS_REJECTED = Counter(
    "unspool_appends_rejected", "Deltas that the log refused: superseded, or the run had ended"
)
RUNS_ENDED = Counter("unspool_runs_ended", "Runs that this process ended", ["status", "code"])
AGENTS_OUTLIVING_RUN = Gauge(
    "unspool_agents_outliving_run", "Agents that still work though their run has ended"
)
TOOL_SECONDS = Histogram(
    "unspool_tool_seconds",
    "Seconds from an agent's tool call to its result, or to the end of the reply (outcome open)",
    ["agent", "tool", "outcome"],
    buckets=BUCKETS,
)
SWEEPS = Counter("unspool_sweeps", "Sweeps for work that no process does")
RUNS_REDISPATCHED = Counter(
    "unspool_runs_redispatched", "Waiting runs that a sweep dispatched again"
)
OPEN_STREAMS = Gauge("unspool_followers", "Open streams of this process")
DIALECT_STREAMS = Gauge(
    "unspool_dialect_streams", "Open streams of this process in another client's wire", ["dialect"]
)
REPLAYS = Counter("unspool_replays", "Reads of the log for a follower with a cursor")
RESETS = Counter("unspool_resets", "Followers that were reset to a snapshot", ["reason"])
GAPS_RECOVERED = Counter(
    "unspool_gaps_recovered", "Gaps in live events that were filled from the log"
)
SUBSCRIPTIONS = Counter(
    "unspool_subscriptions", "Subscriptions to Redis begun; each after the first is a reconnection"
)
SUBSCRIPTION_START = Gauge(
    "unspool_redis_subscription_start_seconds",
    "Unix time when the subscription began; 0 while it is lost",
    ["server"],
)


def set_subscription(server: int, up: bool) -> None:
    """Record that the subscription to this server has begun, or is lost."""
    SUBSCRIPTION_START.labels(server).set(time.time() if up else 0)
    if up:
        SUBSCRIPTIONS.inc()


def serve() -> None:
    """Serve the metrics at METRICS_PORT, if it is set, because a worker serves no other HTTP.

    A port that is in use is logged as an error.
    """
    if not settings.METRICS_PORT:
        return
    try:
        start_http_server(settings.METRICS_PORT, addr=settings.HOST)
    except OSError as error:
        logger.error("no metrics at port %s: %s", settings.METRICS_PORT, error.strerror)
