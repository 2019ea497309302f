"""E-mails through the operator's mail server (`email`), to addresses that the operator allows."""

import asyncio
import re
import smtplib
import ssl
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import F, QuerySet

from aipartnerupflow.executors import on_a_thread
from aipartnerupflow.executors.base import unstored
from apflow_site.db import pools
from tasks.models import MailCount
from tasks.rules.files import OF_NO_TYPE


async def refusal(user_id: str, *, recipients: int) -> str | None:
    """Count a mail to so many addresses, and return None; or return why the user may not send it today."""
    most = int(settings.APFLOW.limits.mail_recipients_per_user_day)
    if not most or await pools.write(_count, user_id, recipients, most=most):
        return None
    return (
        f"You may send mail to {most:,} addresses a day (limits.mail_recipients_per_user_day), and fewer than {recipients:,} "
        "are left today. The count begins again at midnight UTC; the operator may raise the limit."
    )


@transaction.atomic
def _count(user_id: str, recipients: int, *, most: int) -> bool:
    """Return whether they fit. One statement compares and counts: mails of several workers may come at once."""
    today = _today()
    MailCount.objects.bulk_create([MailCount(user_id=user_id, day=today)], ignore_conflicts=True)
    fitting = MailCount.objects.filter(user_id=user_id, day=today, recipients__lte=most - recipients)
    return fitting.update(recipients=F("recipients") + recipients) == 1


def old_counts() -> "QuerySet[Any]":
    """Return the counts of earlier days."""
    return MailCount.objects.filter(day__lt=_today())


def _today() -> date:
    return datetime.now(UTC).date()


MAILTO: Final = "mailto:"
NO_ADDRESS: Final = "must be an e-mail address such as ops@example.com"
NO_SERVER: Final = "cannot be used: the operator has set no mail server (email.host and email.sender)"
NOT_ALLOWED: Final = "must be one that the operator allows (email.allow)"
ENCODED_WORD: Final = re.compile(r"=\?[^\s?]+\?[bBqQ]\?[^?]*\?=")
"""A text in a header that receivers decode (RFC 2047)."""
DOMAIN: Final = "aipartnerupflow"
"""The end of the ids of our mails."""
PASSING: Final = range(400, 500)
"""SMTP's replies after which a later attempt may succeed."""
LONGEST_SECONDS: Final = 120.0
"""The seconds for one mail, from the connection to the last reply."""


class NotSent(Exception):
    """The mail server did not take the mail. `permanent`: another attempt cannot help."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file in a mail."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A mail, without its sender. At least one of `text` and `html` is given."""

    subject: str
    text: str | None = None
    html: str | None = None
    to: Sequence[str]
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    reply_to: Sequence[str] = ()
    attachments: Sequence[Attachment] = ()
    message_id: str | None = None
    """The id with its angle brackets. Default: a new one."""

    @property
    def recipients(self) -> list[str]:
        return [*self.to, *self.cc, *self.bcc]


def is_configured() -> bool:
    """Return whether the operator has set a mail server."""
    return settings.APFLOW.email.host is not None and settings.APFLOW.email.sender is not None


def why_no_address(address: str) -> str | None:
    """Return why the text is no address; None if it is one."""
    try:
        validate_email(address)
    except ValidationError:
        return NO_ADDRESS
    return None if address.isascii() else f"{NO_ADDRESS}, in ASCII: write the domain in its xn-- form"


def why_refused(address: str) -> str | None:
    """Return why the server sends no mail to the address; None if it does."""
    if not is_configured():
        return NO_SERVER
    allowed: Sequence[str] = settings.APFLOW.email.allow
    return None if any(fnmatchcase(address.lower(), pattern.lower()) for pattern in allowed) else NOT_ALLOWED


async def send(mail: Mail, *, user_id: str, begin: Callable[[], Coroutine[Any, Any, None]] = unstored) -> str:
    """Send a mail of a user, and return its message id. `begin` is awaited when there is a connection.

    Raises NotSent, also if the operator does not allow an address any more, if the user has sent enough today, and if
    the server refused some of several addresses, because another attempt would repeat the mail to the others.
    """
    for address in mail.recipients:
        if why := why_no_address(address) or why_refused(address):
            raise NotSent(f"The address {why}.", permanent=True)
    message = _message(mail)
    if why := await refusal(user_id, recipients=len(mail.recipients)):
        raise NotSent(why, permanent=True)
    # A thread of its own: the common ones are for all users, and a mail server may be slow.
    loop = asyncio.get_running_loop()

    def begin_there() -> None:
        asyncio.run_coroutine_threadsafe(begin(), loop).result()

    work = partial(_deliver, message, mail.recipients, begin=begin_there)
    delivery = asyncio.wrap_future(on_a_thread(work, name="mail"))
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            await delivery
    except TimeoutError:
        raise NotSent(
            f"The mail server did not take the mail within {LONGEST_SECONDS:g} s. It may arrive all the same.",
            permanent=False,
        ) from None
    return str(message["Message-ID"])


def _message(mail: Mail) -> EmailMessage:
    """Return the message. It has no Bcc. Raises NotSent for a line break or an encoded word in the subject."""
    message = EmailMessage()
    if any(character in mail.subject for character in "\r\n\0"):
        raise NotSent("The subject has a line break, which would begin another header. Remove it.", permanent=True)
    if ENCODED_WORD.search(mail.subject):
        raise NotSent(
            "The subject has an encoded word (=?…?=), which receivers decode: it could hide a line break or another text. "
            "Write the text itself, in Unicode.",
            permanent=True,
        )
    message["From"], message["To"] = str(settings.APFLOW.email.sender), ", ".join(mail.to)
    for name, addresses in (("Cc", mail.cc), ("Reply-To", mail.reply_to)):
        if addresses:
            message[name] = ", ".join(addresses)
    message["Subject"], message["Date"] = mail.subject, formatdate()
    message["Message-ID"] = mail.message_id or make_msgid(domain=DOMAIN)
    message["Auto-Submitted"] = "auto-generated"
    if mail.text is not None:
        message.set_content(mail.text)
    if mail.html is not None and mail.text is not None:
        message.add_alternative(mail.html, subtype="html")
    elif mail.html is not None:
        message.set_content(mail.html, subtype="html")
    for each in mail.attachments:
        main, _, kind = each.media_type.partition("/")
        if main in (
            "message",
            "multipart",
        ):  # what these contain is not encoded, and a receiver would show it as a mail
            main, _, kind = OF_NO_TYPE.partition("/")
        message.add_attachment(each.content, maintype=main, subtype=kind, filename=each.name)
    return message


def _deliver(message: EmailMessage, recipients: Sequence[str], *, begin: Callable[[], None]) -> None:
    try:
        with _connected() as server:
            begin()
            refused = server.send_message(message, to_addrs=recipients)
    except smtplib.SMTPResponseException as error:
        raise NotSent(
            f"The mail server answered {error.smtp_code}.", permanent=error.smtp_code not in PASSING
        ) from None
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        permanent = not any(code in PASSING for code in codes)
        raise NotSent(f"The mail server refused the address ({codes[0]}).", permanent=permanent) from None
    except smtplib.SMTPNotSupportedError:
        raise NotSent(
            "The mail server does not offer what the settings ask for (email.security, email.username).", permanent=True
        ) from None
    except (smtplib.SMTPException, OSError) as error:
        raise NotSent(f"The mail server cannot be used: {type(error).__name__}.", permanent=False) from None
    if refused:
        listed = ", ".join(f"{address} ({code})" for address, (code, _) in refused.items())
        raise NotSent(
            f"The mail was sent to {len(recipients) - len(refused)} of {len(recipients)} addresses. The mail server "
            f"refused {listed}.",
            permanent=True,
        )


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
