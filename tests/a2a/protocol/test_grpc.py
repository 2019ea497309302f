"""A2A 1.0, gRPC: the service, its errors, and the same answers as over the other bindings."""

import datetime
import uuid
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.protobuf.descriptor_pool import DescriptorPool  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # type: ignore[import-untyped]
    ProtoReflectionDescriptorDatabase,
)

from a2a.core.errors import ERRORS as CODES
from a2a.core.errors import kind_of
from a2a.protocol.agent_card import build_card
from a2a.protocol.bindings.grpc_schema import MESSAGES, SERVICE, class_of, message, to_json
from a2a.protocol.bindings.grpc_server import DETAILS, METHODS
from a2a.protocol.operations import OPERATIONS
from tests.a2a.a2a_client import BRIEF, ECHO, SETTINGS, SLOW, Agent, Json, agent_of, data, gated, states_of, token_of
from tests.a2a.endpoints.test_ws_auth import ENV, NEARLY_EXPIRED
from tests.a2a.endpoints.test_ws_auth import token as ws_token
from tests.a2a.protocol.test_bindings import ERRORS
from tests.ports import free_port
from tests.servers import Server, new_database, running_server, until

pytestmark = pytest.mark.both_engines_nightly


class Stub:
    """A client of the service, in JSON."""

    def __init__(self, channel: grpc.Channel, **metadata: str) -> None:
        self._channel = channel
        self._metadata = tuple(metadata.items())

    def call(self, name: str, params: Json) -> Json:
        return to_json(class_of(METHODS[name][1]).FromString(self.received(name, params)))

    def received(self, name: str, params: Json) -> bytes:
        """The response as it is sent."""
        stub = self._channel.unary_unary(f"/{SERVICE}/{name}", _bytes_of)
        found: bytes = stub(message(METHODS[name][0], params), metadata=self._metadata, timeout=120)
        return found

    def stream(self, name: str, params: Json, *, gate: Path | None = None) -> list[Json]:
        """All results; the gate is opened after the first."""
        results = []
        for each in self.follow(name, params):
            results.append(each)
            if gate:
                gate.touch()
        return results

    def follow(self, name: str, params: Json) -> Iterator[Json]:
        """The results as they come."""
        request, response = METHODS[name]
        stub = self._channel.unary_stream(
            f"/{SERVICE}/{name}",
            _bytes_of,
            class_of(response).FromString,
        )
        return map(to_json, stub(message(request, params), metadata=self._metadata, timeout=120))

    def refused(self, name: str, params: Json) -> tuple[grpc.StatusCode, Json]:
        """The status and its details."""
        call: Any = self.stream if OPERATIONS[name].streams else self.call
        with pytest.raises(grpc.RpcError) as caught:
            call(name, params)
        error: Any = caught.value
        details = dict(error.trailing_metadata())[DETAILS]
        return error.code(), to_json(class_of("Status", package="google.rpc").FromString(details))


def _bytes_of(value: Any) -> bytes:
    made: bytes = value.SerializeToString()
    return made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the key and the certificate of this machine."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "certificate.pem").write_bytes(made.public_bytes(Encoding.PEM))
    return folder


@pytest.fixture(scope="module")
def agent(certificate: Path) -> Iterator[tuple[Agent, grpc.Channel, Server]]:
    """The same agent over JSON-RPC and over gRPC with TLS."""
    port = free_port()
    env = SETTINGS | {
        "AIPARTNERUPFLOW_A2A_GRPC_CERTIFICATE": str(certificate / "certificate.pem"),
        "AIPARTNERUPFLOW_A2A_GRPC_KEY": str(certificate / "key.pem"),
    }
    trusted = grpc.ssl_channel_credentials((certificate / "certificate.pem").read_bytes())
    with (
        new_database() as database,
        running_server(database, "--grpc-port", str(port), env=env) as server,
        grpc.secure_channel(f"127.0.0.1:{port}", trusted) as channel,
    ):
        yield agent_of(server.http, "alice"), channel, server


@pytest.fixture
def alice(agent: tuple[Agent, grpc.Channel, Server]) -> Agent:
    return agent[0]


@pytest.fixture
def stub(agent: tuple[Agent, grpc.Channel, Server]) -> Stub:
    return Stub(agent[1], authorization=f"Bearer {token_of('alice')}")


@pytest.mark.requirement("GRPC-SVC-001", "GRPC-SVC-002", "BIND-EQUIV-001")
def test_the_service_has_every_operation_by_its_name() -> None:
    assert SERVICE == "lf.a2a.v1.A2AService"
    assert METHODS.keys() == OPERATIONS.keys()
    assert {name for pair in METHODS.values() for name in pair} <= {*MESSAGES, "Empty"}


def test_a_probe_sees_that_the_service_serves(agent: tuple[Agent, grpc.Channel, Server]) -> None:
    probe = health_pb2_grpc.HealthStub(agent[1])
    for service in ("", SERVICE):
        answer = probe.Check(health_pb2.HealthCheckRequest(service=service), timeout=120)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        probe.Check(health_pb2.HealthCheckRequest(service="nothing"), timeout=120)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.NOT_FOUND
    watched = probe.Watch(health_pb2.HealthCheckRequest(), timeout=120)
    assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
    watched.cancel()


def test_a_client_without_the_schema_finds_it_by_reflection(agent: tuple[Agent, grpc.Channel, Server]) -> None:
    reflected = ProtoReflectionDescriptorDatabase(agent[1])
    assert {SERVICE, "grpc.health.v1.Health"} <= set(reflected.get_services())
    service = DescriptorPool(reflected).FindServiceByName(SERVICE)
    assert {method.name: (method.input_type.name, method.output_type.name) for method in service.methods} == METHODS
    assert {method.name for method in service.methods if method.server_streaming} == {
        name for name, operation in OPERATIONS.items() if operation.streams
    }
    assert service.methods_by_name["GetTask"].output_type.fields_by_name["status"].message_type.name == "TaskStatus"


def test_a_reply_that_the_client_refuses_leaves_no_traceback(
    agent: tuple[Agent, grpc.Channel, Server], stub: Stub
) -> None:
    """A client takes 4 MiB unless it says otherwise. What it refuses, it cancels."""
    large = {"message": data({"skill": "echo_executor", "inputs": {"text": "x" * 4_300_000}})}
    for refused in (partial(stub.call, "SendMessage"), partial(stub.stream, "SendStreamingMessage")):
        with pytest.raises(grpc.RpcError) as caught:
            refused(large)
        error: Any = caught.value
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.call("ListTasks", {"pageSize": 1})["tasks"]
    found = agent[2].log.read_text()
    assert "Traceback" not in found, found[-6000:]


def test_two_authorizations_are_none(agent: tuple[Agent, grpc.Channel, Server]) -> None:
    request, response = METHODS["ListTasks"]
    call = agent[1].unary_unary(f"/{SERVICE}/ListTasks", _bytes_of, class_of(response).FromString)
    tokens = [token_of(name) for name in ("alice", "bob")]
    for first, second in (tokens, tokens[::-1], tokens[:1] * 2):
        metadata = [("authorization", f"Bearer {token}") for token in (first, second)]
        with pytest.raises(grpc.RpcError) as caught:
            call(message(request, {}), metadata=metadata, timeout=120)
        error: Any = caught.value
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.requirement("GRPC-SVC-003", "BIND-EQUIV-002")
def test_a_task_goes_its_way_over_grpc_with_tls(alice: Agent, stub: Stub) -> None:
    task = stub.call("SendMessage", {"message": data(ECHO)})["task"]
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert task == stub.call("GetTask", {"id": task["id"]}) == alice.get(task["id"])
    listed = stub.call("ListTasks", {"contextId": task["contextId"], "includeArtifacts": True, "historyLength": 9})
    assert (listed["tasks"], listed["totalSize"]) == ([task], 1)
    working = stub.call("SendMessage", {"message": data(SLOW), "configuration": {"returnImmediately": True}})["task"]
    assert stub.call("CancelTask", {"id": working["id"]})["status"]["state"] == "TASK_STATE_CANCELED"


@pytest.mark.requirement("GRPC-ERR-003")
def test_streams_over_grpc_are_stream_responses(alice: Agent, stub: Stub, gate: Path) -> None:
    results = stub.stream("SendStreamingMessage", {"message": data(BRIEF)})
    assert "task" in results[0]
    assert states_of(results)[-1] == "COMPLETED"
    task_id = alice.start(data(gated(gate)))["id"]
    again = stub.stream("SubscribeToTask", {"id": task_id}, gate=gate)
    assert (again[0]["task"]["id"], states_of(again)[-1]) == (task_id, "COMPLETED")


def test_a_subscription_over_grpc_continues_after_an_update(
    alice: Agent, agent: tuple[Agent, grpc.Channel, Server], stub: Stub
) -> None:
    streamed = stub.stream("SendStreamingMessage", {"message": data(ECHO)})
    task_id = streamed[0]["task"]["id"]
    metadata = {"authorization": alice.headers["Authorization"]}
    assert Stub(agent[1], after="0", **metadata).stream("SubscribeToTask", {"id": task_id})[1:] == streamed[1:]
    assert len(Stub(agent[1], after="2", **metadata).stream("SubscribeToTask", {"id": task_id})) < len(streamed)
    for after in ("99", "x"):
        code, _ = Stub(agent[1], after=after, **metadata).refused("SubscribeToTask", {"id": task_id})
        assert code == grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_over_grpc_is_safe_to_repeat(alice: Agent, agent: tuple[Agent, grpc.Channel, Server]) -> None:
    metadata = {"authorization": alice.headers["Authorization"], "idempotency-key": str(uuid.uuid4())}
    params = {"message": data(ECHO)}
    first, second = (Stub(agent[1], **metadata).call("SendMessage", params)["task"]["id"] for _ in range(2))
    assert first == second


def test_push_configs_and_the_extended_card_over_grpc(alice: Agent, stub: Stub) -> None:
    task_id = alice.asking()["id"]
    made = stub.call(
        "CreateTaskPushNotificationConfig", {"taskId": task_id, "url": "https://example.com/", "id": "mine"}
    )
    named = {"taskId": task_id, "id": "mine"}
    assert stub.call("GetTaskPushNotificationConfig", named) == made
    assert stub.call("ListTaskPushNotificationConfigs", {"taskId": task_id})["configs"] == [made]
    assert [stub.call("DeleteTaskPushNotificationConfig", named) for _ in range(2)] == [{}, {}]
    card = stub.call("GetExtendedAgentCard", {})
    assert card["name"] == "aipartnerupflow"
    assert card["securitySchemes"]["bearer"]["httpAuthSecurityScheme"]["scheme"] == "Bearer"
    assert [each["protocolBinding"] for each in card["supportedInterfaces"]] == ["JSONRPC", "HTTP+JSON", "GRPC"]


@pytest.mark.requirement("GRPC-META-001")
@pytest.mark.parametrize("version", ["99.0", "0.3"])
def test_what_belongs_to_the_service_stands_in_metadata(
    agent: tuple[Agent, grpc.Channel, Server], version: str
) -> None:
    metadata = {"authorization": f"Bearer {token_of('alice')}", "a2a-version": version}
    code, status = Stub(agent[1], **metadata).refused("ListTasks", {})
    assert (code, status["details"][0]["reason"]) == (grpc.StatusCode.UNIMPLEMENTED, "VERSION_NOT_SUPPORTED")
    assert Stub(agent[1], **metadata | {"a2a-version": "1.0"}).call("ListTasks", {})["pageSize"] == 50


@pytest.mark.requirement("GRPC-ERR-001")
def test_an_error_over_grpc_has_its_details(alice: Agent, stub: Stub) -> None:
    over = alice.send(data(ECHO))["id"]
    for name, params, code, reason in [
        ("GetTask", {"id": "nowhere"}, grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND"),
        ("CancelTask", {"id": over}, grpc.StatusCode.FAILED_PRECONDITION, "TASK_NOT_CANCELABLE"),
        ("SubscribeToTask", {"id": over}, grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED_OPERATION"),
    ]:
        answered, status = stub.refused(name, params)
        assert answered == code
        (info,) = status["details"]
        assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
        assert (info["reason"], info["domain"]) == (reason, "a2a-protocol.org")
    code, status = stub.refused("SendMessage", {"message": {"messageId": "m"}})
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert status["details"][0]["reason"] == "INVALID_PARAMS"
    assert status["details"][1]["fieldViolations"]


def nested(levels: int) -> Json:
    value: Json = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def test_what_no_other_interface_accepts_is_refused_over_grpc_too(stub: Stub) -> None:
    named = {"skill": "echo_executor", "tasks": [{"id": "grpc\0nul", "name": "echo_executor"}]}
    for message_ in (
        data({"tasks": named["tasks"]}),
        data(ECHO) | {"messageId": "m\0"},
        data(ECHO) | {"contextId": "c\0"},
        data({"skill": "echo_executor", "inputs": {"a\0": 1}}),
    ):
        code, status = stub.refused("SendMessage", {"message": message_})
        assert code == grpc.StatusCode.INVALID_ARGUMENT, (message_, status)
    for name, params in (
        ("GetTask", {"id": "\0"}),
        ("ListTasks", {"contextId": "\0"}),
        ("SubscribeToTask", {"id": "\0"}),
    ):
        assert stub.refused(name, params)[0] == grpc.StatusCode.INVALID_ARGUMENT
    deep = data({"skill": "echo_executor", "inputs": nested(20)})
    assert stub.call("SendMessage", {"message": deep})["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    large = data({"skill": "echo_executor", "inputs": {"say": "x" * 100_000}})
    assert stub.call("SendMessage", {"message": large})["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


def test_bytes_that_are_no_message_a_nan_and_deep_objects_are_refused(
    stub: Stub, agent: tuple[Agent, grpc.Channel, Server]
) -> None:
    nan = class_of("SendMessageRequest")()
    nan.message.parts.add().data.number_value = float("nan")
    deep = class_of("SendMessageRequest")()
    value = deep.message.parts.add().data
    for _ in range(60):
        value = value.struct_value.fields["a"]
    value.bool_value = True
    method = agent[1].unary_unary(f"/{SERVICE}/SendMessage", lambda value: value, lambda value: value)
    for body in (b"\xff\xff\xff", nan.SerializeToString(), deep.SerializeToString()):
        with pytest.raises(grpc.RpcError) as refused:
            method(body, metadata=stub._metadata, timeout=120)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_an_api_key_may_be_in_its_own_header_over_grpc(agent: tuple[Agent, grpc.Channel, Server]) -> None:
    assert Stub(agent[1], **{"x-api-key": token_of("alice")}).call("ListTasks", {})["pageSize"] == 50


@pytest.mark.requirement("GRPC-ERR-002", "BIND-EQUIV-003")
@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("TaskNotFound", "NOT_FOUND"),
        ("TaskNotCancelable", "FAILED_PRECONDITION"),
        ("PushNotificationNotSupported", "UNIMPLEMENTED"),
        ("UnsupportedOperation", "UNIMPLEMENTED"),
        ("ContentTypeNotSupported", "INVALID_ARGUMENT"),
        ("ExtendedCardNotConfigured", "FAILED_PRECONDITION"),
        ("ExtensionSupportRequired", "FAILED_PRECONDITION"),
        ("VersionNotSupported", "UNIMPLEMENTED"),
    ],
)
def test_every_error_has_its_status(name: str, status: str) -> None:
    error, *_ = ERRORS[name]
    assert kind_of(error).status == status
    assert all(hasattr(grpc.StatusCode, codes.a2a.status) for codes in CODES.values())


@pytest.mark.requirement("BIND-EQUIV-004")
@pytest.mark.parametrize("metadata", [{}, {"authorization": "Bearer nonsense"}, {"authorization": "Basic YTpi"}])
@pytest.mark.parametrize("name", ["ListTasks", "SendStreamingMessage"])
def test_whoever_does_not_say_who_they_are_gets_nothing_over_grpc(
    agent: tuple[Agent, grpc.Channel, Server], name: str, metadata: dict[str, str]
) -> None:
    assert Stub(agent[1], **metadata).refused(name, {})[0] == grpc.StatusCode.UNAUTHENTICATED


def test_the_task_of_another_is_not_there_over_grpc(alice: Agent, agent: tuple[Agent, grpc.Channel, Server]) -> None:
    theirs = alice.send(data(ECHO))["id"]
    bob = Stub(agent[1], authorization=f"Bearer {token_of('bob')}")
    assert bob.refused("GetTask", {"id": theirs})[0] == grpc.StatusCode.NOT_FOUND
    assert "tasks" not in bob.call("ListTasks", {})  # an empty list is left out


@pytest.mark.requirement("CARD-PROTO-002", "BIND-FIELD-001")
def test_the_card_names_grpc_where_it_is_spoken_and_nowhere_else(alice: Agent) -> None:
    card = alice.http.get("/.well-known/agent-card.json").json()
    (place,) = [each["url"] for each in card["supportedInterfaces"] if each["protocolBinding"] == "GRPC"]
    host, _, port = place.partition(":")
    assert (host, port.isdigit()) == ("127.0.0.1", True)
    assert "GRPC" not in [
        each["protocolBinding"] for each in build_card(url="https://a.example/")["supportedInterfaces"]
    ]


def test_a_message_of_any_kind_goes_through_the_schema_and_back() -> None:
    given = {
        "message": {
            "messageId": "m",
            "role": "ROLE_USER",
            "parts": [{"text": "a"}, {"raw": "aGk="}, {"url": "https://a/"}, {"data": {"a": [None, True, "b"]}}],
            "metadata": {"b": {"c": []}},
        }
    }
    assert to_json(message("StreamResponse", given)) == given


@pytest.fixture(scope="module")
def full() -> Iterator[tuple[Server, grpc.Channel]]:
    """A server that holds one stream of each user, and often looks whose it is."""
    port = free_port()
    env = ENV | {"AIPARTNERUPFLOW_LIMITS_STREAMS_PER_USER": "1"}
    with (
        new_database() as database,
        running_server(database, "--grpc-port", str(port), env=env) as server,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield server, channel


def opened(channel: grpc.Channel, user: str, **claims: Any) -> Any:
    """A stream of a task that waits for an answer, after its first update: nothing more will come."""
    asking = {"skill": "approval_executor", "inputs": {"question": "Really?"}}
    stub = Stub(channel, authorization=f"Bearer {ws_token(user)}")
    task = stub.call("SendMessage", {"message": data(asking)})["task"]
    subscribe = channel.unary_stream(f"/{SERVICE}/SubscribeToTask", _bytes_of, class_of("StreamResponse").FromString)
    metadata = {"authorization": f"Bearer {ws_token(user, **claims)}"}
    stream = subscribe(message("SubscribeToTaskRequest", {"id": task["id"]}), metadata=metadata.items(), timeout=120)
    assert to_json(next(stream))["task"]["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    return stream


def test_a_stream_of_grpc_ends_with_its_token_even_in_a_silence(full: tuple[Server, grpc.Channel]) -> None:
    stream = opened(full[1], "dora", seconds=NEARLY_EXPIRED)
    with pytest.raises(grpc.RpcError) as ended:
        list(stream)
    assert ended.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_stream_of_grpc_counts_and_one_too_many_is_refused_before_its_message_is_taken(
    full: tuple[Server, grpc.Channel],
) -> None:
    server, channel = full
    metadata = {"authorization": f"Bearer {ws_token('erin')}"}
    stream = opened(channel, "erin")
    task_id = Stub(channel, **metadata).call("ListTasks", {})["tasks"][0]["id"]
    for name, params in [("SendStreamingMessage", {"message": data(ECHO)}), ("SubscribeToTask", {"id": task_id})]:
        assert Stub(channel, **metadata).refused(name, params)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(server.query("SELECT id FROM tasks_run WHERE user_id = 'erin'")) == 1
    stream.cancel()
    until(lambda: _is_let_in(channel, metadata), seconds=60, what="the place of the stream that was left")


def _is_let_in(channel: grpc.Channel, metadata: dict[str, str]) -> bool:
    try:
        return bool(Stub(channel, **metadata).stream("SendStreamingMessage", {"message": data(ECHO)}))
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        return False
