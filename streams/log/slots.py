"""The slots in which the log keeps a reply: the payload of a slot stands for one part.

The functions in Redis do not know the kinds of parts. A text or reasoning part is a letter and the
raw text, so its pieces can be appended. Every other part is a JSON object.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from streams.protocol.parts import Part, ReasoningPart, TextPart, part_json, part_of

TEXT, REASONING = "t", "r"  # the first character of a payload; a JSON payload begins with "{"


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotWrite:
    """How one piece changes a slot: its payload is added at the end, or replaces the old one."""

    slot: int
    payload: str
    append: bool


def payload_of(part: Part) -> str:
    """The payload of a slot that holds this part."""
    match part:
        case TextPart():
            return TEXT + part.text
        case ReasoningPart():
            return REASONING + part.text
        case _:
            return orjson.dumps(part_json(part)).decode()


def slot_arguments(parts: Iterable[Part]) -> list[int | str]:
    """The numbers and payloads of all slots of a reply, one after the other."""
    return [item for slot, part in enumerate(parts) for item in (slot, payload_of(part))]


def parts_in(slots: Sequence[str], open_slot: str, payload: str) -> tuple[Part, ...]:
    """The parts of a reply. `slots` alternates the numbers and the payloads of slots.

    `open_slot` and `payload` are the number and the payload of the open slot. Raises `ValueError`
    if a payload is not one that the service writes.
    """
    payloads = dict(zip(map(int, slots[::2]), slots[1::2], strict=True))
    if open_slot:
        payloads[int(open_slot)] = payload
    return tuple(_part_in(payloads[slot]) for slot in sorted(payloads))


def _part_in(payload: str) -> Part:
    kind, text = payload[:1], payload[1:]
    if kind == TEXT:
        return TextPart(text=text)
    if kind == REASONING:
        return ReasoningPart(text=text)
    return part_of(orjson.loads(payload))
