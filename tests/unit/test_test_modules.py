"""The tests keep their own rules: short modules, and what they share in support modules."""

import ast
from pathlib import Path

from tests.unit.support.source import CHECKOUT, PACKAGES

TESTS = CHECKOUT / "tests"
RELATIVE = "a relative import"
LONGEST = 250  # lines


def imported_modules(path: Path) -> list[str]:
    """The name of each module, and of each object, that the file at `path` imports."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                found += [alias.name for alias in names]
            case ast.ImportFrom(module=module, names=names, level=0):
                found += [f"{module}.{alias.name}" for alias in names]
            case ast.ImportFrom():
                found.append(RELATIVE)
    return found


def is_test_module(name: str) -> bool:
    package, *rest = name.split(".")
    return package == "tests" and any(part.startswith("test_") for part in rest)


def test_no_module_imports_a_test_module() -> None:
    found = {
        str(path.relative_to(TESTS)): [
            name for name in imported_modules(path) if name == RELATIVE or is_test_module(name)
        ]
        for path in TESTS.rglob("*.py")
    }
    assert {path: names for path, names in found.items() if names} == {}


def test_no_module_is_longer_than_the_bound() -> None:
    lines = {
        str(path.relative_to(CHECKOUT)): len(path.read_text().splitlines())
        for folder in (*PACKAGES, "tests")
        for path in (CHECKOUT / folder).rglob("*.py")
    }
    assert {path: count for path, count in lines.items() if count > LONGEST} == {}
