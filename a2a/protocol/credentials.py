"""Detects whether a tree lacks an LLM key, to ask the client for it (A2A 1.0, section 7.6)."""

from typing import Any, Final

from django.conf import settings

from a2a.protocol.message_handler import Meaning
from accounts.callers import Caller
from aipartnerupflow.a2a import AskForKey, RunFlow, RunStored, RunTree
from llmkeys import keys, run_secrets
from llmkeys.providers import (
    HEADER,
    KEYLESS,
    SentKey,
    environment_key,
    known_providers,
    normal_name,
    operator_addresses,
)
from tasks.executors import describe, executor_ids
from tasks.executors.admission import checked
from tasks.models import Run, Task
from tasks.rules.strict_json import Json
from tasks.rules.tree import covered_by
from tasks.services.flows import get_version
from tasks.services.trees.copies import for_execution
from tasks.services.trees.model_names import model_names
from tasks.status import Status

EXTRAS: Final = frozenset({"llm", "crewai"})
"""The package extras of executors that call language models."""


def with_key(meaning: Meaning, *, user_id: str, sent: SentKey | None) -> Meaning:
    """Return the decision, or AskForKey if its tree would fail without a key.

    Raises the errors of invalid trees.
    """
    # Workers elsewhere may have other keys in their environment.
    knows_all_keys = settings.APFLOW.worker.embedded or not settings.APFLOW_LLM.environment_keys
    if not isinstance(meaning, RunTree | RunFlow | RunStored) or not knows_all_keys:
        return meaning
    calling = _calling(meaning, user_id=user_id)
    default = settings.APFLOW_LLM.default_model
    models = model_names(calling) or ([default] if calling and default else [])
    prefixes = [name.partition("/")[0] for name in models if "/" in name]
    # Only LiteLLM knows other providers, and it runs in worker processes only.
    providers = {normal_name(prefix) for prefix in prefixes} & set(known_providers())
    missing = sorted(each for each in providers if not _has_key(each, user_id=user_id, sent=sent))
    if not missing:
        return meaning
    if isinstance(meaning, RunTree):
        checked(meaning.tasks)  # do not ask for a key if the tree is invalid
    return AskForKey(
        text=f"This request needs an LLM key for the provider '{missing[0]}', and you have not stored one. Store it with "
        f"config.llm_key.set (POST /system), or send the header {HEADER}: {missing[0]}:<key> with a follow-up message."
    )


def _calling(meaning: RunTree | RunFlow | RunStored, *, user_id: str) -> list[Task]:
    """Return the tasks to run that call language models."""
    if isinstance(meaning, RunStored):
        return [task for task in _due(meaning, user_id=user_id) if _calls_models(task.executor_id)]
    if isinstance(meaning, RunFlow):
        _, version = get_version(caller=Caller(user_id=user_id), name=meaning.name, version=meaning.version)
        tasks: Any = version.definition
    else:
        tasks = meaning.tasks
    found = []
    for raw in tasks if isinstance(tasks, list) else [tasks]:
        if isinstance(raw, dict):
            names = (_object(raw, "params").get("executor_id"), _object(raw, "schemas").get("method"), raw.get("name"))
            if _calls_models(next((name for name in names if isinstance(name, str)), None)):
                found.append(Task(params=raw.get("params"), schemas=raw.get("schemas"), inputs=_object(raw, "inputs")))
    return found


def _due(stored: RunStored, *, user_id: str) -> list[Task]:
    """Return the tasks of the user's own tree that would run.

    None if the tree runs now, or if a key for its next run was sent. None for a tree of another
    user: administrators run it with the keys of its owner.
    """
    task = Task.objects.filter(id=stored.task_id, user_id=user_id).first()
    if task is None:
        return []
    tree = list(Task.objects.tree(task.root_id))
    left = {row.id for row in tree if row.status != Status.COMPLETED}
    if stored.copy_execution:
        extent = for_execution(task.id, tree, with_children=stored.copy_children)
        return [row for row in tree if row.id in extent.fresh | extent.taken & left]
    is_running = Run.objects.unfinished().filter(root_id=task.root_id).exists()
    if is_running or run_secrets.is_any_waiting(tree_id=task.root_id, user_id=user_id):
        return []
    scope = covered_by(task.id, tree)
    return [row for row in tree if row.id in scope & left]


def _calls_models(executor_id: str | None) -> bool:
    return executor_id in executor_ids() and describe(executor_id)["extra"] in EXTRAS


def _object(raw: Json, name: str) -> Json:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _has_key(provider: str, *, user_id: str, sent: SentKey | None) -> bool:
    return (
        provider in KEYLESS
        or provider in operator_addresses()
        or (sent is not None and sent.provider in (None, provider))
        or environment_key(provider) is not None
        or any(key.provider == provider for key in keys.list_keys(user_id=user_id))
    )
