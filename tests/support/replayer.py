"""A second fold, written from the contract alone, to check the service's own fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.part_list import TYPES, PartJson, add, ends_with, part_in, text_of
from tests.support.sse_blocks import ENDINGS, Block


@dataclass(slots=True)
class ReplayedRun:
    """One run, folded from its events. `index` is that of its last piece, None if unknown."""

    attempt: int = 0
    parts: list[PartJson] = field(default_factory=list)
    whole: bool = True  # read from its beginning, and not from a cursor in its middle
    index: int | None = -1
    ended: bool = False


class Replayer:
    """Folds one follower's events; `apply_snapshot` and `apply` return each broken rule."""

    def __init__(self) -> None:
        self.runs: dict[str, ReplayedRun] = {}

    def matches(self, run: str, reply: list[PartJson]) -> bool:
        """Whether the run's parts are this reply, or its end if the reader began in the middle."""
        told = self.runs.get(run)
        if told is None:
            return True
        return told.parts == reply if told.whole else ends_with(reply, told.parts)

    def parts(self, run: str) -> list[PartJson]:
        return self.runs[run].parts

    def text(self, run: str) -> str:
        return text_of(self.runs[run].parts)

    def is_active(self, run: str) -> bool:
        return run in self.runs and not self.runs[run].ended

    def apply_snapshot(self, snapshot: Mapping[str, Any]) -> list[str]:
        """A snapshot replaces everything: its messages are complete, its runs are active."""
        faults = []
        self.runs = {
            message["run"]: ReplayedRun(parts=list(message["parts"]), ended=True)
            for message in snapshot["messages"]
            if message["role"] == "assistant" and message["run"]
        }
        for run in snapshot["runs"]:
            if run["id"] in self.runs:
                faults.append(f"run {run['id'][:8]} is live in a snapshot that has its reply")
            if text_of(run["parts"]) != (run["text"] or ""):
                faults.append(f"run {run['id'][:8]} has a text that is not its parts'")
            self.runs[run["id"]] = ReplayedRun(
                attempt=run["attempt"] or 0,
                parts=list(run["parts"]),
                index=None if run["parts"] else -1,
            )
        return faults

    def apply(self, block: Block) -> list[str]:
        run = block.payload.get("run")
        if not isinstance(run, str):
            return []
        name = f"{block.event} of run {run[:8]}"
        known = run in self.runs
        told = self.runs.setdefault(run, ReplayedRun())
        if not known and block.event != "run.queued":  # a cursor in the middle of this run
            told.whole, told.index = False, None
            told.attempt = block.payload.get("attempt") or 0
        attempt = block.payload.get("attempt", 0) or 0
        if told.ended:
            return [f"{name} after its ending"]
        if block.event != "run.queued" and attempt < told.attempt:
            return [f"{name} by attempt {attempt}, after attempt {told.attempt}"]
        match block.event:
            case "run.queued":
                # If the log was unavailable at the POST, a snapshot has the run before this event.
                return [f"{name}, though it was started"] if told.attempt else []
            case "run.started":
                again = known and attempt == told.attempt > 0
                self.runs[run] = ReplayedRun(attempt=attempt)
                return [f"{name} twice with attempt {attempt}"] if again else []
            case "text.snapshot":
                return self._replace(name, told, block)
            case event if event in TYPES:
                return self._add(name, told, block)
            case event if event in ENDINGS:
                told.ended = True
        return []

    def _replace(self, name: str, told: ReplayedRun, block: Block) -> list[str]:
        faults = _begun(name, told, block)
        told.parts, told.whole = list(block.payload["parts"]), True
        told.index = block.payload["index"]
        if text_of(told.parts) != block.payload["text"]:
            faults.append(f"{name} has a text that is not its parts'")
        return faults

    def _add(self, name: str, told: ReplayedRun, block: Block) -> list[str]:
        """Add a piece. `index` counts all pieces of an attempt, of any type."""
        faults, index = _begun(name, told, block), block.payload["index"]
        if told.index is not None and index != told.index + 1:
            faults.append(f"{name} with index {index} after {told.index}")
        told.index = index
        add(told.parts, part_in(block.event, block.payload))
        return faults


def _begun(name: str, told: ReplayedRun, block: Block) -> list[str]:
    attempt = block.payload["attempt"]
    faults = [f"{name} before its run.started"] if attempt > told.attempt else []
    told.attempt = attempt
    return faults
