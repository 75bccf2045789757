"""The log: what it gives, what it refuses, and what happens when it is lost."""

from uuid import UUID, uuid4

import pytest
import redis

from streams.log.errors import FenceMissing, LogUnavailable, Superseded
from streams.log.event_log import EventLog
from streams.log.servers import Servers
from streams.log.values import Page, RunProgress
from streams.protocol.events import (
    ReasoningDelta,
    RunCancelled,
    RunCompleted,
    RunStarted,
    TextDelta,
    TextSnapshot,
)
from streams.protocol.parts import text_parts
from streams.protocol.sse import decode
from tests.integration.support.logged_run import CLOCK, USAGE, LoggedRun
from tests.support.appends import text_append
from tests.support.fold import ConversationState, fold


def test_ids_ascend_by_one_from_the_clock_and_have_all_digits(logged: LoggedRun) -> None:
    ids = [logged.queue(), logged.start(), *logged.append(logged.delta(0), logged.delta(1))]
    assert ids == [CLOCK, CLOCK + 1, CLOCK + 2, CLOCK + 3]


def test_a_repeated_append_gets_the_same_id_and_adds_nothing(logged: LoggedRun) -> None:
    first = [logged.queue(), logged.start(), *logged.append(*map(logged.delta, range(5)))]
    again = [logged.queue(), logged.start(), *logged.append(*map(logged.delta, range(5)))]
    ending = [logged.append_final("w0 w1 w2 w3 w4 "), logged.append_final("w0 w1 w2 w3 w4 ")]
    assert again == first
    assert ending == [first[-1] + 1] * 2
    assert len(logged.types(first[0] - 1)) == len(first) + 1


def test_a_delta_without_a_fence_is_refused(logged: LoggedRun) -> None:
    logged.queue()
    assert logged.append(logged.delta(0)) == ["FenceMissing"]


def test_a_superseded_attempt_is_refused_and_the_newer_one_starts_over(
    logged: LoggedRun,
) -> None:
    logged.start(1)
    logged.append(logged.delta(0))
    logged.start(2)
    assert logged.append(logged.delta(1)) == ["Superseded"]
    with pytest.raises(Superseded):
        logged.start(1)
    logged.append(logged.delta(0, "anew", attempt=2))
    assert logged.at().state().runs[logged.run] == RunProgress(attempt=2, parts=text_parts("anew"))


def test_nothing_follows_a_seal_or_a_final_event(logged: LoggedRun) -> None:
    start = logged.start()
    logged.append(logged.delta(0))
    assert logged.sealed(1) == (1, "w0 ")
    assert logged.append(logged.delta(1)) == ["Superseded"]
    logged.append_final("w0 ")
    assert logged.append(logged.delta(1)) == ["Superseded"]
    assert logged.types(start - 1) == ["run.started", "text.delta", "run.completed"]


def test_a_released_run_gets_no_second_final_event(logged: LoggedRun) -> None:
    logged.start()
    ending = logged.append_final("")
    logged.at().release_run(logged.run)
    assert logged.append_final("") == ending


def test_the_published_text_is_the_stored_text(logged: LoggedRun) -> None:
    start = logged.start()
    logged.append(logged.delta(0, "Hel"))
    logged.append_final("Hello")
    page = logged.at().read_after(start - 1)
    assert isinstance(page, Page)
    heard = ConversationState()
    for _, type, data in page.entries:
        heard = fold(heard, decode(type, data))
    assert heard.replies[logged.run].text == "Hello"
    assert [type for _, type, _ in page.entries][-2:] == [TextSnapshot.type, RunCompleted.type]


def test_the_state_of_a_run_is_the_fold_of_its_events(logged: LoggedRun) -> None:
    start = logged.start()
    thought = ReasoningDelta(run=logged.run, attempt=1, index=0, text="Hm. ")
    logged.log.append([text_append(logged.channel, thought)])
    for index, text in enumerate(("Wörter \ufffd ", "\u2028\r\n\ndata: x"), start=1):
        event = TextDelta(run=logged.run, attempt=1, index=index, text=text)
        logged.append(text_append(logged.channel, event, slot=1, opens=index == 1))
    page = logged.at().read_after(start - 1)
    assert isinstance(page, Page)
    heard = ConversationState()
    for _, type, data in page.entries:
        heard = fold(heard, decode(type, data))
    folded, kept = heard.replies[logged.run], logged.at().state()
    assert kept.runs[logged.run] == RunProgress(attempt=folded.attempt, parts=folded.parts)


def test_a_released_run_gets_no_fence_again(logged: LoggedRun) -> None:
    logged.start()
    logged.at().seal(logged.run, 1)
    ending = RunCancelled(run=logged.run, attempt=1, reply=None, usage=None)
    head = logged.append_final("", event=ending)
    logged.at().release_run(logged.run)
    # The attempt has asked the run's row just before.
    with pytest.raises(Superseded):
        logged.at().restore_fence(logged.run, 1, index=0, parts=text_parts("w0 "))
    assert logged.append(logged.delta(1)) == ["FenceMissing"]
    assert logged.types(head) == []


def test_a_deleted_conversation_is_never_written_again(logged: LoggedRun) -> None:
    logged.start()
    logged.at().delete()
    logged.at().delete()
    assert logged.append(logged.delta(0)) == ["Superseded"]
    with pytest.raises(Superseded):
        logged.queue()


def test_a_published_message_is_the_logs_entry(logged: LoggedRun, valkey: "redis.Redis") -> None:
    with valkey.pubsub() as heard:
        heard.subscribe(logged.channel)
        assert heard.get_message(timeout=5)["type"] == "subscribe"
        id = logged.queue()
        message = heard.get_message(timeout=5)
    page = logged.at().read_after(id - 1)
    assert isinstance(page, Page)
    assert message["data"] == f"{id} run.queued {page.entries[0][2]}"


def test_a_library_that_redis_has_lost_is_loaded_again(
    logged: LoggedRun, valkey: "redis.Redis"
) -> None:
    first = logged.queue()
    valkey.function_flush()
    assert logged.start() == first + 1


def test_an_unreachable_redis_is_log_unavailable() -> None:
    unreachable = redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.2)
    with pytest.raises(LogUnavailable):
        EventLog(Servers(unreachable)).channel("conversation-x").state()


def test_a_cancelled_run_without_events_can_end(logged: LoggedRun) -> None:
    logged.queue()
    assert logged.sealed(0) == (None, "")
    event = RunCancelled(run=logged.run, attempt=0, reply=None, usage=USAGE)
    logged.append_final("", event=event)
    assert logged.types(0) == ["run.queued", "run.cancelled"]


def test_a_run_that_ended_between_claim_and_start_never_starts(
    logged: LoggedRun,
) -> None:
    logged.queue()
    logged.at().seal(logged.run, 1)
    event = RunCancelled(run=logged.run, attempt=1, reply=None, usage=USAGE)
    logged.append_final("", event=event)
    for forgotten in (False, True):
        if forgotten:
            logged.at().release_run(logged.run)
        with pytest.raises(Superseded):
            logged.start()
    assert logged.types(0) == ["run.queued", "run.cancelled"]


def test_one_run_cannot_append_for_another(logged: LoggedRun) -> None:
    logged.start()
    other: UUID = uuid4()
    event = TextDelta(run=other, attempt=1, index=0, text="mine?")
    (answer,) = logged.log.append([text_append(logged.channel, event)])
    assert isinstance(answer, FenceMissing)


def test_the_final_event_of_a_silent_attempt_repeats_the_text_of_the_one_before(
    logged: LoggedRun,
) -> None:
    start = logged.start()
    logged.append(logged.delta(0, "half"))
    assert logged.sealed(2) == (1, "half")
    event = RunCancelled(run=logged.run, attempt=2, reply=uuid4(), usage=USAGE)
    logged.append_final("half", event=event)
    page = logged.at().read_after(start)
    assert isinstance(page, Page)
    assert [decode(type, data) for _, type, data in page.entries[1:]] == [
        RunStarted(run=logged.run, attempt=2, model="m"),
        logged.whole("half", attempt=2, index=0),
        event,
    ]


def test_a_repeated_append_costs_about_as_much_as_the_first(
    logged: LoggedRun, valkey: "redis.Redis"
) -> None:
    """A writer that was not answered in time offers up to 256 pieces again, on a full log."""

    def spent() -> int:
        return int(valkey.info("commandstats")["cmdstat_fcall"]["usec"])

    logged.start()
    for first in range(0, 20_000, 500):
        logged.append(*map(logged.delta, range(first, first + 500)))
    pieces = [logged.delta(index) for index in range(20_000, 20_256)]
    before = spent()
    ids = logged.append(*pieces)
    between = spent()
    assert logged.append(*pieces) == ids
    assert spent() - between < 20 * (between - before)
