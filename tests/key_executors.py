"""An executor that gets its run's key, and does with it what no executor should."""

from hashlib import sha256
from typing import Any

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json
from apflow_site.db import pools
from llmkeys.resolve import credentials


class Careless(Executor):
    """Shows which key it got by a hash; `params.then` says what else it does with it."""

    id = "careless_executor"
    name = "Careless"
    description = "Takes a key and is careless with it."

    async def execute(self, inputs: Json, context: Context) -> Any:
        provider = str(context.params.get("provider", "openai"))
        granted = await pools.read(credentials, run_id=context.run_id, user_id=context.user_id, provider=provider)
        assert granted.api_key is not None
        key = granted.api_key.reveal()
        _be_careless(str(context.params.get("then")), key, context)
        return {"source": granted.source, "hash": hash_of(key)}


def _be_careless(how: str, key: str, context: Context) -> None:
    match how:
        case "log":
            context.log(f"Using {key} now")
        case "report":
            context.report(0.5, f"with X-LLM-API-KEY: {key}")
        case "fail":
            raise ExecutorError(f"401 from https://api.example.com/?key={key}: incorrect API key {key}", permanent=True)
        case "retry":
            raise ExecutorError(f"Try again with Authorization: Bearer {key}")
        case "raise":
            raise RuntimeError(f"the key is {key}")
        case "chain":
            try:
                raise KeyError(key)
            except KeyError as error:
                raise ValueError(f"no use for {key!r}") from error
        case "odd result":
            raise TypeError({"request": {"headers": {"Authorization": f"Bearer {key}"}}})


def hash_of(key: str) -> str:
    """What tells which key it was, and no more."""
    return sha256(key.encode()).hexdigest()
