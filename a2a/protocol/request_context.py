"""The context of an A2A operation: the caller, and what a request contains besides its parameters."""

from collections.abc import Callable
from dataclasses import dataclass

from accounts.callers import Caller
from llmkeys.header import SentKey
from tasks.services.trees.idempotency import Token


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """The context of one request.

    `url` returns the base URL of this server. `version` is the A2A version of the client, which push
    notifications use, too. `token` belongs to the Idempotency-Key of a request that may be
    repeated.
    """

    caller: Caller
    url: Callable[[], str]
    version: str
    token: Token | None = None
    llm_key: SentKey | None = None
