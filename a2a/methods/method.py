"""A row of the tables of methods."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from a2a.core.parsing import Params
from accounts.callers import Caller, Role


@dataclass(frozen=True, slots=True)
class Method:
    """`function` carries out the call with parameters of the class `params`; `as_a2a` is the shape that `/` answers.

    `answer` is the type of what `/tasks` answers; `role` is the lowest that may call it. A function that `is_repeatable` also takes the
    `token` of a request that its client may repeat, one that `takes_llm_key` the `llm_key` that came with the request.
    """

    function: Callable[..., Awaitable[Any]]
    params: type[Params]
    as_a2a: Callable[[Caller, Any], Awaitable[Any]]
    answer: Any
    role: Role
    is_repeatable: bool = False
    takes_llm_key: bool = False
