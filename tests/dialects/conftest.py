"""What the tests of dialects get: stacks of real processes, sizes, one seed, vendors' packages.

RELEASE=1 chooses the release sizes. SEED repeats a run: every random choice comes from it.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.support.databases import copied, migrated
from tests.support.openai_client import User
from tests.support.sizes import RELEASE, SEED
from tests.support.stack import Stack
from tests.support.vendors import install

Stacks = Callable[..., AbstractAsyncContextManager[Stack]]
Installed = Callable[[Mapping[str, str]], Path]


def pytest_report_header() -> str:
    return f"dialects: SEED={SEED}, {'release' if RELEASE else 'CI'} sizes"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "dialects" in item.path.parts and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600 if RELEASE else 300))


@pytest.fixture
def size() -> Callable[[int, int], int]:
    """`size(10, 100)`: as many as CI has time for, or as a release is held to."""
    return lambda ci, release: release if RELEASE else ci


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """This test's own share of the one seed, whichever tests run beside it."""
    return random.Random(f"{SEED}/{request.node.name}")


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | str]:
    with migrated(tmp_path_factory.mktemp("migrated")) as made:
        yield made


@pytest.fixture(scope="session")
def stacks(database: Path | str, tmp_path_factory: pytest.TempPathFactory) -> Stacks:
    """`async with stacks(webs=2) as stack`: see `Stack` for the arguments."""
    directory, numbers = tmp_path_factory.mktemp("stacks"), count()

    @asynccontextmanager
    async def one(**wishes: Any) -> AsyncIterator[Stack]:
        with copied(database) as own:
            async with Stack(directory / f"stack{next(numbers)}", own, **wishes) as stack:
                yield stack

    return one


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """`installed({"openai": "7.59.0"})`: a folder with these packages of npm, made once."""
    directory, folders = tmp_path_factory.mktemp("npm"), dict[str, Path]()

    def folder(packages: Mapping[str, str]) -> Path:
        name = str(sorted(packages.items()))
        if name not in folders:
            folders[name] = install(directory / f"project{len(folders)}", packages)
        return folders[name]

    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def user(stacks: Stacks) -> AsyncIterator[User]:
    async with stacks() as stack:
        user = await User.of(stack)
        yield user
        await user.visitor.close()


@pytest_asyncio.fixture(loop_scope="module")
async def client(user: User) -> AsyncIterator[AsyncOpenAI]:
    async with user.client() as client:
        yield client
