"""OpenAI's client for Python at the service, as a user with an API token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from tests.support.ports import HOST
from tests.support.shell_code import CREATE_USER_WITH_TOKEN
from tests.support.stack import Stack
from tests.support.visitor import Visitor

NODE_PACKAGES = {"openai": "7.59.0"}  # its client for Node


@dataclass(frozen=True)
class User:
    """A user's token, and the user's own view of what is stored."""

    stack: Stack
    token: str
    visitor: Visitor

    @classmethod
    async def of(cls, stack: Stack) -> User:
        made = await stack.manage("shell", "-c", CREATE_USER_WITH_TOKEN)
        token = made.splitlines()[-1]
        visitor = Visitor(HOST, stack.ports[stack.web.name])
        visitor.use_token(token)
        return cls(stack, token, visitor)

    @asynccontextmanager
    async def client(
        self, *, port: int | None = None, retries: int = 0
    ) -> AsyncIterator[AsyncOpenAI]:
        port = port or self.stack.ports[self.stack.web.name]
        async with AsyncOpenAI(
            base_url=f"http://{HOST}:{port}/v1",
            api_key=self.token,
            max_retries=retries,
            http_client=DefaultAsyncHttpxClient(trust_env=False),
        ) as client:
            yield client

    async def stored(self, id: str) -> dict[str, Any]:
        """The run behind a response's or a completion's id."""
        return await self.visitor.run(id.partition("_")[2] or id.removeprefix("chatcmpl-"))
