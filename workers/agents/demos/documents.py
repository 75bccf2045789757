"""Searches the project's own documents: its README and docs/, section by section."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from math import log
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WORD = re.compile(r"[a-z][a-z0-9_]{2,}")
# Blocks of code, drawings and tables.
NO_PROSE = re.compile(r"^```.*?^```$|^\|.*$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,4} +(.*)$", re.MULTILINE)
# Words that many sections contain and that say nothing about a section's subject.
COMMON = frozenset(
    {
        *("the", "and", "for", "that", "this", "with", "are", "not", "but", "you", "how", "what"),
        *("does", "can", "which", "when", "where", "who", "why", "its", "from", "into", "was"),
        *("has", "have", "will", "about", "your", "find", "search", "documents", "docs"),
        "unspool",
    }
)


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a document, without code and tables. `source` is its path and heading."""

    source: str
    title: str
    text: str
    words: Counter[str]


def search(query: str, most: int = 3) -> list[Section]:
    """The sections that match the query best, best first. Rare words and headings count most."""
    wanted = set(WORD.findall(query.lower())) - COMMON
    sections = _sections()
    found = []
    for section in sections:
        score = 0.0
        for word in wanted & section.words.keys():
            holding = sum(word in other.words for other in sections)
            weight = log(1 + len(sections) / holding)
            in_title = word in section.title.lower()
            score += weight * (min(section.words[word], 3) + 2 * in_title)
        if score:
            found.append((score / (1 + len(section.text) / 4000), section))
    found.sort(key=lambda pair: -pair[0])
    return [section for _, section in found[:most]]


@cache
def _sections() -> tuple[Section, ...]:
    sections = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        if not path.exists():
            continue  # this installation lacks the documents
        name, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        starts = list(HEADING.finditer(text))
        for start, end in zip(
            starts, [*[match.start() for match in starts[1:]], None], strict=True
        ):
            title, body = start[1].strip(" #*`"), text[start.end() : end]
            body = re.sub(r"\n{3,}", "\n\n", NO_PROSE.sub("", body)).strip()
            words = Counter(WORD.findall(f"{title} {body}".lower()))
            sections.append(Section(f"{name}: {title}", title, body, words))
    return tuple(sections)
