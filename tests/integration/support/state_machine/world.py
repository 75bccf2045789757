"""The surroundings of the state machine: workers, its own copy of the replies, and the services."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from streams.log.errors import Superseded
from streams.models import Run
from streams.protocol.parts import Part, TextPart, add_part
from tests.integration.support.stepped_reply import SteppedReply
from workers.delta_window import DeltaWindow


@dataclass(frozen=True)
class Said:
    """The parts of one run's reply that the log must hold, counted by the machine itself."""

    attempt: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Kept:
    """The bytes in Redis after a step, and the replies that it must have held then."""

    keys: dict[bytes, bytes]
    said: dict[UUID, Said]


class Worker(SteppedReply):
    """A worker with one attempt and its writer. The attempt may have lost its run already.

    The attempt's pieces wait in the writer's turns until the machine makes a trip.
    """

    def __init__(self, run: Run, loop: asyncio.AbstractEventLoop, window: DeltaWindow) -> None:
        super().__init__(run, loop, window)
        self.words: tuple[Part, ...] = ()
        self.over = False

    @property
    def full(self) -> bool:
        """Whether so many pieces wait for the log that the attempt reads no further."""
        return self.writer._unconfirmed._pieces > self.writer._unconfirmed._limit

    def say(self, word: Part) -> None:
        """Append the model's next word. It counts as written even if the log refuses it later."""
        try:
            self.append(word.text if isinstance(word, TextPart) else word)
        except Superseded:
            self.over = True
        else:
            self.words = add_part(self.words, word)

    def mend(self) -> None:
        try:
            self.loop.run_until_complete(self.writer._restore())
        except Superseded:
            self.over = True

    @property
    def refused(self) -> bool:
        return self.writer._refused is not None


@dataclass
class World:
    """The fixtures of pytest that a machine uses, and its counts."""

    valkey: Any
    raw: Any  # the same, in bytes
    monkeypatch: pytest.MonkeyPatch
    loop: asyncio.AbstractEventLoop
    seen: Counter[str] = field(default_factory=Counter)
