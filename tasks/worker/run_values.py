"""The values that the tasks of a run may name besides results."""

import orjson

from llmkeys import sealed_texts
from tasks.queue.leases import Claim
from tasks.rules.places import RUN
from tasks.rules.strict_json import Json


def values_of(claim: Claim) -> Json:
    """`{"run": {"inputs": …}}`, with the inputs that the run was started with, as they are stored."""
    return {RUN: {"inputs": orjson.loads(claim.inputs) if claim.inputs else {}}}


def opened_values(claim: Claim, *, user_id: str) -> Json:
    """Return `values_of` with their encrypted texts decrypted. A text that cannot be decrypted stays: it may come from outside."""
    values = values_of(claim)
    is_open = claim.inputs is None or not sealed_texts.may_contain(claim.inputs)
    return values if is_open else sealed_texts.opened_where_possible(values, owner=user_id)
