"""Checks which Redis commands this service needs but its Redis user may not run.

Redis can restrict a user to commands, keys and channels (ACL). The check queues the commands in a
transaction and discards it. Redis checks the permission when it queues a command, and runs none.
"""

import re
from functools import cache
from time import monotonic
from uuid import UUID

import redis
from django.conf import settings
from redis.connection import ConnectionInterface as Connection

from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable
from streams.log.sharding import broker_server, server_urls

FRESH = 60.0  # seconds that a result is reused, because each check queues some 40 commands
CHANNEL = channel_of(UUID(int=0))  # no conversation has this id
KEY = f"{{{CHANNEL}}}:state"
# The commands that the operations (streams/log/scripts/) and the hub run. From `INFO server` the
# operations know whether Redis has restarted, because it may then have lost the newest events.
LOG = (
    *(("FCALL", "f", 1, KEY), ("FUNCTION", "LOAD", ""), ("INFO", "server")),
    *(("HGET", KEY, "f"), ("HMGET", KEY, "f"), ("HGETALL", KEY), ("HKEYS", KEY)),
    *(("HSET", KEY, "f", "v"), ("HDEL", KEY, "f"), ("DEL", KEY), ("EXPIRE", KEY, 1)),
    *(("HINCRBY", KEY, "f", 1), ("XTRIM", KEY, "MINID", "1-0")),
    *(("GET", KEY), ("SET", KEY, "v"), ("APPEND", KEY, "v")),
    *(("XADD", KEY, "*", "f", "v"), ("XRANGE", KEY, "-", "+"), ("XREVRANGE", KEY, "+", "-")),
    *(("PING",), ("PUBLISH", CHANNEL, ""), ("SUBSCRIBE", CHANNEL), ("UNSUBSCRIBE", CHANNEL)),
)


def broker_commands() -> tuple[tuple[str | int, ...], ...]:
    """The commands that Celery's transport runs on the server that holds its queue."""
    queue = settings.CELERY_TASK_DEFAULT_QUEUE
    binding, task, index = f"_kombu.binding.{queue}", "unacked", "unacked_index"
    return (
        *(("LPUSH", queue, "v"), ("RPUSH", queue, "v"), ("LLEN", queue)),
        ("BRPOP", queue, f"{queue}\x06\x163", 1),  # kombu has a list for each priority
        *(("SADD", binding, "v"), ("SMEMBERS", binding)),
        ("SADD", f"_kombu.binding_permanent.{queue}", "v"),
        *(("HSET", task, "f", "v"), ("HGET", task, "f"), ("HDEL", task, "f")),
        *(("ZADD", index, 1, "v"), ("ZREM", index, "v"), ("ZRANGE", index, 0, 1)),
        *(("ZREVRANGEBYSCORE", index, 1, 0), ("SET", "unacked_mutex", "v", "NX", "EX", 1)),
    )


@cache
def _client(url: str) -> "redis.Redis":
    timeout = settings.REDIS_TIMEOUT
    return redis.Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, protocol=2
    )


def refused(server: int) -> list[str]:
    """The commands, keys and channels that the server refuses. Raises `LogUnavailable`."""
    wanted = [*LOG, *(broker_commands() if server == broker_server() else ())]
    found: dict[str, None] = {}  # an ordered set
    try:
        pool = _client(server_urls()[server]).connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command("MULTI")
            if _refusal(connection):
                return ["MULTI"]  # without MULTI, Redis would run the commands
            for command in (*wanted, ("DISCARD",)):
                connection.send_command(*command)
            for command in (*wanted, ("DISCARD",)):
                if error := _refusal(connection):
                    found[_refused_part(command, error)] = None
        finally:
            connection.disconnect()  # otherwise a later command could read a late answer
            pool.release(connection)
    except redis.RedisError as error:
        raise LogUnavailable from error
    return list(found)


class Permissions:
    """The list from `refused` for one server, cached for `FRESH` seconds. Not thread-safe."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._refused: list[str] = []
        self._until = 0.0

    def refused(self) -> list[str]:
        """The result of the last check. Raises `LogUnavailable` if the server is down now.

        A change of the server's rules shows within `FRESH` seconds.
        """
        _ping(self._server)
        if monotonic() >= self._until:
            self._refused = refused(self._server)
            self._until = monotonic() + FRESH
        return self._refused


def _ping(server: int) -> None:
    try:
        _client(server_urls()[server]).ping()
    except redis.exceptions.NoPermissionError:
        pass  # the server answers; `refused` lists what it refuses
    except redis.RedisError as error:
        raise LogUnavailable from error


def _refusal(connection: Connection) -> str:
    """Read one answer. Returns the error if the user may not run the command, otherwise ''."""
    try:
        connection.read_response()
    except redis.ResponseError as error:
        # A full Redis or a replica refuses writes too, but not because of the user's permissions.
        if isinstance(error, redis.exceptions.NoPermissionError) or "unknown command" in str(error):
            return str(error)
    return ""


def acl_rules(refused: list[str]) -> str:
    """The rules for `ACL SETUSER` that allow everything that `refused` returned."""
    prefixes = {"channels": "&", "keys": "~"}
    rules = []
    for part in refused:
        kind, _, name = part.partition(" ")
        command = part.lower().replace(" ", "|")
        rules.append(f"{prefixes[kind]}{name}" if kind in prefixes else f"+{command}")
    return " ".join(rules)


def denied(error: LogUnavailable) -> bool:
    """Whether Redis answered, but the user may not run the command."""
    return isinstance(error.__cause__, redis.exceptions.NoPermissionError)


def locked_out(error: LogUnavailable) -> bool:
    """Whether Redis answered, but rejected the user name or the password."""
    return isinstance(error.__cause__, redis.exceptions.AuthenticationError)


def _refused_part(command: tuple[str | int, ...], error: str) -> str:
    """The refused command, key pattern or channel pattern, as Redis' ACL rules write it."""
    # Valkey says "access a key", Redis "access one of the keys used as arguments".
    kind = re.search("access (?:a|one of the) (key|channel)", error)
    if kind and kind[1] == "channel":
        return "channels conversation-*"
    if kind:
        key = str(command[3] if command[0] == "FCALL" else command[1])
        return f"keys {next(pattern for pattern in _patterns() if key.startswith(pattern))}*"
    return "FUNCTION LOAD" if command[0] == "FUNCTION" else str(command[0])


def _patterns() -> tuple[str, ...]:
    """The prefixes of all keys that the service uses."""
    return "{conversation-", "_kombu.", "unacked", settings.CELERY_TASK_DEFAULT_QUEUE
