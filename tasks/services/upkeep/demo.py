"""Demo runs: every executor returns its example result, and nothing is called."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from django.db import transaction

from tasks.models import Run
from tasks.services.trees import Execution

WARNING: Final = "This is a demo run (use_demo): each executor returns its example result, and nothing is called."


@transaction.atomic
def as_demo(verb: Callable[..., Execution], **arguments: Any) -> Execution:
    """Call a function of `tasks.services.trees` that starts a run, and make it a demo run.

    A run that is already under way stays as it is.
    """
    execution = verb(**arguments)
    if not execution.started:
        return execution
    Run.objects.filter(id=execution.run.id).update(is_demo=True)
    return replace(execution, warnings=[*execution.warnings, WARNING])
