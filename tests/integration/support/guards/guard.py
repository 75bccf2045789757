"""A guard is code that keeps a promise. This module lets a test remove a guard."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from streams.log import servers
from streams.log.library import LIBRARY, Library

Check = str | Callable[..., Any]  # a test of another module by its name, or one of `stories`


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Code that keeps a promise, a function that removes it, and the checks that then fail."""

    name: str
    promise: str
    remove: Callable[[pytest.MonkeyPatch], None]
    checks: tuple[Check, ...]


def script(*changes: tuple[str, str]) -> Callable[[pytest.MonkeyPatch], None]:
    """Change the text of the operations in Redis. Each old text must occur in it once."""

    def remove_text(patch: pytest.MonkeyPatch) -> None:
        text = LIBRARY.operations
        for old, new in changes:
            assert text.count(old) == 1, f"the library no longer has {old!r} once"
            text = text.replace(old, new)
        patch.setattr(servers, "LIBRARY", Library(text))

    return remove_text


def source(owner: type, name: str, old: str, new: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Change the text of a method. The old text must occur in it once."""

    def remove_text(patch: pytest.MonkeyPatch) -> None:
        text = textwrap.dedent(inspect.getsource(getattr(owner, name)))
        assert text.count(old) == 1, f"{name} no longer has {old!r} once"
        made: dict[str, Any] = {}
        exec(text.replace(old, new), vars(sys.modules[owner.__module__]), made)
        patch.setattr(owner, name, made[name])

    return remove_text
