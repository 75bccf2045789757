"""Settings: the model's server, name and timeouts, and the length of prompts and replies."""

from config.settings.env import Environment

env = Environment()
OPENAI_API_KEY = env.str("OPENAI_API_KEY", "") or None
OPENAI_BASE_URL = env.str("OPENAI_BASE_URL", "") or None  # any OpenAI-compatible server's /v1
EMBEDDED_MODEL = not (OPENAI_API_KEY or OPENAI_BASE_URL)  # SmolLM2, on this machine's CPU
LLM_MODEL = env.str("LLM_MODEL", "smollm2-135m-instruct" if EMBEDDED_MODEL else "gpt-4o-mini")
LLM_MODELS = list(dict.fromkeys([LLM_MODEL, *env.list("LLM_MODELS", default=[])]))  # allowed
MODEL_CONNECT_TIMEOUT = env.float("MODEL_CONNECT_TIMEOUT", 5.0)  # seconds to connect
# Seconds without a line until the request fails.
MODEL_READ_TIMEOUT = env.float("MODEL_READ_TIMEOUT", 60.0)
# Requests before the first token, after transient errors.
MODEL_MAX_TRIES = env.int("MODEL_MAX_TRIES", 3)
MODEL_TEMPERATURE = env.float("MODEL_TEMPERATURE", default=None)  # None: the model's own
MODEL_STREAM_USAGE = env.choice("MODEL_STREAM_USAGE", "auto", "on", "off")  # ask for token counts
MODEL_TOKEN_LIMIT_PARAM = env.choice(  # the name under which MAX_OUTPUT_TOKENS is sent
    "MODEL_TOKEN_LIMIT_PARAM", "auto", "max_tokens", "max_completion_tokens"
)
MAX_OUTPUT_TOKENS = env.int("MAX_OUTPUT_TOKENS", 4096)  # tokens of one reply
# Estimated tokens of the prompt.
PROMPT_MAX_TOKENS = env.int("PROMPT_MAX_TOKENS", 1500 if EMBEDDED_MODEL else 32_000)
