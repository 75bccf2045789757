"""Reads settings from the environment: the types of their values, and one sentence for each error.

An empty value counts as not set, because a Compose file sets empty values.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic.config import JsonDict
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Values = dict[str, Any]  # the settings that have been read so far


class Environment(BaseSettings):
    """Settings that are read from environment variables of the same names."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, case_sensitive=True, validate_default=False
    )


def setting(default: Any, unit: str, reason: str) -> Any:
    """Declare a setting. `unit` is the unit in docs/settings.md, or "".

    A callable default gets the values of the settings that are declared before it.
    """
    extra: JsonDict = {"unit": unit}
    if callable(default):
        return Field(default_factory=default, description=reason, json_schema_extra=extra)
    return Field(default, description=reason, json_schema_extra=extra)


def in_production(value: object, *, otherwise: object) -> Callable[[Values], object]:
    """Return a default that is stricter in production. Declare `PRODUCTION` before its setting."""
    return lambda values: value if values["PRODUCTION"] else otherwise


def strip(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def split(text: str) -> list[str]:
    """Return the words between commas."""
    return [word for word in map(str.strip, text.split(",")) if word]


def pairs(value: object) -> object:
    """Read `name=value,name=value`. Raises `ValueError`, also for a name that is given twice."""
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    for word in split(value):
        name, equals, text = (part.strip() for part in word.partition("="))
        if not (name and equals and text) or name in found:
            raise ValueError(f"must be name=value pairs with commas between, not {value!r}.")
        found[name] = text
    return found


LISTS = TypeAdapter(dict[str, list[str]])


def lists(value: object) -> object:
    """Read a JSON object whose values are lists of strings. Raises `ValueError`."""
    if not isinstance(value, str):
        return value
    try:
        return LISTS.validate_json(value)
    except ValidationError:
        raise ValueError('must be a JSON object of lists, such as {"name": ["text"]}.') from None


Flag = Annotated[bool, BeforeValidator(strip)]
Words = Annotated[list[str], NoDecode, BeforeValidator(split)]
Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(pairs)]
Lists = Annotated[dict[str, list[str]], NoDecode, BeforeValidator(lists)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Period = Annotated[float, Field(gt=0, allow_inf_nan=False)]  # seconds, more than 0
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Choice = BeforeValidator(strip)  # for use with a `Literal`

KINDS = {  # by pydantic's types of errors
    "bool_parsing": "true or false",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "finite_number": "a number",
    "greater_than": "more than {gt:.12g}",
    "greater_than_equal": "at least {ge:.12g}",
    "less_than_equal": "at most {le:.12g}",
    "literal_error": "{expected}",
}
S = TypeVar("S", bound=Environment)


def load(kind: type[S]) -> S:
    """Read the settings of this class.

    Raises `ImproperlyConfigured`, with one sentence for each bad value.
    """
    try:
        return kind()
    except ValidationError as error:
        raise ImproperlyConfigured("\n".join(_sentences(error))) from None


def _sentences(error: ValidationError) -> list[str]:
    # A default that depends on a bad value cannot be computed, but only the bad value is reported.
    faults = [fault for fault in error.errors() if fault["type"] != "default_factory_not_called"]
    return [_sentence(fault["type"], fault) for fault in faults]


def _sentence(type: str, fault: Any) -> str:
    name = ".".join(str(part) for part in fault["loc"][:1])
    if type == "value_error":  # its text continues a sentence that begins with the name
        return f"{name} {fault['ctx']['error']}".strip()
    kind = KINDS[type].format(**fault.get("ctx", {})).replace("'", "")
    return f"{name} must be {kind}, not {fault['input']!r}."
