"""The settings of the service itself: deployment, addresses, Redis, database.

`streams/conf.py` has the settings of the apps. `config/settings/base.py` makes Django's settings
from both.
"""

import logging
import os
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from config.settings.database import database
from config.settings.redis_urls import celery_url, redis_urls
from streams.conf import StreamSettings, agent_paths
from streams.environment import (
    Count,
    Flag,
    Lists,
    Pairs,
    Port,
    Seconds,
    Values,
    Words,
    in_production,
    setting,
)

CHECKOUT = Path(__file__).resolve().parent.parent.parent
YEAR = 31_536_000  # seconds
REQUIRED = {  # in production; if a key has several names, one of them is enough
    ("SECRET_KEY",): "it signs sessions; make one of 50 random characters.",
    ("ALLOWED_HOSTS",): "the host names that the service answers to.",
    ("DATABASE_URL",): "it stores the conversations; postgres://user:password@host:port/name.",
    ("REDIS_URL",): "the log and the broker; redis://host:port/0, with an append-only file.",
    ("OPENAI_API_KEY", "OPENAI_BASE_URL"): "the embedded model is for trials only.",
}

DEMONSTRATIONS = {
    "demo-tools": "workers.agents.demos.tools.agent",
    "demo-chain": "workers.agents.demos.chain.agent",
}
SUGGESTIONS = {  # questions that the demonstrations answer well
    "demo-tools": [
        "How does Unspool resume a stream?",
        "What time is it in Tokyo?",
        "What is 12.5 % of 384?",
    ],
    "demo-chain": ["What is a river?", "Say hello in one sentence."],
}


def demonstrations(values: Values) -> dict[str, str]:
    """The demonstration agents, in a development copy without AGENTS; `AGENTS=` turns them off."""
    return {} if values["PRODUCTION"] or "AGENTS" in os.environ else DEMONSTRATIONS


def networks(proxies: list[str]) -> list[str]:
    """Return the proxies. Raises `ValueError` if one is not an address or a network."""
    for proxy in proxies:
        try:
            ip_network(proxy)
        except ValueError:
            raise ValueError(
                f"must be addresses or networks with commas between, not {proxy!r}."
            ) from None
    return proxies


def log_level(name: str) -> str:
    """Return the name. Raises `ValueError` if it is not the name of a level."""
    if name not in logging.getLevelNamesMapping():
        raise ValueError("must be DEBUG, INFO, WARNING or ERROR.")
    return name


def database_url(url: str) -> str:
    """Return the URL. Raises `ValueError`, without the password, if it cannot be read."""
    try:
        database(url, connections=1)
    except ValueError:
        raise ValueError("must be postgres://user:password@host:port/name.") from None
    return url


class ServiceSettings(StreamSettings):
    """The settings of the apps and of this service. Each default is that of a development copy."""

    # ── Deployment ───────────────────────────────────────────────────────────────────────────
    DEBUG: Flag = setting(False, "", "Django's: tracebacks in the browser; never in production")
    DATA_DIR: Path = setting(CHECKOUT / "data", "path", "the files of the embedded servers")
    SECRET_KEY: str = setting("", "", "signs sessions; empty: one that is kept in the data folder")
    ALLOWED_HOSTS: Words = setting(
        [".localhost", "127.0.0.1", "[::1]"],
        "names, separated by commas",
        "that the service answers to",
    )
    LOG_JSON: Flag = setting(
        in_production(True, otherwise=False), "", "one JSON object a line, for programs"
    )
    LOG_LEVEL: Annotated[str, AfterValidator(log_level)] = setting(
        "INFO", "Python's level names", "of all loggers but the clients of HTTP and the model"
    )

    # ── Agents ───────────────────────────────────────────────────────────────────────────────
    AGENTS: Annotated[Pairs, AfterValidator(agent_paths)] = setting(
        demonstrations, "`name=path`, separated by commas", "the dotted path to each agent"
    )
    AGENT_SUGGESTIONS: Lists = setting(
        SUGGESTIONS, "JSON object of lists", "first questions that the page offers, by agent"
    )

    # ── The web process ──────────────────────────────────────────────────────────────────────
    TRUSTED_PROXIES: Annotated[Words, AfterValidator(networks)] = setting(
        [], "addresses or networks, separated by commas", "whose forwarding headers are trusted"
    )
    WEB_DRAIN: Seconds = setting(
        3.0, "s, rounded to whole seconds", "for requests to finish after SIGTERM"
    )

    # ── Redis and the broker ─────────────────────────────────────────────────────────────────
    REDIS_URL: Annotated[str, AfterValidator(redis_urls)] = setting(
        "", "URL", "or several, separated by commas; empty: the embedded Valkey"
    )
    CELERY_BROKER_URL: Annotated[str, AfterValidator(celery_url)] = setting(
        "", "URL", "of the tasks' broker; empty: the first of REDIS_URL"
    )
    CELERY_QUEUE: str = setting("unspool", "name", "not shared with another application")

    # ── Pushpin ──────────────────────────────────────────────────────────────────────────────
    PUSHPIN_PORT: Port = setting(7999, "TCP port", "of Pushpin at HOST, the public one")
    PUSHPIN_MAX_CONNECTIONS: Count = setting(50_000, "connections", "of one Pushpin")
    PUSHPIN_IDLE_TIMEOUT: Count = setting(
        75, "s", "without traffic until Pushpin closes a connection; `Prefer: wait` lasts up to 60"
    )
    PUSHPIN_ORIGIN: str = setting("", "host:port", "of the web processes; empty: PORT here")
    BRIDGE_BIND: str = setting(
        "", "ZeroMQ address", "of this bridge; empty: a Unix socket in the data folder"
    )
    BRIDGE_URLS: Words = setting(
        [], "ZeroMQ addresses, separated by commas", "of all bridges; empty: BRIDGE_BIND"
    )

    # ── Browsers ─────────────────────────────────────────────────────────────────────────────
    AUTHENTICATION_BACKENDS: Words = setting(
        ["django.contrib.auth.backends.ModelBackend"],
        "Python paths, separated by commas",
        "Django's, or those of another application",
    )
    CORS_ALLOWED_ORIGINS: Words = setting(
        [], "origins, separated by commas", "whose pages may call the API with cookies"
    )
    CSRF_TRUSTED_ORIGINS: Words = setting(
        [], "origins, separated by commas", "that may send unsafe requests, besides those above"
    )
    HTTPS: Flag = setting(
        in_production(True, otherwise=False), "", "browsers use it; off: passwords are readable"
    )
    HSTS_SECONDS: int = setting(
        in_production(YEAR, otherwise=0), "s", "that browsers refuse plain HTTP"
    )

    # ── The database ─────────────────────────────────────────────────────────────────────────
    DATABASE_URL: Annotated[str, AfterValidator(database_url)] = setting(
        "", "URL", "empty: SQLite in the data folder"
    )
    DATABASE_CONNECTIONS: Count = setting(20, "connections", "of one process; not with SQLite")

    @model_validator(mode="after")
    def _require(self) -> Self:
        missing = [
            f"PRODUCTION is set, so {' or '.join(names)} must be too: {why}"
            for names, why in REQUIRED.items()
            if self.PRODUCTION and not any(name in self.model_fields_set for name in names)
        ]
        if missing:
            raise ValueError("\n".join(missing))
        return self
