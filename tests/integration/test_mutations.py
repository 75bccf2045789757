"""Proofs of the tests: without the guard of a promise, the named checks fail.

A guard is the code that keeps a promise; each test here removes one guard. A check passes on the
whole service: it is another integration test, run by its name, or one of `support/stories.py`.
`support/guards` has the guards and their checks, and docs/proofs.md a table of them. To write it,
run this module with WRITE_PROOFS=1.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async

from streams.delivery.open_streams import OpenStreams
from streams.log.errors import LogUnavailable
from tests.integration.support.guards import GUARDS
from tests.integration.support.guards.guard import Check, Guard
from tests.integration.support.logged_run import LoggedRun
from tests.integration.support.named_tests import find_test
from tests.integration.support.stepped_reply import SteppedReplies
from tests.integration.support.stories import following
from tests.integration.support.written_runs import worker_process

pytestmark = pytest.mark.django_db(transaction=True)
HEAD = "| promise | what keeps it | what fails without it |\n|---|---|---|\n"
TABLE = re.compile(re.escape(HEAD) + r"(?:\|.*\n)*")
PROOFS = Path(__file__).resolve().parents[2] / "docs" / "proofs.md"
FAILURES = (AssertionError, pytest.fail.Exception, LogUnavailable)
PAIRS = [(guard, check) for guard in GUARDS for check in guard.checks]
STORIES = {check: None for _, check in PAIRS if not isinstance(check, str)}  # each once, in order


def place_of(check: Check) -> str:
    """The module and the name of the check, as docs/proofs.md writes them."""
    module, _, name = (
        check.partition(": ")
        if isinstance(check, str)
        else (check.__module__.rpartition(".")[2], "", check.__qualname__)
    )
    return f"{module}: {name.rpartition('.')[2]}"


def resolve(check: Check) -> Callable[..., Any]:
    return find_test(check) if isinstance(check, str) else check


async def carry_out(
    test: Callable[..., Any],
    valkey: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    tmp_path: Path,
) -> None:
    """Run the test with the fixtures that it names, as pytest would."""
    wanted = inspect.signature(test).parameters
    brought: dict[str, Any] = {"valkey": valkey, "monkeypatch": monkeypatch, "settings": settings}
    brought["tmp_path"] = tmp_path
    if "story" in wanted:
        async with following(valkey, monkeypatch) as story:
            await test(story)
        return
    if "logged" in wanted:
        brought["logged"] = LoggedRun(valkey)
    if "crowd" in wanted:
        brought["crowd"] = OpenStreams()
    if "replies" in wanted:
        settings.DELTA_WINDOW = 0.02
        with SteppedReplies() as brought["replies"]:
            await sync_to_async(test)(**{name: brought[name] for name in wanted})
        return
    if "process" in wanted:
        with worker_process(settings) as brought["process"]:
            await sync_to_async(test)(**{name: brought[name] for name in wanted})
        return
    given = {name: brought[name] for name in wanted}
    try:
        if inspect.iscoroutinefunction(test):
            await test(**given)
        else:
            await sync_to_async(partial(test, **given))()
    finally:
        if "crowd" in given:
            await given["crowd"].close()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_every_story_passes_with_all_guards(
    story: Callable[..., Any],
    valkey: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    tmp_path: Path,
) -> None:
    await carry_out(story, valkey, monkeypatch, settings, tmp_path)


@pytest.mark.parametrize(
    ("guard", "check"), PAIRS, ids=[f"{guard.name}, {place_of(check)}" for guard, check in PAIRS]
)
async def test_the_check_fails_without_its_guard(
    guard: Guard,
    check: Check,
    valkey: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    tmp_path: Path,
) -> None:
    test = resolve(check)  # its module imports values that the guard's removal changes
    guard.remove(monkeypatch)
    with pytest.raises(FAILURES):
        await carry_out(test, valkey, monkeypatch, settings, tmp_path)


def test_the_table_in_the_documents_is_up_to_date() -> None:
    if os.environ.get("WRITE_PROOFS") == "1":
        PROOFS.write_text(TABLE.sub(lambda _: table(), PROOFS.read_text()))
    assert TABLE.findall(PROOFS.read_text()) == [table()]


def table() -> str:
    """The table of docs/proofs.md."""
    lines = []
    for guard in GUARDS:
        checks = "<br>".join(f"`{place_of(check)}`" for check in guard.checks)
        lines.append(f"| {guard.promise} | {guard.name} | {checks} |\n")
    return HEAD + "".join(lines)
