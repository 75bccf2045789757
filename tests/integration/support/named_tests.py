"""Finds a test by its name, so that a module can run another module's test without an import."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def find_test(name: str) -> Callable[..., Any]:
    """The test that `"module: Class.test"` or `"module: test"` names.

    The module is one of the integration tests, or `unit.<module>`.
    Raises `ImportError` or `AttributeError` if there is no such test.
    """
    module, _, path = name.partition(": ")
    owner, _, test = path.rpartition(".")
    found: Any = import_module(f"tests.{module if '.' in module else f'integration.{module}'}")
    found = getattr(found, owner)() if owner else found
    named: Callable[..., Any] = getattr(found, test)
    return named
