"""The writer of a worker process: turns between replies, the order in one, the size of a trip."""

import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from django.db import connection

from streams.chat import ask
from streams.chat.publisher import append
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable
from streams.log.event_log import the_log
from streams.log.values import Append, Page
from streams.models import Run
from streams.protocol.events import RunStarted, TextDelta
from tests.support.appends import text_append
from tests.support.openai_server import serving
from workers import log_writer
from workers.backpressure import WAITING
from workers.log_writer import BATCH, TRIP_BYTES, LogWriter, OnResult, size
from workers.run_attempt import generate
from workers.runtime import Runtime

pytestmark = pytest.mark.django_db(transaction=True)


class Reply:
    """A run that has started in the log, and the pieces that its attempt writes."""

    def __init__(self) -> None:
        self.run, self.channel = uuid4(), channel_of(uuid4())
        self.pieces = 0
        event = RunStarted(run=self.run, attempt=1, model="m")
        self.start = the_log().channel(self.channel).append_start(event, abandoned=False)

    def piece(self, text: str = "word ") -> Append:
        event = TextDelta(run=self.run, attempt=1, index=self.pieces, text=text)
        self.pieces += 1
        return text_append(self.channel, event, min_head=self.start)

    def stored(self) -> list[int]:
        """The ids that the log holds after the start."""
        ids, cursor = [], self.start
        while True:
            page = the_log().channel(self.channel).read_after(cursor)
            assert isinstance(page, Page)
            if not page.entries:
                return ids
            ids += [id for id, _, _ in page.entries]
            cursor = ids[-1]


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[list[Append]]:
    """What each trip carried, as it begins."""
    begun: list[list[Append]] = []

    def recorded(pieces: Sequence[Append]) -> list[int | Exception]:
        if not begun or begun[-1][0] is not pieces[0]:  # else Redis was late, and it is repeated
            begun.append(list(pieces))
        return append(pieces)

    monkeypatch.setattr(log_writer, "append", recorded)
    return begun


@pytest.fixture
def alone(valkey: "redis.Redis") -> Iterator[LogWriter]:
    """A writer that is not started yet, and delivers its results at once."""

    class Loop:
        def call_soon_threadsafe(self, tell: Any, *given: Any) -> None:
            tell(*given)

    loop: Any = Loop()
    made = LogWriter(loop)
    yield made
    made.stop()
    if made.is_alive():
        made.join(20)


@pytest.fixture
def process(valkey: "redis.Redis", settings: Any) -> Iterator[Runtime]:
    settings.EMBEDDED_MODEL = False
    settings.SWEEP_INTERVAL = 3600
    with serving() as model:
        settings.OPENAI_BASE_URL = model.url
        running = Runtime()
        yield running
        running.close()


def asked(**script: Any) -> Run:
    accepted = ask.begin(owner="visitor:a", text=json.dumps(script))
    return Run.objects.get(pk=accepted.run)


def finish(writer: LogWriter) -> None:
    writer.stop()
    writer.start()
    writer.join(60)
    assert not writer.is_alive()


def test_a_reply_beside_a_fast_one_is_in_the_next_batch(
    alone: LogWriter, trips: list[list[Append]]
) -> None:
    floods, slow = [Reply(), Reply(), Reply()], Reply()
    ids: dict[UUID, list[object]] = {reply.run: [] for reply in (*floods, slow)}
    for _ in range(2 * BATCH):
        for flood in floods:
            alone.write(flood.piece(), ids[flood.run].append)
    alone.write(slow.piece(), ids[slow.run].append)
    finish(alone)
    assert [piece.event.run for piece in trips[0]].count(slow.run) == 1
    assert len(trips) == 7
    for reply in (*floods, slow):
        assert ids[reply.run] == reply.stored()  # in order, each once
        assert len(reply.stored()) == reply.pieces


def test_a_batch_continues_with_the_reply_whose_turn_is_next(
    alone: LogWriter, trips: list[list[Append]]
) -> None:
    replies = [Reply() for _ in range(3)]
    for _ in range(BATCH):
        for reply in replies:
            alone.write(reply.piece(), lambda _: None)
    finish(alone)
    order = [piece.event.run for trip in trips for piece in trip]
    assert order == [reply.run for reply in replies] * BATCH


def test_a_batch_is_bounded_in_bytes(alone: LogWriter, trips: list[list[Append]]) -> None:
    reply, heard = Reply(), list[object]()
    for text in [*["x" * 65_536] * 40, "x" * (2 * TRIP_BYTES), *["é" * 65_536] * 8, "end"]:
        alone.write(reply.piece(text), heard.append)
    finish(alone)
    sizes = [sum(map(size, trip)) for trip in trips]
    assert all(
        total <= TRIP_BYTES or len(trip) == 1 for total, trip in zip(sizes, trips, strict=True)
    )
    assert len(trips) == 3 + 1 + 2 + 1
    assert heard == reply.stored()


def test_a_slow_reply_beside_fast_ones_waits_for_at_most_one_batch(
    process: Runtime, trips: list[list[Append]], monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """And of each reply only a little waits, so that the model is read as the log answers."""
    settings.DELTA_WINDOW = 0
    written: dict[int, int] = {}  # delta → the batches that had started when it was written
    waiting: dict[UUID, int] = {}
    most: dict[UUID, int] = {}
    write = LogWriter.write

    def noted(self: LogWriter, piece: Append, heard: OnResult) -> None:
        run = piece.event.run
        waiting[run] = waiting.get(run, 0) + 1
        most[run] = max(most.get(run, 0), waiting[run])
        written[id(piece)] = len(trips)

        def answered(answer: int | Exception) -> None:
            waiting[run] -= 1
            heard(answer)

        write(self, piece, answered)

    monkeypatch.setattr(LogWriter, "write", noted)
    slow = asked(tokens=20, rate=20)
    floods = [asked(tokens=3000, seed=n) for n in range(6)]
    threads = [threading.Thread(target=reply, args=[run, process]) for run in (*floods, slow)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert {Run.objects.get(pk=run.pk).status for run in (*floods, slow)} == {"completed"}
    waits = [
        number - written[id(piece)]
        for number, trip in enumerate(trips)
        for piece in trip
        if piece.event.run == slow.id
    ]
    assert len(waits) == 20
    assert max(waits) <= 1  # the batch that had not started, or the one after it
    assert max(most.values()) <= WAITING + 1
    assert not any(waiting.values())


def reply(run: Run, process: Runtime) -> None:
    try:
        generate(run.id, process)
    finally:
        connection.close()


def test_the_writer_reports_an_outage_of_redis_until_it_is_over(
    alone: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []

    def unavailable_once(pieces: Sequence[Append]) -> list[int | Exception]:
        told.append(alone.away.is_set())
        if len(told) == 1:
            raise LogUnavailable
        return append(pieces)

    monkeypatch.setattr(log_writer, "append", unavailable_once)
    reply, heard = Reply(), list[object]()
    alone.write(reply.piece(), heard.append)
    finish(alone)
    assert (told, alone.away.is_set()) == ([False, True], False)
    assert heard == reply.stored()
