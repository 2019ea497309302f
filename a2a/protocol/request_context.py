"""Who asks an operation, and how: what a request says beside its parameters."""

from dataclasses import dataclass

from accounts.callers import Caller
from llmkeys.header import SentKey
from tasks.services.idempotency import Token


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """`url` is where this server is reached. `version` is the one that the client speaks: what is sent to it later has to be of that
    one too. `token` marks a request that its client may repeat."""

    caller: Caller
    url: str
    version: str
    token: Token | None = None
    llm_key: SentKey | None = None
