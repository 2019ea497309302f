"""Sends an e-mail through the operator's mail server."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Final

from aipartnerupflow.executors import Context, Executor, ExecutorError, Files, Json
from tasks.executors.email.mail import DOMAIN, Attachment, Mail, NotSent, send, why_no_address, why_refused
from tasks.executors.placement import chosen_pool
from tasks.rules.files import FILE_SCHEMA
from tasks.rules.places import places_in
from tasks.rules.pools import LOOP

NAMES: Final = uuid.UUID("0d6f7d9e-5a4c-5b2b-9f57-4f7a5a2f8a11")
"""The namespace of our message ids."""
MOST_RECIPIENTS: Final = 50
MOST_ATTACHMENTS: Final = 20
MOST_BYTES: Final = 10 * 2**20
"""The bytes of all attachments: in base64 they are a third more, and most mail servers take 20 to 25 MB."""
OF_THE_OPERATOR: Final = frozenset(
    {"provider", "from_email", "api_key", "smtp_host", "smtp_port", "smtp_username", "smtp_password", "smtp_use_tls"}
)
ADDRESSES: Json = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": 320},
        {"type": "array", "items": {"type": "string", "maxLength": 320}, "maxItems": MOST_RECIPIENTS},
    ]
}


class SendEmail(Executor):
    """Sends one mail. It is sent again neither after a crash nor if some of its addresses were refused."""

    id = "send_email_executor"
    name = "E-mail"
    description = (
        "Sends an e-mail through the operator's mail server, to addresses that the operator allows. "
        "Text, HTML or both. All attempts at a task send the same Message-ID."
    )
    tags = ("core", "email")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "to": {**ADDRESSES, "description": "An address, or a list of them. The operator allows them (email.allow)"},
            "subject": {
                "type": "string",
                "minLength": 1,
                "maxLength": 998,
                "description": "Without line breaks and encoded words",
            },
            "body": {"type": "string", "description": "The mail as plain text"},
            "html": {"type": "string", "description": "The mail as HTML, instead of or besides `body`"},
            "cc": {**ADDRESSES, "description": "Addresses that all recipients see"},
            "bcc": {**ADDRESSES, "description": "Addresses that the other recipients do not see"},
            "reply_to": {"type": "string", "minLength": 1, "maxLength": 320, "description": "An address for answers"},
            "attachments": {
                "type": "array",
                "items": FILE_SCHEMA,
                "maxItems": MOST_ATTACHMENTS,
                "description": "Files that are attached, in this order: together at most 10 MiB",
            },
        },
        "required": ["to", "subject"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "message_id": {"type": "string", "description": "With its angle brackets"},
            "recipients": {"type": "integer", "description": "The number of addresses that the mail server took"},
        },
        "required": ["message_id", "recipients"],
    }
    secret_inputs = frozenset()
    param_names = frozenset()
    example: ClassVar[Json] = {"to": "ops@example.com", "subject": "The report", "body": "It is ready."}
    example_result: ClassVar[Json] = {"message_id": "<3c1d7f0e@aipartnerupflow>", "recipients": 1}
    idempotent = False
    begins_itself = True
    cancelable = False

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        if (pool := chosen_pool(self.id, params) or LOOP) != LOOP:
            raise ExecutorError(f"Mails are sent in the pool '{LOOP}', and the task runs in '{pool}'.", permanent=True)
        for name in sorted(OF_THE_OPERATOR & inputs.keys()):
            raise _refused(name, "is set by the operator (email in the settings). Remove it")
        for name, address in _addresses(inputs):
            if next(places_in(address, name), None) is None and (why := _why_not(name, address)):
                raise _refused(name, why)

    async def execute(self, inputs: Json, context: Context) -> Json:
        mail = _mail(inputs, context)
        if inputs.get("attachments"):
            mail = replace(mail, attachments=await _attachments(inputs["attachments"], context.files))
        try:
            message_id = await send(mail, user_id=context.user_id, begin=context.begin)
        except NotSent as error:
            raise ExecutorError(str(error), permanent=error.permanent) from None
        return {"message_id": message_id, "recipients": len(mail.recipients)}


def _mail(inputs: Json, context: Context) -> Mail:
    """Raise ExecutorError for an address that is refused, too many of them, or nothing to send."""
    for name, address in _addresses(inputs):
        if why := _why_not(name, address):
            raise _refused(name, why)
    if "body" not in inputs and "html" not in inputs:
        raise _refused("body", "is required, or html")
    unique = uuid.uuid5(NAMES, f"{context.run_id}/{context.task_id}")
    mail = Mail(
        subject=inputs["subject"],
        text=inputs.get("body"),
        html=inputs.get("html"),
        to=_listed(inputs, "to"),
        cc=_listed(inputs, "cc"),
        bcc=_listed(inputs, "bcc"),
        reply_to=_listed(inputs, "reply_to"),
        message_id=f"<{unique}@{DOMAIN}>",
    )
    if not mail.to or len(mail.recipients) > MOST_RECIPIENTS:
        raise _refused("to", f"must have 1 to {MOST_RECIPIENTS} addresses, with cc and bcc")
    return mail


async def _attachments(given: Sequence[Json], files: Files) -> list[Attachment]:
    """Raise ExecutorError for files that are too large together."""
    known = [await files.info(file) for file in given]
    if sum(file["bytes"] for file in known) > MOST_BYTES:
        raise _refused("attachments", f"have more than {MOST_BYTES:,} bytes together. Send a link to larger ones")
    return [
        Attachment(
            name=file["name"], media_type=file["media_type"], content=await files.read(file, most_bytes=MOST_BYTES)
        )
        for file in known
    ]


def _listed(inputs: Json, name: str) -> list[str]:
    given = inputs.get(name, [])
    return [given] if isinstance(given, str) else list(given)


def _addresses(inputs: Json) -> Iterator[tuple[str, str]]:
    for name in ("to", "cc", "bcc", "reply_to"):
        for address in _listed(inputs, name):
            yield name, address


def _why_not(name: str, address: str) -> str | None:
    """Answers to a mail may go anywhere, so `reply_to` is any address."""
    return why_no_address(address) or (None if name == "reply_to" else why_refused(address))


def _refused(name: str, why: str) -> ExecutorError:
    return ExecutorError(f"inputs.{name}: {why}.", permanent=True)
