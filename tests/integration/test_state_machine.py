"""Whatever happens in whatever order, readers, log and database agree: a state machine's proof.

Hypothesis chooses the steps: questions, tokens, workers that die, readers that come and go, a log
that is lost, use cases that are killed between two of their steps. The log, the rows, the use
cases, the attempt and the following are the service's own; a small pure model says what must be.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import hypothesis
import pytest
import redis
from celery import current_app
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from streams.chat import ask as ask_module
from streams.chat import conversations, finish, publisher
from streams.chat.final_events import close_calls
from streams.chat.message_view import parts_of
from streams.log.channel_log import ChannelLog
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable, Superseded
from streams.log.event_log import the_log
from streams.models import Conversation, DeletedConversation, Run
from streams.protocol.events import (
    ENDINGS,
    Event,
    PartAdded,
    Piece,
    ReasoningDelta,
    RunStarted,
    TextDelta,
    TextSnapshot,
)
from streams.protocol.parts import (
    DataPart,
    Part,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    add_part,
    text_parts,
)
from streams.protocol.sse import decode
from tests.integration.support.killed_processes import ProcessKilled, sweep_by_another_process
from tests.integration.support.listener import READER, ManualClock, SteppedReader
from tests.integration.support.stepped_reply import SteppedReply, stepped_window
from tests.support.fold import ConversationState
from tests.support.sizes import RELEASE, SEED, THOROUGH
from workers import backpressure, log_writer, reply_writer
from workers.delta_window import DeltaWindow
from workers.lease import claim
from workers.log_writer import BATCH, append_all
from workers.outcome import Outcome

pytestmark = pytest.mark.django_db(transaction=True)
CLOCK = 1_800_000_000_000_000  # microseconds
ROUND = hypothesis.settings(
    max_examples=20,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
SECONDS = 3600 if RELEASE else 25 if THOROUGH else 1  # the last round is finished after them
READERS = 3
WINDOW = 0.02  # seconds: DELTA_WINDOW, where it is on
SO_FAR = "so far"  # a channel of the test: a message on it arrives after all others
TEXTS = ["a ", "bc", "d\r\n", "\u2028e", "🙂"]
WHOLE = [
    ToolCallPart(call="1", name="clock", input={"zone": "\u2028"}),
    ToolCallPart(call="2", name="search", input={}),
    ToolResultPart(call="1", output=[None, "🙂"]),
    SourcePart(source="s", title="A source"),
    DataPart(name="progress", data=1, id="a"),
    DataPart(name="progress", data={"at": 2}, id="a"),
    DataPart(name="other", data=None),
]
WORDS = st.lists(
    st.one_of(
        st.sampled_from([TextPart(text=text) for text in TEXTS]),
        st.sampled_from([ReasoningPart(text="hm "), *WHOLE]),
    ),
    min_size=1,
    max_size=4,
)

# Where a process may die, in whichever use case: before the step, or after it.
STEPS: list[tuple[Any, str, bool]] = [
    (ask_module, "publish_pending", False),
    (ChannelLog, "append_once", True),
    (Conversation, "advance_head", False),
    (ChannelLog, "append_start", False),
    (ChannelLog, "append_start", True),
    (ChannelLog, "seal", False),
    (ChannelLog, "seal", True),
    (finish, "store", True),
    (ChannelLog, "append_final", False),
    (ChannelLog, "append_final", True),
    (ChannelLog, "release_run", False),
    (ChannelLog, "delete", False),
]
CHANCE = st.randoms(use_true_random=False)
DEATH = st.one_of(st.none(), st.none(), st.sampled_from(STEPS))


@dataclass(frozen=True)
class Said:
    """What one run's reply holds in the log: the model's own count of it."""

    attempt: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Kept:
    """What Redis held after some step, byte by byte, and what the model says that it held."""

    keys: dict[bytes, bytes]
    said: dict[UUID, Said]


class Worker(SteppedReply):
    """A worker at one attempt, and its writer. It may be a ghost.

    What the attempt writes waits in the writer's turns until the machine makes a trip.
    """

    def __init__(self, run: Run, loop: asyncio.AbstractEventLoop, window: DeltaWindow) -> None:
        super().__init__(run, loop, window)
        self.words: tuple[Part, ...] = ()
        self.over = False

    @property
    def full(self) -> bool:
        """Whether so much waits for the log that the attempt reads no further."""
        return self.writer._unconfirmed._pieces > self.writer._unconfirmed._limit

    def say(self, word: Part) -> None:
        """The model's next word. It counts as written even if the log refuses it."""
        try:
            self.append(word.text if isinstance(word, TextPart) else word)
        except Superseded:
            self.over = True
        else:
            self.words = add_part(self.words, word)

    def mend(self) -> None:
        try:
            self.loop.run_until_complete(self.writer._restore())
        except Superseded:
            self.over = True

    @property
    def refused(self) -> bool:
        return self.writer._refused is not None


@dataclass
class World:
    """What a machine runs on: the pieces that pytest brings along."""

    valkey: redis.Redis
    raw: redis.Redis  # the same, in bytes
    monkeypatch: pytest.MonkeyPatch
    loop: asyncio.AbstractEventLoop
    seen: Counter[str] = field(default_factory=Counter)


class Machine(RuleBasedStateMachine):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.valkey = world.valkey
        self.valkey.flushall()
        self.clock = CLOCK
        world.monkeypatch.setattr(the_log()._servers, "clock", lambda: self.clock)
        self.pubsub = self.valkey.pubsub()
        self.workers: list[Worker] = []
        self.time, self.window = stepped_window()
        self.readers: list[SteppedReader] = []
        self.said: dict[UUID, Said] = {}
        self.ended: dict[UUID, tuple[str, tuple[Part, ...]]] = {}
        self.past: list[Kept] = []
        self.life: str | None = None
        self.events: dict[int, tuple[str, str]] = {}  # of this epoch, trimmed or not
        self.resets_allowed: dict[SteppedReader, bool] = {}
        self.deleted = False
        self.lost = False

    # The steps.

    @initialize(
        waiting=st.sampled_from([2, 8, backpressure.WAITING]),
        trip=st.sampled_from([3, BATCH]),
        window=st.sampled_from([0, WINDOW]),
    )
    def begin(self, waiting: int, trip: int, window: float) -> None:
        self.world.monkeypatch.setattr(settings, "DELTA_WINDOW", window)
        self.world.monkeypatch.setattr(backpressure, "WAITING", waiting)
        self.world.monkeypatch.setattr(log_writer, "BATCH", trip)
        accepted = ask_module.begin(owner=READER.owner, text="Why?")
        self.conversation = accepted.conversation
        self.channel = channel_of(self.conversation)
        self.pubsub.subscribe(self.channel, SO_FAR)
        assert [self.pubsub.get_message(timeout=5)["type"] for _ in range(2)] == ["subscribe"] * 2
        time = ManualClock(self.world.monkeypatch)
        for number in range(READERS):
            cursor = None if number % 2 else accepted.cursor
            reader = SteppedReader(self.conversation, time, cursor=cursor)
            self.readers.append(reader)
            self.resets_allowed[reader] = False
            self._do(reader.connect())
        self._note()

    @rule(when_busy=st.sampled_from(["queue", "queue", "interrupt"]), death=DEATH)
    @precondition(lambda self: len(self._live()) < 3 and not self.deleted)
    def ask(self, when_busy: Any, death: Any) -> None:
        conversation = Conversation.objects.get(pk=self.conversation)
        with self._dying(death):
            ask_module.ask(conversation, "And?", when_busy=when_busy)

    @rule(death=DEATH)
    @precondition(lambda self: not self._live() and not self.deleted)
    def retry(self, death: Any) -> None:
        run = Run.objects.select_related("conversation", "message").last()
        with self._dying(death):
            ask_module.retry(run)

    @rule(expired=st.booleans(), death=DEATH)
    @precondition(lambda self: self._live())
    def start(self, expired: bool, death: Any) -> None:
        """A worker takes the first run, also from a worker whose lease has run out."""
        if expired:
            self._expire_leases()
        with self._dying(death):
            self._start()

    @rule(words=WORDS, twice=st.booleans(), unanswered=st.booleans(), chosen=CHANCE)
    @precondition(lambda self: not self.deleted)
    def token(
        self, words: list[Part], twice: bool, unanswered: bool, chosen: random.Random
    ) -> None:
        """A worker, superseded or not, appends words; it may have to repeat them.

        If its log was lost, the first response to its fence may be lost, too.
        """
        worker = self._speaker(chosen)
        with self._unanswered() if unanswered else nullcontext():
            self._say(worker, words)
        self._trip(worker, twice=twice)

    @rule(words=WORDS, chosen=CHANCE)
    @precondition(lambda self: not self.deleted)
    def token_on_its_way(self, chosen: random.Random, words: list[Part]) -> None:
        """Words that the model has sent, and the log does not have yet."""
        worker = self._speaker(chosen)
        if worker.refused and worker.unsent:
            self._trip(worker)
        self._say(worker, words)

    @rule(seconds=st.sampled_from([WINDOW / 10, WINDOW, 10 * WINDOW]))
    def time_passes(self, seconds: float) -> None:
        """Text that waits in the delta window goes out; it waits for the log then."""
        self.time.step(seconds)

    @rule(
        chosen=CHANCE,
        how=st.sampled_from(["complete", "complete", "fail", "lost", "dies"]),
        death=DEATH,
    )
    @precondition(lambda self: self._speaking())
    def finish(self, chosen: random.Random, how: str, death: Any) -> None:
        worker = chosen.choice(self._speaking())
        self.workers.remove(worker)
        if how == "dies":
            return
        if how != "lost":
            worker.writer.flush()  # as `Attempt.write` does before any ending but that
        while how != "lost" and not worker.over and (worker.unsent or worker.refused):
            self._trip(worker)
            if worker.refused and not worker.over:
                worker.mend()
        run = worker.run
        with self._dying(death):
            try:
                if worker.over or how == "lost":
                    worker.attempt.finish(Outcome.LOST)
                elif how == "fail":
                    run.conversation = Conversation.objects.get(pk=run.conversation_id)
                    finish.fail(run, worker.writer.parts, code="x", reason="Because.")
                else:
                    worker.attempt.finish(Outcome.FINISHED)
            except (Superseded, Conversation.DoesNotExist):
                return
            run = Run.objects.get(pk=run.pk)
            if how == "complete" and not worker.over and run.status == Run.Status.COMPLETED:
                assert run.reply
                assert parts_of(run.reply) == close_calls(worker.words, status=run.status)

    @rule(death=DEATH)
    @precondition(lambda self: self._live())
    def cancel(self, death: Any) -> None:
        run = self._live()[0]
        said = self.said.get(run.id)
        with self._dying(death):
            finish.cancel(run.id)
            run.refresh_from_db()
            if said and not run.is_active and said.attempt == run.attempt:
                closed = close_calls(said.parts, status=Run.Status.CANCELLED)
                assert parts_of(run.reply) == closed, "a cancel keeps what was said"

    @rule(death=DEATH)
    @precondition(lambda self: not self.deleted)
    def rename(self, death: Any) -> None:
        with self._dying(death):
            conversations.rename(
                Conversation.objects.get(pk=self.conversation), f"Title {self.clock}"
            )

    @rule(expired=st.booleans(), death=DEATH)
    def sweep(self, expired: bool, death: Any) -> None:
        if expired:
            self._expire_leases()
        with self._dying(death):
            sweep_by_another_process()

    @rule(death=DEATH)
    @precondition(lambda self: not self.deleted and len(self.past) > 25)
    def delete(self, death: Any) -> None:
        with self._dying(death):
            conversations.delete(Conversation.objects.get(pk=self.conversation))
        self.deleted = not Conversation.objects.exists()

    # What happens to Redis.

    @rule(later=st.sampled_from([1013, 1_000_003, -1_000_003]))
    def lose(self, later: int) -> None:
        """Redis is emptied; the clock may be a second back."""
        self.valkey.flushall()
        self.clock += later
        self.lost = True
        self.life, self.events, self.said = None, {}, {}
        self._allow_resets()

    @rule(steps=st.integers(1, 4))
    @precondition(lambda self: len(self.past) > 4)
    def lose_the_tail(self, steps: int) -> None:
        """A failover to a replica that lagged: another server continues from an earlier state."""
        kept = self.past[-1 - steps]
        self.valkey.flushall()
        for key, value in kept.keys.items():
            self.world.raw.restore(key, 24 * 3600 * 1000, value)
        state = f"{{{self.channel}}}:state"
        if self.valkey.hexists(state, "server"):
            self.valkey.hset(state, "server", uuid4().hex)
        self.clock += 1013
        self.lost = True
        self.life = self.valkey.hget(state, "epoch_start")
        self.said = dict(kept.said)
        self.events = self._entries()
        self._allow_resets()
        if self.deleted:
            # A failover takes longer than a lease check, so no worker writes for an ended run.
            self.workers.clear()
        for reader in self.readers:
            self._do(reader.cut_subscription())

    @rule(kept=st.integers(0, 5))
    def trim(self, kept: int) -> None:
        """The log's oldest events go, or all of them: its place is remembered."""
        self.valkey.xtrim(f"{{{self.channel}}}:events", maxlen=kept, approximate=False)
        self._allow_resets(to_those_behind=True)

    # What happens to readers.

    @rule(who=st.integers(0, READERS - 1), kept=st.lists(st.booleans(), min_size=1, max_size=6))
    def hear(self, who: int, kept: list[bool]) -> None:
        """Messages arrive, and some get lost."""
        self._do(self.readers[who].deliver(kept))

    @rule(who=st.integers(0, READERS - 1), after=st.integers(0, 5))
    def drop_and_resume(self, who: int, after: int) -> None:
        self._do(self.readers[who].drop_after(after))

    @rule(who=st.integers(0, READERS - 1))
    def lose_the_subscription(self, who: int) -> None:
        self._do(self.readers[who].cut_subscription())

    @rule(who=st.integers(0, READERS - 1))
    def come_anew(self, who: int) -> None:
        """Replace this reader by one without a cursor."""
        reader = self.readers[who]
        self._do(reader.disconnect())
        new = SteppedReader(self.conversation, reader.time)
        self.readers[who] = new
        self.resets_allowed[new] = False
        self._do(new.connect())

    @rule(who=st.integers(0, READERS - 1))
    def catch_up(self, who: int) -> None:
        self._compare(self.readers[who])

    # What must be so after each of them.

    @invariant()
    def the_promises_hold(self) -> None:
        if not hasattr(self, "conversation"):
            return
        self.clock += 1009  # no round number: what differs by one would meet again at the next
        self._deliver()
        self._note()
        self.world.seen["steps"] += 1
        self._check_what_was_said()
        self._check_outcomes()
        for reader in self.readers:
            assert not reader.violations, reader.violations
            if reader.resets:
                assert self.resets_allowed[reader], f"a needless reset: {reader.resets}"

    def teardown(self) -> None:
        try:
            if hasattr(self, "conversation"):
                self._finish()
        finally:
            for reader in self.readers:
                self._do(reader.disconnect())
            self.pubsub.close()
            Conversation.objects.all().delete()
            connection.close()

    def _finish(self) -> None:
        """All that is left undone is done; then every reader knows what the database holds."""
        for worker in self._speaking():
            self._trip(worker)
        for _ in range(12):
            if not self._live() and not Run.objects.filter(ended_event_id=None).exists():
                break
            self._expire_leases()
            sweep_by_another_process()
            for run in self._live():
                if taken := claim(run.id, uuid4()):
                    publisher.publish_start(taken)
                    taken.conversation.refresh_from_db()
                    finish.complete(taken, text_parts("At last."), finish_reason="stop", usage=None)
        self.the_promises_hold()
        assert not self._live()
        for reader in self.readers:
            self._compare(reader)
            if self.deleted:
                assert reader.closed_as == "gone"
                continue
            assert not any(reply.ending is None for reply in reader.state.replies.values())

    def _do(self, step: Coroutine[Any, Any, None]) -> None:
        self.world.loop.run_until_complete(step)

    @contextmanager
    def _dying(self, death: tuple[Any, str, bool] | None) -> Iterator[None]:
        """The process dies at this step, if it comes so far."""
        if death is None:
            yield
            return
        owner, step, after = death
        real = getattr(owner, step)

        def die(*args: Any, **kwargs: Any) -> None:
            if after:
                real(*args, **kwargs)
            raise ProcessKilled

        with self.world.monkeypatch.context() as patch:
            patch.setattr(owner, step, die)
            try:
                yield
            except ProcessKilled:
                return

    @contextmanager
    def _unanswered(self) -> Iterator[None]:
        """The fence is set, but the response is lost."""
        fence = ChannelLog.restore_fence

        def silent(*args: Any, **kwargs: Any) -> int:
            patch.setattr(ChannelLog, "restore_fence", fence)
            fence(*args, **kwargs)
            self.world.seen["fences without an answer"] += 1
            raise LogUnavailable

        with self.world.monkeypatch.context() as patch:
            patch.setattr(reply_writer, "PAUSE", 0)
            patch.setattr(ChannelLog, "restore_fence", silent)
            yield

    def _live(self) -> list[Run]:
        live = Run.objects.filter(status__in=Run.ACTIVE)
        return list(live.select_related("conversation", "message", "reply"))

    def _speaking(self) -> list[Worker]:
        return [worker for worker in self.workers if not worker.over]

    def _start(self) -> None:
        taken = claim(self._live()[0].id, uuid4())
        if taken is None:
            return
        try:
            known = publisher.publish_start(taken)
        except Superseded:
            return
        worker = Worker(taken, self.world.loop, self.window)
        worker.writer.head = known
        self.workers.append(worker)

    def _speaker(self, chosen: random.Random) -> Worker:
        """One of the appending workers, or a new one if there is none."""
        for _ in range(9):
            if speaking := self._speaking():
                return chosen.choice(speaking)
            self._expire_leases()
            sweep_by_another_process()
            if not self._live():
                ask_module.ask(Conversation.objects.get(pk=self.conversation), "And?")
            self._start()
        raise AssertionError("no worker can append")

    def _expire_leases(self) -> None:
        running = Run.objects.filter(status=Run.Status.RUNNING)
        running.update(lease_until=Now() - timedelta(seconds=1))

    def _say(self, worker: Worker, words: list[Part]) -> None:
        """The model's next words. An attempt that may not read further waits for a batch."""
        for word in words:
            if worker.full:
                self.world.seen["waits for room"] += 1
                self._trip(worker)
                assert not worker.full
            worker.say(word)

    def _trip(self, worker: Worker, *, twice: bool = False) -> None:
        """What a worker has written reaches the log; twice where the first answer got lost."""
        while batch := worker.unsent.trip():
            pieces = [piece for piece, _ in batch]
            answers = append_all(pieces, worker.away)
            if twice:
                again = append_all(pieces, worker.away)
                ids = [answer for answer in answers if isinstance(answer, int)]
                assert [answer for answer in again if isinstance(answer, int)] == ids
            assert not worker.away.is_set()
            for (_, heard), answer in zip(batch, answers, strict=True):
                heard(answer)
                self.world.seen[f"answered {type(answer).__name__}"] += 1
                if isinstance(answer, Superseded):
                    worker.over = True

    def _allow_resets(self, *, to_those_behind: bool = False) -> None:
        head = int(self.valkey.hget(f"{{{self.channel}}}:state", "head") or 0)
        for reader in self.readers:
            if not to_those_behind or reader.cursor is None or reader.cursor < head:
                self.resets_allowed[reader] = True

    def _deliver(self) -> None:
        """Put every message so far into the readers' inboxes."""
        self.valkey.publish(SO_FAR, "")
        while (message := self.pubsub.get_message(timeout=5))["channel"] != SO_FAR:
            for reader in self.readers:
                reader.inbox.append(message["data"])

    def _note(self) -> None:
        """Fold what is new in the log into the model, and keep what Redis holds by now."""
        life = self.valkey.hget(f"{{{self.channel}}}:state", "epoch_start")
        if life != self.life:
            if self.lost:
                self._allow_resets()  # also between the loss and its detection
            self.life, self.events, self.said = life, {}, {}
        for id, entry in self._entries().items():
            assert self.events.get(id, entry) == entry, "an event was rewritten"
            if id not in self.events:
                # A process that dies between row and log leaves the log to the sweep.
                assert not self.deleted or DeletedConversation.objects.exists(), (
                    "a deleted log is written to"
                )
                self.events[id] = entry
                self.world.seen[entry[0]] += 1
                self._believe(decode(*entry))
        keys = {key: self.world.raw.dump(key) for key in self.world.raw.keys(b"{*")}
        self.past.append(Kept(keys=keys, said=dict(self.said)))

    def _entries(self) -> dict[int, tuple[str, str]]:
        entries = self.valkey.xrange(f"{{{self.channel}}}:events")
        return {
            int(name.partition("-")[0]): (fields["type"], fields["data"])
            for name, fields in entries
        }

    def _believe(self, event: Event) -> None:
        match event:
            case RunStarted():
                self.said[event.run] = Said(event.attempt, ())
            case TextDelta() | ReasoningDelta() | PartAdded():
                before = self.said.get(event.run)
                assert before, f"not started: {event}"
                assert before.attempt == event.attempt, f"not this attempt's: {event}"
                self.said[event.run] = replace(before, parts=add_part(before.parts, part_in(event)))
            case TextSnapshot():
                self.said[event.run] = Said(event.attempt, event.parts)

    def _check_what_was_said(self) -> None:
        """The rules of one epoch: ids, final events, attempts."""
        ids = sorted(self.events)
        assert not ids or ids == list(range(ids[0], ids[0] + len(ids))), "ids ascend by one"
        attempts: dict[UUID, int] = {}
        over: set[UUID] = set()
        for id in ids:
            event = decode(*self.events[id])
            run, attempt = getattr(event, "run", None), getattr(event, "attempt", None)
            if run is None or attempt is None:
                continue
            assert run not in over, f"{event} after its run's ending"
            assert attempt >= attempts.get(run, 0), f"{event} after attempt {attempts[run]}"
            attempts[run] = attempt
            if event.type in ENDINGS:
                over.add(run)

    def _check_outcomes(self) -> None:
        """What has ended stays as it ended."""
        for run in Run.objects.exclude(status__in=Run.ACTIVE).select_related("reply"):
            now = run.status, parts_of(run.reply)
            assert self.ended.setdefault(run.id, now) == now

    def _compare(self, reader: SteppedReader) -> None:
        """A caught-up reader has the database's replies, and the log's text of active runs."""
        self._deliver()
        self._do(reader.catch_up())
        self._note()  # reading a log that has lost its tail begins another epoch
        assert not reader.violations, reader.violations
        if self.deleted:
            return
        state = self.valkey.hgetall(f"{{{self.channel}}}:state")
        told, going = known_to(reader.state)
        for run in Run.objects.select_related("reply"):
            stored = parts_of(run.reply)
            if run.ended_event_id or f"{run.id}:final" in state:
                assert run.id not in going, "its ending was said"
                assert told.get(run.id, ()) == stored
            elif run.queued_event_id or f"{run.id}:queued" in state:
                assert run.id not in told, "its ending was not said yet"
                assert run.id in going
                if run.id in self.said:
                    assert going[run.id] == self.said[run.id]
        for id, heard in reader.history.items():
            assert self.events.get(id, heard) == heard, f"a splice of two lives at {id}"
        self.world.seen["resets"] += len(reader.resets)
        self.resets_allowed[reader] = False
        reader.resets.clear()


def part_in(event: Piece) -> Part:
    """The part that the piece adds."""
    match event:
        case TextDelta():
            return TextPart(text=event.text)
        case ReasoningDelta():
            return ReasoningPart(text=event.text)
        case PartAdded():
            return event.part


def known_to(
    heard: ConversationState,
) -> tuple[dict[UUID, tuple[Part, ...]], dict[UUID, Said]]:
    """What a reader takes for over, and what for going on."""
    told = {m.run: m.parts for m in heard.messages.values() if m.run}
    going = {}
    for reply in heard.replies.values():
        if reply.ending:
            told[reply.run] = reply.parts
        else:
            going[reply.run] = Said(reply.attempt, reply.parts)
    return told, going


@pytest.mark.hypothesis  # as Hypothesis marks what it generates itself
@pytest.mark.timeout(2 * 3600 if RELEASE else 240)
def test_readers_log_and_database_always_agree(
    valkey: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Round after round until the time is over. SEED=… repeats the round that prints it."""
    until = monotonic() + SECONDS
    monkeypatch.setattr(current_app, "send_task", lambda *_, **__: None)
    loop = asyncio.new_event_loop()
    with redis.Redis.from_url(valkey_url) as raw:
        world = World(valkey, raw, monkeypatch, loop)
        try:
            for seed in count(SEED):
                print(f"SEED={seed}")
                run_machine(hypothesis.seed(seed)(lambda: Machine(world)), settings=ROUND)
                if monotonic() > until:
                    break
        finally:
            loop.close()
            print(dict(world.seen))
