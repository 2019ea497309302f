"""Calls a method of a gRPC server, which describes its services by reflection."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Final

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, on_a_thread
from tasks.executors.http.rest import SECRET
from tasks.executors.http.safe_http import egress_of_tasks, judged_addresses, parse_url
from tasks.executors.llm.loading import load
from tasks.executors.timeouts import timeout_of, timeout_schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server, by addresses that were checked: `ipv4:192.0.2.1:443`. `host` is its name for TLS."""

    addresses: str
    host: str
    authority: str
    tls: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A call. A response may have `most_bytes`, and all of them together."""

    service: str
    method: str
    request: Json
    metadata: Mapping[str, str] = field(repr=False)
    seconds: float
    most_messages: int
    most_bytes: int


TIMEOUT_SECONDS: Final = 30
MOST_MESSAGES: Final = 1_000
METADATA_NAME: Final = re.compile(r"(?!grpc-|.*-bin$)[0-9a-z_.-]{1,100}", re.ASCII)
METADATA_VALUE: Final = re.compile(r"[\x20-\x7e]{0,8192}", re.ASCII)


class Grpc(Executor):
    """Calls one method, with one request, and one response or a stream of them."""

    id = "grpc_executor"
    name = "gRPC call"
    description = (
        "Calls a method of a gRPC server that offers reflection; request and response are JSON. "
        "Private addresses, and ports other than 80 and 443, require the operator's permission."
    )
    tags = ("core", "grpc")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "server": {
                "type": "string",
                "minLength": 1,
                "maxLength": 300,
                "description": "host:port; the default port is 443",
            },
            "service": {"type": "string", "minLength": 1, "maxLength": 300, "description": "Its name with its package"},
            "method": {"type": "string", "minLength": 1, "maxLength": 300, "description": "The name of the method"},
            "request": {"type": "object", "default": {}, "description": "The request in the JSON form of its message"},
            "metadata": {
                "type": "object",
                "additionalProperties": SECRET,
                "default": {},
                "description": "Sent with the call, such as authorization. Names are in lower case",
            },
            "tls": {"type": "boolean", "default": True, "description": "false: neither encrypt nor check the server"},
            "max_messages": {
                "type": "integer",
                "minimum": 1,
                "maximum": MOST_MESSAGES,
                "default": 100,
                "description": "The number of messages of a stream that are read",
            },
            **timeout_schema(TIMEOUT_SECONDS),
        },
        "required": ["server", "service", "method"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "response": {
                "type": ["object", "null"],
                "description": "The response in the JSON form of its message; the first of a stream",
            },
            "responses": {
                "type": "array",
                "items": {"type": "object"},
                "description": "All, if the method streams them",
            },
        },
        "required": ["response"],
    }
    secret_inputs = frozenset({"metadata", "request"})
    param_names = frozenset()
    example: ClassVar[Json] = {
        "server": "grpc.example.com:443",
        "service": "helloworld.Greeter",
        "method": "SayHello",
        "request": {"name": "Ada"},
    }
    example_result: ClassVar[Json] = {"response": {"message": "Hello Ada"}}
    idempotent = False
    begins_itself = True
    pool = "process"  # what a server describes and sends is read there
    extra = "grpc"

    def receiver(self, inputs: Json) -> str | None:
        return f"{'https' if inputs.get('tls', True) else 'http'}://{inputs.get('server')}/"

    async def execute(self, inputs: Json, context: Context) -> Json:
        most_bytes: int = settings.APFLOW.limits.result_bytes
        metadata = inputs.get("metadata", {})
        for name, value in metadata.items():
            if not METADATA_NAME.fullmatch(name) or not isinstance(value, str) or not METADATA_VALUE.fullmatch(value):
                raise ExecutorError(
                    f"inputs.metadata.{name[:100]}: is not valid. Names have a to z, 0 to 9 and _.-, and begin with no "
                    "'grpc-'; values are printable ASCII.",
                    permanent=True,
                )
        order = Order(
            service=inputs["service"],
            method=inputs["method"],
            request=inputs.get("request", {}),
            metadata=metadata,
            seconds=timeout_of(inputs, TIMEOUT_SECONDS),
            most_messages=inputs.get("max_messages", 100),
            most_bytes=most_bytes,
        )
        channel_to, prepared = [await load(f"tasks.executors.grpc.call.{name}") for name in ("channel_to", "prepared")]
        channel = channel_to(await _target(inputs), most_bytes=most_bytes)
        try:
            call = await asyncio.wrap_future(on_a_thread(partial(prepared, channel, order), name="grpc"))
            await context.begin()
            responses, streams = await asyncio.wrap_future(on_a_thread(call, name="grpc"))
        finally:
            channel.close()  # also ends a call at work, and so its thread
        first = responses[0] if responses else None
        return {"response": first, "responses": list(responses)} if streams else {"response": first}


async def _target(inputs: Json) -> Target:
    """Return the server's addresses, all of which were checked. Raises ExecutorError."""
    url = parse_url(f"https://{inputs['server']}/")
    port = url.port or 443
    addresses = await judged_addresses(url, egress=egress_of_tasks())
    family = addresses[0].version
    of_family = [
        f"[{each}]:{port}" if family == 6 else f"{each}:{port}" for each in addresses if each.version == family
    ]
    host = url.raw_host.decode("ascii")
    return Target(
        addresses=f"ipv{family}:{','.join(of_family)}",
        host=host.rstrip("."),
        authority=inputs["server"],
        tls=inputs.get("tls", True),
    )
