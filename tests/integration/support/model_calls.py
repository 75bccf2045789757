"""Calls of a scripted model, as the worker makes them."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from workers.generators import retry
from workers.generators.base import ModelError, generate
from workers.prompt.messages import PromptMessage
from workers.reply_items import ReplyItem

KEY = "sk-never-say-this"
SECRET = "a secret prompt"


def name_model(settings: Any, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let the settings name this model. Requests are repeated without a pause."""
    settings.EMBEDDED_MODEL = False
    settings.OPENAI_BASE_URL = url
    settings.OPENAI_API_KEY = KEY
    settings.MODEL_READ_TIMEOUT = 5.0
    settings.MODEL_MAX_TRIES = 3
    settings.MODEL_TEMPERATURE = None
    settings.DELTA_WINDOW = 0  # pieces that arrive together are not joined
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)


def script(**wishes: Any) -> str:
    return json.dumps(wishes)


def ask(message: str) -> list[PromptMessage]:
    return [PromptMessage("system", SECRET), PromptMessage("user", message)]


async def hear(message: str) -> list[ReplyItem]:
    return [said async for said in generate(ask(message), model="test")]


async def hear_until_fault(message: str) -> tuple[list[ReplyItem], ModelError]:
    said: list[ReplyItem] = []
    try:
        async for one in generate(ask(message), model="test"):
            said.append(one)  # noqa: PERF401 - the items before an error are kept
    except ModelError as fault:
        return said, fault
    pytest.fail("it came to its end")


async def become(fact: Callable[[], Any], expectation: Any, seconds: float = 2.0) -> None:
    """Wait until `fact`, which asks the server, returns the expectation."""
    deadline = time.monotonic() + seconds
    while (now := await asyncio.to_thread(fact)) != expectation:
        assert time.monotonic() < deadline, f"{now} is not {expectation}"
        await asyncio.sleep(0.01)
