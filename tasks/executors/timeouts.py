"""The time limit of a call of another service: the input `timeout_seconds`, or `timeout`, as the predecessor called it."""

from typing import Final

from aipartnerupflow.executors import Json

LONGEST_SECONDS: Final = 600
OLDER_NAME: Final = "An older name of `timeout_seconds`"


def timeout_schema(default: float, *, longest: float = LONGEST_SECONDS) -> Json:
    """Return the properties of an input schema for a timeout in seconds."""
    seconds: Json = {"type": "number", "exclusiveMinimum": 0, "maximum": longest}
    return {
        "timeout_seconds": {**seconds, "default": default, "description": "From the connection to the end"},
        "timeout": {**seconds, "description": OLDER_NAME},
    }


def timeout_of(inputs: Json, default: float) -> float:
    """Return the timeout in seconds."""
    seconds: float = inputs["timeout_seconds"] if "timeout_seconds" in inputs else inputs.get("timeout", default)
    return seconds


def declared_timeout(schema: Json, inputs: Json) -> float | None:
    """Return the timeout of a task whose executor has this input schema; None if the schema has no such inputs, or no default.

    Without a default the executor has a rule of its own, as that of containers has.
    """
    properties = schema.get("properties", {})
    if properties.get("timeout", {}).get("description") != OLDER_NAME:
        return None
    default = properties["timeout_seconds"].get("default")
    return None if default is None else timeout_of(inputs, default)
