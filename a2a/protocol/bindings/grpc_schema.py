"""A2A 1.0 as Protocol Buffers: the messages of `a2a.proto` that this server reads or writes, with
field numbers.

They are in a separate descriptor pool, so that another `lf.a2a.v1` can be loaded in the same
process. Messages convert to and from JSON by the JSON mapping of Protocol Buffers, which the other
bindings of A2A use, too.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

from google.protobuf import any_pb2, descriptor_pb2, duration_pb2, empty_pb2, json_format, struct_pb2, timestamp_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor_pool import DescriptorPool  # type: ignore[import-untyped]
from google.protobuf.message import Message  # type: ignore[import-untyped]
from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]

from tasks.rules.strict_json import Json

PACKAGE: Final = "lf.a2a.v1"
SERVICE: Final = f"{PACKAGE}.A2AService"
KNOWN: Final = (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2)

#: Message → its fields: "number name type", `*` after the type for many, `?` for one that knows whether it is set, `|x` for a member of
#: the oneof x, `map` for a map from text to the type.
MESSAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "SendMessageConfiguration": """
            1 accepted_output_modes string*; 2 task_push_notification_config TaskPushNotificationConfig;
            3 history_length int32?; 4 return_immediately bool""",
        "Task": "1 id string; 2 context_id string; 3 status TaskStatus; 4 artifacts Artifact*; 5 history Message*; 6 metadata Struct",
        "TaskStatus": "1 state TaskState; 2 message Message; 3 timestamp Timestamp",
        "Part": """
            1 text string|content; 2 raw bytes|content; 3 url string|content; 4 data Value|content; 5 metadata Struct;
            6 filename string; 7 media_type string""",
        "Message": """
            1 message_id string; 2 context_id string; 3 task_id string; 4 role Role; 5 parts Part*; 6 metadata Struct;
            7 extensions string*; 8 reference_task_ids string*""",
        "Artifact": """
            1 artifact_id string; 2 name string; 3 description string; 4 parts Part*; 5 metadata Struct; 6 extensions string*""",
        "TaskStatusUpdateEvent": "1 task_id string; 2 context_id string; 3 status TaskStatus; 4 metadata Struct",
        "TaskArtifactUpdateEvent": """
            1 task_id string; 2 context_id string; 3 artifact Artifact; 4 append bool; 5 last_chunk bool; 6 metadata Struct""",
        "AuthenticationInfo": "1 scheme string; 2 credentials string",
        "AgentInterface": "1 url string; 2 protocol_binding string; 3 tenant string; 4 protocol_version string",
        "AgentCard": """
            1 name string; 2 description string; 3 supported_interfaces AgentInterface*; 5 version string;
            7 capabilities AgentCapabilities; 8 security_schemes SecurityScheme map; 9 security_requirements SecurityRequirement*;
            10 default_input_modes string*; 11 default_output_modes string*; 12 skills AgentSkill*;
            13 signatures AgentCardSignature*""",
        "AgentCapabilities": """
            1 streaming bool?; 2 push_notifications bool?; 3 extensions AgentExtension*; 4 extended_agent_card bool?""",
        "AgentExtension": "1 uri string; 2 description string; 3 required bool; 4 params Struct",
        "AgentSkill": """
            1 id string; 2 name string; 3 description string; 4 tags string*; 5 examples string*; 6 input_modes string*;
            7 output_modes string*""",
        "AgentCardSignature": "1 protected string; 2 signature string; 3 header Struct",
        "TaskPushNotificationConfig": """
            1 tenant string; 2 id string; 3 task_id string; 4 url string; 5 token string; 6 authentication AuthenticationInfo""",
        "StringList": "1 list string*",
        "SecurityRequirement": "1 schemes StringList map",
        "SecurityScheme": "2 http_auth_security_scheme HTTPAuthSecurityScheme|scheme",
        "HTTPAuthSecurityScheme": "1 description string; 2 scheme string; 3 bearer_format string",
        "SendMessageRequest": "1 tenant string; 2 message Message; 3 configuration SendMessageConfiguration; 4 metadata Struct",
        "GetTaskRequest": "1 tenant string; 2 id string; 3 history_length int32?",
        "ListTasksRequest": """
            1 tenant string; 2 context_id string; 3 status TaskState; 4 page_size int32?; 5 page_token string;
            6 history_length int32?; 7 status_timestamp_after Timestamp; 8 include_artifacts bool?""",
        "ListTasksResponse": "1 tasks Task*; 2 next_page_token string; 3 page_size int32; 4 total_size int32",
        "CancelTaskRequest": "1 tenant string; 2 id string; 3 metadata Struct",
        "GetTaskPushNotificationConfigRequest": "1 tenant string; 2 task_id string; 3 id string",
        "DeleteTaskPushNotificationConfigRequest": "1 tenant string; 2 task_id string; 3 id string",
        "SubscribeToTaskRequest": "1 tenant string; 2 id string",
        "ListTaskPushNotificationConfigsRequest": "1 task_id string; 2 page_size int32; 3 page_token string; 4 tenant string",
        "GetExtendedAgentCardRequest": "1 tenant string",
        "SendMessageResponse": "1 task Task|payload; 2 message Message|payload",
        "StreamResponse": """
            1 task Task|payload; 2 message Message|payload; 3 status_update TaskStatusUpdateEvent|payload;
            4 artifact_update TaskArtifactUpdateEvent|payload""",
        "ListTaskPushNotificationConfigsResponse": "1 configs TaskPushNotificationConfig*; 2 next_page_token string",
    }
)
ENUMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "TaskState": "UNSPECIFIED SUBMITTED WORKING COMPLETED FAILED CANCELED INPUT_REQUIRED REJECTED AUTH_REQUIRED",
        "Role": "UNSPECIFIED USER AGENT",
    }
)
PREFIXES: Final[Mapping[str, str]] = MappingProxyType({"TaskState": "TASK_STATE_", "Role": "ROLE_"})
#: What an error consists of (google.rpc), under our own package.
ERRORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Status": "1 code int32; 2 message string; 3 details Any*",
        "ErrorInfo": "1 reason string; 2 domain string; 3 metadata string map",
        "FieldViolation": "1 field string; 2 description string",
        "BadRequest": "1 field_violations FieldViolation*",
        "RequestInfo": "1 request_id string; 2 serving_data string",
        "RetryInfo": "1 retry_delay Duration",
    }
)
WELL_KNOWN: Final = frozenset({"Any", "Duration", "Empty", "Struct", "Timestamp", "Value"})


def message(name: str, value: Json, *, package: str = PACKAGE) -> Message:
    """Convert JSON to a message. Raises json_format.ParseError."""
    made = class_of(name, package=package)()
    json_format.ParseDict(value, made, ignore_unknown_fields=True, descriptor_pool=_pool())
    return made


def to_json(value: Message) -> Json:
    found: Json = json_format.MessageToDict(value, descriptor_pool=_pool())
    return found


def class_of(name: str, *, package: str = PACKAGE) -> type[Message]:
    """Return the class of a message of this package, or of a well-known type such as `Empty`."""
    full_name = f"google.protobuf.{name}" if name in WELL_KNOWN else f"{package}.{name}"
    found: type[Message] = GetMessageClass(_pool().FindMessageTypeByName(full_name))
    return found


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for module in KNOWN:
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for package, messages, enums in ((PACKAGE, MESSAGES, ENUMS), ("google.rpc", ERRORS, {})):
        file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
        file.dependency.extend(module.DESCRIPTOR.name for module in KNOWN)
        for name, values in enums.items():
            enum = file.enum_type.add(name=name)
            for number, value in enumerate(values.split()):
                enum.value.add(name=f"{PREFIXES[name]}{value}", number=number)
        for name, fields in messages.items():
            _add_message(file, name, fields)
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _add_message(file: descriptor_pb2.FileDescriptorProto, name: str, fields: str) -> None:
    made = file.message_type.add(name=name)
    for text in fields.split(";"):
        number, field, kind, *is_map = text.split()
        kind, _, oneof = kind.partition("|")
        is_many = kind.endswith("*") or bool(is_map)
        row = made.field.add(name=field, number=int(number), label="LABEL_REPEATED" if is_many else "LABEL_OPTIONAL")
        row.proto3_optional = kind.endswith("?")
        if oneof:
            known = [each.name for each in made.oneof_decl]
            if oneof not in known:
                made.oneof_decl.add(name=oneof)
            row.oneof_index = known.index(oneof) if oneof in known else len(known)
        if is_map:
            entry = made.nested_type.add(name=f"{field.title().replace('_', '')}Entry")
            entry.options.map_entry = True
            _set_type(entry.field.add(name="key", number=1, label="LABEL_OPTIONAL"), "string", file.package)
            _set_type(entry.field.add(name="value", number=2, label="LABEL_OPTIONAL"), kind, file.package)
            row.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
            row.type_name = f".{file.package}.{name}.{entry.name}"
        else:
            _set_type(row, kind.rstrip("*?"), file.package)
    # Synthetic oneofs, for optional fields, must follow the real ones.
    for field_made in made.field:
        if field_made.proto3_optional:
            field_made.oneof_index = len(made.oneof_decl)
            made.oneof_decl.add(name=f"_{field_made.name}")


def _set_type(field: descriptor_pb2.FieldDescriptorProto, kind: str, package: str) -> None:
    if kind.islower() or kind == "int32":
        field.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
        return
    field.type = (
        descriptor_pb2.FieldDescriptorProto.TYPE_ENUM
        if kind in ENUMS
        else descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    )
    field.type_name = f".google.protobuf.{kind}" if kind in WELL_KNOWN else f".{package}.{kind}"
