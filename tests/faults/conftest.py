"""Fixtures of the faults' tests: stacks of real processes, sizes, one seed, and the judge.

RELEASE=1 chooses the release sizes. All random choices come from SEED, so the same SEED repeats a
run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.checker import check
from tests.support.follower import Follower
from tests.support.npm import install
from tests.support.pushpin_stack import PushpinStack
from tests.support.report import Report
from tests.support.sizes import RELEASE, SEED
from tests.support.stack import Stack
from tests.support.stack_fixtures import Size, Stacks, chance, database, size, stacks
from tests.support.truths import truths
from tests.support.visitor import AcceptedRun, Visitor

__all__ = ["RELEASE", "SEED", "Size", "Stacks", "chance", "database", "size", "stacks"]

Judge = Callable[..., Awaitable[Report]]
Grip = Callable[..., AbstractAsyncContextManager[tuple[Stack, PushpinStack]]]

CHECKED = "what the checker found"


def pytest_report_header() -> str:
    return f"acceptance: SEED={SEED}, {'release' if RELEASE else 'CI'} sizes"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the checker's results of each test, from all test processes."""
    tests = [one for those in terminalreporter.stats.values() for one in those]
    calls = [one for one in tests if getattr(one, "when", "") == "call"]
    found = [line for one in calls for name, line in one.user_properties if name == CHECKED]
    if found:
        terminalreporter.section(CHECKED)
    for line in found:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def npm_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("npm"))


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Reads the stored state, runs the checker, and keeps its report for the summary."""

    async def judged(
        visitor: Visitor,
        asked: Iterable[AcceptedRun],
        followers: Iterable[Follower],
        **known: Any,
    ) -> Report:
        recordings = [follower.recording for follower in followers]
        report = check(request.node.name, recordings, await truths(visitor, *asked), **known)
        request.node.user_properties.extend(
            (CHECKED, line) for line in (str(report), report.json())
        )
        return report

    return judged


@pytest.fixture
def grip(stacks: Stacks) -> Grip:
    """`async with grip(pushpins=2) as (stack, gripped)`."""

    @asynccontextmanager
    async def one(
        *, also: Any = None, proxied: bool = False, **wishes: Any
    ) -> AsyncIterator[tuple[Stack, PushpinStack]]:
        chosen = PushpinStack.shared_settings()
        settings = {**chosen, **(also or {})}
        async with (
            stacks(pushpin=False, also=settings, proxied=proxied) as stack,
            PushpinStack(stack, chosen, **wishes) as gripped,
        ):
            yield stack, gripped

    return one
