"""The parts of a reply as JSON, folded by the contract's rules alone (docs/design.md §3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PartJson = dict[str, Any]

TYPES = {  # the type of the part in each event
    "text.delta": "text",
    "reasoning.delta": "reasoning",
    "tool.called": "tool_call",
    "tool.returned": "tool_result",
    "source.added": "source",
    "data.updated": "data",
}
OF_THE_EVENT = ("run", "attempt", "index")  # fields that do not belong to the part
JOINED = ("text", "reasoning")


def part_in(event: str, payload: Mapping[str, Any]) -> PartJson:
    """The part in the event."""
    fields = {name: value for name, value in payload.items() if name not in OF_THE_EVENT}
    return {"type": TYPES[event], **fields}


def add(parts: list[PartJson], part: PartJson) -> None:
    """Add the part to the list, in place."""
    if part["type"] in JOINED and parts and parts[-1]["type"] == part["type"]:
        parts[-1] = {**part, "text": parts[-1]["text"] + part["text"]}
        return
    for place, other in enumerate(parts):
        if _name(part) and _name(other) == _name(part):
            parts[place] = part
            return
    parts.append(part)


def text_of(parts: Iterable[PartJson]) -> str:
    return "".join(part["text"] for part in parts if part["type"] == "text")


def ends_with(parts: Sequence[PartJson], tail: Sequence[PartJson]) -> bool:
    """Whether a reader that began in the middle of these parts can have the parts in `tail`.

    Data that is replaced keeps its first place, which such a reader does not know. So data with an
    id is ignored.
    """
    whole, heard = _without_replaced(parts), _without_replaced(tail)
    if not heard:
        return True
    if len(heard) > len(whole):
        return False
    first, *rest = heard
    before, *after = whole[-len(heard) :]
    if first["type"] in JOINED and first["type"] == before["type"]:
        return rest == after and before["text"].endswith(first["text"])
    return heard == whole[-len(heard) :]


def faults_of(parts: Iterable[PartJson]) -> list[str]:
    """The faults of an ended reply: calls without a result, or results without a call."""
    faults: list[str] = []
    open: set[str] = set()
    made: set[str] = set()
    for part in parts:
        if part["type"] == "tool_call":
            if part["call"] in made:
                faults.append(f"call {part['call']} twice")
            open.add(part["call"])
            made.add(part["call"])
        elif part["type"] == "tool_result":
            if part["call"] not in open:
                faults.append(f"a result without an open call {part['call']}")
            if ("output" in part) == ("error" in part):
                faults.append(f"the result of {part['call']} has not one of output and error")
            open.discard(part["call"])
    return [*faults, *(f"call {call} is open" for call in sorted(open))]


def _name(part: PartJson) -> tuple[str, str] | None:
    """The name and id by which later data replaces the part, or None."""
    if part["type"] != "data" or part.get("id") is None:
        return None
    return part["name"], part["id"]


def _without_replaced(parts: Iterable[PartJson]) -> list[PartJson]:
    kept: list[PartJson] = []
    for part in parts:
        if not _name(part):
            add(kept, part)
    return kept
