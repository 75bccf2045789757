"""The documents tell of the code as it is: its settings, its words on the wire, their places."""

import ast
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import get_args

import pytest

from streams.api.schemas import TOO_LONG
from streams.models import Run
from streams.protocol.events import Frame, StreamReset
from tests.unit.conftest import SETTINGS_FILES
from workers.generators.errors import Code

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text()
DESIGN = (CHECKOUT / "docs" / "design.md").read_text()
SETTINGS = (CHECKOUT / "docs" / "settings.md").read_text()
PAGES = [*sorted(CHECKOUT.glob("*.md")), *sorted(CHECKOUT.glob("docs/**/*.md"))]
ROOMS = ("config", "streams", "workers")
# What a fresh development copy decides before it reads the setting in question.
FRESH = {"PRODUCTION": False, "EMBEDDED_MODEL": True, "BASE_DIR": Path(), "str": str}
ELSEWHERE = {
    "DATA_DIR": "`data` in the checkout",  # the expression gives a path of this machine
}
GLOSSARY = [
    "conversation",
    "message",
    "run",
    "attempt",
    "claim",
    "lease",
    "renew",
    "superseded",
    "token",
    "delta",
    "event",
    "ending",
    "channel",
    "log",
    "cursor",
    "replay",
    "snapshot",
    "reply",
    "follower",
    "hub",
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def trees(*folders: str) -> Iterator[ast.AST]:
    for folder in folders:
        for module in (CHECKOUT / folder).rglob("*.py"):
            if "migrations" not in module.parts:
                yield ast.parse(module.read_text())


def calls(*folders: str) -> Iterator[tuple[str, ast.Call]]:
    """Each call, and the name that is called."""
    for tree in trees(*folders):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func), node


def constant(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def settings_read() -> dict[str, ast.expr | None]:
    """Each setting that is read from the environment, and its default's expression.

    One that is read twice is read as a development copy does.
    """
    read: dict[str, ast.expr | None] = {}
    nodes = (ast.walk(ast.parse(file.read_text())) for file in SETTINGS_FILES)
    for node in chain.from_iterable(nodes):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("env."):
            name = constant(node.args[0])
            if name:
                keyword = next((k.value for k in node.keywords if k.arg == "default"), None)
                read[name] = node.args[1] if len(node.args) > 1 else keyword
    return read


def shown(value: object) -> str:
    match value:
        case None | "" | []:
            return "–"
        case bool():
            return f"`{str(value).lower()}`"
        case list():
            return f"`{','.join(str(part) for part in value)}`"
        case _:
            return f"`{value}`"


def default_of(name: str, expression: ast.expr | None) -> str:
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    if expression is None:
        return "–"
    return shown(eval(ast.unparse(expression), {}, dict(FRESH)))


def settings_told() -> dict[str, str]:
    """Each setting that the document has a line for, and the default that it gives."""
    rows = (line.split(" | ") for line in SETTINGS.splitlines() if line.startswith("| `"))
    return {row[0].removeprefix("| ").strip("`"): row[1] for row in rows}


def refusals() -> set[tuple[str, str]]:
    """Every status and code with which a request can be refused."""
    named = {"TOO_LONG": TOO_LONG}
    return {
        (ast.unparse(call.args[0]), constant(call.args[1]) or named[ast.unparse(call.args[1])])
        for name, call in calls(*ROOMS)
        if name == "Problem"
    }


def endings() -> set[str]:
    """Every word that says why a run failed, or a stream was ended or reset."""
    found = set(get_args(StreamReset.__dataclass_fields__["reason"].type)) | set(get_args(Code))
    for name, call in calls(*ROOMS):
        if name in ("StreamError", "fail"):
            words = {keyword.arg: constant(keyword.value) for keyword in call.keywords}
            found.add(words.get("condition") or words.get("code") or "")
    return found - {""}


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def test_every_setting_stands_in_the_document_with_its_default() -> None:
    read = {name: default_of(name, default) for name, default in settings_read().items()}
    assert settings_told() == read


def test_every_event_type_stands_in_the_design() -> None:
    types = {kind.type for kind in get_args(Frame)}
    assert {type for type in types if f"| `{type}` |" not in DESIGN} == set()


def test_every_status_of_a_run_stands_in_the_readme_and_the_design() -> None:
    for document in (README, DESIGN):
        assert [word for word in Run.Status.values if f"`{word}`" not in document] == []


def test_every_refusal_stands_in_the_design_beside_its_status() -> None:
    rows = dict(re.findall(r"^\| (\d{3}) \| (.*) \|$", DESIGN, re.MULTILINE))
    told = {
        (status, code) for status, row in rows.items() for code in re.findall("`([a-z_]+)`", row)
    }
    assert told == refusals()


def test_every_reason_why_something_ended_stands_in_the_design() -> None:
    assert {word for word in endings() if f"`{word}`" not in DESIGN} == set()


def test_the_glossary_has_every_word() -> None:
    told = re.findall(r"^\| ([a-z]+) \|", README.partition("## Glossary")[2], re.MULTILINE)
    assert [word for word in GLOSSARY if word not in told] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    lost = []
    for link in LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        place, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link) or link.startswith("/"):
            continue  # another host's, or an address of the running service
        found = (page.parent / place).resolve() if place else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_no_page_names_a_place_of_one_machine(page: Path) -> None:
    assert re.findall(r"(?<![\w.])/(?:tmp|home|root|work)/\S*", page.read_text()) == []
