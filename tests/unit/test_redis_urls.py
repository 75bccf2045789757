"""One Redis URL, and the clients that are made of it: each reads it alike, or it is refused."""

import ssl
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from kombu import Connection
from redis import ConnectionPool
from redis.asyncio import ConnectionPool as AsyncConnectionPool

from config.settings.redis_urls import broker_url, redis_url
from tests.unit.conftest import Read

HOST = "redis.example:6380"


def read_by_celery(url: str, **use_ssl: Any) -> dict[str, Any]:
    """What kombu gives to redis-py, before anything is connected."""
    connection = Connection(broker_url(url), ssl=use_ssl or False)
    channel = connection.transport_cls  # imports it
    assert channel is not None
    transport = connection.transport
    made = transport.Channel.__new__(transport.Channel)
    made.connection = transport
    for name, value in {"max_connections": 10, "socket_timeout": None}.items():
        setattr(made, name, value)
    return dict(made._connparams())


@pytest.mark.parametrize("spelling", ["CERT_NONE", "cert_none", "none", "NONE"])
def test_no_client_checks_a_certificate_when_the_url_says_so(spelling: str) -> None:
    url = redis_url(f"rediss://{HOST}/2?ssl_cert_reqs={spelling}")
    assert url == f"rediss://{HOST}/2?ssl_cert_reqs=none"
    for pool in (ConnectionPool, AsyncConnectionPool):
        made: Any = pool.from_url(url).make_connection()
        mode = made.cert_reqs if pool is ConnectionPool else made.ssl_context.cert_reqs
        assert mode == ssl.CERT_NONE
    told = read_by_celery(url, ssl_cert_reqs="required")
    assert (told["ssl_cert_reqs"], told["db"]) == (ssl.CERT_NONE, 2)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("redis://h", "redis://h"),
        ("redis://user:p%2Fw@h:1/3", "redis://user:p%2Fw@h:1/3"),
        ("redis://h?db=3", "redis://h/3"),
        ("unix:///run/r.sock?db=3", "unix:///run/r.sock?db=3"),
        ("unix://user:p%2Fw@/run/r.sock", "unix://user:p%2Fw@/run/r.sock"),
        ("unix:///run/a%23b%2525.sock", "unix:///run/a%23b%2525.sock"),
        ("rediss://h?ssl_cert_reqs=CERT_REQUIRED", "rediss://h?ssl_cert_reqs=required"),
        ("rediss://h?ssl_check_hostname=False", "rediss://h?ssl_check_hostname=false"),
        ("rediss://h?ssl_ca_certs=/a%2Cb.pem", "rediss://h?ssl_ca_certs=/a%2Cb.pem"),
    ],
)
def test_every_client_reads_the_same_server_from_the_url(given: str, meant: str) -> None:
    url = redis_url(given)
    assert url == meant
    directly = ConnectionPool.from_url(url).connection_kwargs
    celery = read_by_celery(url)
    named = ("path",) if given.startswith("unix:") else ("host", "port")
    defaults = {"port": 6379}
    for name in (*named, "username", "password"):
        assert celery.get(name) == directly.get(name, defaults.get(name)), name
    assert celery["db"] == directly.get("db", 0)
    for name in ("ssl_ca_certs", "ssl_check_hostname"):
        assert celery.get(name) == directly.get(name), name


@pytest.mark.parametrize(
    "url",
    [
        "rediss://h?ssl_cert_reqs=maybe",
        "rediss://h?ssl_check_hostname=perhaps",
        "redis://h?ssl_cert_reqs=none",  # nothing to check without TLS
        "redis://h?socket_timeout=3",  # REDIS_TIMEOUT sets it; kombu fails at it
        "redis://h?db=one",
        "redis://h/one",
        "redis://h:port",
        "redis://h?password",
        "redis://:a#b@h",
        "redis://[h",
    ],
)
def test_a_url_that_some_client_cannot_read_is_refused(url: str, read: Read) -> None:
    for name in ("REDIS_URL", "CELERY_BROKER_URL"):
        with pytest.raises(ImproperlyConfigured, match=f"^{name}.*\\.$") as refusal:
            read(**{name: url})
        assert "password" not in str(refusal.value)
        assert "a#b" not in str(refusal.value)


def test_the_broker_is_the_same_server_with_its_own_queue(read: Read) -> None:
    told = read(REDIS_URL="rediss://h/1?ssl_cert_reqs=CERT_NONE")
    assert told["CELERY_BROKER_URL"] == "rediss://h/1?ssl_cert_reqs=none"
    assert told["CELERY_TASK_DEFAULT_QUEUE"] == "unspool"
    told = read(CELERY_BROKER_URL="rediss://h/1?ssl_cert_reqs=CERT_NONE", CELERY_QUEUE="chat")
    assert told["CELERY_BROKER_URL"] == "rediss://h/1?ssl_cert_reqs=none"
    assert told["CELERY_TASK_DEFAULT_QUEUE"] == "chat"
    told = read(CELERY_BROKER_URL="amqp://guest@h//;amqp://guest@i//")
    assert told["CELERY_BROKER_URL"] == "amqp://guest@h//;amqp://guest@i//"
