"""Settings from the environment, read again for each test."""

import stat
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.settings import secret_key
from config.settings.database import database
from config.settings.env import ServiceSettings
from config.settings.renamed import RENAMED
from config.settings.secret_key import development_key
from tests.unit.conftest import Read


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("DEBUG", "ture", "DEBUG must be true or false, not 'ture'."),
        ("HTTPS", "2", "HTTPS must be true or false, not '2'."),
        ("PORT", "abc", "PORT must be a whole number, not 'abc'."),
        ("PORT", "80.5", "PORT must be a whole number, not '80.5'."),
        ("RUN_TIMEOUT", "1,500", "RUN_TIMEOUT must be a number, not '1,500'."),
        ("RUN_TIMEOUT", "10m", "RUN_TIMEOUT must be a number, not '10m'."),
        ("RUN_TIMEOUT", "inf", "RUN_TIMEOUT must be a number, not 'inf'."),
        ("MODEL_TEMPERATURE", "hot", "MODEL_TEMPERATURE must be a number, not 'hot'."),
        (
            "STREAM_RETRY",
            "1s,2s",
            "STREAM_RETRY must be whole numbers with commas between, not '1s,2s'.",
        ),
        ("STREAM_RETRY", "1000", "STREAM_RETRY must be two numbers of ms, the least and the most."),
        (
            "STREAM_RETRY",
            "2000,500",
            "STREAM_RETRY must be two numbers of ms, the least and the most.",
        ),
        (
            "TRUSTED_PROXIES",
            "127.0.0.1,proxy",
            "TRUSTED_PROXIES must be addresses or networks with commas between, not 'proxy'.",
        ),
        (
            "TRUSTED_PROXIES",
            "*",
            "TRUSTED_PROXIES must be addresses or networks with commas between, not '*'.",
        ),
        (
            "TRUSTED_PROXIES",
            "10.1.0.0/8",
            "TRUSTED_PROXIES must be addresses or networks with commas between, not '10.1.0.0/8'.",
        ),
        ("MODEL_STREAM_USAGE", "yes", "MODEL_STREAM_USAGE must be auto, on or off, not 'yes'."),
        (
            "MODEL_TOKEN_LIMIT_PARAM",
            "max",
            "MODEL_TOKEN_LIMIT_PARAM must be auto, max_tokens or max_completion_tokens, not 'max'.",
        ),
        ("MAX_REPLY_BYTES", "0", "MAX_REPLY_BYTES must be at least 1, not '0'."),
        ("MAX_REPLY_BYTES", "4000001", "MAX_REPLY_BYTES must be at most 4000000, not '4000001'."),
        ("MAX_PARTS", "1501", "MAX_PARTS must be at most 1500, not '1501'."),
        ("MAX_TOOL_CALLS", "501", "MAX_TOOL_CALLS must be at most 500, not '501'."),
        ("MAX_REPLY_BYTES", "1MB", "MAX_REPLY_BYTES must be a whole number, not '1MB'."),
        ("AGENTS", "a", "AGENTS must be name=value pairs with commas between, not 'a'."),
        (
            "AGENTS",
            "a=x.y,a=x.z",
            "AGENTS must be name=value pairs with commas between, not 'a=x.y,a=x.z'.",
        ),
        (
            "AGENTS",
            "support=shop agents",
            "AGENTS must give each agent a path such as shop.agents.support, not 'shop agents'.",
        ),
        (
            "AGENTS",
            "smollm2-135m-instruct=shop.agents.support",
            "AGENTS and LLM_MODELS both have the name 'smollm2-135m-instruct': rename the agent.",
        ),
        (
            "AGENT_SUGGESTIONS",
            '{"support": "Where is my order?"}',
            'AGENT_SUGGESTIONS must be a JSON object of lists, such as {"name": ["text"]}.',
        ),
        ("AGENT_CONCURRENCY", "0", "AGENT_CONCURRENCY must be at least 1, not '0'."),
        ("LOG_LEVEL", "loud", "LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR."),
        (
            "DATABASE_URL",
            "postgres://unspool:se/cret@localhost/unspool",
            "DATABASE_URL must be postgres://user:password@host:port/name.",
        ),
        (
            "DATABASE_URL",
            "unspool",
            "DATABASE_URL must be postgres://user:password@host:port/name.",
        ),
        ("CONNECTION_TIMEOUT", "0", "CONNECTION_TIMEOUT must be more than 0, not '0'."),
        ("PORT", "65536", "PORT must be at most 65535, not '65536'."),
        (
            "STREAM_SIGNING_KEY",
            "short",
            "STREAM_SIGNING_KEY can be guessed: take 32 characters or more.",
        ),
        (
            "GRIP_URL",
            "http://127.0.0.1:5561/?key=short",
            "GRIP_URL must end in ?key= and a secret of 32 characters or more.",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(
    read: Read, name: str, value: str, sentence: str
) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(**{name: value})
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    "url",
    ["nonsense", "model:8080/v1", "ftp://m/v1", "http:///v1", "http://m:99999/v1", "http://[/v1"],
)
def test_a_model_server_has_an_http_url_with_a_host(read: Read, url: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(OPENAI_BASE_URL=url)
    assert str(refusal.value) == (
        "OPENAI_BASE_URL must be a URL such as http://127.0.0.1:11434/v1."
    )


def test_each_bad_value_has_a_sentence_and_what_depends_on_it_has_none(read: Read) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(PRODUCTION="perhaps", PORT="web", RUN_LEASE="10s")
    assert str(refusal.value).splitlines() == [
        "PRODUCTION must be true or false, not 'perhaps'.",
        "PORT must be a whole number, not 'web'.",
        "RUN_LEASE must be a number, not '10s'.",
    ]


def test_production_requires_settings_and_changes_defaults(read: Read) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(PRODUCTION="true", SECRET_KEY="s" * 50, OPENAI_API_KEY="sk-key", REDIS_URL="")
    assert [line.partition(" must be too: ")[0] for line in str(refusal.value).splitlines()] == [
        "PRODUCTION is set, so ALLOWED_HOSTS",
        "PRODUCTION is set, so DATABASE_URL",
        "PRODUCTION is set, so REDIS_URL",
    ]
    complete = read(
        PRODUCTION="true",
        SECRET_KEY="s" * 50,
        ALLOWED_HOSTS="chat.example",
        DATABASE_URL="postgres://unspool:p%2Fw@127.0.0.1:5432/unspool?sslmode=require",
        REDIS_URL="redis://127.0.0.1/0",
        OPENAI_API_KEY="sk-key",
        WORKER_CONCURRENCY="20",
    )
    assert {
        "ALLOWED_HOSTS": ["chat.example", "127.0.0.1", "[::1]"],
        "ALLOW_ANONYMOUS": False,
        "HTTPS": True,
        "SECURE_HSTS_SECONDS": 31_536_000,
        "LOG_JSON": True,
        "MAX_LIVE_RUNS": 10,
        "MAX_RUNS_PER_MINUTE": 120,
        "LLM_MODELS": ["gpt-4o-mini"],
        "PROMPT_MAX_TOKENS": 32_000,
    }.items() <= complete.items()
    database = complete["DATABASES"]["default"]
    assert (database["PASSWORD"], database["HOST"], database["PORT"]) == ("p/w", "127.0.0.1", 5432)
    assert database["OPTIONS"]["sslmode"] == "require"
    assert database["OPTIONS"]["pool"]["max_size"] == 20


def test_values_of_the_right_type_are_parsed(read: Read) -> None:
    told = read(
        DEBUG="True ",
        ALLOW_SIGNUP="off",
        PORT=" 8080 ",
        RUN_TIMEOUT="1e3",
        STREAM_RETRY="10,20",
        ALLOWED_HOSTS="a.example,b.example,",
        STREAM_SIGNING_KEY="$SHELL and a long line of other signs",
    )
    assert {
        "DEBUG": True,
        "ALLOW_SIGNUP": False,
        "PORT": 8080,
        "RUN_TIMEOUT": 1000.0,
        "STREAM_RETRY": (10, 20),
        "ALLOWED_HOSTS": ["a.example", "b.example"],
        "STREAM_SIGNING_KEY": "$SHELL and a long line of other signs",
    }.items() <= told.items()


def test_an_empty_setting_counts_as_unset(read: Read) -> None:
    unset = read()
    own = {"DATA_DIR", "AGENTS"}  # an empty AGENTS turns the demonstrations off
    empty = read(**dict.fromkeys(ServiceSettings.model_fields.keys() - own, ""))
    names = [name for name in unset if name.isupper()]
    assert {name: empty[name] for name in names} == {name: unset[name] for name in names}


def test_a_setting_under_its_old_name_ends_the_start_with_its_new_name(read: Read) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(RUN_LIFE="600", BRIDGE="tcp://127.0.0.1:5562", MAX_POSTS="")
    assert str(refusal.value) == (
        "BRIDGE is now BRIDGE_BIND: rename it.\nRUN_LIFE is now RUN_TIMEOUT: rename it."
    )


def test_each_old_name_leads_to_an_existing_setting() -> None:
    assert set(RENAMED.values()) <= ServiceSettings.model_fields.keys()
    assert RENAMED.keys() & ServiceSettings.model_fields.keys() == set()


def test_a_sqlite_that_is_too_old_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 34, 1))
    with pytest.raises(ImproperlyConfigured, match=r"3\.35 or later is needed"):
        database("sqlite:///a.sqlite3", connections=1)
    assert database("postgres://u:p@h/n", connections=1)["ENGINE"].endswith("postgresql")


def test_the_database_is_in_the_data_folder_under_any_name(read: Read, tmp_path: Path) -> None:
    folder = tmp_path / "c++ 100% #1?"
    assert read(DATA_DIR=str(folder))["DATABASES"]["default"]["NAME"] == f"{folder}/db.sqlite3"


def test_two_processes_that_start_at_once_share_one_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[str] = []

    def made(length: int) -> str:
        if not others:
            others.append("")
            # Another process, after this one's check and before it keeps its key.
            others.append(development_key(tmp_path))
        return f"{len(others)}" * length

    monkeypatch.setattr(secret_key, "get_random_string", made)
    assert [development_key(tmp_path), others[1]] == ["1" * 50] * 2
    kept = tmp_path / "secret_key"
    assert list(tmp_path.iterdir()) == [kept]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
