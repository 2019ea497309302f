"""A real mail server (SMTP) on loopback. It keeps the mails, and gives the replies that a test sets."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

from tests.ports import free_port
from tests.servers import until


@dataclass(slots=True)
class MailServer:
    """`answers` are the replies to the mails that come next; after them all are taken."""

    port: int
    answers: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    """Addresses that it does not take."""
    recipients: list[list[str]] = field(default_factory=list)
    """Those of each mail that it took."""
    received: list[EmailMessage] = field(default_factory=list)
    tries: int = 0

    def until_count(self, count: int) -> list[EmailMessage]:
        """All mails, once there are so many."""
        until(lambda: len(self.received) >= count, seconds=60, what=f"{count} mails")
        return self.received

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.refused:
            return "550 Unknown"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.tries += 1
        if self.answers:
            return self.answers.pop(0)
        self.recipients.append(envelope.rcpt_tos)
        self.received.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


@contextmanager
def mail_server(**options: Any) -> Iterator[MailServer]:
    """A mail server until the end of the block. `options` are those of aiosmtpd, about TLS and logging in."""
    server = MailServer(port=free_port())
    controller = Controller(server, hostname="127.0.0.1", port=server.port, ready_timeout=60, **options)
    controller.start()
    try:
        yield server
    finally:
        controller.stop()
