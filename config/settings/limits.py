"""The limits of one worker process, of one owner, and of one message."""

from django.core.exceptions import ImproperlyConfigured

from config.settings.deployment import PRODUCTION
from config.settings.env import Environment

env = Environment()
# Replies at once in one worker process. One owner alone gets three quarters of them: 66.
CELERY_WORKER_CONCURRENCY = env.int("WORKER_CONCURRENCY", 88)
# Queued or running, per owner. One owner alone must not fill a worker process in production.
MAX_LIVE_RUNS = env.int(
    "MAX_LIVE_RUNS", max(1, CELERY_WORKER_CONCURRENCY // 2) if PRODUCTION else 100
)
MAX_RUNS_PER_MINUTE = env.int(
    "MAX_RUNS_PER_MINUTE", 120 if PRODUCTION else 6000
)  # runs begun a minute, per owner
MAX_REPEATS = env.int("MAX_REPEATS", 120 if PRODUCTION else 600)  # repeats a minute, per owner
MAX_STREAMS = env.int("MAX_STREAMS", 1000)  # open at once, per owner and web process
MAX_MESSAGE_CHARS = env.int("MAX_MESSAGE_CHARS", 200_000)  # characters of one message
MAX_REPLY_BYTES = env.int("MAX_REPLY_BYTES", 1024 * 1024)  # UTF-8 of a reply and its reasoning
if MAX_REPLY_BYTES < 1:
    raise ImproperlyConfigured("MAX_REPLY_BYTES must be at least 1.")
# Bytes of the longest body, a message and a system text in JSON; streams/http/bodies.py has each.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 12 * MAX_MESSAGE_CHARS + 16_384
# Django would write what is longer to a file, and every stream would wait for the disk.
FILE_UPLOAD_MAX_MEMORY_SIZE = DATA_UPLOAD_MAX_MEMORY_SIZE
IDEMPOTENCY_TTL = env.int(
    "IDEMPOTENCY_TTL", 24 * 3600
)  # seconds that an Idempotency-Key is remembered
