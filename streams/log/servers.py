"""The Redis servers that hold the logs: each operation runs on the server of its channel."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from streams.log.errors import LogFull, LogUnavailable
from streams.log.library import LIBRARY, Operation
from streams.log.sharding import server_of, server_urls
from streams.log.verdicts import REFUSALS, Verdict

logger = logging.getLogger(__name__)
Arguments = list[Any]  # of one call: the number of its keys, the key, the arguments
Answer = list[Any]  # the answer to one call; its first item is the verdict


class OwnConnections(threading.local):
    """The connections on which this thread appends pieces."""

    def __init__(self) -> None:
        self.by_server: dict[int, Any] = {}


class Servers:
    """The connections to all servers, shared by all threads.

    Methods raise `LogUnavailable` if a server does not answer within REDIS_TIMEOUT.
    """

    def __init__(
        self,
        client: "redis.Redis | None" = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        # A pooled connection may be dead because Redis has restarted, so retry once, immediately.
        # There is no retry after a time-out, because a request must be answered within seconds.
        retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        timeout = settings.REDIS_TIMEOUT
        options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        options |= {"decode_responses": True, "protocol": 2, "retry": retry}
        self._clients = (
            [client] if client else [redis.Redis.from_url(u, **options) for u in server_urls()]
        )
        self.clock = clock
        self._own = OwnConnections()

    def command(self, server: int, *words: Any) -> Any:
        """The server's answer to one command, such as INFO."""
        try:
            return self._clients[server].execute_command(*words)
        except redis.RedisError as error:
            raise LogUnavailable from error

    def run(
        self, channel: str, operation: Operation, calls: Sequence[Arguments]
    ) -> list[Answer | Exception]:
        """Run the operation for each call, in one round trip to the channel's server.

        Returns for each call its answer, or the exception that stands for its verdict.
        """
        server = server_of(channel)
        client = self._clients[server]
        try:
            answers = self._call(server, operation, calls)
            if any(map(_is_function_missing, answers)):
                # Redis does not have this version's library yet. Repeating the calls is safe.
                _load_library(client)
                answers = self._call(server, operation, calls)
            answers = [_corrupted(answer) or answer for answer in answers]
            faults = [answer for answer in answers if isinstance(answer, Exception)]
        except redis.RedisError as error:
            faults = [error]
        if faults:
            logger.warning("log away: %s: %s", type(faults[0]).__name__, faults[0])
            full = isinstance(faults[0], redis.exceptions.OutOfMemoryError)
            raise (LogFull if full else LogUnavailable) from faults[0]
        return [REFUSALS[answer[0]]() if answer[0] in REFUSALS else answer for answer in answers]

    def _call(self, server: int, operation: Operation, calls: Sequence[Arguments]) -> list[Any]:
        """Send all calls in one write, then read all answers. A pipeline costs twice as much."""
        function = f"{LIBRARY.name}_{operation}"
        packed = b"".join([hiredis.pack_command(("FCALL", function, *call)) for call in calls])
        if operation is Operation.APPEND:
            return _send(self._own_connection(server), packed, len(calls))
        pool = self._clients[server].connection_pool
        connection = pool.get_connection()
        try:
            return _send(connection, packed, len(calls))
        finally:
            pool.release(connection)

    def _own_connection(self, server: int) -> Any:
        """This thread's own connection, without the check that a pool makes in each round trip.

        Only the threads of the log writers append pieces, so these connections are few.
        """
        connections = self._own.by_server
        if server not in connections:
            connections[server] = self._clients[server].connection_pool.make_connection()
        return connections[server]


def _send(connection: Any, packed: bytes, count: int) -> list[Any]:
    """Send the packed calls and read their answers. Retry once on a new connection if it broke.

    A trip that fails closes the connection. Otherwise the next trip would read the old answers.
    """

    def trip() -> list[Any]:
        connection.send_packed_command([packed])
        return [_answer(connection) for _ in range(count)]

    try:
        return connection.retry.call_with_retry(trip, lambda _: connection.disconnect())  # type: ignore[no-any-return]
    except BaseException:
        connection.disconnect()
        raise


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def _is_function_missing(answer: Any) -> bool:
    return isinstance(answer, redis.ResponseError) and str(answer) == "Function not found"


def _load_library(client: "redis.Redis") -> None:
    try:
        client.execute_command("FUNCTION LOAD", LIBRARY.text)
    except redis.ResponseError as error:
        # Another process has loaded the library meanwhile. The name's digest proves it is the same.
        if str(error) != f"Library '{LIBRARY.name}' already exists":
            raise


def _corrupted(answer: Any) -> Answer | None:
    """`CORRUPTED` if the operation failed on data that the service did not write, else None."""
    if not isinstance(answer, redis.ResponseError):
        return None
    if not str(answer).startswith(("user_function", "WRONGTYPE")):
        return None
    logger.error("log corrupted: %s", answer)
    return [Verdict.CORRUPTED]
