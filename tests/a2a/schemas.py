"""The objects of A2A as JSON Schemas: what must be there, and that nothing else is."""

from typing import Any

from jsonschema import Draft202012Validator

Json = dict[str, Any]

TEXT: Json = {"type": "string", "minLength": 1}
FREE: Json = {"type": "object"}
TIME: Json = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
STATES = [
    f"TASK_STATE_{name}"
    for name in ("SUBMITTED WORKING COMPLETED FAILED CANCELED INPUT_REQUIRED REJECTED AUTH_REQUIRED").split()
]


def closed(required: str, /, **properties: Any) -> Json:
    """An object with these properties and no other."""
    return {"type": "object", "properties": properties, "required": required.split(), "additionalProperties": False}


def listed(name: str, *, least: int = 0) -> Json:
    return {"type": "array", "items": {"$ref": f"#/$defs/{name}"}, "minItems": least}


def ref(name: str) -> Json:
    return {"$ref": f"#/$defs/{name}"}


COMMON: Json = {"filename": TEXT, "mediaType": TEXT, "metadata": FREE}
DEFINITIONS: Json = {
    "Part": {
        "oneOf": [
            closed("text", text={"type": "string"}, **COMMON),
            closed("raw", raw={"type": "string", "contentEncoding": "base64"}, **COMMON),
            closed("url", url=TEXT, **COMMON),
            closed("data", data={}, **COMMON),
        ]
    },
    "Message": closed(
        "messageId role parts",
        messageId=TEXT,
        role={"enum": ["ROLE_USER", "ROLE_AGENT"]},
        parts=listed("Part", least=1),
        contextId=TEXT,
        taskId=TEXT,
        metadata=FREE,
        extensions={"type": "array", "items": TEXT},
        referenceTaskIds={"type": "array", "items": TEXT},
    ),
    "Artifact": closed(
        "artifactId parts",
        artifactId=TEXT,
        name={"type": "string"},
        description={"type": "string"},
        parts=listed("Part", least=1),
        metadata=FREE,
        extensions={"type": "array", "items": TEXT},
    ),
    "TaskStatus": closed("state", state={"enum": STATES}, timestamp=TIME, message=ref("Message")),
    "Task": closed(
        "id status",
        id=TEXT,
        contextId=TEXT,
        status=ref("TaskStatus"),
        artifacts=listed("Artifact"),
        history=listed("Message"),
        metadata=FREE,
    ),
    "StatusUpdate": closed(
        "taskId contextId status", taskId=TEXT, contextId=TEXT, status=ref("TaskStatus"), metadata=FREE
    ),
    "ArtifactUpdate": closed(
        "taskId contextId artifact",
        taskId=TEXT,
        contextId=TEXT,
        artifact=ref("Artifact"),
        append={"type": "boolean"},
        lastChunk={"type": "boolean"},
        metadata=FREE,
    ),
    "StreamResponse": {
        "oneOf": [
            closed("task", task=ref("Task")),
            closed("message", message=ref("Message")),
            closed("statusUpdate", statusUpdate=ref("StatusUpdate")),
            closed("artifactUpdate", artifactUpdate=ref("ArtifactUpdate")),
        ]
    },
    "SendMessageResponse": {
        "oneOf": [closed("task", task=ref("Task")), closed("message", message=ref("Message"))],
    },
    "ListTasksResponse": closed(
        "tasks nextPageToken pageSize totalSize",
        tasks=listed("Task"),
        nextPageToken={"type": "string"},
        pageSize={"type": "integer"},
        totalSize={"type": "integer"},
    ),
    "PushConfig": closed(
        "taskId id url",
        taskId=TEXT,
        id=TEXT,
        url=TEXT,
        token=TEXT,
        authentication=closed("scheme", scheme=TEXT, credentials=TEXT),
    ),
    "AgentCard": closed(
        "name description version supportedInterfaces capabilities defaultInputModes defaultOutputModes skills",
        name=TEXT,
        description=TEXT,
        version=TEXT,
        supportedInterfaces=listed("Interface", least=1),
        capabilities=closed(
            "",
            streaming={"type": "boolean"},
            pushNotifications={"type": "boolean"},
            extendedAgentCard={"type": "boolean"},
            extensions=listed("Extension"),
        ),
        defaultInputModes={"type": "array", "items": TEXT, "minItems": 1},
        defaultOutputModes={"type": "array", "items": TEXT, "minItems": 1},
        skills=listed("Skill", least=1),
        provider=closed("organization url", organization=TEXT, url=TEXT),
        documentationUrl=TEXT,
        iconUrl=TEXT,
        securitySchemes={"type": "object", "additionalProperties": ref("SecurityScheme")},
        securityRequirements={"type": "array", "items": closed("schemes", schemes=FREE)},
        signatures={"type": "array", "items": closed("protected signature", protected=TEXT, signature=TEXT)},
    ),
    "Interface": closed(
        "url protocolBinding protocolVersion",
        url={"type": "string", "format": "uri"},
        protocolBinding={"enum": ["JSONRPC", "GRPC", "HTTP+JSON"]},
        protocolVersion={"type": "string", "pattern": r"^\d+\.\d+$"},
        tenant=TEXT,
    ),
    "Extension": closed("uri", uri=TEXT, description=TEXT, required={"type": "boolean"}, params=FREE),
    "Skill": closed(
        "id name description tags",
        id=TEXT,
        name=TEXT,
        description=TEXT,
        tags={"type": "array", "items": TEXT, "minItems": 1},
        examples={"type": "array", "items": TEXT},
        inputModes={"type": "array", "items": TEXT, "minItems": 1},
        outputModes={"type": "array", "items": TEXT, "minItems": 1},
    ),
    "SecurityScheme": closed(
        "httpAuthSecurityScheme", httpAuthSecurityScheme=closed("scheme", scheme=TEXT, bearerFormat=TEXT)
    ),
}


def check(value: Any, name: str) -> None:
    """Raises AssertionError unless the value is such an object of A2A 1.0."""
    validator = Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": DEFINITIONS})
    found = [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]
    assert not found, (found, value)
