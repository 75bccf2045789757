"""The dotted paths of the tests' agents, for the setting AGENTS, and the calls that they record.

With these paths, a test process need not import the agents or LangChain.
"""

from pathlib import Path

TOOLS = "tests.support.agents.scripted"
THREE_TOOLS = "tests.support.graph_agents.three_tools"
THEN_OPENAI = "tests.support.graph_agents.then_openai"
THEN_ANTHROPIC = "tests.support.graph_agents.then_anthropic"


def noted(record: Path) -> list[tuple[str, int, str]]:
    """The calls in the record: run, attempt and tool."""
    lines = record.read_text().splitlines() if record.exists() else []
    return [(run, int(attempt), name) for run, attempt, name in map(str.split, lines)]
