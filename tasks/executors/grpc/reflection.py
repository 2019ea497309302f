"""Ask a gRPC server what a service looks like (gRPC Server Reflection v1, or v1alpha, whose messages are the same)."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc  # type: ignore[import-untyped]
from google.protobuf.descriptor_pb2 import FileDescriptorProto  # type: ignore[import-untyped]
from google.protobuf.descriptor_pool import DescriptorPool  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]

from aipartnerupflow.executors import ExecutorError

VERSIONS: Final = ("v1", "v1alpha")
MOST_FILES: Final = 500
MOST_BYTES: Final = 4 * 2**20
"""The greatest size of all descriptions of a service."""


def pool_for(channel: Any, service: str, *, left: Callable[[], float]) -> DescriptorPool:
    """Return the descriptions of the service and of all that it uses. `left` returns the seconds left.

    Raises ExecutorError, and grpc.RpcError.
    """
    for version in VERSIONS:
        try:
            return _filled(_files(channel, service, version=version, left=left))
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise
    raise ExecutorError(
        "The server offers no reflection (grpc.reflection.v1 or v1alpha), without which requests cannot be encoded. "
        "Enable it there.",
        permanent=True,
    )


def _files(channel: Any, service: str, *, version: str, left: Callable[[], float]) -> dict[str, FileDescriptorProto]:
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    files: dict[str, FileDescriptorProto] = {}
    size, request = 0, reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)
    while True:
        response = next(call(iter([request]), timeout=left()), None)
        if response is None or not response.HasField("file_descriptor_response"):
            raise ExecutorError(f"The server knows no service '{service}'. Check `service`.", permanent=True)
        for text in response.file_descriptor_response.file_descriptor_proto:
            size += len(text)
            file = FileDescriptorProto.FromString(text)
            files[file.name] = file
        if size > MOST_BYTES or len(files) > MOST_FILES:
            raise ExecutorError("The server's description of itself is longer than allowed.", permanent=True)
        missing = next((name for file in files.values() for name in file.dependency if name not in files), None)
        if missing is None:
            return files
        request = reflection_pb2.ServerReflectionRequest(file_by_filename=missing)


def _filled(files: dict[str, FileDescriptorProto]) -> DescriptorPool:
    pool = DescriptorPool()
    try:
        for file in _in_order(files):
            pool.AddSerializedFile(file.SerializeToString())
    except (TypeError, DecodeError):
        raise ExecutorError("The server's description of itself is not valid.", permanent=True) from None
    return pool


def _in_order(files: dict[str, FileDescriptorProto]) -> Iterator[FileDescriptorProto]:
    """Yield each file after those that it depends on. Raises TypeError for a circle."""
    waiting, known = dict(files), set[str]()
    while waiting:
        ready = [name for name, file in waiting.items() if known.issuperset(file.dependency)]
        if not ready:
            raise TypeError
        for name in ready:
            known.add(name)
            yield waiting.pop(name)
