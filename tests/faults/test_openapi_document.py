"""The served document against what is answered: Schemathesis asks, with and without a session."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Size, Stacks
from tests.support.ports import HOST, essentials
from tests.support.sizes import SEED
from tests.support.stack import Stack

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


async def asked_by_schemathesis(
    stack: Stack, report: Path, *wishes: str, within: float
) -> dict[str, Any]:
    """Schemathesis' own report, which is shown if it fails."""
    asking = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run"),
        f"http://{HOST}:{stack.ports[stack.web.name]}/api/openapi.json",
        *("--checks", ",".join(CHECKS), "--seed", str(SEED), "--request-timeout", "65"),
        *("--report", "json", "--report-json-path", str(report), "--no-shrink"),
        *("--suppress-health-check", "all", "--warnings", "off", *wishes),
        env=essentials() | {"NO_COLOR": "1", "HOME": str(report.parent)},
        cwd=report.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(asking.communicate(), within)
    finally:
        if asking.returncode is None:
            asking.kill()
            await asking.wait()
    assert asking.returncode == 0, said.decode()[-6000:]
    return dict(json.loads(report.read_text()))


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_every_response_matches_the_openapi_document(
    stacks: Stacks, size: Size[Any], tmp_path: Path
) -> None:
    examples, least = size(2, 240), size(2500, 5000)
    async with stacks(also={"MAX_LIVE_RUNS": "100000", "MAX_RUNS_PER_MINUTE": "100000"}) as stack:
        visitor = await stack.visitor()
        session = visitor.write_credentials()
        shown = [part for name, value in session.items() for part in ("-H", f"{name}: {value}")]
        ways = {
            # The visitor's own stream would not end; access is checked without a session.
            "with": [*shown, "--exclude-path-regex", "events"],
            # The cases of the coverage phase are the same ones again, so CI leaves them out.
            "without": ["--phases", size("examples,fuzzing", "examples,coverage,fuzzing")],
            "stream": ["--phases", "coverage", "--include-path-regex", "events"],
        }
        asked = 0
        for name, wishes in ways.items():
            report = tmp_path / f"{name}.json"
            wishes += ["--max-examples", str(examples)]
            found = await asked_by_schemathesis(stack, report, *wishes, within=800)
            assert (found["failures"], found["errors"]) == ([], [])
            asked += found["test_cases"]["generated"]
        print(f"{asked} cases with and without a session")
        assert asked >= least
        assert " ERROR " not in stack.web.log.read_text()
