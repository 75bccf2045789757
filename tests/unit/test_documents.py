"""The documents match the code: settings, wire format, exceptions, metrics, glossary, links."""

import ast
import re
from pathlib import Path
from typing import get_args

import pytest
from django.conf import global_settings
from pydantic.fields import FieldInfo

from config.settings.env import ServiceSettings
from streams.conf import OF_THE_PROJECT, StreamSettings
from streams.models import Run
from streams.protocol.events import EVENTS, Frame, PartAdded
from streams.protocol.parts import KINDS
from tests.unit.support.source import (
    CHECKOUT,
    PACKAGES,
    exceptions,
    metrics,
    refusals,
    stop_reasons,
    trees,
)

README = (CHECKOUT / "README.md").read_text()
DESIGN = (CHECKOUT / "docs" / "design.md").read_text()
SETTINGS = (CHECKOUT / "docs" / "settings.md").read_text()
OBSERVABILITY = (CHECKOUT / "docs" / "observability.md").read_text()
CONCEPTS = (CHECKOUT / "docs" / "concepts.md").read_text()
PAGES = [*sorted(CHECKOUT.glob("*.md")), *sorted(CHECKOUT.glob("docs/**/*.md"))]
DESCRIBED = {
    "DATA_DIR": "`data` in the checkout",  # the value is a path of this machine
    "AGENTS": "the demonstrations",
    "AGENT_SUGGESTIONS": "those of the demonstrations",
}
GLOSSARY = [
    "conversation",
    "owner",
    "visitor",
    "message",
    "turn",
    "agent",
    "part",
    "tool call",
    "run",
    "snapshot",
    "reply",
    "fold",
    "dispatch",
    "claim",
    "attempt",
    "lease",
    "renew",
    "release",
    "uncounted attempt",
    "superseded",
    "place",
    "share of places",
    "sweep",
    "token",
    "chunk",
    "backpressure",
    "event",
    "delta",
    "final event",
    "channel",
    "log",
    "head",
    "recorded head",
    "watermark",
    "verify",
    "epoch",
    "fence",
    "seal",
    "publisher",
    "unpublished",
    "cursor",
    "replay",
    "reset",
    "frame",
    "heartbeat",
    "follower",
    "hub",
    "channel buffer",
    "signed token",
    "hold",
    "bridge",
    "proxy",
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def as_cell(value: object) -> str:
    match value:
        case None | "" | [] | {}:
            return "–"
        case bool():
            return f"`{str(value).lower()}`"
        case list() | tuple():
            return f"`{','.join(str(part) for part in value)}`"
        case _:
            return f"`{value}`"


def documented_settings() -> dict[str, tuple[str, str]]:
    """Each setting that docs/settings.md has a row for, with its default and its unit there."""
    lines = [line for line in SETTINGS.splitlines() if line.startswith("| `")]
    rows = ([cell.strip() for cell in line.split("|", 4)] for line in lines)
    return {name.strip("`"): (default, unit) for _, name, default, unit, _ in rows}


def declared_settings() -> dict[str, tuple[str, str]]:
    """Each setting of the service and its apps, with its default in a development copy."""
    fresh: dict[str, object] = {}
    for name, field in ServiceSettings.model_fields.items():
        fresh[name] = field.get_default(call_default_factory=True, validated_data=fresh)
    return {
        name: (DESCRIBED.get(name) or as_cell(fresh[name]), unit_of(field))
        for name, field in ServiceSettings.model_fields.items()
    }


def unit_of(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["unit"])


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def test_settings_md_has_every_setting_with_its_default_and_unit() -> None:
    assert documented_settings() == declared_settings()


def test_every_setting_that_the_apps_read_is_declared_by_them() -> None:
    """A Django project that installs the apps has no other source of defaults."""
    django = set(vars(global_settings)) | {"CELERY_TASK_DEFAULT_QUEUE", "CORS_ALLOWED_ORIGINS"}
    read = {
        node.attr
        for tree in trees("streams", "workers")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "settings"
    }
    assert read - django - StreamSettings.model_fields.keys() == OF_THE_PROJECT.keys()


def test_every_setting_has_a_reason() -> None:
    fields = ServiceSettings.model_fields.items()
    assert [name for name, field in fields if not field.description] == []


def test_every_test_that_the_page_of_dialects_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (CHECKOUT / "docs" / "dialects.md").read_text()))
    defined = set()
    for module in (CHECKOUT / "tests").rglob("test_*.py"):
        defined.update(re.findall(r"def (test_\w+)\(", module.read_text()))
    assert len(named) > 30
    assert named - defined == set()


def test_the_design_has_every_event_type() -> None:
    types = {kind.type for kind in get_args(Frame) if kind is not PartAdded} | EVENTS.keys()
    assert {type for type in types if f"| `{type}` |" not in DESIGN} == set()


def test_the_design_has_every_type_of_part() -> None:
    table = DESIGN.partition("#### Parts")[2].partition("\n### ")[0]
    assert {type for type in KINDS if not re.search(rf"^\|.*`{type}`.* \|", table, re.M)} == set()


def test_readme_and_design_have_every_run_status() -> None:
    for document in (README, DESIGN):
        assert [word for word in Run.Status.values if f"`{word}`" not in document] == []


def test_the_design_has_every_refusal_beside_its_status() -> None:
    rows = dict(re.findall(r"^\| (\d{3}) \| (.*) \|$", DESIGN, re.MULTILINE))
    documented = {
        (status, code) for status, row in rows.items() for code in re.findall("`([a-z_]+)`", row)
    }
    assert documented == refusals()


def test_the_design_has_every_reason_for_an_end_or_a_reset() -> None:
    assert {word for word in stop_reasons() if f"`{word}`" not in DESIGN} == set()


def test_the_glossary_has_every_word() -> None:
    glossary = README.partition("## Glossary")[2]
    words = re.findall(r"^\| ([a-z ]+) \|", glossary, re.MULTILINE)
    assert [word for word in GLOSSARY if word not in words] == []


def test_the_design_has_every_public_exception() -> None:
    assert {name for name in exceptions() if f"`{name}`" not in DESIGN} == set()


def test_observability_md_has_every_metric() -> None:
    names = metrics()
    assert names
    documented = set(re.findall(r"`(unspool_\w+?)(?:_total)?[`{]", OBSERVABILITY))
    assert names - documented == set()


def test_concepts_md_names_every_module() -> None:
    modules = {
        module.name
        for package in PACKAGES
        for module in (CHECKOUT / package).rglob("*.py")
        if not {"migrations", "commands"} & set(module.parts) and module.name != "__init__.py"
    }
    assert {name for name in modules if not re.search(rf"[`/]{name}`", CONCEPTS)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_relative_link_has_a_target(page: Path) -> None:
    broken = []
    for link in LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link) or link.startswith("/"):
            continue  # on another host, or a URL of the running service
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_no_page_contains_a_path_of_one_machine(page: Path) -> None:
    assert re.findall(r"(?<![\w.])/(?:tmp|home|root|work)/\S*", page.read_text()) == []
