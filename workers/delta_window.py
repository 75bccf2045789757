"""The delta window: text that arrives shortly after a reply's last event waits for more of it.

A fast model sends a thousand tokens a second, but a reader sees only about forty changes. So all
text that arrives within DELTA_WINDOW of a reply's last event becomes one event. A piece after a
longer pause is not held back. One timer serves all replies of a process.
"""

import asyncio
from collections.abc import Callable

from django.conf import settings

from streams.protocol.parts import ReasoningPart, TextPart

LONGEST = 4096  # characters of one reply that may wait, at most 16 KB in UTF-8
TICKS = 4  # ticks of the timer in one window

TextKind = type[TextPart | ReasoningPart]


class DeltaWindow:
    """The timer of all replies that hold text back. For one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.time = loop.time
        self._loop = loop
        self._waiting: dict[HeldText, Callable[[], None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def flush_later(self, held: "HeldText", flush: Callable[[], None]) -> None:
        """Call `flush` once the held text is due, unless it was flushed before."""
        self._waiting[held] = flush
        if self._timer is None:
            self._timer = self._loop.call_later(settings.DELTA_WINDOW / TICKS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self.time()
        for held, flush in list(self._waiting.items()):
            if not held:
                del self._waiting[held]
            elif now >= held.due:
                del self._waiting[held]
                flush()
        if self._waiting and self._timer is None:
            self._timer = self._loop.call_later(settings.DELTA_WINDOW / TICKS, self._tick)


class HeldText:
    """The waiting text of one reply, all of one kind. It is not part of the reply yet."""

    def __init__(self) -> None:
        self.due = 0.0  # the loop's time after which no text waits
        self._kind: TextKind = TextPart
        self._pieces: list[str] = []
        self._length = 0

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def begin_window(self, now: float) -> None:
        """Begin a window, because an event is sent.

        If the timer was late, the window begins where the last one ended. Otherwise, if a model
        sends one token per window, each token would wait for the timer.
        """
        is_late = now - settings.DELTA_WINDOW / TICKS <= self.due <= now
        self.due = (self.due if is_late else now) + settings.DELTA_WINDOW

    @property
    def full(self) -> bool:
        return self._length >= LONGEST

    def takes(self, kind: TextKind, text: str) -> bool:
        """Whether one event can hold the waiting text together with this text."""
        return not self._pieces or (kind is self._kind and self._length + len(text) <= LONGEST)

    def add(self, kind: TextKind, text: str) -> None:
        self._kind = kind
        self._pieces.append(text)
        self._length += len(text)

    def take(self) -> tuple[TextKind, str]:
        """Return the kind of the held text and the text, and hold it no longer."""
        text = "".join(self._pieces)
        self._pieces.clear()
        self._length = 0
        return self._kind, text
