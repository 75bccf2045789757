"""The words of code, tests, documents and the page: plain English, and no old name."""

import re
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SUFFIXES = (".py", ".md", ".js", ".mjs", ".lua", ".html", ".css", ".toml", ".json", ".conf", ".env")
OLD_NAMES_IN = "CHANGELOG.md"  # it tells users of them
LEFT_OUT = {
    "config/settings/renamed.py",  # has each old name of a setting
    "tests/unit/test_settings.py",  # uses them
    "tests/unit/test_wording.py",
}
ALLOWED = {("docs/settings.md", "RUN_LIFE")}  # its example of an old name
# A sentence is about a component that has a name. "He" in quotes is the start of a "Hello".
PRONOUNS = r"whoever|whom(?:ever)?|(?:every|some|no|any)body|him|himself|his|(?<!\")he(?!\")"
SETTINGS = (
    "RUN_LIFE|STREAM_LIFE|LOG_LIFE|LOG_MEMORY|STREAM_STALL|STREAM_ACCESS|STREAM_RING|RUN_WATCH|"
    "RUN_SWEEP|RUN_RING|MODEL_SILENCE|MODEL_CONNECT|MODEL_TRIES|WORKER_REPLIES|ANSWERS_KEPT|"
    "MAX_POSTS|MAX_MESSAGE|HISTORY_TOKENS|PUSHPIN_READERS"
)
NAMES = (
    "superseded_words|rung_again|rung_at|subscribed_since_seconds|bow_out|retitled_at|forgiven|"
    "Doubtful|Spoilt|Unfenced|NotLast|TooManyRuns|TooManyPosts|TooManyStreams|ModelFault|Teller"
)
BANNED = re.compile(rf"\b(?:{PRONOUNS}|{SETTINGS}|{NAMES})\b", re.IGNORECASE)
BANNED_PRONOUN = re.compile(rf"\b(?:{PRONOUNS})\b", re.IGNORECASE)


def written_files() -> list[Path]:
    """Each text file of this project that is not copied from elsewhere."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [CHECKOUT / name for name in listed.stdout.splitlines() if name not in LEFT_OUT]
    return [
        path
        for path in paths
        if path.suffix in SUFFIXES and "vendor" not in path.parts and path.exists()
    ]


def test_no_file_has_a_banned_word() -> None:
    found = [
        f"{path.relative_to(CHECKOUT)}:{number}: {match[0]}"
        for path in written_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in (BANNED_PRONOUN if path.name == OLD_NAMES_IN else BANNED).finditer(line)
        if (str(path.relative_to(CHECKOUT)), match[0]) not in ALLOWED
    ]
    assert found == []


def test_the_search_finds_each_kind_of_word() -> None:
    for text in ("Whoever asks", "he said", "if nobody", "env.int('RUN_LIFE')", "raise Spoilt"):
        assert BANNED.search(text), text
    for text in ("the header", "history", "MAX_MESSAGE_CHARS", 'text="He"', "RUN_LIFETIME"):
        assert not BANNED.search(text), text
