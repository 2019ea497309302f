"""The type of a row in the tables of methods."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from a2a.core.parsing import Params
from accounts.callers import Caller, Role


@dataclass(frozen=True, slots=True)
class Method:
    """A JSON-RPC method.

    `function` gets the caller and the parameters as `params`. If it is no coroutine function, it only reads, and runs
    on a thread of the read pool, where users take turns; its reply is made and encoded there, too. `as_a2a` converts
    its result to A2A objects for `/`, also there; `answer` is the type of the native result for `/tasks`. `role` is the lowest
    role that may call it. The function also gets `token` (of the Idempotency-Key) if
    `is_repeatable`, `llm_key` if `takes_llm_key`, and `url`, which returns the base URL of the server as the
    caller knows it, if `takes_url`.
    """

    function: Callable[..., Any]
    params: type[Params]
    as_a2a: Callable[[Caller, Any], Any]
    answer: Any
    role: Role
    is_repeatable: bool = False
    takes_llm_key: bool = False
    takes_url: bool = False
