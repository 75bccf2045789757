"""Cuts a stream of events into its frames."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """One block as it was sent."""

    id: int | None
    type: str
    data: str


def frames(piece: bytes) -> list[Frame]:
    """The blocks of a piece that name an event."""
    found = []
    for block in piece.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line)
        if "event" in fields:
            id = int(fields["id"]) if "id" in fields else None
            found.append(Frame(id, fields["event"], fields["data"]))
    return found
