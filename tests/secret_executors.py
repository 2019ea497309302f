"""An executor that tells its secret in every way in which it can."""

import base64
import logging
from typing import Any
from urllib.parse import quote

from aipartnerupflow.executors import Context, Escalation, Executor, ExecutorError, Json, Parked, Spawn, Stopped

logger = logging.getLogger(__name__)


class Templating(Executor):
    """Fills a template with its other inputs."""

    id = "templating_executor"
    name = "Templating"
    description = "Fills a template."
    templates = frozenset({"prompt"})

    async def execute(self, inputs: Json, context: Context) -> Any:
        return None


class Telling(Executor):
    """Tells the input `secret`, or the secret that `name` names, as `how` says."""

    id = "telling_executor"
    name = "Telling"
    description = "Tells its secret."

    async def execute(self, inputs: Json, context: Context) -> Any:
        secret = await context.secret(inputs["name"], host=inputs.get("host")) if "name" in inputs else inputs["secret"]
        logger.warning("The secret is %s", secret)
        context.log(f"The secret is {secret}")
        context.report(0.5, f"The secret is {secret}")
        match inputs.get("how"):
            case "error":
                raise ExecutorError(f"Refused: {secret}", permanent=True)
            case "raise":
                raise RuntimeError(secret)
            case "question" if context.reply is None:
                raise Parked(f"Is it {secret}?", options=["yes", secret], memo={"secret": secret})
            case "form" if context.reply is None:
                form: Json = {"properties": {"word": {"type": "string", "description": f"Is it {secret}?"}}}
                later = Escalation(after_seconds=3600, assignees=[secret])
                raise Parked(
                    secret, schema=form, assignees=["local", secret], escalation=later, memo={"secret": secret}
                )
            case "step" if context.reply is None:
                wait = {"name": "approval_executor", "inputs": {"question": "Go on?"}}
                return Spawn(tasks=[wait], again=True, memo={"secret": secret})
            case "stop":
                raise Stopped(result=[secret])
        return {
            secret: [secret, f"x{secret}x", quote(secret, safe=""), *map(len, [secret])],
            "basic": base64.b64encode(f"user:{secret}".encode()).decode(),
            "number": int(secret) if secret.isdecimal() else 0,
            "memo": None if context.reply is None else context.reply.memo,
        }
