"""The log: what it gives, what it refuses, and what happens when it is lost."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis

from streams.chat import publisher
from streams.log.channel_log import PAGE_BYTES, ChannelLog
from streams.log.errors import FenceMissing, LogUnavailable, LogUnverified, Superseded
from streams.log.event_log import EventLog
from streams.log.servers import Servers
from streams.log.values import (
    Append,
    CursorGap,
    LogState,
    OnUnverified,
    Page,
    RunProgress,
    Watermark,
)
from streams.models import Message, Run
from streams.protocol.events import (
    ConversationUpdated,
    ReasoningDelta,
    RunCancelled,
    RunCompleted,
    RunQueued,
    RunStarted,
    TextDelta,
    TextSnapshot,
    Usage,
)
from streams.protocol.fold import ConversationState, fold
from streams.protocol.parts import text_of, text_parts
from streams.protocol.sse import decode
from tests.support.appends import snapshot_append, text_append

CLOCK = 1_800_000_000_000_000  # microseconds
USAGE = Usage(input_tokens=1, output_tokens=2, total_tokens=3, estimated=False)


class Clock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = CLOCK

    def __call__(self) -> int:
        return self.now


class Teller:
    """One run on one channel, told piece by piece."""

    def __init__(self, valkey: "redis.Redis", clock: Callable[[], int] | None = None) -> None:
        self.log = EventLog(Servers(valkey, clock or Clock()))
        self.channel = f"conversation-{uuid4()}"
        self.run = uuid4()
        self.message = uuid4()

    def at(self, known: int = 0) -> ChannelLog:
        """The log, for a caller that knows the events up to this id."""
        return self.log.channel(self.channel, known)

    def queue(self, known: int = 0) -> int:
        event = RunQueued(run=self.run, message=self.message)
        (id,) = self.at(known).append_once(event, run=self.run)
        return id

    def start(self, attempt: int = 1, known: int = 0, abandoned: bool = False) -> int:
        event = RunStarted(run=self.run, attempt=attempt, model="m")
        return self.at(known).append_start(event, abandoned=abandoned)

    def piece(self, index: int, text: str = "", attempt: int = 1, known: int = 0) -> Append:
        event = TextDelta(run=self.run, attempt=attempt, index=index, text=text or f"w{index} ")
        return text_append(self.channel, event, min_head=known)

    def speak(self, *pieces: Append) -> list[int | str]:
        answers = self.log.append(pieces)
        return [a if isinstance(a, int) else type(a).__name__ for a in answers]

    def whole(self, text: str, *, attempt: int, index: int) -> TextSnapshot:
        parts = text_parts(text)
        return TextSnapshot(run=self.run, attempt=attempt, index=index, text=text, parts=parts)

    def end(self, text: str, known: int = 0, event: RunCancelled | None = None) -> int:
        """The final event, after what a reader needs who shall have this text."""
        ending = event or RunCompleted(
            run=self.run, attempt=1, reply=uuid4(), finish_reason="stop", usage=USAGE
        )
        log, reply = self.at(known), Message(content=text) if text else None
        sealed = log.seal(self.run, ending.attempt, ended=True)
        row = Run(id=self.run, attempt=ending.attempt, model="m", reply=reply)
        before = publisher.missing_events(row, sealed)
        return log.append_final(ending, *before, token=sealed.token)

    def sealed(self, attempt: int, **how: Any) -> tuple[int | None, str]:
        """Seals the reply. Gives the attempt whose text the log holds, and the text."""
        sealed = self.at().seal(self.run, attempt, **how)
        assert sealed.known
        return sealed.attempt, text_of(sealed.parts)

    def confirm(self, known: int, attempt: int = 1) -> None:
        reach = Watermark(channel=self.channel, run=self.run, attempt=attempt, head=known)
        self.log.verify([reach])

    def types(self, cursor: int) -> list[str]:
        page = self.at().read_after(cursor)
        assert isinstance(page, Page)
        return [type for _, type, _ in page.entries]


@pytest.fixture
def teller(valkey: "redis.Redis") -> Teller:
    return Teller(valkey)


def test_ids_ascend_by_one_from_the_clock_and_are_written_in_full(teller: Teller) -> None:
    ids = [teller.queue(), teller.start(), *teller.speak(teller.piece(0), teller.piece(1))]
    assert ids == [CLOCK, CLOCK + 1, CLOCK + 2, CLOCK + 3]


def test_whatever_is_said_again_gets_the_id_that_it_has_and_adds_nothing(teller: Teller) -> None:
    first = [teller.queue(), teller.start(), *teller.speak(*map(teller.piece, range(5)))]
    again = [teller.queue(), teller.start(), *teller.speak(*map(teller.piece, range(5)))]
    ending = [teller.end("w0 w1 w2 w3 w4 "), teller.end("w0 w1 w2 w3 w4 ")]
    assert again == first
    assert ending == [first[-1] + 1] * 2
    assert len(teller.types(first[0] - 1)) == len(first) + 1


def test_a_delta_without_a_fence_is_refused(teller: Teller) -> None:
    teller.queue()
    assert teller.speak(teller.piece(0)) == ["FenceMissing"]


def test_a_superseded_attempt_is_refused_and_the_newer_one_starts_its_text_anew(
    teller: Teller,
) -> None:
    teller.start(1)
    teller.speak(teller.piece(0))
    teller.start(2)
    assert teller.speak(teller.piece(1)) == ["Superseded"]
    with pytest.raises(Superseded):
        teller.start(1)
    teller.speak(teller.piece(0, "anew", attempt=2))
    assert teller.at().state().runs[teller.run] == RunProgress(attempt=2, parts=text_parts("anew"))


def test_nothing_follows_a_closed_fence_or_an_ending(teller: Teller) -> None:
    start = teller.start()
    teller.speak(teller.piece(0))
    assert teller.sealed(1) == (1, "w0 ")
    assert teller.speak(teller.piece(1)) == ["Superseded"]
    teller.end("w0 ")
    assert teller.speak(teller.piece(1)) == ["Superseded"]
    assert teller.types(start - 1) == ["run.started", "text.delta", "run.completed"]


def test_a_settled_run_is_said_no_second_time(teller: Teller) -> None:
    teller.start()
    ending = teller.end("")
    teller.at().release_run(teller.run)
    assert teller.end("") == ending


def test_the_text_said_is_the_text_stored(teller: Teller) -> None:
    start = teller.start()
    teller.speak(teller.piece(0, "Hel"))
    teller.end("Hello")
    page = teller.at().read_after(start - 1)
    assert isinstance(page, Page)
    heard = ConversationState()
    for _, type, data in page.entries:
        heard = fold(heard, decode(type, data))
    assert heard.replies[teller.run].text == "Hello"
    assert [type for _, type, _ in page.entries][-2:] == [TextSnapshot.type, RunCompleted.type]


def test_what_the_log_keeps_of_a_run_is_what_a_reader_folds(teller: Teller) -> None:
    start = teller.start()
    thought = ReasoningDelta(run=teller.run, attempt=1, index=0, text="Hm. ")
    teller.log.append([text_append(teller.channel, thought)])
    for index, text in enumerate(("Wörter \ufffd ", "\u2028\r\n\ndata: x"), start=1):
        event = TextDelta(run=teller.run, attempt=1, index=index, text=text)
        teller.speak(text_append(teller.channel, event, slot=1, opens=index == 1))
    page = teller.at().read_after(start - 1)
    assert isinstance(page, Page)
    heard = ConversationState()
    for _, type, data in page.entries:
        heard = fold(heard, decode(type, data))
    folded, kept = heard.replies[teller.run], teller.at().state()
    assert kept.runs[teller.run] == RunProgress(attempt=folded.attempt, parts=folded.parts)


@pytest.mark.parametrize("cursor", [CLOCK - 1, CLOCK, CLOCK + 1, 0])
def test_a_good_cursor_gets_everything_after_it(teller: Teller, cursor: int) -> None:
    teller.queue()
    teller.start()
    everything = ["run.queued", "run.started"]
    assert teller.types(cursor) == everything[max(0, cursor - CLOCK + 1) :]


@pytest.mark.parametrize(
    ("cursor", "reason"), [(CLOCK - 2, "lost"), (CLOCK + 1, "ahead"), (7, "lost"), (2**53, "ahead")]
)
def test_a_bad_cursor_is_told(teller: Teller, cursor: int, reason: str) -> None:
    teller.queue()
    assert teller.at().read_after(cursor) == CursorGap(reason=reason)


def test_a_trimmed_log_says_expired_and_its_rest_is_good(
    teller: Teller, valkey: "redis.Redis"
) -> None:
    first = teller.start()
    teller.speak(*map(teller.piece, range(300)))
    valkey.xtrim(f"{{{teller.channel}}}:events", maxlen=100, approximate=False)
    assert teller.at().read_after(first) == CursorGap(reason="expired")
    assert teller.at().read_after(0) == CursorGap(reason="expired")
    page = teller.at().read_after(first + 200, count=500)
    assert isinstance(page, Page)
    assert [id for id, _, _ in page.entries] == list(range(first + 201, first + 301))


def test_an_expired_log_keeps_its_place_for_those_who_were_caught_up(
    teller: Teller, valkey: "redis.Redis"
) -> None:
    head = teller.start()
    valkey.delete(f"{{{teller.channel}}}:events")  # as its expiry does
    assert teller.at().read_after(head) == Page(head=head, entries=[])
    assert teller.at().read_after(head - 1) == CursorGap(reason="expired")
    assert teller.speak(teller.piece(0)) == [head + 1]


def test_every_key_of_a_channel_expires(teller: Teller, valkey: "redis.Redis") -> None:
    teller.start()
    teller.speak(teller.piece(0))
    assert all(valkey.ttl(key) > 0 for key in valkey.keys("*"))


def test_a_lost_log_begins_a_new_life_above_every_id_that_was_heard(
    valkey: "redis.Redis",
) -> None:
    clock = Clock()
    teller = Teller(valkey, clock)
    teller.start()
    (heard,) = teller.speak(teller.piece(0))
    assert isinstance(heard, int)
    valkey.flushall()
    clock.now += 1_000_000
    assert teller.speak(teller.piece(1, known=heard)) == ["FenceMissing"]
    teller.at(heard).restore_fence(teller.run, 1, index=1, parts=text_parts("w0 w1 "))
    whole = teller.whole("w0 w1 ", attempt=1, index=2)
    (id,) = teller.log.append([snapshot_append(teller.channel, whole, min_head=heard)])
    assert isinstance(id, int)
    assert id > heard
    assert teller.at().read_after(heard) == CursorGap(reason="lost")
    assert teller.at().state().runs[teller.run].text == "w0 w1 "


def test_a_reply_that_is_stopped_before_it_is_said_again_in_a_new_life_keeps_its_words(
    teller: Teller, valkey: "redis.Redis"
) -> None:
    teller.start()
    (heard,) = teller.speak(teller.piece(0))
    assert isinstance(heard, int)
    valkey.flushall()
    head = teller.at(heard).restore_fence(teller.run, 1, index=0, parts=text_parts("w0 "))
    assert teller.sealed(1) == (1, "w0 ")
    ending = RunCancelled(run=teller.run, attempt=1, reply=None, usage=USAGE)
    teller.end("w0 ", event=ending)
    whole = teller.whole("w0 ", attempt=1, index=1)
    page = teller.at().read_after(head)
    assert isinstance(page, Page)
    assert [decode(type, data) for _, type, data in page.entries] == [whole, ending]


def test_a_run_that_has_ended_and_is_settled_gets_no_fence_again(teller: Teller) -> None:
    teller.start()
    teller.at().seal(teller.run, 1)
    ending = RunCancelled(run=teller.run, attempt=1, reply=None, usage=None)
    head = teller.end("", event=ending)
    teller.at().release_run(teller.run)
    # The attempt has asked the run's row just before.
    with pytest.raises(Superseded):
        teller.at().restore_fence(teller.run, 1, index=0, parts=text_parts("w0 "))
    assert teller.speak(teller.piece(1)) == ["FenceMissing"]
    assert teller.types(head) == []


def test_a_new_life_stays_above_what_was_heard_with_the_clock_a_second_back(
    valkey: "redis.Redis",
) -> None:
    clock = Clock()
    teller = Teller(valkey, clock)
    teller.start()
    heard = teller.speak(*map(teller.piece, range(50)))[-1]
    assert isinstance(heard, int)
    valkey.flushall()
    clock.now -= 1_000_000
    # Others may have said more than this writer knows, and that was heard, too.
    assert teller.queue(known=heard - 20) > heard
    assert teller.at().read_after(heard - 10) == CursorGap(reason="lost")


def test_a_life_that_begins_where_another_was_lost_at_once_is_not_taken_for_it(
    valkey: "redis.Redis",
) -> None:
    clock = Clock()
    known = Teller(valkey, clock).queue()
    teller = Teller(valkey, clock)
    heard = []
    for _ in range(2):
        valkey.flushall()
        clock.now += 1000
        # Whoever comes first knows what the row notes, and nothing of the life between.
        heard.append(teller.queue(known=known))
    assert heard[1] > heard[0]
    assert teller.at().read_after(heard[0]) == CursorGap(reason="lost")


def test_a_lost_tail_is_never_continued(teller: Teller, valkey: "redis.Redis") -> None:
    teller.start()
    ids = teller.speak(*map(teller.piece, range(10)))
    heard = ids[-1]
    assert isinstance(heard, int)
    # What a failover to a replica that lagged leaves: everything up to the fifth delta.
    state, events = f"{{{teller.channel}}}:state", f"{{{teller.channel}}}:events"
    valkey.hset(state, mapping={"head": heard - 5, f"{teller.run}:index": 4})
    for id in ids[5:]:
        valkey.xdel(events, f"{id}-0")
    assert teller.speak(teller.piece(10, known=heard)) == ["FenceMissing"]
    head = teller.at(heard).restore_fence(teller.run, 1, index=10, parts=())
    assert head >= heard
    assert teller.at().read_after(heard - 7) == CursorGap(reason="lost")


def test_repairing_a_lost_log_begins_the_epoch_in_which_writers_continue(teller: Teller) -> None:
    assert teller.at(CLOCK + 500).state() is None  # a read changes nothing
    assert teller.at().state() is None
    head = teller.at(CLOCK + 500).repair()
    assert head > CLOCK + 500
    assert teller.at(CLOCK + 500).repair() == head
    assert teller.at(CLOCK + 500).state() == LogState(head=head, runs={}, recorded={})
    assert teller.queue(known=CLOCK + 500) == head + 1
    assert teller.types(head) == ["run.queued"]


def test_a_deleted_conversation_is_never_written_again(teller: Teller) -> None:
    teller.start()
    teller.at().delete()
    teller.at().delete()
    assert teller.speak(teller.piece(0)) == ["Superseded"]
    with pytest.raises(Superseded):
        teller.queue()


def test_an_announcement_is_what_the_log_holds(teller: Teller, valkey: "redis.Redis") -> None:
    with valkey.pubsub() as heard:
        heard.subscribe(teller.channel)
        assert heard.get_message(timeout=5)["type"] == "subscribe"
        id = teller.queue()
        message = heard.get_message(timeout=5)
    page = teller.at().read_after(id - 1)
    assert isinstance(page, Page)
    assert message["data"] == f"{id} run.queued {page.entries[0][2]}"


def test_a_redis_that_was_emptied_of_its_scripts_is_taught_again(
    teller: Teller, valkey: "redis.Redis"
) -> None:
    first = teller.queue()
    valkey.script_flush()
    assert teller.start() == first + 1


def test_a_redis_that_is_not_there_is_away() -> None:
    nobody = redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.2)
    with pytest.raises(LogUnavailable):
        EventLog(Servers(nobody)).channel("conversation-x").state()


def test_a_cancelled_run_that_never_spoke_can_end(teller: Teller) -> None:
    teller.queue()
    assert teller.sealed(0) == (None, "")
    event = RunCancelled(run=teller.run, attempt=0, reply=None, usage=USAGE)
    teller.end("", event=event)
    assert teller.types(0) == ["run.queued", "run.cancelled"]


def test_a_run_that_has_ended_between_its_claim_and_its_start_never_starts(
    teller: Teller,
) -> None:
    teller.queue()
    teller.at().seal(teller.run, 1)
    event = RunCancelled(run=teller.run, attempt=1, reply=None, usage=USAGE)
    teller.end("", event=event)
    for forgotten in (False, True):
        if forgotten:
            teller.at().release_run(teller.run)
        with pytest.raises(Superseded):
            teller.start()
    assert teller.types(0) == ["run.queued", "run.cancelled"]


def test_one_run_cannot_speak_for_another(teller: Teller) -> None:
    teller.start()
    other: UUID = uuid4()
    event = TextDelta(run=other, attempt=1, index=0, text="mine?")
    (answer,) = teller.log.append([text_append(teller.channel, event)])
    assert isinstance(answer, FenceMissing)


def test_what_a_run_of_a_lost_log_said_is_not_known(teller: Teller) -> None:
    assert not teller.at().seal(teller.run, 1).known


def test_an_ending_of_an_attempt_that_never_spoke_says_what_the_one_before_it_said(
    teller: Teller,
) -> None:
    start = teller.start()
    teller.speak(teller.piece(0, "half"))
    assert teller.sealed(2) == (1, "half")
    event = RunCancelled(run=teller.run, attempt=2, reply=uuid4(), usage=USAGE)
    teller.end("half", event=event)
    page = teller.at().read_after(start)
    assert isinstance(page, Page)
    assert [decode(type, data) for _, type, data in page.entries[1:]] == [
        RunStarted(run=teller.run, attempt=2, model="m"),
        teller.whole("half", attempt=2, index=0),
        event,
    ]


def test_a_next_attempt_on_another_redis_begins_a_new_life(
    valkey: "redis.Redis",
) -> None:
    """Worker and Redis died together: nobody is left who knows of a tail that was lost."""
    clock = Clock()
    teller = Teller(valkey, clock)
    teller.start()
    heard = teller.speak(*map(teller.piece, range(5)))[-1]
    assert isinstance(heard, int)
    clock.now += 1_000_000
    second = teller.start(2)
    assert second == heard + 1
    valkey.hset(f"{{{teller.channel}}}:state", "server", "0123456789abcdef")
    handed_over = teller.start(3, known=second)  # by one who knew all that was said
    assert handed_over == second + 1
    valkey.hset(f"{{{teller.channel}}}:state", "server", "fedcba9876543210")
    assert teller.start(4, known=handed_over, abandoned=True) > handed_over + 1
    valkey.hset(f"{{{teller.channel}}}:state", "server", "0123456789abcdef")
    fourth = teller.start(4)
    assert fourth > handed_over + 1
    assert teller.at().read_after(second) == CursorGap(reason="lost")


def another(valkey: "redis.Redis", teller: Teller) -> None:
    """From now on it is another server, as far as the channel can tell."""
    valkey.hset(f"{{{teller.channel}}}:state", "server", "0123456789abcdef")


def test_on_another_redis_only_an_attempt_can_say_that_no_tail_is_lost(
    teller: Teller, valkey: "redis.Redis"
) -> None:
    teller.queue()
    teller.start()
    heard = teller.speak(teller.piece(0, "So "))[-1]
    assert isinstance(heard, int)
    another(valkey, teller)
    title = ConversationUpdated(title="New", model="m")
    with pytest.raises(LogUnverified):
        teller.at().append_once(title)
    with pytest.raises(LogUnverified):
        teller.at().append_once(RunQueued(run=uuid4(), message=uuid4()), run=uuid4())
    with pytest.raises(LogUnverified):
        teller.at().seal(teller.run, 1, on_unverified=OnUnverified.RAISE)
    teller.confirm(heard, attempt=2)
    with pytest.raises(LogUnverified):  # that was another attempt
        teller.at().append_once(title)
    teller.confirm(heard)
    assert teller.at().append_once(title) == [heard + 1]
    assert teller.sealed(1, on_unverified=OnUnverified.RAISE) == (1, "So ")


def test_on_another_redis_what_is_left_without_an_attempt_begins_a_new_life(
    teller: Teller, valkey: "redis.Redis"
) -> None:
    teller.queue()
    teller.start()
    heard = teller.speak(teller.piece(0, "So "))[-1]
    assert isinstance(heard, int)
    another(valkey, teller)
    assert teller.sealed(1, on_unverified=OnUnverified.NEW_EPOCH) == (1, "So ")
    assert teller.end("So ") > heard + 1
    assert teller.at().read_after(heard) == CursorGap(reason="lost")


def test_an_attempt_that_confirms_notices_what_is_lost(
    teller: Teller, valkey: "redis.Redis"
) -> None:
    teller.start()
    heard = teller.speak(teller.piece(0, "So "))[-1]
    assert isinstance(heard, int)
    another(valkey, teller)
    teller.confirm(heard + 3)
    assert teller.at().read_after(heard) == CursorGap(reason="lost")
    assert teller.speak(teller.piece(1, "it")) == ["FenceMissing"]


def test_what_is_said_again_costs_about_what_it_cost_at_first(
    teller: Teller, valkey: "redis.Redis"
) -> None:
    """A writer that was not answered in time offers up to 256 pieces again, on a full log."""

    def spent() -> int:
        return int(valkey.info("commandstats")["cmdstat_evalsha"]["usec"])

    teller.start()
    for first in range(0, 20_000, 500):
        teller.speak(*map(teller.piece, range(first, first + 500)))
    pieces = [teller.piece(index) for index in range(20_000, 20_256)]
    before = spent()
    ids = teller.speak(*pieces)
    between = spent()
    assert teller.speak(*pieces) == ids
    assert spent() - between < 20 * (between - before)


@pytest.mark.parametrize("long", [3_000, 70_000, 400_000])
def test_a_page_is_bounded_by_its_bytes_and_pages_miss_nothing(
    valkey: "redis.Redis", long: int
) -> None:
    teller = Teller(valkey)
    cursor = teller.queue()
    teller.start()
    texts = [f"{n} " + "é" * (long if n % 3 else 10) for n in range(40)]
    teller.speak(*(teller.piece(n, text) for n, text in enumerate(texts)))
    heard, pages = [], []
    last = False
    while not last:
        page = teller.at().read_after(cursor, count=100)
        assert isinstance(page, Page)
        pages.append([len(type) + len(data.encode()) for _, type, data in page.entries])
        heard += page.entries
        cursor, last = page.entries[-1][0], page.last
    assert [id for id, _, _ in heard] == list(range(heard[0][0], page.head + 1))
    assert [decode(type, data).text for _, type, data in heard[1:]] == texts  # type: ignore[union-attr]
    assert all(sum(sizes) <= PAGE_BYTES for sizes in pages)
    # No page could have taken the next event, too: none is smaller than it need be.
    following = pages[1:]
    assert all(
        sum(sizes) + next_[0] > PAGE_BYTES for sizes, next_ in zip(pages, following, strict=False)
    )


def test_an_event_that_is_longer_than_a_page_is_one(valkey: "redis.Redis") -> None:
    teller = Teller(valkey)
    cursor = teller.start()
    long, short = "x" * (PAGE_BYTES + 1), "y"
    teller.speak(teller.piece(0, long), teller.piece(1, short))
    pages = []
    for n in range(2):
        page = teller.at().read_after(cursor + n)
        assert isinstance(page, Page)
        pages.append((len(page.entries), page.last))
    assert pages == [(1, False), (1, True)]


def test_a_page_that_ends_at_the_head_is_the_last(valkey: "redis.Redis") -> None:
    teller = Teller(valkey)
    cursor = teller.start()
    teller.speak(*(teller.piece(n) for n in range(40)))
    for count, last in ((16, False), (39, False), (40, True), (500, True)):
        page = teller.at().read_after(cursor, count=count)
        assert isinstance(page, Page)
        assert (len(page.entries), page.last) == (min(count, 40), last)
