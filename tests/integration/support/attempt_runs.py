"""Runs that one attempt writes, and the content of their log."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from streams.chat import ask
from streams.log.event_log import log_of
from streams.log.values import Page
from streams.models import Run
from streams.protocol.sse import decode
from tests.support.fold import ConversationState, fold
from tests.support.openai_server import expected

WINDOW = pytest.mark.usefixtures("_window")


def asked(**script: Any) -> tuple[Run, str]:
    text = json.dumps(script)
    accepted = ask.begin(owner="visitor:a", text=text)
    return Run.objects.get(pk=accepted.run), expected(text)


def heard(run: Run) -> tuple[str, list[str]]:
    """The text of the run, folded from the whole log, and the types of all events."""
    cursor, known, types = 0, ConversationState(), list[str]()
    while True:
        page = log_of(run.conversation_id).read_after(cursor)
        assert isinstance(page, Page)
        if not page.entries:
            return known.replies[run.id].text, types
        for _, type, data in page.entries:
            known = fold(known, decode(type, data))
            types.append(type)
        cursor = page.entries[-1][0]


def says(run: Run, count: int) -> Callable[[], bool]:
    """A condition: the log holds at least `count` words of the run."""

    def enough() -> bool:
        state = log_of(run.conversation_id).state()
        said = state and state.runs.get(run.id)
        return bool(said and said.text.count(" ") >= count)

    return enough


def heard_from(page: Page, run: Run) -> str:
    known = ConversationState()
    for _, type, data in page.entries:
        known = fold(known, decode(type, data))
    return known.replies[run.id].text


def deltas(run: Run) -> list[str]:
    """The data of the run's deltas."""
    found: list[str] = []
    cursor, last = 0, False
    while not last:
        page = log_of(run.conversation_id).read_after(cursor)
        assert isinstance(page, Page)
        found += [data for _, type, data in page.entries if type.endswith(".delta")]
        cursor, last = page.entries[-1][0], page.last
    return found
