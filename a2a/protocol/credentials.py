"""Whether a tree lacks an API key, as far as that can be told before it runs: then the client is asked for it (A2A 1.0, section 7.6)."""

from collections.abc import Iterator
from typing import Any, Final

from django.conf import settings

from a2a.protocol.meaning import AskForKey, Meaning, RunTree
from llmkeys import keys
from llmkeys.header import HEADER, SentKey
from llmkeys.providers import KEYLESS, environment_key, known_providers, normal_name, operator_addresses
from tasks.executors import describe, executor_ids
from tasks.model_names import model_names
from tasks.models import Task
from tasks.requests import checked

Json = dict[str, Any]
EXTRAS: Final = frozenset({"llm", "crewai"})
"""The executors that call language models need one of these."""


def with_key(meaning: Meaning, *, user_id: str, sent: SentKey | None) -> Meaning:
    """The meaning, or the question for a key without which its tree would fail. Raises what the rules of trees raise."""
    if not isinstance(meaning, RunTree) or not _is_known_here():
        return meaning
    providers = {provider for name in _models(meaning.tasks) if (provider := _provider(name)) is not None}
    missing = sorted(each for each in providers if not _has_key(each, user_id=user_id, sent=sent))
    if not missing:
        return meaning
    checked(meaning.tasks)  # a key would not help what is wrong anyway
    return AskForKey(text=_question(missing[0]))


def _is_known_here() -> bool:
    """Workers elsewhere may have keys in an environment that this process does not see."""
    return bool(settings.APFLOW.worker.embedded or not settings.APFLOW_LLM.environment_keys)


def _models(tasks: Any) -> list[str]:
    """The models that tasks of a request name, as far as they call any."""
    calling = [raw for raw in (tasks if isinstance(tasks, list) else [tasks]) if _calls_models(raw)]
    rows = [
        Task(params=raw.get("params"), schemas=raw.get("schemas"), inputs=_object(raw, "inputs")) for raw in calling
    ]
    default = settings.APFLOW_LLM.default_model
    return model_names(rows) or ([default] if calling and default else [])


def _calls_models(raw: Any) -> bool:
    if not isinstance(raw, dict):
        return False
    named = next(_executors(raw), None)
    return named in executor_ids() and describe(named)["extra"] in EXTRAS


def _executors(raw: Json) -> Iterator[str]:
    places = (_object(raw, "params").get("executor_id"), _object(raw, "schemas").get("method"), raw.get("name"))
    return (place for place in places if isinstance(place, str))


def _object(raw: Json, name: str) -> Json:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _provider(model: str) -> str | None:
    """None where only LiteLLM could tell, which lives in worker processes."""
    prefix, slash, _ = model.partition("/")
    provider = normal_name(prefix)
    return provider if slash and provider in known_providers() else None


def _has_key(provider: str, *, user_id: str, sent: SentKey | None) -> bool:
    if provider in KEYLESS or provider in operator_addresses():
        return True
    if sent is not None and sent.provider in (None, provider):
        return True
    return environment_key(provider) is not None or any(
        key.provider == provider for key in keys.list_keys(user_id=user_id)
    )


def _question(provider: str) -> str:
    return (
        f"This needs an API key for the provider '{provider}', and you have none here. Store one (POST /system, "
        f"config.llm_key.set), or send the header {HEADER}: {provider}:<key> with a follow-up message to this task."
    )
