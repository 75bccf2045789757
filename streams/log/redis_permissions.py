"""What this service needs of Redis and its user may not do there.

Redis can restrict a user to commands, keys and channels (ACL). The commands are queued in a
transaction that is discarded: Redis checks each as it is queued, and nothing is done.
"""

from functools import cache
from time import monotonic
from uuid import UUID

import redis
from django.conf import settings
from redis.connection import ConnectionInterface as Connection

from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable
from streams.log.sharding import broker_server, server_urls

FRESH = 60.0  # seconds that an answer counts: each question queues some 40 commands
CHANNEL = channel_of(UUID(int=0))  # no conversation's
KEY = f"{{{CHANNEL}}}:state"
DIGEST = "0" * 40  # of no script
# What streams/log/log.lua calls, and what follows it. `INFO server` tells a restarted Redis apart
# from the one before, which may have lost the newest events.
LOG = (
    *(("EVALSHA", DIGEST, 1, KEY), ("SCRIPT", "LOAD", "return 1"), ("INFO", "server")),
    *(("HGET", KEY, "f"), ("HMGET", KEY, "f"), ("HGETALL", KEY), ("HKEYS", KEY)),
    *(("HSET", KEY, "f", "v"), ("HDEL", KEY, "f"), ("DEL", KEY), ("EXPIRE", KEY, 1)),
    *(("GET", KEY), ("MGET", KEY), ("SET", KEY, "v"), ("APPEND", KEY, "v")),
    *(("XADD", KEY, "*", "f", "v"), ("XRANGE", KEY, "-", "+"), ("XREVRANGE", KEY, "+", "-")),
    *(("PING",), ("PUBLISH", CHANNEL, ""), ("SUBSCRIBE", CHANNEL), ("UNSUBSCRIBE", CHANNEL)),
)


def broker_commands() -> tuple[tuple[str | int, ...], ...]:
    """What Celery's transport asks of the server that carries its queue."""
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
    wait = settings.REDIS_TIMEOUT
    return redis.Redis.from_url(url, socket_timeout=wait, socket_connect_timeout=wait, protocol=2)


def refused(server: int) -> list[str]:
    """The commands, keys and channels that this server refuses. Raises `LogUnavailable`."""
    wanted = [*LOG, *(broker_commands() if server == broker_server() else ())]
    found: dict[str, None] = {}  # in order, each once
    try:
        pool = _client(server_urls()[server]).connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command("MULTI")
            if _refusal(connection):
                return ["MULTI"]  # without it, what follows would be done
            for words in (*wanted, ("DISCARD",)):
                connection.send_command(*words)
            for words in (*wanted, ("DISCARD",)):
                if error := _refusal(connection):
                    found[_named(words, error)] = None
        finally:
            connection.disconnect()  # if an answer was late, the next reader would take it
            pool.release(connection)
    except redis.RedisError as error:
        raise LogUnavailable from error
    return list(found)


class Permissions:
    """What one server refuses, as this process knows it. One caller at a time."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._refused: list[str] = []
        self._until = 0.0

    def refused(self) -> list[str]:
        """The latest answer of a server that answers now. Raises `LogUnavailable`.

        A change of the server's rules is seen within `FRESH` seconds.
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
        pass  # it answers; `refused` names what it refuses
    except redis.RedisError as error:
        raise LogUnavailable from error


def _refusal(connection: Connection) -> str:
    """Why the command to which this is the answer may not be sent; nothing where it may."""
    try:
        connection.read_response()
    except redis.ResponseError as error:
        # What Redis refuses to all, being full or a replica, is no matter of permissions.
        if isinstance(error, redis.exceptions.NoPermissionError) or "unknown command" in str(error):
            return str(error)
    return ""


def acl_rules(refused: list[str]) -> str:
    """What `ACL SETUSER` is told to allow these."""
    signs = {"channels": "&", "keys": "~"}
    rules = []
    for what in refused:
        kind, _, name = what.partition(" ")
        command = what.lower().replace(" ", "|")
        rules.append(f"{signs[kind]}{name}" if kind in signs else f"+{command}")
    return " ".join(rules)


def denied(error: LogUnavailable) -> bool:
    """Whether Redis answered, and refused the command to this user."""
    return isinstance(error.__cause__, redis.exceptions.NoPermissionError)


def locked_out(error: LogUnavailable) -> bool:
    """Whether Redis answered, and refused the user or the password."""
    return isinstance(error.__cause__, redis.exceptions.AuthenticationError)


def _named(words: tuple[str | int, ...], error: str) -> str:
    """What is refused, in the words of Redis' ACL rules."""
    if "channel" in error:
        return "channels conversation-*"
    if "key" in error:
        key = str(words[3] if words[0] == "EVALSHA" else words[1])
        return f"keys {next(pattern for pattern in _patterns() if key.startswith(pattern))}*"
    return " ".join(map(str, words[:2])) if words[0] == "SCRIPT" else str(words[0])


def _patterns() -> tuple[str, ...]:
    """How the keys begin."""
    return "{conversation-", "_kombu.", "unacked", settings.CELERY_TASK_DEFAULT_QUEUE
