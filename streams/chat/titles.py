"""The title of a conversation that was given none, cut from its first message."""

from itertools import accumulate

import regex

TITLE_CLUSTERS = 60  # grapheme clusters (UAX #29): what a reader takes for one character
TITLE_LIMIT = 200  # code points, which the column holds
TITLE_READ = 4_000  # code points of the message that are looked at


def title_of(text: str) -> str:
    """A title for a conversation that was given none: the beginning of its first message."""
    line = " ".join(text.lstrip()[:TITLE_READ].split())
    # A family, a flag or a letter with its accents is several code points and one cluster.
    clusters = regex.findall(r"\X", line)
    if len(clusters) <= TITLE_CLUSTERS and len(line) <= TITLE_LIMIT:
        return line
    lengths = accumulate(len(cluster) for cluster in clusters[:TITLE_CLUSTERS])
    end = max((length for length in lengths if length < TITLE_LIMIT), default=TITLE_LIMIT - 1)
    return line[:end].rsplit(" ", 1)[0] + "…"
