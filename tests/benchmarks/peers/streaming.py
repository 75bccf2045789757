"""A plain StreamingHttpResponse that calls the model in the view, as most Django projects do."""

import json
import os
from collections.abc import AsyncIterator

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

settings.configure(SECRET_KEY="a benchmark's own", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)
application = get_asgi_application()
model = ChatOpenAI(
    model="scripted",
    base_url=os.environ["OPENAI_BASE_URL"],
    api_key=SecretStr("unused"),
    max_retries=0,
)


async def reply(request: HttpRequest, id: str) -> StreamingHttpResponse:
    message = json.loads(request.body)["message"]

    async def frames() -> AsyncIterator[str]:
        async for chunk in model.astream([("user", message)]):
            if chunk.content:
                yield f"data: {json.dumps({'text': chunk.content})}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingHttpResponse(frames(), content_type="text/event-stream")


urlpatterns = [path("<id>", reply)]
