"""The checker: compares the events of all followers with the database and the scripts.

It does no I/O, relies only on the contract in docs/design.md, and has its own fold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.part_list import PartJson, faults_of, text_of
from tests.support.recording import Connection, Recording
from tests.support.replayer import Replayer
from tests.support.report import Report
from tests.support.sse_blocks import ENDINGS, SNAPSHOT, Block

ACTIVE = ("queued", "running")


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The API's state of one conversation and its runs at the end.

    `scripts` has the whole text of each run's script.
    """

    conversation: Mapping[str, Any]
    runs: Mapping[str, Mapping[str, Any]]
    scripts: Mapping[str, str]

    def reply(self, run: str) -> list[PartJson] | None:
        """The parts of the message that the run wrote, or None if there is no message."""
        message = self._message(run)
        return list(message["parts"]) if message else None

    def content(self, run: str) -> str:
        """The text of the message that the run wrote. Empty if there is no message."""
        message = self._message(run)
        return str(message["content"]) if message else ""

    def _message(self, run: str) -> Mapping[str, Any] | None:
        reply = self.runs[run]["reply"]
        return next((m for m in self.conversation["messages"] if m["id"] == reply), None)


def check(
    name: str,
    recordings: Iterable[Recording],
    truths: Mapping[str, Truth],
    *,
    broken_at: Sequence[float] = (),
    resets_allowed: bool = False,
    resets_in: Container[str] = (),
) -> Report:
    """Check the recordings. `broken_at` has the moments (monotonic seconds) of the faults from
    which followers had to recover. `resets_allowed` means that history was really lost.
    `resets_in` has the conversations in which a loss cannot be ruled out.
    """
    report = Report(name=name)
    said: dict[tuple[str, int], Block] = {}
    reset: set[str] = set()
    for recording in recordings:
        truth = truths[recording.conversation]
        if any(heard.block.event == "stream-reset" for heard in recording.received()):
            reset.add(recording.conversation)
        report.followers += 1
        _check_recording(recording, truth, said, report)
        report.recoveries += _recoveries(recording, broken_at)
    for conversation, truth in truths.items():
        _check_truth(truth, report)
        if conversation not in reset:
            _check_final_events(conversation, truth, said, report)
    if not resets_allowed and any(conversation not in resets_in for conversation in reset):
        report.faults.append(f"{report.resets} resets, though no history was lost")
    return report


def _check_recording(
    recording: Recording, truth: Truth, said: dict[tuple[str, int], Block], report: Report
) -> None:
    thread = FollowerCheck(recording.conversation, truth, report)
    for connection in recording.connections:
        report.connections += 1
        if connection.status not in (0, 200, 204):
            report.faults.append(f"{thread.name}: the stream answered {connection.status}")
        thread.open(connection)
        for heard in connection.received:
            report.events += 1
            thread.add(heard.block)
            if heard.block.id is not None and heard.block.event != SNAPSHOT:
                first = said.setdefault((recording.conversation, heard.block.id), heard.block)
                if _without_retry(first) != _without_retry(heard.block):
                    report.faults.append(f"{thread.name}: two events under id {heard.block.id}")
    thread.compare(whole=recording.whole)


def _without_retry(block: Block) -> bytes:
    """The block's bytes without `retry`, which differs between connections."""
    return re.sub(rb"^retry: [0-9]+\n", b"", block.raw)


class FollowerCheck:
    """Checks one follower's events in order: their ids, and the parts that they fold to."""

    def __init__(self, conversation: str, truth: Truth, report: Report) -> None:
        self.name = conversation[:8]
        self.conversation = conversation
        self.truth = truth
        self.report = report
        self.last: int | None = None  # None: the next id may be any
        self.ids: set[int] = set()
        self.awaits_snapshot = False
        self.replayer = Replayer()

    def open(self, connection: Connection) -> None:
        """With a cursor, expect the events after it. Without a cursor, expect a snapshot first."""
        if connection.status == 200 and connection.cursor is None:
            self.awaits_snapshot = True
        elif connection.status == 200 and self.last is None and connection.cursor != "0":
            self.last = int(str(connection.cursor).rpartition(":")[2])

    def add(self, block: Block) -> None:
        self._add_faults(block.faults)
        match block.event:
            case "stream-reset":
                self.report.resets += 1
                self.awaits_snapshot = True
            case "conversation.snapshot":
                if not self.awaits_snapshot:
                    self._add_faults(["a snapshot that nothing announced"])
                if block.payload.get("id") != self.conversation:
                    self._add_faults(["another conversation's snapshot"])
                # While the log is unavailable a snapshot has no cursor, and another one follows.
                self.awaits_snapshot = block.id is None
                self.last = block.id
                self.ids.clear()
                self._add_faults(self.replayer.apply_snapshot(block.payload))
            case "heartbeat" | "stream-error" | "":
                pass
            case _:
                if self.awaits_snapshot:
                    self._add_faults([f"{block.event} before the snapshot"])
                if self._is_next(block):
                    self._add_faults(self._foreign(block))
                    self._add_faults(self.replayer.apply(block))

    def compare(self, *, whole: bool) -> None:
        """Check that each ended reply has the stored parts. With `whole`, every run has ended."""
        tip = self.truth.conversation["cursor"]
        if whole and self.last is not None and tip is not None and self.last < tip:
            self.report.lost += tip - self.last
            self._add_faults([f"it was told that all is said at {self.last}, but the tip is {tip}"])
        for run in self.truth.runs:
            live = self.replayer.is_active(run)
            if live and whole:
                self._add_faults([f"run {run[:8]}: told to go, but its ending was not said"])
            reply = self.truth.reply(run) or []
            if not live and not self.replayer.matches(run, reply):
                difference = _difference(_printed(self.replayer.parts(run)), _printed(reply))
                self._add_faults([f"run {run[:8]} as it was told {difference}"])

    def _is_next(self, block: Block) -> bool:
        """Count lost, repeated and unordered events; a repeated one is not applied again."""
        number = block.id
        if number is None:
            return False  # `parse` has reported the missing id
        if self.last is not None and number <= self.last:
            if number in self.ids or not self.ids:
                self.report.repeated += 1
            else:
                self.report.out_of_order += 1
            return False
        if self.last is not None:
            self.report.lost += number - self.last - 1
        self.last = number
        self.ids.add(number)
        return True

    def _foreign(self, block: Block) -> list[str]:
        run = block.payload.get("run")
        if run is not None and run not in self.truth.runs:
            return [f"{block.event} of a foreign run {run}"]
        if block.event == "message.created":
            message = block.payload.get("message", {}).get("id")
            if message not in {m["id"] for m in self.truth.conversation["messages"]}:
                return [f"a foreign message {message}"]
        return []

    def _add_faults(self, faults: Iterable[str]) -> None:
        self.report.faults += [f"{self.name}: {fault}" for fault in faults]


def _check_truth(truth: Truth, report: Report) -> None:
    """Check that each stored reply has the script's text, or its beginning, and no open call."""
    for run, stored in truth.runs.items():
        report.runs += 1
        script, status = truth.scripts[run], stored["status"]
        reply, parts = truth.content(run), truth.reply(run) or []
        report.faults += [f"run {run[:8]} in the database: {fault}" for fault in faults_of(parts)]
        if text_of(parts) != reply:
            report.faults.append(f"run {run[:8]}: its content is not the text of its parts")
        if status in ACTIVE:
            report.faults.append(f"run {run[:8]}: still {status} at the end")
        elif status == "completed" and reply != script:
            report.faults.append(f"run {run[:8]} in the database {_difference(reply, script)}")
        elif not script.startswith(reply):
            report.faults.append(f"run {run[:8]}: {status} with words that were never said")


def _check_final_events(
    conversation: str, truth: Truth, said: Mapping[tuple[str, int], Block], report: Report
) -> None:
    """Check that all followers together have received at most one final event of each run."""
    for run in truth.runs:
        ids = [
            number
            for (channel, number), block in said.items()
            if channel == conversation
            and block.event in ENDINGS
            and block.payload.get("run") == run
        ]
        if len(ids) > 1:
            report.faults.append(f"run {run[:8]}: {len(ids)} endings, at {sorted(ids)}")


def _recoveries(recording: Recording, broken_at: Sequence[float]) -> list[float]:
    """After each break, the seconds until this follower received an event with an id."""
    moments = [heard.at for heard in recording.received() if heard.block.id is not None]
    firsts = [next((m for m in moments if m > broken), None) for broken in broken_at]
    return [m - broken for m, broken in zip(firsts, broken_at, strict=True) if m is not None]


def _printed(parts: Sequence[PartJson]) -> str:
    return json.dumps(parts, sort_keys=True, ensure_ascii=False)


def _difference(one: str, other: str) -> str:
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    at = min(len(one), len(other)) if same is None else same
    return (
        f"differs at {at} of {len(one)} and {len(other)}: "
        f"{one[at : at + 24]!r} instead of {other[at : at + 24]!r}"
    )
