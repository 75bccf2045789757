"""The state of the machine, and its actions: processes die, workers write, leases expire."""

from __future__ import annotations

import random
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db.models.functions import Now
from hypothesis.stateful import RuleBasedStateMachine

from streams.chat import ask as ask_module
from streams.chat import publisher
from streams.log.channel_log import ChannelLog
from streams.log.errors import LogUnavailable, Superseded
from streams.log.event_log import the_log
from streams.models import Conversation, Run
from streams.protocol.parts import Part
from tests.integration.support.killed_processes import ProcessKilled, sweep_by_another_process
from tests.integration.support.listener import SteppedReader
from tests.integration.support.state_machine.world import Kept, Said, Worker, World
from tests.integration.support.stepped_reply import stepped_window
from workers import reply_writer
from workers.lease import claim
from workers.log_writer import append_all

CLOCK = 1_800_000_000_000_000  # microseconds


class Simulation(RuleBasedStateMachine):
    """One conversation with its workers and readers. In any step the process may die."""

    conversation: UUID  # from the first step on
    channel: str

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

    def _do(self, step: Coroutine[Any, Any, None]) -> None:
        self.world.loop.run_until_complete(step)

    @contextmanager
    def _dying(self, death: tuple[Any, str, bool] | None) -> Iterator[None]:
        """Let the process die at this step, if it reaches the step."""
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
        """Let the response to the next `restore_fence` be lost. The fence is set."""
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
        """Append the model's next words. If no more may wait, send a batch first."""
        for word in words:
            if worker.full:
                self.world.seen["waits for room"] += 1
                self._trip(worker)
                assert not worker.full
            worker.say(word)

    def _trip(self, worker: Worker, *, twice: bool = False) -> None:
        """Send the worker's pieces to the log. With `twice`, again, as after a lost response."""
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
