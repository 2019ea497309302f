"""What the tasks of a run may name besides results."""

import orjson

from tasks.queue.leases import Claim
from tasks.rules.places import RUN
from tasks.rules.strict_json import Json


def values_of(claim: Claim) -> Json:
    """`{"run": {"inputs": …}}`, with the inputs that the run was started with."""
    return {RUN: {"inputs": orjson.loads(claim.inputs) if claim.inputs else {}}}
