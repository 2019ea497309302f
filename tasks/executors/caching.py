"""The tasks that may have `params.cache`, and the version of the code that makes their results."""

import sys
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from django.conf import settings

from aipartnerupflow import __version__
from aipartnerupflow.executors import Executor, ExecutorError, Json
from tasks.executors.plugins import plugins
from tasks.rules.caching import cache_of

OURS: Final = "tasks."
NOT_SHARED: Final = "is not allowed by the operator (cache.shared)"
OWN_KEY: Final = (
    "needs the default key: with one of their own, users could give each other results of other calls. Leave out key"
)
HAS_SECRET: Final = "is not for a task with a secret, whose value may be another one for each user"
CHECKED: Final = "is not for an agent with params.checks, before which nothing that a model says is stored"
OF_CALLS: Final = (
    "is not for {executor} with these inputs: its calls of models are taken one by one, each by its whole prompt"
)
SPAWNS: Final = "is not for a task with params.spawn, whose result adds tasks"


def problems(executor: Executor | None, params: Json, inputs: Json, *, has_secret: bool) -> Iterator[tuple[str, str]]:
    """Yield why a task with these well-formed params, which have `cache`, may not have it: the field, and the reason."""
    wanted = cache_of(params)
    if wanted is None:
        return
    if executor is None:
        yield "cache", "is for tasks with an executor; this one runs no code"
        return
    if executor.caches_calls(inputs):
        given = (("cache.key", wanted.key is not None), ("cache.scope", wanted.is_shared))
        if params.get("checks") is not None:
            yield "cache", CHECKED
        yield from ((field, OF_CALLS.format(executor=executor.id)) for field, is_given in given if is_given)
        return
    if "spawn" in params:
        yield "cache", SPAWNS
    elif (why := executor.uncacheable(params, inputs)) is not None:
        yield "cache", why
    if wanted.is_shared:
        shared = (
            (not settings.APFLOW.cache.shared, NOT_SHARED),
            (wanted.key is not None, OWN_KEY),
            (has_secret, HAS_SECRET),
        )
        yield from (("cache.scope", f"shared {why}") for applies, why in shared if applies)


def version_of(executor: Executor, inputs: Json) -> str:
    """Return the version of the code that makes the result. Raises ExecutorError, permanent, if it is not known."""
    function = plugins().functions.get(str(inputs.get("function"))) if executor.id == "python_executor" else None
    if function is not None:
        return f"{function.__name__}@{_digest_of(function.__module__)}"
    module = type(executor).__module__
    return __version__ if module.startswith(OURS) else _digest_of(module)


@cache
def _digest_of(module: str) -> str:
    """Return the digest of the file of a module, as it is when it is first needed."""
    try:
        return sha256(Path(str(sys.modules[module].__file__)).read_bytes()).hexdigest()
    except OSError as error:
        raise ExecutorError(
            f"params.cache: the version of the module '{module}' is not known, because its file cannot be read: {error}",
            permanent=True,
        ) from None
