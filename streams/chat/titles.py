"""The default title of a conversation, cut from its first message."""

from itertools import accumulate

import regex

TITLE_CLUSTERS = 60  # grapheme clusters (UAX #29), which people see as one character
TITLE_LIMIT = 200  # code points, the size of the title column
TITLE_READ = 4_000  # code points at the start of the message that are read


def title_of(text: str) -> str:
    """Return the title for a conversation that starts with this message."""
    line = " ".join(text.lstrip()[:TITLE_READ].split())
    # A flag, a family emoji or a letter with accents is several code points, but one cluster.
    clusters = regex.findall(r"\X", line)
    if len(clusters) <= TITLE_CLUSTERS and len(line) <= TITLE_LIMIT:
        return line
    lengths = accumulate(len(cluster) for cluster in clusters[:TITLE_CLUSTERS])
    end = max((length for length in lengths if length < TITLE_LIMIT), default=TITLE_LIMIT - 1)
    return line[:end].rsplit(" ", 1)[0] + "…"
