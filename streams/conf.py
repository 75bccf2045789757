"""Every setting of the apps `streams` and `workers`: type, default, unit and reason.

The code reads them as `django.conf.settings.NAME`. A Django project that installs the apps adds
them in its settings module: `globals().update(load(StreamSettings).model_dump())`. The project
itself must set the names in `OF_THE_PROJECT`.
"""

import re
from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from streams.environment import (
    Choice,
    Count,
    Environment,
    Flag,
    Lists,
    Pairs,
    Period,
    Port,
    Seconds,
    Values,
    Words,
    in_production,
    setting,
    split,
)

OF_THE_PROJECT = {
    "REDIS_URL": "one Redis or Valkey URL, or several with commas between",
    "REDIS_IS_BROKER": "whether Celery's broker is the first Redis of REDIS_URL",
    "DATA_DIR": "the folder in which `manage.py chat` keeps its cookies",
    "EMBEDDED_MODEL": "whether the model is the small one on this machine, else False",
    "MODEL_URL_FILE": "the file that holds the embedded model's URL",
}
NAME_LENGTH = 200  # characters of an agent's name
DIALECTS = ("ai-sdk", "chat-completions", "responses", "langgraph", "websocket", "ag-ui")
KEY_LENGTH = 32  # characters: RFC 7518 §3.2 requires 256 bits


def is_embedded(values: Values) -> bool:
    """Whether replies come from the embedded model, because the settings name no other."""
    return not (values["OPENAI_API_KEY"] or values["OPENAI_BASE_URL"])


def retry_range(text: str) -> list[int]:
    """Read the two numbers of STREAM_RETRY. Raises `ValueError`."""
    try:
        numbers = [int(word) for word in split(text)]
    except ValueError:
        raise ValueError(f"must be whole numbers with commas between, not {text!r}.") from None
    if len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1]:
        raise ValueError("must be two numbers of ms, the least and the most.")
    return numbers


def known_dialects(names: list[str]) -> list[str]:
    """Raise `ValueError` for a name that is not a dialect. `none` alone gives an empty list."""
    if names == ["none"]:
        return []
    for name in names:
        if name not in DIALECTS:
            raise ValueError(f"can name {', '.join(DIALECTS)}, or `none` alone, not {name!r}.")
    return names


def http_url(url: str) -> str:
    """Raise `ValueError`, without the URL, which may have a password, if it is no HTTP URL."""
    try:
        host, _ = urlsplit(url).hostname, urlsplit(url).port  # a bad port raises, too
    except ValueError:
        host = None
    if not host or not re.fullmatch(r"https?://\S+", url, re.IGNORECASE):
        raise ValueError("must be a URL such as http://127.0.0.1:11434/v1.")
    return url


def long_key(key: str) -> str:
    """Raise `ValueError` for a short key."""
    if len(key) < KEY_LENGTH:
        raise ValueError(f"can be guessed: take {KEY_LENGTH} characters or more.")
    return key


def grip_url(url: str) -> str:
    """Raise `ValueError` for a URL without a long key, with which signatures could be forged."""
    if len(parse_qs(urlsplit(url).query).get("key", [""])[0]) < KEY_LENGTH:
        raise ValueError(f"must end in ?key= and a secret of {KEY_LENGTH} characters or more.")
    return url


def agent_paths(agents: dict[str, str]) -> dict[str, str]:
    """Raise `ValueError` for a bad name or path."""
    for name, path in agents.items():
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", path):
            raise ValueError(
                f"must give each agent a path such as shop.agents.support, not {path!r}."
            )
        if len(name) > NAME_LENGTH:
            raise ValueError(f"must have names of at most {NAME_LENGTH} characters.")
    return agents


class StreamSettings(Environment):
    """The settings of the apps. The defaults are for development."""

    PRODUCTION: Flag = setting(False, "", "stricter defaults, and required settings")

    # ── Addresses, and the bounds of a request ───────────────────────────────────────────────
    HOST: str = setting("127.0.0.1", "address", "that the web process binds")
    PORT: Port = setting(8000, "TCP port", "of the web process")
    METRICS_PORT: Port = setting(0, "TCP port", "of this process's own metrics; 0: none")
    CONNECTION_TIMEOUT: Period = setting(30.0, "s", "that a peer may be silent within a request")
    DATABASE_WAIT: Period = setting(5.0, "s", "that a request waits for a database lock")
    # OpenTelemetry's SDK reads the variable itself.
    OTEL_EXPORTER_OTLP_ENDPOINT: str = setting("", "URL", "of an OpenTelemetry collector")

    # ── The model ────────────────────────────────────────────────────────────────────────────
    OPENAI_API_KEY: str | None = setting(None, "", "the key of the model's server")
    OPENAI_BASE_URL: Annotated[str, AfterValidator(http_url)] | None = setting(
        None, "URL, with `/v1`", "of an OpenAI-compatible server"
    )
    LLM_MODEL: str = setting(
        lambda values: "smollm2-135m-instruct" if is_embedded(values) else "gpt-4o-mini",
        "name",
        "the model of requests that name none",
    )
    LLM_MODELS: Words = setting([], "names, separated by commas", "others that requests may name")
    MODEL_CONNECT_TIMEOUT: Seconds = setting(5.0, "s", "to connect to the model's server")
    MODEL_READ_TIMEOUT: Seconds = setting(60.0, "s", "without a line until the request fails")
    MODEL_MAX_TRIES: Count = setting(3, "requests", "before the first token, if errors are brief")
    MODEL_TEMPERATURE: Annotated[float, Field(allow_inf_nan=False)] | None = setting(
        None, "", "of the samples; None: the model's own"
    )
    MODEL_STREAM_USAGE: Annotated[Literal["auto", "on", "off"], Choice] = setting(
        "auto", "`auto`, `on` or `off`", "whether to ask the server for token counts"
    )
    MODEL_TOKEN_LIMIT_PARAM: Annotated[
        Literal["auto", "max_tokens", "max_completion_tokens"], Choice
    ] = setting(
        "auto",
        "`auto`, `max_tokens` or `max_completion_tokens`",
        "the name under which MAX_OUTPUT_TOKENS is sent",
    )
    MAX_OUTPUT_TOKENS: Count = setting(4096, "tokens", "of one reply")
    PROMPT_MAX_TOKENS: Count = setting(
        lambda values: 1500 if is_embedded(values) else 32_000,
        "tokens, estimated",
        "of the conversation that a request sends",
    )

    # ── Agents ───────────────────────────────────────────────────────────────────────────────
    AGENTS: Annotated[Pairs, AfterValidator(agent_paths)] = setting(
        {}, "`name=path`, separated by commas", "the dotted path to each agent, by its name"
    )
    AGENT_SUGGESTIONS: Lists = setting(
        {}, "JSON object of lists", "first questions that the page offers, by the agent's name"
    )
    AGENT_CONCURRENCY: Count = setting(16, "replies", "at once in one agents process")
    AGENT_DRAIN: Seconds = setting(25.0, "s", "after SIGTERM, for runs that have called a tool")
    TOOL_TIMEOUT: Period = setting(300.0, "s", "without a part while a tool call is open")
    # The position of a reader in another client's wire is one number of 53 bits. So the counts of
    # parts, of tool calls and of bytes (MAX_REPLY_BYTES) have upper limits.
    MAX_TOOL_CALLS: Annotated[int, Field(ge=1, le=500)] = setting(200, "calls", "in one reply")
    MAX_PARTS: Annotated[int, Field(ge=1, le=1500)] = setting(1000, "parts", "of one reply")
    MAX_PART_BYTES: Annotated[int, Field(ge=1024)] = setting(
        64 * 1024, "bytes of JSON", "in one part that is not text"
    )

    # ── The log ──────────────────────────────────────────────────────────────────────────────
    REDIS_TIMEOUT: Period = setting(0.6, "s", "for one round trip; a POST makes at most 3")
    REDIS_MEMORY_LIMIT: Annotated[float, Field(gt=0, le=1)] = setting(
        0.9, "share of `maxmemory`", "above which new runs are refused"
    )
    LOG_EVENTS: Count = setting(20_000, "events, approximate", "in the log of a channel")
    LOG_TTL: Count = setting(24 * 3600, "s", "from its last event until a log expires")
    LOG_STATE_TTL: Count = setting(30 * 24 * 3600, "s", "that the state of a log is kept")

    # ── Runs ─────────────────────────────────────────────────────────────────────────────────
    # One owner gets at most three quarters of them: 66.
    WORKER_CONCURRENCY: Count = setting(88, "replies", "at once in one worker process")
    DELTA_WINDOW: Annotated[float, Field(ge=0, le=1)] = setting(
        0.02, "s", "after an event, in which text waits for more; 0: each piece is an event"
    )
    RUN_LEASE: Period = setting(10.0, "s", "that a claim lasts without a renewal")
    LEASE_CHECK_INTERVAL: Period = setting(1.0, "s", "between a worker's checks of its leases")
    RUN_ATTEMPTS: Count = setting(3, "attempts", "that may be lost before a run fails")
    RUN_TIMEOUT: Seconds = setting(900.0, "s", "that one attempt may last")
    SWEEP_INTERVAL: Period = setting(3.0, "s, ± 30 %", "between sweeps for abandoned work")
    REDISPATCH_AFTER: Seconds = setting(5.0, "s", "until a queued run is dispatched again")
    WORKER_DRAIN: Seconds = setting(2.5, "s", "for replies to finish after SIGTERM")

    # ── Streams ──────────────────────────────────────────────────────────────────────────────
    STREAM_HEARTBEAT: Period = setting(15.0, "s", "without an event until a heartbeat")
    STREAM_MAX_AGE: Period = setting(3600.0, "s, ± 20 %", "until readers are asked to reconnect")
    STREAM_WRITE_TIMEOUT: Period = setting(30.0, "s", "that a reader may accept no data")
    ACCESS_CHECK_INTERVAL: Seconds = setting(2.0, "s", "between checks of a reader's access")
    STREAM_RETRY: Annotated[tuple[int, int], NoDecode, BeforeValidator(retry_range)] = setting(
        (500, 2000), "ms, minimum and maximum", "that readers wait before they reconnect"
    )
    STREAM_BUFFER: Count = setting(512, "frames", "of a channel in one web process")
    DIALECTS: Annotated[Words, AfterValidator(known_dialects)] = setting(
        list(DIALECTS), "names, separated by commas", "of the other clients' wires that are served"
    )
    GRIP_URL: Annotated[str, AfterValidator(grip_url)] = setting(
        "", "URL, with `?key=`", "of Pushpin's control port, with its key"
    )

    # ── Limits, per owner ────────────────────────────────────────────────────────────────────
    # In production one owner must not fill a worker process.
    MAX_LIVE_RUNS: Count = setting(
        lambda values: max(1, values["WORKER_CONCURRENCY"] // 2) if values["PRODUCTION"] else 100,
        "runs",
        "queued or running",
    )
    MAX_RUNS_PER_MINUTE: Count = setting(in_production(120, otherwise=6000), "runs", "new ones")
    MAX_REPEATS: Count = setting(in_production(120, otherwise=600), "requests", "repeated a minute")
    MAX_STREAMS: Count = setting(1000, "streams", "open at once in one web process")
    MAX_MESSAGE_CHARS: Count = setting(200_000, "characters", "of one message")
    MAX_REPLY_BYTES: Annotated[int, Field(ge=1, le=4_000_000)] = setting(
        1024 * 1024, "bytes of UTF-8", "of a reply and its reasoning"
    )
    IDEMPOTENCY_TTL: Count = setting(24 * 3600, "s", "that an Idempotency-Key is remembered")

    # ── Access ───────────────────────────────────────────────────────────────────────────────
    ALLOW_ANONYMOUS: Flag = setting(
        in_production(False, otherwise=True), "", "visitors without a user may ask"
    )
    ALLOW_SIGNUP: Flag = setting(
        in_production(False, otherwise=True), "", "a visitor may create a user"
    )
    STREAM_SIGNING_KEY: Annotated[str, AfterValidator(long_key)] = setting(
        "", "32 characters or more", "shared with the application that signs tokens"
    )

    @model_validator(mode="after")
    def _allow_the_default_model(self) -> Self:
        self.LLM_MODELS = list(dict.fromkeys([self.LLM_MODEL, *self.LLM_MODELS]))
        for name in self.AGENTS:
            if name in self.LLM_MODELS:  # a request names both in the same field
                raise ValueError(
                    f"AGENTS and LLM_MODELS both have the name {name!r}: rename the agent."
                )
        return self
