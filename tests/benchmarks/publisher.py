"""The one who speaks: a process that says events on channels, in the way of one contestant.

    python -m tests.benchmarks.publisher ours|library|bare|nchan <channels>

tells on its first line where each channel is heard, then says what each line of its input asks
for, `{"events", "rate", "trip"}`: so many in turn over all channels, so many a second in all (0: as
fast as it can), so many in one trip at most, and tells when it began.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from http.client import HTTPConnection
from typing import Any
from uuid import uuid4

import django
import redis

Say = Callable[[Iterable[int]], None]  # to each of these channels, in one trip


def stamp() -> str:
    """A token of text that carries its time of publication."""
    return f"@{time.monotonic_ns() // 1000}@ "


def ours(channels: int) -> tuple[list[dict[str, Any]], Say]:
    """Deltas of replies, through the log."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from django.contrib.auth import get_user_model

    from streams.access.api_tokens import create_token
    from streams.chat.publisher import append
    from streams.log.channels import channel_of
    from streams.log.event_log import the_log
    from streams.models import Conversation
    from streams.protocol.events import RunStarted, TextDelta
    from tests.support.appends import text_append

    user, _ = get_user_model().objects.get_or_create(username="bench")
    token = create_token(user, "bench", scopes="read")
    made = Conversation.objects.bulk_create(
        Conversation(owner=f"user:{user.pk}", title="bench", model="m") for _ in range(channels)
    )
    runs = [uuid4() for _ in made]
    names = [channel_of(conversation.id) for conversation in made]
    indexes = [0] * channels
    places = []
    for conversation, run, name in zip(made, runs, names, strict=True):
        started = RunStarted(run=run, attempt=1, model="m")
        cursor = the_log().channel(name).append_start(started, abandoned=False)
        path = f"/api/conversations/{conversation.id}/events/"
        headers = {"Authorization": f"Bearer {token}"}
        places.append({"path": path, "headers": headers, "cursor": str(cursor)})

    def say(numbers: Iterable[int]) -> None:
        pieces = []
        for n in numbers:
            delta = TextDelta(run=runs[n], attempt=1, index=indexes[n], text=stamp())
            pieces.append(text_append(names[n], delta))
            indexes[n] += 1
        for answer in append(pieces):
            if isinstance(answer, Exception):
                raise answer

    return places, say


def heard(channel: str, cursor: str | None) -> dict[str, Any]:
    return {"path": f"/events/{channel}/", "headers": {}, "cursor": cursor}


def library(channels: int) -> tuple[list[dict[str, Any]], Say]:
    """The library's own send_event."""
    django.setup()
    from django_eventstream import send_event

    def say(numbers: Iterable[int]) -> None:
        for n in numbers:
            send_event(f"c{n}", "message", {"text": stamp()})

    say(range(channels))  # its storage knows no beginning: a cursor must name an event
    return [heard(f"c{n}", f"c{n}:1") for n in range(channels)], say


def bare(channels: int) -> tuple[list[dict[str, Any]], Say]:
    """Frames as they are sent, through Redis' PUBLISH."""
    client = redis.Redis(port=int(os.environ["REDIS_PORT"]))
    ids = [0] * channels

    def say(numbers: Iterable[int]) -> None:
        pipeline = client.pipeline(transaction=False)
        for n in numbers:
            ids[n] += 1
            data = json.dumps({"run": str(uuid4()), "attempt": 1, "index": ids[n], "text": stamp()})
            pipeline.publish(f"c{n}", f"event: text.delta\ndata: {data}\nid: {ids[n]}\n\n")
        pipeline.execute()

    return [heard(f"c{n}", None) for n in range(channels)], say


def nchan(channels: int) -> tuple[list[dict[str, Any]], Say]:
    """A POST an event, on a kept connection."""
    client = HTTPConnection("127.0.0.1", int(os.environ["NCHAN_PORT"]))

    def say(numbers: Iterable[int]) -> None:
        for n in numbers:
            # The fields of a delta, so that both send events of one length.
            data = {"run": str(uuid4()), "attempt": 1, "index": 0, "text": stamp()}
            client.request("POST", f"/publish/c{n}", json.dumps(data))
            answer = client.getresponse()
            answer.read()
            if answer.status >= 300:
                raise ConnectionError(f"nchan answered {answer.status}")

    return [heard(f"c{n}", None) for n in range(channels)], say


def speak(say: Say, channels: int, *, events: int, rate: float, trip: int) -> float:
    begun = time.monotonic()
    said = 0
    while said < events:
        due = events if not rate else min(events, int((time.monotonic() - begun) * rate) + 1)
        if due == said:
            time.sleep(max(0.0, begun + said / rate - time.monotonic()))
            continue
        due = min(due, said + trip)
        say([n % channels for n in range(said, due)])
        said = due
    return begun


PUBLISHERS = {"ours": ours, "library": library, "bare": bare, "nchan": nchan}


def main() -> None:
    channels = int(sys.argv[2])
    places, say = PUBLISHERS[sys.argv[1]](channels)
    print(json.dumps(places), flush=True)
    for line in sys.stdin:
        print(speak(say, channels, **json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
