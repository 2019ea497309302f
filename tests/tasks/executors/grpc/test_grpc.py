"""Calls of a real gRPC server on loopback, with and without reflection and TLS."""

import asyncio
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator
from pytest_django import Settings

from aipartnerupflow.executors import Context, ExecutorError
from tasks.executors.grpc.executor import Grpc
from tests import sections
from tests.certificates import write_certificate
from tests.grpc_server import SERVICE, GrpcServer, grpc_server
from tests.tasks.executors.conftest import count_around_begin

pytestmark = pytest.mark.usefixtures("allow_loopback")
Json = dict[str, Any]
CANARY: Final = "canary-secret"


@pytest.fixture(scope="module")
def peer() -> Iterator[GrpcServer]:
    with grpc_server() as server:
        yield server


async def call(peer: GrpcServer, method: str, context: Context, request: Json | None = None, **inputs: Any) -> Json:
    given: Json = {"server": f"127.0.0.1:{peer.port}", "service": SERVICE, "method": method, "tls": False, **inputs}
    given |= {} if request is None else {"request": request}
    Draft202012Validator(Grpc.input_schema).validate(given)
    result: Json = await Grpc().execute(given, context)
    Draft202012Validator(Grpc.result_schema).validate(result)
    return result


async def refusal(peer: GrpcServer, method: str, context: Context, *request: Json, **inputs: Any) -> ExecutorError:
    with pytest.raises(ExecutorError) as caught:
        await call(peer, method, context, *request, **inputs)
    assert CANARY not in str(caught.value)
    return caught.value


async def test_a_method_is_called_with_json(peer: GrpcServer, context: Context) -> None:
    given = {"authorization": f"Bearer {CANARY}"}
    result = await call(peer, "SayHello", context, {"name": "Ada"}, metadata=given)
    assert result == {"response": {"message": "Hello Ada"}}
    assert peer.metadata[-1]["authorization"] == f"Bearer {CANARY}"


async def test_the_beginning_is_stored_after_the_reflection_and_before_the_call(
    peer: GrpcServer, context: Context
) -> None:
    peer.metadata.clear()
    say = partial(call, peer, "SayHello")
    assert await count_around_begin(say, context, lambda: len(peer.metadata)) == (0, [0], 1)
    assert Grpc.begins_itself


async def test_a_stream_is_read_as_far_as_wanted(peer: GrpcServer, context: Context) -> None:
    result = await call(peer, "SayHellos", context, {"name": "Ada", "howOften": 3})
    assert [each["message"] for each in result["responses"]] == ["Hello Ada 0", "Hello Ada 1", "Hello Ada 2"]
    assert result["response"] == result["responses"][0]
    result = await call(peer, "SayHellos", context, {"how_often": 9}, max_messages=2)
    assert len(result["responses"]) == 2
    assert await call(peer, "SayHellos", context) == {"response": None, "responses": []}


async def test_a_server_that_sends_too_much_is_cut_off(peer: GrpcServer, context: Context, settings: Settings) -> None:
    limits = sections.replace(settings.APFLOW.limits, result_bytes=100_000)
    settings.APFLOW = sections.replace(settings.APFLOW, limits=limits)
    error = await refusal(peer, "Flood", context, max_messages=1_000)
    assert ("sent more than a result may have" in str(error), error.permanent) == (True, True)


@pytest.mark.parametrize(
    ("code", "is_permanent"),
    [("NOT_FOUND", True), ("PERMISSION_DENIED", True), ("UNAVAILABLE", False), ("RESOURCE_EXHAUSTED", False)],
)
async def test_the_status_decides_whether_another_attempt_helps(
    code: str, is_permanent: bool, peer: GrpcServer, context: Context
) -> None:
    error = await refusal(peer, "Refuse", context, {"name": code})
    assert str(error) == f"{SERVICE}/Refuse failed with {code}: because of the test"
    assert error.permanent is is_permanent


@pytest.mark.parametrize(
    ("method", "inputs", "says"),
    [
        ("SayHello", {"request": {"nmae": "Ada"}}, "inputs.request: is no HelloRequest"),
        ("SayHello", {"request": {"how_often": "often"}}, "inputs.request: is no HelloRequest"),
        ("SayGoodbye", {}, "has no method 'SayGoodbye'"),
        ("SayHello", {"service": "no.such.Service"}, "knows no service 'no.such.Service'"),
        ("Listen", {}, "takes a stream of requests"),
        ("SayHello", {"server": "169.254.169.254:443"}, "is not public"),
        ("SayHello", {"server": "2130706433"}, "is refused"),
        ("SayHello", {"server": "unix:/run/docker.sock"}, "is refused"),
        ("SayHello", {"server": "dns:///example.com"}, "is refused"),
        ("SayHello", {"metadata": {"grpc-timeout": "1S"}}, "inputs.metadata.grpc-timeout"),
        ("SayHello", {"metadata": {"x": "a\nb"}}, "inputs.metadata.x"),
        ("SayHello", {"metadata": {"X-Upper": "a"}}, "inputs.metadata.X-Upper"),
    ],
)
async def test_what_cannot_be_called_is_refused(
    method: str, inputs: Json, says: str, peer: GrpcServer, context: Context
) -> None:
    error = await refusal(peer, method, context, **inputs)
    assert says in str(error)
    assert error.permanent


async def test_a_server_without_reflection_is_refused(context: Context) -> None:
    with grpc_server(reflects=False) as silent:
        error = await refusal(silent, "SayHello", context)
    assert ("offers no reflection" in str(error), error.permanent) == (True, True)


async def test_a_call_ends_at_its_timeout(peer: GrpcServer, context: Context) -> None:
    assert "no complete response within 0.5 s" in str(await refusal(peer, "Hang", context, timeout_seconds=0.5))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = GrpcServer(port=silent.getsockname()[1])
        error = await refusal(mute, "SayHello", context, timeout=0.5)
    assert not error.permanent


async def test_cancelling_ends_the_call(context: Context) -> None:
    with grpc_server() as peer:
        task = asyncio.create_task(call(peer, "Hang", context, timeout_seconds=300))
        assert await asyncio.to_thread(peer.begun.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(peer.ended.wait, 20)


async def test_tls_checks_the_name(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.APFLOW_ALLOW_PRIVATE = ("localhost", "127.0.0.0/8", "::1")
    write_certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    with grpc_server(tls=tmp_path) as peer:
        right = {"server": f"localhost:{peer.port}", "tls": True}
        assert (await call(peer, "SayHello", context, {"name": "Ada"}, **right))["response"] == {"message": "Hello Ada"}
        error = await refusal(peer, "SayHello", context, tls=True, metadata={"authorization": CANARY})
    assert "failed with UNAVAILABLE" in str(error)
    assert len(peer.metadata) == 1
