"""Appends of a scripted reply's pieces, as the worker would make them."""

from streams.log.slots import SlotWrite, payload_of
from streams.log.values import Append
from streams.protocol.events import Delta, TextSnapshot
from streams.protocol.parts import ReasoningPart, TextPart


def text_append(
    channel: str, event: Delta, *, min_head: int = 0, slot: int = 0, opens: bool | None = None
) -> Append:
    """An append of text or reasoning. Unless `opens` says otherwise, index 0 opens the slot."""
    kind = TextPart if event.type == "text.delta" else ReasoningPart
    opens = event.index == 0 if opens is None else opens
    payload = payload_of(kind(text=event.text)) if opens else event.text
    write = SlotWrite(slot=slot, payload=payload, append=True)
    return Append(channel=channel, event=event, write=write, min_head=min_head)


def snapshot_append(channel: str, event: TextSnapshot, *, min_head: int = 0) -> Append:
    """The append of a `text.snapshot`, which replaces all parts in the log."""
    return Append(channel=channel, event=event, write=None, min_head=min_head)
