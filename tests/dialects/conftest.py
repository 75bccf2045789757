"""Fixtures of the dialects' tests: stacks of real processes, sizes, one seed, vendors' packages.

RELEASE=1 chooses the release sizes. All random choices come from SEED, so the same SEED repeats a
run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.support.openai_client import User
from tests.support.sizes import RELEASE, SEED
from tests.support.stack import Stack
from tests.support.stack_fixtures import Stacks, chance, database, size, stacks
from tests.support.vendors import install_once
from tests.support.visitor import Visitor

__all__ = ["Stacks", "chance", "database", "size", "stacks"]

Installed = Callable[[Mapping[str, str]], Path]


def pytest_report_header() -> str:
    return f"dialects: SEED={SEED}, {'release' if RELEASE else 'CI'} sizes"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Installed:
    """`installed({"openai": "7.59.0"})` is a folder with these npm packages, installed once."""
    own = tmp_path_factory.getbasetemp()
    return partial(install_once, own if worker_id == "master" else own.parent)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(stacks: Stacks) -> AsyncIterator[Stack]:
    """One stack for all modules of a test process that need no special settings."""
    async with stacks(agents=1) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(stack: Stack) -> Visitor:
    return await stack.visitor()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def user(stack: Stack) -> AsyncIterator[User]:
    user = await User.of(stack)
    yield user
    await user.visitor.close()


@pytest_asyncio.fixture(loop_scope="session")
async def client(user: User) -> AsyncIterator[AsyncOpenAI]:
    async with user.client() as client:
        yield client
