"""Refuse trees that name secrets which their owner may not use, before anything is stored."""

from itertools import islice

from llmkeys import named_secrets
from llmkeys.models import NamedSecret
from tasks.executors.secret_places import NOT_THERE, misuse, named_in
from tasks.rules.exceptions import InvalidParams
from tasks.rules.specs import LISTED, TaskSpec, TreeSpec


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
    return misuse(secret, task)
