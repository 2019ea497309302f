"""The inputs of a run: values that places of its tree name as `{{run.inputs.topic}}`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from tasks.rules.exceptions import InvalidParams
from tasks.rules.stored_results import is_longer
from tasks.rules.strict_json import Json
from tasks.services.trees import Execution
from tasks.services.trees.further_runs import set_inputs

NOT_USED: Final = "The tree is already running, with the inputs of that run: run_inputs was not used."


@transaction.atomic
def with_inputs(verb: Callable[..., Execution], inputs: Json, **arguments: Any) -> Execution:
    """Call a function of `tasks.services.trees` that starts a run, and give the run these inputs.

    Without this, a further run of a tree has the inputs of the one before it. A run that is already under way keeps its own. Raises InvalidParams if they are too large.
    """
    most = settings.APFLOW.limits.result_bytes
    if is_longer(inputs, than=most):
        raise InvalidParams([("run_inputs", f"have more than the {most:,} bytes that limits.result_bytes allows")])
    execution = verb(**arguments)
    if not execution.started:
        return replace(execution, warnings=[*execution.warnings, NOT_USED])
    set_inputs(execution.run, inputs)
    return execution
