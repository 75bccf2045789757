"""A second fold, written from the contract alone, to check the service's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.sse_blocks import ENDINGS, Block


@dataclass(slots=True)
class ReplayedRun:
    """One run as far as its events go. `index` is None if the one before is unknown."""

    attempt: int = 0
    text: str = ""
    whole: bool = True  # read from its beginning, and not from a cursor in its middle
    index: int | None = -1
    reasoning_index: int | None = -1
    ended: bool = False


class Replayer:
    """Folds one follower's events; `apply_snapshot` and `apply` return each broken rule."""

    def __init__(self) -> None:
        self.runs: dict[str, ReplayedRun] = {}

    def matches(self, run: str, reply: str) -> bool:
        """Whether the run's text is this reply, or its end if the reader began in the middle."""
        told = self.runs.get(run)
        if told is None:
            return True
        return told.text == reply if told.whole else reply.endswith(told.text)

    def text(self, run: str) -> str:
        return self.runs[run].text

    def is_active(self, run: str) -> bool:
        return run in self.runs and not self.runs[run].ended

    def apply_snapshot(self, snapshot: Mapping[str, Any]) -> list[str]:
        """A snapshot replaces everything: its messages are complete, its runs are active."""
        faults = []
        self.runs = {
            message["run"]: ReplayedRun(text=message["content"], ended=True)
            for message in snapshot["messages"]
            if message["role"] == "assistant" and message["run"]
        }
        for run in snapshot["runs"]:
            if run["id"] in self.runs:
                faults.append(f"run {run['id'][:8]} is live in a snapshot that has its reply")
            said = bool(run["text"] or run["reasoning"])
            start = None if said else -1
            self.runs[run["id"]] = ReplayedRun(
                attempt=run["attempt"] or 0,
                text=run["text"] or "",
                index=start,
                reasoning_index=start,
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
            told.whole, told.index, told.reasoning_index = False, None, None
            told.attempt = block.payload.get("attempt") or 0
        attempt = block.payload.get("attempt", 0) or 0
        if told.ended:
            return [f"{name} after its ending"]
        if block.event != "run.queued" and attempt < told.attempt:
            return [f"{name} by attempt {attempt}, after attempt {told.attempt}"]
        match block.event:
            case "run.queued":
                # A snapshot has it before its event if the log was unavailable at its POST.
                return [f"{name}, though it was started"] if told.attempt else []
            case "run.started":
                again = known and attempt == told.attempt > 0
                self.runs[run] = ReplayedRun(attempt=attempt)
                return [f"{name} twice with attempt {attempt}"] if again else []
            case "text.delta" | "reasoning.delta" | "text.snapshot":
                return self._add(name, told, block, attempt)
            case event if event in ENDINGS:
                told.ended = True
        return []

    def _add(self, name: str, told: ReplayedRun, block: Block, attempt: int) -> list[str]:
        index, text = block.payload["index"], block.payload["text"]
        faults = [f"{name} before its run.started"] if attempt > told.attempt else []
        told.attempt = attempt
        match block.event:
            case "reasoning.delta":
                before, told.reasoning_index = told.reasoning_index, index
                if before is not None and index <= before:
                    faults.append(f"{name} with index {index} after {before}")
                return faults
            case "text.snapshot":
                told.text, told.whole = text, True
            case _:
                # Reasoning may count with the text.
                if (
                    told.index is not None
                    and told.reasoning_index == -1
                    and index != told.index + 1
                ):
                    faults.append(f"{name} with index {index} after {told.index}")
                told.text += text
        told.index = index
        return faults
