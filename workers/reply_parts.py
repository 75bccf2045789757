"""The parts of a reply so far, limited in bytes, and what each piece changes in the log's slots."""

from io import StringIO

from streams.log.slots import SlotWrite, payload_of
from streams.protocol.parts import DataPart, Part, ReasoningPart, TextPart, WholePart

PUBLISHED_PER_KEPT = 8  # an attempt may publish this many times `max_bytes`, as data is replaced


class ReplyTooLong(Exception):
    """The reply, or all that its attempt has published, is too long: read no more of it."""


class OpenPart:
    """A text or reasoning part to which pieces are added."""

    def __init__(self, kind: type[TextPart | ReasoningPart]) -> None:
        self.kind = kind
        # Not a list of pieces: a list of a million short strings takes 50 times their bytes.
        self.text = StringIO()

    def part(self) -> Part:
        return self.kind(text=self.text.getvalue())


class ReplyParts:
    """The parts of one reply, at most `max_bytes` of UTF-8 together, as the log keeps them.

    They equal the parts that `add_part` of streams/protocol/parts.py returns. But here the cost of
    a piece does not grow with the reply. The number of a part is its slot in the log.
    """

    def __init__(self, max_bytes: int) -> None:
        self._parts: list[OpenPart | WholePart] = []
        self._replaceable: dict[tuple[str, str], int] = {}  # slots of data, by its name and id
        self._room = max_bytes
        self._sizes: dict[int, int] = {}  # of the data in `_replaceable`, by slot
        self._publishable = PUBLISHED_PER_KEPT * max_bytes

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(part.part() if isinstance(part, OpenPart) else part for part in self._parts)

    def fit(self, text: str) -> str:
        """Return the beginning of the text that still fits. The whole text counts for the limit.

        If some of the text did not fit, `check` raises from now on.
        """
        room = max(self._room, 0)
        self._room -= _bytes(text)
        self._publishable -= _bytes(text)
        return text if self._room >= 0 else text.encode()[:room].decode(errors="ignore")

    def check(self) -> None:
        """Raise `ReplyTooLong` if any text did not fit."""
        if self._room < 0:
            raise ReplyTooLong

    def add_text(self, kind: type[TextPart | ReasoningPart], text: str) -> SlotWrite:
        """Add a piece of text or reasoning. The piece must not be empty."""
        last = self._parts[-1] if self._parts else None
        if not isinstance(last, OpenPart) or last.kind is not kind:
            last = OpenPart(kind)
            self._parts.append(last)
            payload = payload_of(kind(text=text))
        else:
            payload = text
        last.text.write(text)
        return SlotWrite(slot=len(self._parts) - 1, payload=payload, append=True)

    def add_part(self, part: WholePart) -> SlotWrite:
        """Add a part that arrives whole. Data with an id replaces data of the same name and id.

        If the part does not fit, raises `ReplyTooLong` and does not add it.
        """
        payload = payload_of(part)
        size, slot = _bytes(payload), len(self._parts)
        name = (part.name, part.id) if isinstance(part, DataPart) and part.id is not None else None
        if name:
            slot = self._replaceable.get(name, slot)
        room = self._room + self._sizes.get(slot, 0) - size
        if room < 0 or size > self._publishable:
            raise ReplyTooLong
        self._room, self._publishable = room, self._publishable - size
        if name:
            self._replaceable[name], self._sizes[slot] = slot, size
        self._parts[slot : slot + 1] = [part]
        return SlotWrite(slot=slot, payload=payload, append=False)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
