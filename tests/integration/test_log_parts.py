"""The parts of a reply in the log: slots, seals, and the events that a reader lacks at the end."""

from uuid import uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from streams.log import servers
from streams.log.errors import ReplyChanged
from streams.log.library import Library
from streams.log.slots import parts_in, slot_arguments
from streams.log.values import Append, CursorGap, OnUnverified, Page
from streams.protocol.events import RunCompleted, TextSnapshot
from streams.protocol.parts import DataPart, Part, ReasoningPart, TextPart, ToolCallPart
from tests.integration.support.logged_run import USAGE, LoggedRun
from tests.integration.support.part_writer import PIECES, Writer, folded, reply_in
from workers.reply_parts import ReplyParts

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
ANY_PIECE = st.one_of(
    st.builds(TextPart, text=TEXTS),
    st.builds(ReasoningPart, text=TEXTS),
    st.builds(
        ToolCallPart, call=TEXTS, name=TEXTS, input=st.dictionaries(TEXTS, st.integers(-9, 9))
    ),
    st.builds(DataPart, name=st.just("d"), data=TEXTS, id=st.sampled_from([None, "1", "2"])),
)


@given(pieces=st.lists(ANY_PIECE, max_size=12))
def test_the_slots_of_any_reply_hold_its_parts(pieces: list[Part]) -> None:
    reply, slots = ReplyParts(10**9), dict[int, str]()
    writer = Writer("c", uuid4())
    writer.reply = reply
    for piece in pieces:
        write = writer.append_of(piece).write
        assert write
        before = slots.get(write.slot, "") if write.append else ""
        slots[write.slot] = before + write.payload
    flat = [str(item) for slot in slots.items() for item in slot]
    assert parts_in(flat, "", "") == reply.parts == folded(pieces)
    again = [str(item) for item in slot_arguments(reply.parts)]
    assert parts_in(again, "", "") == reply.parts


def test_the_log_keeps_the_parts_that_a_reader_folds(valkey: "redis.Redis") -> None:
    logged = LoggedRun(valkey)
    start = logged.start()
    writer = Writer(logged.channel, logged.run)
    appends = [writer.append_of(piece) for piece in PIECES]
    for append in appends:
        ids = logged.append(append)
        assert logged.append(append) == ids  # a repeat changes nothing
        state = logged.at().state()
        assert state
        heard = reply_in(logged.at(), logged.run, start - 1).parts
        assert state.runs[logged.run].parts == heard
    assert logged.at().seal(logged.run, 1).parts == folded(PIECES) == writer.reply.parts


@pytest.mark.parametrize("missing", range(1, len(PIECES)))
def test_missing_whole_parts_are_appended_as_their_events_otherwise_one_snapshot(
    valkey: "redis.Redis", missing: int
) -> None:
    logged = LoggedRun(valkey)
    start = logged.start()
    writer = Writer(logged.channel, logged.run)
    logged.append(*[writer.append_of(piece) for piece in PIECES[:-missing]])
    known = len(logged.types(start))
    logged.append_final_of(folded(PIECES))
    added = logged.types(start)[known:]
    assert added == (
        ["source.added", "run.completed"] if missing == 1 else ["text.snapshot", "run.completed"]
    )
    assert reply_in(logged.at(), logged.run, start - 1).parts == folded(PIECES)


def test_a_restored_fence_keeps_all_parts_until_the_snapshot(valkey: "redis.Redis") -> None:
    logged = LoggedRun(valkey)
    logged.start()
    writer = Writer(logged.channel, logged.run)
    logged.append(*[writer.append_of(piece) for piece in PIECES])
    valkey.flushall()
    parts = writer.reply.parts
    logged.at(5).restore_fence(logged.run, 1, index=writer.index - 1, parts=parts)
    state = logged.at().state()
    assert state
    assert state.runs[logged.run].parts == parts
    snapshot = TextSnapshot(run=logged.run, attempt=1, index=writer.index, text="", parts=parts)
    writer.index += 1
    again = Append(channel=logged.channel, event=snapshot, write=None, min_head=0)
    more = [writer.append_of(TextPart(text=text)) for text in ("And ", "so on.")]
    assert all(isinstance(id, int) for id in logged.append(again, *more))
    sealed = logged.at().seal(logged.run, 1)
    assert (sealed.parts, sealed.published) == (writer.reply.parts, True)


def test_a_new_epoch_at_a_seal_keeps_all_parts(valkey: "redis.Redis") -> None:
    logged = LoggedRun(valkey)
    logged.start()
    writer = Writer(logged.channel, logged.run)
    (*_, heard) = logged.append(*[writer.append_of(piece) for piece in PIECES])
    valkey.hset(f"{{{logged.channel}}}:state", "server", "another")
    sealed = logged.at().seal(logged.run, 1, on_unverified=OnUnverified.NEW_EPOCH)
    assert (sealed.parts, sealed.published, sealed.known) == (folded(PIECES), False, True)
    assert logged.at().seal(logged.run, 1) == sealed  # it can be repeated
    assert logged.at().read_after(heard) == CursorGap(reason="lost")
    logged.append_final_of(folded(PIECES))
    assert logged.types(sealed.head) == ["text.snapshot", "run.completed"]


def test_a_final_event_for_another_reply_than_the_log_holds_is_refused(
    valkey: "redis.Redis",
) -> None:
    logged = LoggedRun(valkey)
    logged.start()
    logged.append(logged.delta(0))
    sealed = logged.at().seal(logged.run, 1)
    valkey.flushall()
    event = RunCompleted(run=logged.run, attempt=1, reply=None, finish_reason="stop", usage=USAGE)
    with pytest.raises(ReplyChanged):
        logged.at().append_final(event, token=sealed.token)
    assert logged.types(0) == []
    logged.append_final("w0 ")
    assert logged.types(0) == ["text.snapshot", "run.completed"]


def test_the_work_per_piece_is_constant(valkey: "redis.Redis") -> None:
    """Redis runs as many commands for piece 10,000 as for piece 100, in about the same time."""

    def batch(logged: LoggedRun, writer: Writer, pieces: int) -> tuple[int, int]:
        appends = [writer.append_of(TextPart(text="word ")) for _ in range(pieces)]
        valkey.config_resetstat()
        assert all(isinstance(id, int) for id in logged.append(*appends))
        stats = valkey.info("commandstats")
        commands = sum(s["calls"] for name, s in stats.items() if "config" not in name)
        return commands, int(stats["cmdstat_fcall"]["usec"])

    def after(pieces: int) -> tuple[LoggedRun, Writer]:
        """A reply of so many pieces."""
        logged = LoggedRun(valkey)
        logged.start()
        writer = Writer(logged.channel, logged.run)
        for _ in range(pieces // 100):
            batch(logged, writer, 100)
        return logged, writer

    early, late = after(100), after(10_000)
    # In turn, so that what the machine does meanwhile delays both. The shortest times count.
    pairs = [(batch(*early, 10), batch(*late, 10)) for _ in range(100)]
    assert len({commands for pair in pairs for commands, _ in pair}) == 1
    assert min(took for _, (_, took) in pairs) <= 1.2 * min(took for (_, took), _ in pairs)


def test_the_events_of_a_channel_are_bounded_in_bytes(
    valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = "local MARK_BYTES, MARKS = 4 * 1024 * 1024, 7"
    operations = servers.LIBRARY.operations
    assert limit in operations
    small = Library(operations.replace(limit, "local MARK_BYTES, MARKS = 10000, 7"))
    monkeypatch.setattr(servers, "LIBRARY", small)
    logged = LoggedRun(valkey)
    first = logged.start()
    for index in range(400):
        (id,) = logged.append(logged.delta(index, "x" * 900))
        assert isinstance(id, int)
        entries = valkey.xrange(f"{{{logged.channel}}}:events")
        assert sum(len(fields["data"]) for _, fields in entries) <= 8 * (10_000 + 1_000)
    assert len(entries) > 60
    assert logged.at().read_after(first) == CursorGap(reason="expired")
    page = logged.at().read_after(id - 50)
    assert isinstance(page, Page)
    assert len(page.entries) == 50
