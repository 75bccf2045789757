"""Settings: the agents by name, their process, and the limits of one agent's reply."""

import re

from django.core.exceptions import ImproperlyConfigured

from config.settings.env import Environment
from config.settings.model import LLM_MODELS

env = Environment()
AGENTS: dict[str, str] = env.dict("AGENTS", default={})  # by name: the dotted path to each
for name, path in AGENTS.items():
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", path):
        raise ImproperlyConfigured(
            f"AGENTS must give each agent a path such as shop.agents.support, not {path!r}."
        )
    if len(name) > 200:
        raise ImproperlyConfigured("AGENTS must have names of at most 200 characters.")
    if name in LLM_MODELS:  # a request names both in the same field
        raise ImproperlyConfigured(
            f"AGENTS and LLM_MODELS both have the name {name!r}: rename the agent."
        )
AGENT_CONCURRENCY = env.int("AGENT_CONCURRENCY", 16)  # replies at once in one agents process
AGENT_DRAIN = env.float("AGENT_DRAIN", 25.0)  # seconds, after SIGTERM, for runs that called a tool
TOOL_TIMEOUT = env.float("TOOL_TIMEOUT", 300.0)  # seconds without a part while a call is open
MAX_TOOL_CALLS = env.int("MAX_TOOL_CALLS", 200)  # calls in one reply
MAX_PARTS = env.int("MAX_PARTS", 1000)  # parts of one reply
MAX_PART_BYTES = env.int("MAX_PART_BYTES", 64 * 1024)  # bytes of JSON in one part, unless text
for name, least in {
    "AGENT_CONCURRENCY": 1,
    "TOOL_TIMEOUT": 1,
    "MAX_TOOL_CALLS": 1,
    "MAX_PARTS": 1,
    "MAX_PART_BYTES": 1024,
}.items():
    if globals()[name] < least:
        raise ImproperlyConfigured(f"{name} must be at least {least}.")
