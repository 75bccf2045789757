"""The settings of agents and of suggestions."""

from tests.unit.conftest import Read


def test_agents_are_read_as_names_with_paths(read: Read) -> None:
    named = read(AGENTS="support=shop.agents.support, weather=shop.agents.weather,")
    assert named["AGENTS"] == {
        "support": "shop.agents.support",
        "weather": "shop.agents.weather",
    }


def test_only_a_development_copy_without_agents_of_its_own_offers_demonstrations(
    read: Read,
) -> None:
    demonstrations = read()["AGENTS"]
    assert list(demonstrations) == ["demo-tools", "demo-chain"]
    assert read()["AGENT_SUGGESTIONS"].keys() == demonstrations.keys()
    assert read(AGENTS="")["AGENTS"] == {}
    production = {
        "PRODUCTION": "true",
        "SECRET_KEY": "s" * 50,
        "ALLOWED_HOSTS": "chat.example",
        "DATABASE_URL": "postgres://127.0.0.1/unspool",
        "REDIS_URL": "redis://127.0.0.1/0",
        "OPENAI_API_KEY": "sk-key",
    }
    assert read(**production)["AGENTS"] == {}


def test_suggestions_are_read_as_json(read: Read) -> None:
    named = read(AGENT_SUGGESTIONS='{"support": ["Where is my order?"]}')
    assert named["AGENT_SUGGESTIONS"] == {"support": ["Where is my order?"]}
