"""The settings that Ray nodes need, as environment variables: no secret is among them."""

from operator import attrgetter
from typing import Any, Final

from apflow_site.config.known import variables
from apflow_site.config.sections import Config

SHARED: Final = (
    "executors.modules",
    "executors.command.allow",
    "executors.command.allow_anyway",
    "executors.command.folders",
    "executors.command.readable",
    "executors.command.timeout_seconds",
    "executors.crewai.tools",
    "executors.crewai.crews",
    "executors.crewai.max_crews",
    "executors.llm.tools",
    "executors.langgraph.graphs",
    "executors.langgraph.langsmith",
    "executors.rest.allow_private",
    "executors.rest.allowed_ports",
    "llm.default_model",
    "llm.demo",
    "limits.result_bytes",
    "limits.nesting",
    "log.format",
    "log.level",
)


def for_ray_nodes(config: Config) -> dict[str, str]:
    """Return the variables. What a node needs beyond these is in its own environment."""
    values = {key: attrgetter(key)(config) for key in SHARED}
    return {variables(key)[-1]: _text(value) for key, value in values.items() if value not in (None, ())}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}={each}" for name, each in value.items())
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
