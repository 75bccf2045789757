"""The checks after each step and at the end: readers, log and database agree."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

from django.db import connection
from hypothesis.stateful import invariant

from streams.chat import finish, publisher
from streams.chat.message_view import parts_of
from streams.models import Conversation, DeletedConversation, Run
from streams.protocol.events import (
    ENDINGS,
    Event,
    PartAdded,
    Piece,
    ReasoningDelta,
    RunStarted,
    Snapshot,
    TextDelta,
    TextSnapshot,
)
from streams.protocol.parts import Part, ReasoningPart, TextPart, add_part, text_parts
from streams.protocol.sse import decode
from tests.integration.support.killed_processes import sweep_by_another_process
from tests.integration.support.listener import SteppedReader
from tests.integration.support.state_machine.simulation import Simulation
from tests.integration.support.state_machine.world import Kept, Said
from tests.support.fold import ConversationState
from workers.lease import claim

SO_FAR = "so far"  # a channel of the test, whose message arrives after all earlier messages


class Promises(Simulation):
    """The promises as the machine checks them."""

    @invariant()
    def the_promises_hold(self) -> None:
        if not hasattr(self, "conversation"):
            return
        self.clock += 1009  # not round, so that ids that differ by one do not meet at a later step
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
        """Finish all runs. Then check that every reader has the database's state."""
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

    def _deliver(self) -> None:
        """Put every message so far into the readers' inboxes."""
        self.valkey.publish(SO_FAR, "")
        while (message := self.pubsub.get_message(timeout=5))["channel"] != SO_FAR:
            for reader in self.readers:
                reader.inbox.append(message["data"])

    def _note(self) -> None:
        """Fold the log's new events into the model, and keep the current content of Redis."""
        life = self.valkey.hget(f"{{{self.channel}}}:state", "epoch_start")
        if life != self.life:
            if self.lost:
                self._allow_resets()  # also between the loss and its detection
            self.life, self.events, self.said = life, {}, {}
        for id, entry in self._entries().items():
            assert self.events.get(id, entry) == entry, "an event was rewritten"
            if id not in self.events:
                # If a process dies between the row and the log, the sweep deletes the log later.
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

    def _believe(self, event: Event | Snapshot) -> None:
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
        """Check that an ended run does not change any more."""
        for run in Run.objects.exclude(status__in=Run.ACTIVE).select_related("reply"):
            now = run.status, parts_of(run.reply)
            assert self.ended.setdefault(run.id, now) == now

    def _compare(self, reader: SteppedReader) -> None:
        """Check that a caught-up reader has the stored replies, and the active runs' text."""
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
    """The replies that have ended for a reader, and those that are active for it."""
    told = {m.run: m.parts for m in heard.messages.values() if m.run}
    going = {}
    for reply in heard.replies.values():
        if reply.ending:
            told[reply.run] = reply.parts
        else:
            going[reply.run] = Said(reply.attempt, reply.parts)
    return told, going
