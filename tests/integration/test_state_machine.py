"""Whatever happens in whatever order, readers, log and database agree: a state machine's proof.

Hypothesis chooses the steps: questions, tokens, workers that die, readers that come and go, a log
that is lost, use cases that are killed between two of their steps. The log, the rows, the use
cases, the attempt and the following are the service's own; a small pure model says what must be.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import nullcontext
from itertools import count
from time import monotonic
from typing import Any

import hypothesis
import pytest
import redis
from celery import current_app
from django.conf import settings
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from streams.chat import ask as ask_module
from streams.chat import conversations, finish
from streams.chat.final_events import close_calls
from streams.chat.message_view import parts_of
from streams.log.channels import channel_of
from streams.log.errors import Superseded
from streams.models import Conversation, Run
from streams.protocol.parts import Part
from tests.integration.support.killed_processes import sweep_by_another_process
from tests.integration.support.listener import READER, ManualClock, SteppedReader
from tests.integration.support.state_machine.choices import CHANCE, DEATH, WORDS
from tests.integration.support.state_machine.disturbances import READERS, Disturbances
from tests.integration.support.state_machine.promises import SO_FAR
from tests.integration.support.state_machine.world import World
from tests.support.sizes import RELEASE, SEED, THOROUGH
from workers import backpressure, log_writer
from workers.log_writer import BATCH
from workers.outcome import Outcome

pytestmark = pytest.mark.django_db(transaction=True)
ROUND = hypothesis.settings(
    max_examples=20,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
SECONDS = 3600 if RELEASE else 25 if THOROUGH else 1  # the last round is finished after them
WINDOW = 0.02  # seconds: DELTA_WINDOW, where it is on


class Machine(Disturbances):
    """The steps of the use cases, with those of `Disturbances`."""

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
