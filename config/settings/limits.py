"""Settings: the limits of one worker process, one owner and one message."""

from django.core.exceptions import ImproperlyConfigured

from config.settings.deployment import PRODUCTION
from config.settings.env import Environment

env = Environment()
# Replies at once in one worker process. One owner gets at most three quarters of them: 66.
CELERY_WORKER_CONCURRENCY = env.int("WORKER_CONCURRENCY", 88)
# Queued or running runs, per owner. In production one owner must not fill a worker process.
MAX_LIVE_RUNS = env.int(
    "MAX_LIVE_RUNS", max(1, CELERY_WORKER_CONCURRENCY // 2) if PRODUCTION else 100
)
# New runs a minute, per owner.
MAX_RUNS_PER_MINUTE = env.int("MAX_RUNS_PER_MINUTE", 120 if PRODUCTION else 6000)
# Repeated requests a minute, per owner.
MAX_REPEATS = env.int("MAX_REPEATS", 120 if PRODUCTION else 600)
MAX_STREAMS = env.int("MAX_STREAMS", 1000)  # open at once, per owner and web process
MAX_MESSAGE_CHARS = env.int("MAX_MESSAGE_CHARS", 200_000)  # characters of one message
# Bytes of UTF-8 in a reply and its reasoning.
MAX_REPLY_BYTES = env.int("MAX_REPLY_BYTES", 1024 * 1024)
if MAX_REPLY_BYTES < 1:
    raise ImproperlyConfigured("MAX_REPLY_BYTES must be at least 1.")
# Bytes of the longest body: a message and a system text in JSON. See streams/http/bodies.py.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 12 * MAX_MESSAGE_CHARS + 16_384
# Django would write a longer body to a file, and all streams would wait for the disk.
FILE_UPLOAD_MAX_MEMORY_SIZE = DATA_UPLOAD_MAX_MEMORY_SIZE
# Seconds that an Idempotency-Key is remembered.
IDEMPOTENCY_TTL = env.int("IDEMPOTENCY_TTL", 24 * 3600)
