"""The request's parameters that not all model servers take, and which of them a server took.

A server that refuses one is asked once more without it, or with another name for it. What was
accepted then is remembered for that server and model, as long as the process lives.
"""

import logging
from collections.abc import Set
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from django.conf import settings

TokenLimit = Literal["max_tokens", "max_completion_tokens"]
OTHER: dict[TokenLimit, TokenLimit] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
SERVERS = 256  # servers and models that are remembered; those that were not asked for long go

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parameters:
    """`stream_usage`: ask for token counts. `token_limit`: what MAX_OUTPUT_TOKENS is sent as."""

    stream_usage: bool
    token_limit: TokenLimit

    @property
    def names(self) -> frozenset[str]:
        """Those that the request carries."""
        return frozenset({self.token_limit, *(["stream_options"] if self.stream_usage else [])})

    def without(self, refused: Set[str]) -> "Parameters | None":
        """What to ask with instead. None where nothing may give way."""
        usage, limit = self.stream_usage, self.token_limit
        if settings.MODEL_STREAM_USAGE == "auto" and "stream_options" in refused:
            usage = False
        if settings.MODEL_TOKEN_LIMIT_PARAM == "auto" and limit in refused:
            limit = OTHER[limit]
        instead = replace(self, stream_usage=usage, token_limit=limit)
        return None if instead == self or limit in refused else instead


@dataclass(slots=True)
class _Server:
    accepted: Parameters | None = None


@lru_cache(maxsize=SERVERS)
def _server(base_url: str, model: str) -> _Server:
    return _Server()


def parameters_for(base_url: str, model: str) -> Parameters:
    """With which this model is asked: as the settings say, or as its server last took them."""
    if accepted := _server(base_url, model).accepted:
        return accepted
    # OpenAI's newer models refuse `max_tokens`; most compatible servers know nothing else.
    host = f".{urlsplit(base_url).hostname or ''}"
    newer = host.endswith((".openai.com", ".openai.azure.com"))
    setting = settings.MODEL_TOKEN_LIMIT_PARAM
    limit: TokenLimit = "max_tokens"
    if setting == "max_completion_tokens" or (setting == "auto" and newer):
        limit = "max_completion_tokens"
    return Parameters(stream_usage=settings.MODEL_STREAM_USAGE != "off", token_limit=limit)


def remember(base_url: str, model: str, accepted: Parameters) -> None:
    """The server began to answer a request with these, after it had refused others."""
    given_up = parameters_for(base_url, model).names - accepted.names
    if given_up:
        logger.warning("%s refuses %s: it is asked without", model, ", ".join(sorted(given_up)))
    _server(base_url, model).accepted = accepted
