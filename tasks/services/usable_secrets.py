"""Refuse trees that name secrets which their owner may not use, before anything is stored."""

from collections.abc import Iterator
from itertools import islice

from llmkeys import named_secrets
from llmkeys.models import NamedSecret
from tasks.executors import get_executor
from tasks.executors.secret_places import NOT_THERE, misuse, secrets_in
from tasks.executors.template_check import value_labels
from tasks.rules.exceptions import InvalidParams
from tasks.rules.places import SECRET
from tasks.rules.specs import LISTED, TaskSpec, TreeSpec, labels_of, names_of

Named = tuple[TaskSpec, str, str]
"""A task, a place in its inputs, and the name of the secret there."""


def refuse_unusable(spec: TreeSpec, *, owner: str) -> None:
    """Raise InvalidParams for a secret that the owner may not use, or that may not be sent where its task sends it.

    The reason is the same for a secret of another user and for one that does not exist.
    """
    named = list(named_in(spec))
    if not named:
        return
    usable = named_secrets.usable(user_id=owner, names={name for _, _, name in named})
    found = ((task, place, _problem(task, usable.get(name), name)) for task, place, name in named)
    problems = ((f"tasks[{task.position}].{place}", problem) for task, place, problem in found if problem is not None)
    if refused := list(islice(problems, LISTED)):
        raise InvalidParams(refused)


def _problem(task: TaskSpec, secret: NamedSecret | None, name: str) -> str | None:
    if secret is None:
        return NOT_THERE.format(name=name)
    return misuse(secret, get_executor(str(task.executor_id)), task.inputs, are_filled=False)


def named_in(spec: TreeSpec) -> Iterator[Named]:
    """Yield the places of secrets in the tree, except in tasks that know a result or a value as `secret`."""
    names, values = names_of(spec), value_labels(spec)
    for task in spec.tasks:
        if task.inputs and SECRET not in labels_of(task, names) | values.get(task.id, set()):
            yield from ((task, place, name) for place, name in secrets_in(task))
