"""`manage.py doctor`: checks each part that the settings name, and says how to fix a fault."""

import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
from celery import current_app
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from streams.chat.broker_queue import queue_length
from streams.chat.model_names import Kind, kinds, unknown
from streams.chat.redis_memory import memory_in
from streams.chat.worker_processes import names_without_process
from streams.database_time import from_now
from streams.log import redis_permissions
from streams.log.errors import LogUnavailable
from streams.log.event_log import the_log
from streams.log.sharding import server_urls
from streams.models import Run

LINES = {Kind.MODEL: "worker", Kind.AGENT: "agents"}  # the lines of the Procfile
PATIENCE = 5  # seconds that a part may take to answer
TASKS_PER_RUN, MANY_TASKS = 2, 1000  # more tasks in the queue are a fault; usual is one per run
SKEW = 1.0  # seconds that two clocks may differ
OPENAI = "https://api.openai.com/v1"


class CheckFailed(Exception):
    """A part has a fault. The text describes the fault, `mend` says how to fix it."""

    def __init__(self, finding: str, mend: str) -> None:
        super().__init__(finding)
        self.mend = mend


def database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        raise CheckFailed(
            f"does not answer: {error}", "Look at DATABASE_URL and its server."
        ) from error
    if missing:
        raise CheckFailed(f"lacks {len(missing)} migrations", "Run `manage.py migrate`.")
    return f"{connection.vendor} answers, and is up to date"


def redis(server: int) -> str:
    try:
        refused = redis_permissions.refused(server)
    except LogUnavailable as error:
        raise _unanswered(error) from error
    version = "" if "INFO" in refused else _version(server)
    if refused:
        unknown = " (so whether it keeps its data is not known)" if "INFO" in refused else ""
        raise CheckFailed(
            f"refuses its user what the service needs: {', '.join(refused)}{unknown}",
            f"Run `ACL SETUSER <user> {redis_permissions.acl_rules(refused)}`.",
        )
    info = _redis(server, "INFO")
    if not int(info.get("aof_enabled", 0)):
        raise CheckFailed(
            "loses its data in a restart", "Set `appendonly yes` in its configuration."
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        raise CheckFailed("cannot write its append-only file", "Look at its disk.")
    if info.get("maxmemory_policy", "noeviction") != "noeviction":
        policy = info["maxmemory_policy"]
        raise CheckFailed(
            f"deletes data if it is full ({policy})", "Set `maxmemory-policy noeviction`."
        )
    if memory_in(info).full:
        raise CheckFailed("is full, so no run may begin", "Raise maxmemory, or lower LOG_TTL.")
    return f"version {version} answers, appends to its file, and evicts nothing"


def _version(server: int) -> str:
    info = _redis(server, "INFO", "server")
    version = str(info.get("valkey_version") or info["redis_version"])
    if int(version.partition(".")[0]) < 7:  # it has no functions, so it refuses them to all users
        raise CheckFailed(f"is version {version}", "Use Redis or Valkey 7 or later.")
    return version


def broker() -> str:
    try:
        with current_app.connection_for_write() as broker:
            broker.ensure_connection(max_retries=1, timeout=PATIENCE)
    except Exception as error:  # each broker library has exceptions of its own
        finding = f"does not answer: {type(error).__name__}"
        raise CheckFailed(finding, "Look at CELERY_BROKER_URL and its server.") from error
    lengths = [queue_length(kind) for kind in kinds()]
    if None in lengths:
        return "takes tasks; it does not tell how many wait in its queue"
    length = sum(filter(None, lengths))
    waiting = Run.active().filter(status=Run.Status.QUEUED).count()
    if length > TASKS_PER_RUN * waiting + MANY_TASKS:
        finding = f"holds {length} tasks for {waiting} waiting runs"
        raise CheckFailed(
            finding, "Start workers: an outdated task takes a worker only milliseconds."
        )
    return f"takes tasks; {length} wait in its queue, for {waiting} waiting runs"


def workers() -> str:
    waiting = Run.objects.filter(status=Run.Status.QUEUED, created_at__lt=from_now(-60)).count()
    if waiting:
        raise CheckFailed(
            f"leave {waiting} runs waiting for over a minute", "Start workers, or more of them."
        )
    return "leave no run waiting for over a minute"


def names() -> str:
    """Compare the names that requests may give, that processes have, and that runs wait for."""
    if missing := names_without_process():
        listed = [name for without in missing.values() for name in without]
        lines = " and ".join(f"`{LINES[kind]}`" for kind in missing)
        raise CheckFailed(
            f"{', '.join(listed)} have no process that takes their runs",
            f"Start the line {lines} of the Procfile, with LLM_MODELS and AGENTS as in the web.",
        )
    runs = Run.active().filter(unknown()).order_by().values_list("model", flat=True)
    if gone := sorted(set(runs)):
        raise CheckFailed(
            f"{', '.join(gone)} have waiting runs, but the settings lack these names",
            "Add them to LLM_MODELS or AGENTS again, or let the runs end as unknown_model.",
        )
    return "of models and agents all have a process that takes their runs"


def model() -> str:
    try:
        embedded = settings.EMBEDDED_MODEL and settings.MODEL_URL_FILE.read_text().strip()
        url = embedded or settings.OPENAI_BASE_URL or OPENAI
        headers = {"Authorization": f"Bearer {settings.OPENAI_API_KEY or 'unused'}"}
        answer = httpx.get(f"{url.rstrip('/')}/models", headers=headers, timeout=PATIENCE)
    except FileNotFoundError as error:
        raise CheckFailed(
            "is not running", "Start the `model` line, or set OPENAI_API_KEY."
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        finding = f"does not answer: {type(error).__name__}"
        raise CheckFailed(finding, "Look at OPENAI_BASE_URL, and at the network.") from error
    if answer.status_code in (401, 403):
        raise CheckFailed("does not let us in", "Look at OPENAI_API_KEY.")
    try:
        offered = {str(offer["id"]) for offer in answer.raise_for_status().json()["data"]}
    except (httpx.HTTPStatusError, ValueError, LookupError, TypeError) as error:
        finding = f"answers with status {answer.status_code}, and without a list of models"
        raise CheckFailed(finding, "OPENAI_BASE_URL usually ends in /v1.") from error
    if offered and not offered & set(settings.LLM_MODELS):
        raise CheckFailed(
            "offers none of LLM_MODELS", f"It offers {', '.join(sorted(offered)[:5])}."
        )
    return f"answers at {urlsplit(url).netloc}"


def clocks() -> str:
    apart = 0.0
    for server in range(len(server_urls())):
        seconds, micros = _redis(server, "TIME")
        apart = max(apart, abs(int(seconds) + int(micros) / 1e6 - time.time()))
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT EXTRACT(EPOCH FROM clock_timestamp())")
            apart = max(apart, abs(float(cursor.fetchone()[0]) - time.time()))
    if apart > SKEW:
        raise CheckFailed(f"are {apart:.1f} s apart", "Run NTP on all machines.")
    return f"are within {max(apart, 0.001):.3f} s"


def pushpin() -> str:
    where = urlsplit(settings.GRIP_URL)
    try:
        socket.create_connection((where.hostname or "", where.port or 80), PATIENCE).close()
    except OSError as error:
        raise CheckFailed(f"does not answer: {error}", "Start it, or unset GRIP_URL.") from error
    return "answers"


def _redis(server: int, *command: str) -> Any:
    try:
        return the_log().ask_server(server, *command)
    except LogUnavailable as error:
        if redis_permissions.denied(error):
            finding = f"cannot be told: Redis refuses its user {command[0]}"
            mend = f"Run `ACL SETUSER <user> {redis_permissions.acl_rules([command[0]])}`."
            raise CheckFailed(finding, mend) from error
        raise _unanswered(error) from error


def _unanswered(error: LogUnavailable) -> CheckFailed:
    if redis_permissions.locked_out(error):
        return CheckFailed("does not let us in", "Look at the user and the password in REDIS_URL.")
    return CheckFailed("does not answer", "Look at REDIS_URL and its server.")


def parts() -> Iterator[tuple[str, Callable[[], str]]]:
    """Each part's name and its check, which returns the part's state or raises `CheckFailed`."""
    yield "database", database
    for server in range(len(server_urls())):
        name = f"redis {server + 1}" if len(server_urls()) > 1 else "redis"
        yield name, partial(redis, server)
    for part in (broker, model, clocks, workers, names):
        yield part.__name__, part
    if settings.GRIP_URL:
        yield "pushpin", pushpin


class Command(BaseCommand):
    help = "Checks every part, and says how to fix each fault. After a fault, the exit code is 1."
    requires_system_checks = ()

    def handle(self, *_: Any, **__: Any) -> None:
        failed = 0
        for name, part in parts():
            try:
                self.stdout.write(f"well  {name:9} {part()}")
            except CheckFailed as error:
                failed += 1
                self.stdout.write(f"ILL   {name:9} {error}. {error.mend}")
            except DatabaseError:
                failed += 1
                self.stdout.write(f"ILL   {name:9} cannot be asked without the database.")
        if failed:
            raise CommandError(f"{failed} of the parts are ill.")
