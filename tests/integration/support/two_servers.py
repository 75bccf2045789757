"""Runs on a chosen one of two Redis servers, and a server that is away."""

from typing import Any

from streams.chat import ask
from streams.log.channels import channel_of
from streams.log.event_log import the_log
from streams.log.sharding import server_of
from tests.integration.support.published_run import VISITOR, PublishedRun

NOWHERE = "redis://127.0.0.1:1/0"  # refuses connections at once
SERVERS = (0, 1)


def told_on(server: int) -> PublishedRun:
    while server_of((story := PublishedRun()).channel) != server:
        pass
    return story


def asked_on(server: int) -> ask.QueuedRun:
    while True:
        made = ask.begin(owner=VISITOR.owner, text="Why?")
        if server_of(channel_of(made.conversation)) == server:
            return made


def second_is_away(settings: Any) -> None:
    settings.REDIS_URL = f"{settings.REDIS_URL.split(',')[0]},{NOWHERE}"
    the_log.cache_clear()
