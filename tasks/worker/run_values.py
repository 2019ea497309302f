"""What the tasks of a run may name besides results."""

import orjson

from llmkeys import sealed_texts
from tasks.queue.leases import Claim
from tasks.rules.places import RUN
from tasks.rules.strict_json import Json


def values_of(claim: Claim) -> Json:
    """`{"run": {"inputs": …}}`, with the inputs that the run was started with, as they are stored."""
    return {RUN: {"inputs": orjson.loads(claim.inputs) if claim.inputs else {}}}


def opened_values(claim: Claim, *, user_id: str) -> Json:
    """As `values_of`, with what is encrypted in them decrypted. What cannot be stays: it may come from outside."""
    values = values_of(claim)
    is_open = claim.inputs is None or not sealed_texts.may_contain(claim.inputs)
    return values if is_open else sealed_texts.opened_where_possible(values, owner=user_id)
