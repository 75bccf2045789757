"""The scripts of the scripted model: its replies and faults.

The script is the LAST user message. If that is a JSON object, these keys of it are followed:

    tokens       how many pieces of text (20)
    seed         changes every piece, so that two replies are never alike (0)
    text         a list: exactly these pieces instead, hostile ones included
    reasoning    so many pieces of reasoning before the text (0)
    rate         pieces a second; 0 is as fast as possible (0)
    first        seconds before the first piece (0)
    pause_at, pause   before this piece of text, be silent for so many seconds (0, 0)
    usage        false: no token counts, though they were asked for (true)
    fault        one of those below
    fault_at     the piece of text before which it happens (0)
    times        the fault happens to the first so many requests with this same message (always)
    retry_after  seconds, the header of a 429 or 500 (none)

Faults instead of an answer: `refuse` (closes the connection), `context` (400: too long) and any
status such as `401`, `404`, `429`, `500`. In mid-stream: `reset` (RST), `cut` (closed inside the
body), `truncated` (half a line, then an orderly end), `no_finish` (an orderly end, too early),
`error` (an error object as a line), `silence` (says nothing more, and stays), `drip` (the rest at
one byte a second). Oddities that a reply survives: `no_done`, `empty_choices`, `big` (a piece of
512 KB), `half_surrogate` (a piece that is no Unicode text).

Any other message gets a short text that depends on the message alone.
"""

import json
import re
from dataclasses import dataclass
from zlib import crc32

BIG = 512 * 1024  # characters: within one line's bound and one reply's


@dataclass(frozen=True, kw_only=True)
class Script:
    """The text of one reply, and its fault."""

    tokens: int = 20
    seed: int | str = 0
    text: list[str] | None = None
    reasoning: int = 0
    rate: float = 0
    first: float = 0
    pause_at: int = 0
    pause: float = 0
    usage: bool = True
    fault: str | int | None = None
    fault_at: int = 0
    times: int | None = None
    retry_after: float | None = None

    def pieces(self) -> list[str]:
        numbered = [f"w{n}-{self._mark(n)} " for n in range(self.tokens)]
        texts = numbered if self.text is None else self.text
        odd = {"big": "b" * BIG, "half_surrogate": "half \ud83d "}.get(str(self.fault))
        return [*texts[: self.fault_at], odd, *texts[self.fault_at :]] if odd else list(texts)

    def thoughts(self) -> list[str]:
        return [f"r{n}-{self._mark(-1 - n)} " for n in range(self.reasoning)]

    def _mark(self, n: int) -> str:
        return f"{crc32(f'{self.seed}/{n}'.encode()) & 0xFFF:03x}"


def script_of(message: str) -> Script:
    try:
        wishes = json.loads(message)
    except ValueError:
        wishes = None
    if isinstance(wishes, dict):
        return Script(**wishes)
    return Script(tokens=12, seed=crc32(message.encode("utf-8", "surrogatepass")))


def pieces(message: str) -> list[str]:
    """The pieces of text that the message is answered with, as they leave the model."""
    return script_of(message).pieces()


def expected(message: str) -> str:
    """The whole text as it must reach a reader: what is no Unicode text is U+FFFD.

    Halves of a surrogate pair in two neighbouring pieces are one character.
    """
    units = "".join(pieces(message)).encode("utf-16-le", "surrogatepass")
    return re.sub("[\0\ud800-\udfff]", "\ufffd", units.decode("utf-16-le", "surrogatepass"))
