"""The refusals, exceptions and metrics in the source, which is parsed and not imported."""

import ast
import builtins
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import get_args

from streams.api.schemas import TOO_LONG
from streams.protocol.stream_frames import StreamReset
from workers.generators.errors import Code

CHECKOUT = Path(__file__).resolve().parents[3]
PACKAGES = ("config", "streams", "workers")
METRIC_TYPES = ("Counter", "Gauge", "Histogram")


def trees(*folders: str) -> Iterator[ast.AST]:
    for folder in folders:
        for module in (CHECKOUT / folder).rglob("*.py"):
            if "migrations" not in module.parts:
                yield ast.parse(module.read_text())


def calls(*folders: str) -> Iterator[tuple[str, ast.Call]]:
    """Each call in the folders' modules, with the name of the called function."""
    for tree in trees(*folders):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func), node


def constant(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def refusals() -> set[tuple[str, str]]:
    """The status and code of each `Problem` in the source."""
    named = {"TOO_LONG": TOO_LONG}
    return {
        (ast.unparse(call.args[0]), constant(call.args[1]) or named[ast.unparse(call.args[1])])
        for name, call in calls(*PACKAGES)
        if name == "Problem"
    }


def stop_reasons() -> set[str]:
    """Each code or reason for a failed run, and for a stream that ends or is reset."""
    found = set(get_args(StreamReset.__dataclass_fields__["reason"].type)) | set(get_args(Code))
    for name, call in calls(*PACKAGES):
        if name in ("StreamError", "fail"):
            words = {keyword.arg: constant(keyword.value) for keyword in call.keywords}
            found.add(words.get("condition") or words.get("code") or "")
    return found - {""}


def exceptions() -> set[str]:
    """Each public exception class, whose bases are built-in exceptions or other such classes."""
    bases: dict[str, set[str]] = {}
    for node in chain.from_iterable(ast.walk(tree) for tree in trees(*PACKAGES)):
        if isinstance(node, ast.ClassDef):
            bases.setdefault(node.name, set()).update(ast.unparse(base) for base in node.bases)
    raised = {
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    found: set[str] = set()
    while more := {name for name, of in bases.items() if of & (raised | found)} - found:
        found |= more
    return {name for name in found if not name.startswith("_")}


def metrics() -> set[str]:
    """The name of each Prometheus metric in the source."""
    names = {
        constant(call.args[0])
        for name, call in calls(*PACKAGES)
        if name in METRIC_TYPES and call.args
    }
    return {name for name in names if name}
