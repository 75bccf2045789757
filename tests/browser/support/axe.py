"""Checks the page's accessibility with axe-core."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]

from tests.browser.support.reader import Reader


async def findings(one: Reader) -> list[str]:
    """The violations that axe-core calls serious or critical. It bypasses the page's policy."""
    found: dict[str, Any] = (await Axe().run(one.page)).response
    return [
        f"{rule['id']}: {node['html'][:120]} {node.get('failureSummary', '')}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
