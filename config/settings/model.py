"""The settings of the model: where it is, which one is asked, and how long a reply may be."""

from config.settings.env import Environment

env = Environment()
OPENAI_API_KEY = env.str("OPENAI_API_KEY", "") or None
OPENAI_BASE_URL = env.str("OPENAI_BASE_URL", "") or None  # any OpenAI-compatible server's /v1
EMBEDDED_MODEL = not (OPENAI_API_KEY or OPENAI_BASE_URL)  # SmolLM2 on this machine's processor
LLM_MODEL = env.str("LLM_MODEL", "smollm2-135m-instruct" if EMBEDDED_MODEL else "gpt-4o-mini")
LLM_MODELS = list(dict.fromkeys([LLM_MODEL, *env.list("LLM_MODELS", default=[])]))  # may be asked
MODEL_CONNECT_TIMEOUT = env.float("MODEL_CONNECT_TIMEOUT", 5.0)  # seconds to connect
MODEL_READ_TIMEOUT = env.float(
    "MODEL_READ_TIMEOUT", 60.0
)  # seconds without a line before it is given up
MODEL_MAX_TRIES = env.int(
    "MODEL_MAX_TRIES", 3
)  # requests before the first token, at a passing fault
MODEL_TEMPERATURE = env.float("MODEL_TEMPERATURE", default=None)  # the model's own, where unset
MODEL_STREAM_USAGE = env.choice("MODEL_STREAM_USAGE", "auto", "on", "off")  # ask for token counts
MODEL_TOKEN_LIMIT_PARAM = env.choice(  # what MAX_OUTPUT_TOKENS is sent as
    "MODEL_TOKEN_LIMIT_PARAM", "auto", "max_tokens", "max_completion_tokens"
)
MAX_OUTPUT_TOKENS = env.int("MAX_OUTPUT_TOKENS", 4096)  # tokens of one reply
PROMPT_MAX_TOKENS = env.int(
    "PROMPT_MAX_TOKENS", 1500 if EMBEDDED_MODEL else 32_000
)  # sent per request
