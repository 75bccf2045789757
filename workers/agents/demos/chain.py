"""Demonstration: a LangChain chain, `prompt | model | parser`, with the model of this service."""

from collections.abc import AsyncIterator

from django.conf import settings
from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableGenerator

from workers.agents.runnable import runnable
from workers.generators.openai import chat_model


async def speak(prompts: AsyncIterator[PromptValue]) -> AsyncIterator[AIMessageChunk]:
    """Stream the reply of the model that LLM_MODEL names.

    The chain has this step instead of a model, because the embedded model has a different port
    after each start. So the step looks the model up for each prompt.
    """
    async for prompt in prompts:
        model = await chat_model(settings.LLM_MODEL)
        async for chunk in model.astream(prompt.to_messages()):
            yield chunk


prompt = ChatPromptTemplate.from_messages(
    [
        ("system", "You are a friendly assistant. Answer in one or two short sentences."),
        MessagesPlaceholder("history"),
        ("user", "{question}"),
    ]
)
model = RunnableGenerator(speak)

agent = runnable(prompt | model | StrOutputParser())
