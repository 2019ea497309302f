"""Store and delete LLM keys and named secrets for a caller, with entries in the audit log. No entry has a value."""

from collections.abc import Iterable
from itertools import islice

from django.db import transaction

from accounts import audit
from accounts.audit import Action
from accounts.callers import Caller
from llmkeys import keys, named_secrets
from llmkeys.models import LLMKey, NamedSecret
from llmkeys.named_secrets import Scope
from llmkeys.providers import provider_named
from llmkeys.secret import Secret
from llmkeys.stores import StoredKey
from tasks.executors.input_places import misuse, named_in, not_there
from tasks.models import NamedLimit
from tasks.rules import limits
from tasks.rules.exceptions import InvalidParams
from tasks.rules.specs import LISTED, TreeSpec


@transaction.atomic
def set_llm_key(*, caller: Caller, user_id: str, provider: str, key: Secret) -> StoredKey:
    """Store a user's key, replacing an earlier one. Raises UnknownProvider or MalformedKey."""
    stored = keys.set_key(user_id=user_id, provider=provider, key=key)
    audit.record(Action.LLM_KEY_SET, actor=caller.user_id, target=stored.provider, owner=user_id)
    return stored


@transaction.atomic
def delete_llm_key(*, caller: Caller, user_id: str, provider: str) -> bool:
    """Delete a user's key. False: there was none. Raises UnknownProvider."""
    provider = provider_named(provider)
    is_deleted = keys.delete_key(user_id=user_id, provider=provider)
    if is_deleted:
        audit.record(Action.LLM_KEY_DELETED, actor=caller.user_id, target=provider, owner=user_id)
    return is_deleted


@transaction.atomic
def set_secret(
    *,
    caller: Caller,
    name: str,
    value: Secret,
    scope: Scope = "own",
    allow_hosts: Iterable[str] | None = None,
    allow_in: Iterable[str] | None = None,
    users: Iterable[str] | None = None,
) -> NamedSecret:
    """Store a secret as `named_secrets.set_secret` does. Raises MalformedSecret."""
    stored = named_secrets.set_secret(
        user_id=caller.user_id,
        name=name,
        value=value,
        scope=scope,
        allow_hosts=allow_hosts,
        allow_in=allow_in,
        users=users,
    )
    audit.record(Action.SECRET_SET, actor=caller.user_id, target=name, scope=scope)
    return stored


@transaction.atomic
def delete_secret(*, caller: Caller, name: str, scope: Scope = "own") -> bool:
    """Delete a secret. False: there was none."""
    is_deleted = named_secrets.delete_secret(user_id=caller.user_id, name=name, scope=scope)
    if is_deleted:
        audit.record(Action.SECRET_DELETED, actor=caller.user_id, target=name, scope=scope)
    return is_deleted


def record_deletion(*, row: LLMKey | NamedSecret, actor: str) -> None:
    """Record that an administrator deletes this row in the admin."""
    if isinstance(row, LLMKey):
        audit.record(Action.LLM_KEY_DELETED, actor=actor, target=row.provider, owner=row.user_id)
    else:
        scope = "shared" if row.user_id == named_secrets.SHARED else "own"
        audit.record(Action.SECRET_DELETED, actor=actor, target=row.name, scope=scope, owner=row.user_id)


def _refuse_unknown_limits(spec: TreeSpec, *, owner: str) -> None:
    joined = [(task, names) for task in spec.tasks if (names := (task.params or {}).get("limits"))]
    known = NamedLimit.objects.names_for(owner) if joined else frozenset()
    found = (
        (f"tasks[{task.position}].params.{field}", problem)
        for task, names in joined
        for field, problem in limits.problems(names, known)
    )
    if refused := list(islice(found, LISTED)):
        raise InvalidParams(refused)


def refuse_unusable(spec: TreeSpec, *, owner: str) -> None:
    """Raise InvalidParams for a secret that the owner may not use, or that may not be sent where its task sends it.

    The reason is the same for a secret of another user and for one that does not exist. Also for a named limit, and for a flow of a check, that does not exist.
    """
    _refuse_unknown_limits(spec, owner=owner)
    if any((task.params or {}).get("checks") for task in spec.tasks):
        from tasks.services.secrets.flows_of_checks import refuse_unfit  # noqa: PLC0415  (few tasks have checks)

        refuse_unfit(spec, owner=owner)
    named = list(named_in(spec))
    if not named:
        return
    usable = named_secrets.usable(user_id=owner, names={name for _, _, name in named})
    found = (
        (task, place, misuse(usable[name], task) if name in usable else not_there(name)) for task, place, name in named
    )
    problems = ((f"tasks[{task.position}].{place}", problem) for task, place, problem in found if problem is not None)
    if refused := list(islice(problems, LISTED)):
        raise InvalidParams(refused)
