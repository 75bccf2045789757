"""FastAPI and sse-starlette, streaming from the OpenAI SDK to the client directly."""

import json
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from openai import AsyncOpenAI
from sse_starlette import EventSourceResponse

application = FastAPI()
model = AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="unused", max_retries=0)


@application.post("/{id}")
async def reply(id: str, request: Request) -> EventSourceResponse:
    message = (await request.json())["message"]

    async def events() -> AsyncIterator[str]:
        chunks = await model.chat.completions.create(
            model="scripted", stream=True, messages=[{"role": "user", "content": message}]
        )
        async for chunk in chunks:
            if chunk.choices and (text := chunk.choices[0].delta.content):
                yield json.dumps({"text": text})
        yield "[DONE]"

    return EventSourceResponse(events(), sep="\n")
