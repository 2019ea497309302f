"""E-mails through the operator's mail server (`email`), to addresses that the operator allows."""

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from fnmatch import fnmatchcase
from typing import Final

from django.conf import settings

MAILTO: Final = "mailto:"
NO_SERVER: Final = "cannot be used: the operator has set no mail server (email.host and email.sender)"
NOT_ALLOWED: Final = "must be one that the operator allows (email.allow)"
PASSING: Final = range(400, 500)
"""SMTP's replies after which a later attempt may succeed."""


class NotSent(Exception):
    """The mail server did not take the mail. `permanent`: another attempt cannot help."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


def why_refused(address: str) -> str | None:
    """Return why the server sends no mail to the address; None if it does."""
    rules = settings.APFLOW.email
    if rules.host is None or rules.sender is None:
        return NO_SERVER
    allowed: Sequence[str] = rules.allow
    return None if any(fnmatchcase(address.lower(), pattern.lower()) for pattern in allowed) else NOT_ALLOWED


async def send(address: str, *, subject: str, text: str) -> None:
    """Send a mail. Raises NotSent, also if the operator does not allow the address any more."""
    if why := why_refused(address):
        raise NotSent(f"The address {why}.", permanent=True)
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = settings.APFLOW.email.sender, address, subject
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain="aipartnerupflow")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    await asyncio.to_thread(_deliver, message)


def _deliver(message: EmailMessage) -> None:
    try:
        with _connected() as server:
            server.send_message(message)
    except smtplib.SMTPResponseException as error:
        raise NotSent(
            f"The mail server answered {error.smtp_code}.", permanent=error.smtp_code not in PASSING
        ) from None
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        permanent = not any(code in PASSING for code in codes)
        raise NotSent(f"The mail server refused the address ({codes[0]}).", permanent=permanent) from None
    except (smtplib.SMTPException, OSError) as error:
        raise NotSent(f"The mail server cannot be used: {type(error).__name__}.", permanent=False) from None


def _connected() -> smtplib.SMTP:
    """Return a connection that is encrypted and logged in as the settings say."""
    rules = settings.APFLOW.email
    host, seconds = str(rules.host), float(rules.timeout_seconds)
    server: smtplib.SMTP
    if rules.security == "tls":
        server = smtplib.SMTP_SSL(host, rules.port, timeout=seconds, context=ssl.create_default_context())
    else:
        server = smtplib.SMTP(host, rules.port, timeout=seconds)
    try:
        if rules.security == "starttls":
            server.starttls(context=ssl.create_default_context())
        if rules.username is not None:
            server.login(rules.username, rules.password or "")
    except BaseException:
        server.close()
        raise
    return server
