"""A real gRPC server on loopback, with reflection if wanted. Its service is made without generated code."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc  # type: ignore[import-untyped]
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto  # type: ignore[import-untyped]
from google.protobuf.descriptor_pool import DescriptorPool  # type: ignore[import-untyped]
from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

SERVICE: Final = "helloworld.Greeter"
METHODS: Final = {"SayHello": False, "SayHellos": True, "Flood": True, "Hang": False, "Refuse": False}
"""Whether each streams its responses."""


def _described() -> DescriptorPool:
    file = FileDescriptorProto(name="hello.proto", package="helloworld", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    text, number = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_INT32
    for name, fields in {"HelloRequest": {"name": text, "how_often": number}, "HelloReply": {"message": text}}.items():
        message = file.message_type.add(name=name)
        for place, (field_name, kind) in enumerate(fields.items(), start=1):
            message.field.add(name=field_name, number=place, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
    service = file.service.add(name="Greeter")
    for name, streams in METHODS.items():
        service.method.add(
            name=name,
            input_type=".helloworld.HelloRequest",
            output_type=".helloworld.HelloReply",
            server_streaming=streams,
        )
    service.method.add(
        name="Listen",
        input_type=".helloworld.HelloRequest",
        output_type=".helloworld.HelloReply",
        client_streaming=True,
    )
    from google.protobuf import timestamp_pb2  # type: ignore[import-untyped]  # noqa: PLC0415

    pool = DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL: Final = _described()
Request: Final[Any] = GetMessageClass(POOL.FindMessageTypeByName("helloworld.HelloRequest"))
Reply: Final[Any] = GetMessageClass(POOL.FindMessageTypeByName("helloworld.HelloReply"))


@dataclass(slots=True, kw_only=True)
class GrpcServer:
    """`metadata` are the entries of each call; `ended` is set when a call of `Hang` ends."""

    port: int = 0
    metadata: list[dict[str, Any]] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def answer(self, name: str, request: Any, call: Any) -> Any:
        self.metadata.append(dict(call.invocation_metadata()))
        if name == "Refuse":
            call.abort(grpc.StatusCode[request.name], "because of the test")
        if name == "Hang":
            call.add_callback(self.ended.set)
            self.begun.set()
            self.ended.wait(60)
        return Reply(message=f"Hello {request.name}")

    def stream(self, name: str, request: Any, call: Any) -> Iterator[Any]:
        if name == "Flood":
            while call.is_active():
                yield Reply(message="x" * 10_000)
        for number in range(request.how_often):
            yield Reply(message=f"Hello {request.name} {number}")


@contextmanager
def grpc_server(*, reflects: bool = True, tls: Path | None = None) -> Iterator[GrpcServer]:
    """A server until the end of the block. `tls` is a folder with `certificate.pem` and `key.pem`."""
    state, server = GrpcServer(), grpc.server(ThreadPoolExecutor(8))
    handlers = {}
    for name, streams in METHODS.items():
        make = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        do = state.stream if streams else state.answer
        handlers[name] = make(
            lambda request, call, do=do, name=name: do(name, request, call), Request.FromString, _text
        )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    if reflects:
        reflection.enable_server_reflection([SERVICE, reflection.SERVICE_NAME], server, POOL)
    if tls is None:
        state.port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = ((tls / "key.pem").read_bytes(), (tls / "certificate.pem").read_bytes())
        state.port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        yield state
    finally:
        state.ended.set()
        server.stop(None).wait(30)


def _text(reply: Any) -> bytes:
    text: bytes = reply.SerializeToString()
    return text
