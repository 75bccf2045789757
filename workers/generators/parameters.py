"""Request parameters that not every model server accepts, and which ones a server accepted.

If a server refuses one, the request is repeated without it, or with its other name. The process
remembers for each server and model which parameters it accepted.
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
SERVERS = 256  # pairs of server and model that are remembered, the most recently used

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parameters:
    """`stream_usage`: request token counts. `token_limit`: what MAX_OUTPUT_TOKENS is sent as."""

    stream_usage: bool
    token_limit: TokenLimit

    @property
    def names(self) -> frozenset[str]:
        """The names of the parameters that the request carries."""
        return frozenset({self.token_limit, *(["stream_options"] if self.stream_usage else [])})

    def without(self, refused: Set[str]) -> "Parameters | None":
        """The parameters to send instead. None if the settings or the server allow no others."""
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
    """The parameters that this server last accepted for the model, or the settings' choice."""
    if accepted := _server(base_url, model).accepted:
        return accepted
    # OpenAI's newer models refuse `max_tokens`; most compatible servers accept nothing else.
    host = f".{urlsplit(base_url).hostname or ''}"
    newer = host.endswith((".openai.com", ".openai.azure.com"))
    setting = settings.MODEL_TOKEN_LIMIT_PARAM
    limit: TokenLimit = "max_tokens"
    if setting == "max_completion_tokens" or (setting == "auto" and newer):
        limit = "max_completion_tokens"
    return Parameters(stream_usage=settings.MODEL_STREAM_USAGE != "off", token_limit=limit)


def remember(base_url: str, model: str, accepted: Parameters) -> None:
    """Remember the parameters that the server accepted, after it had refused others."""
    dropped = parameters_for(base_url, model).names - accepted.names
    if dropped:
        logger.warning("%s refuses %s: requests omit it now", model, ", ".join(sorted(dropped)))
    _server(base_url, model).accepted = accepted
