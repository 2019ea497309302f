"""Mails of tasks, through a real mail server on loopback."""

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword
from asgiref.sync import sync_to_async
from jsonschema import Draft202012Validator
from pytest_django import Settings

from aipartnerupflow.executors import Context, ExecutorError
from tasks.executors.email.executor import SendEmail
from tasks.models import MailCount
from tasks.services.upkeep import housekeeping
from tests import sections
from tests.certificates import server_context
from tests.mail_server import MailServer, mail_server
from tests.tasks.executors.conftest import count_around_begin

Json = dict[str, Any]
PASSWORD: Final = "canary-of-the-mail-server"
MAIL: Final[Json] = {"to": "ops@example.com", "subject": "The report", "body": "It is ready."}


def configure(settings: Settings, port: int, **more: Any) -> None:
    given = {"host": "127.0.0.1", "port": port, "security": "none", "sender": "apflow@example.com", **more}
    email = sections.replace(settings.APFLOW.email, **{"allow": ("*@example.com",), **given})
    unlimited = sections.replace(settings.APFLOW.limits, mail_recipients_per_user_day=0)
    settings.APFLOW = sections.replace(settings.APFLOW, email=email, limits=unlimited)


@pytest.fixture
def mails(settings: Settings) -> Iterator[MailServer]:
    with mail_server() as server:
        configure(settings, server.port)
        yield server


async def sent(inputs: Json, context: Context) -> Json:
    Draft202012Validator(SendEmail.input_schema).validate(inputs)
    result: Json = await SendEmail().execute(inputs, context)
    Draft202012Validator(SendEmail.result_schema).validate(result)
    return result


async def refusal(inputs: Json, context: Context) -> ExecutorError:
    with pytest.raises(ExecutorError) as caught:
        await SendEmail().execute(inputs, context)
    return caught.value


async def test_a_mail_has_all_that_it_was_given(mails: MailServer, context: Context) -> None:
    more = {"cc": ["a@example.com", "b@example.com"], "bcc": "c@example.com", "reply_to": "ada@elsewhere.org"}
    result = await sent(MAIL | more | {"subject": "Grüße", "html": "<p>It is <b>ready</b>.</p>"}, context)
    (mail,) = mails.received
    shown = {name: mail[name] for name in ("From", "To", "Cc", "Bcc", "Reply-To", "Subject", "Message-ID")}
    assert shown == {
        "From": "apflow@example.com",
        "To": "ops@example.com",
        "Cc": "a@example.com, b@example.com",
        "Bcc": None,
        "Reply-To": "ada@elsewhere.org",
        "Subject": "Grüße",
        "Message-ID": result["message_id"],
    }
    assert mails.recipients == [["ops@example.com", "a@example.com", "b@example.com", "c@example.com"]]
    text, html = mail.get_body(["plain"]), mail.get_body(["html"])
    assert text and html and text.get_content().strip() == "It is ready."
    assert "<b>ready</b>" in html.get_content()
    assert result["recipients"] == 4


async def test_the_beginning_is_stored_before_the_mail_is_sent(mails: MailServer, context: Context) -> None:
    counted = await count_around_begin(partial(sent, MAIL), context, lambda: len(mails.received))
    assert (counted, SendEmail.begins_itself) == ((0, [0], 1), True)


async def test_a_mail_may_be_html_alone(mails: MailServer, context: Context) -> None:
    await sent({"to": ["ops@example.com"], "subject": "s", "html": "<p>x</p>"}, context)
    assert mails.received[0].get_content_type() == "text/html"


async def test_all_attempts_of_a_run_have_one_message_id_and_other_runs_another(
    mails: MailServer, context: Context
) -> None:
    mails.answers = ["451 Later"]
    assert not (await refusal(MAIL, context)).permanent
    first = await sent(MAIL, replace(context, attempt=2))
    again = await sent(MAIL, replace(context, attempt=3))
    other = await sent(MAIL, replace(context, run_id="run-2"))
    assert first == again != other


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"to": "ops@elsewhere.org"}, "inputs.to: must be one that the operator allows"),
        ({"bcc": ["ops@example.com", "x@elsewhere.org"]}, "inputs.bcc: must be one that the operator allows"),
        ({"cc": "ops"}, "inputs.cc: must be an e-mail address"),
        ({"to": "ops@example.com\r\nBcc: x@example.com"}, "inputs.to: must be an e-mail address"),
        ({"to": "ops@example.com, x@example.com"}, "inputs.to: must be an e-mail address"),
        ({"to": "ops@exämple.com"}, "inputs.to: must be an e-mail address such as ops@example.com, in ASCII"),
        ({"reply_to": "a@b.org\nX: y"}, "inputs.reply_to: must be an e-mail address"),
        ({"subject": "The report\r\nBcc: x@elsewhere.org"}, "The subject has a line break"),
        ({"subject": "The report\nX: y"}, "The subject has a line break"),
        ({"subject": "=?utf-8?q?The_report=0ABcc:_x?="}, "The subject has an encoded word"),
        ({"to": []}, "inputs.to: must have 1 to 50 addresses"),
        ({"to": [f"a{n}@example.com" for n in range(30)], "cc": [f"b{n}@example.com" for n in range(30)]}, "1 to 50"),
    ],
)
async def test_what_is_wrong_is_refused_and_nothing_is_sent(
    given: Json, says: str, mails: MailServer, context: Context
) -> None:
    error = await refusal(MAIL | given, context)
    assert says in str(error)
    assert error.permanent
    assert mails.tries == 0


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
async def test_a_user_reaches_so_many_addresses_a_day(mails: MailServer, settings: Settings, context: Context) -> None:
    limits = sections.replace(settings.APFLOW.limits, mail_recipients_per_user_day=5)
    settings.APFLOW = sections.replace(settings.APFLOW, limits=limits)
    two = MAIL | {"to": ["a@example.com", "b@example.com"]}
    done = await asyncio.gather(*(SendEmail().execute(two, context) for _ in range(6)), return_exceptions=True)
    refused = [error for error in done if isinstance(error, ExecutorError)]
    assert (len(refused), len(mails.received)) == (4, 2)
    assert "mail to 5 addresses a day (limits.mail_recipients_per_user_day), and fewer than 2 are left" in str(
        refused[0]
    )
    assert refused[0].permanent
    await sent(MAIL, context)  # one is left
    await sent(two, replace(context, user_id="bob"))
    await sync_to_async(MailCount.objects.update)(day=datetime(2026, 1, 1, tzinfo=UTC))
    await sent(two, context)
    await sync_to_async(housekeeping.keep_house)()
    counted = await sync_to_async(lambda: list(MailCount.objects.values_list("user_id", "recipients")))()
    assert counted == [("alice", 2)]


@pytest.mark.parametrize("params", [{"pool": "process"}, {"pool": "thread"}])
def test_it_runs_where_the_count_is(params: Json, mails: MailServer) -> None:
    with pytest.raises(ExecutorError, match="Mails are sent in the pool 'loop'"):
        SendEmail().check_with_inputs(params, MAIL)


async def test_a_mail_without_text_is_refused(mails: MailServer, context: Context) -> None:
    assert "inputs.body: is required, or html" in str(await refusal({"to": "ops@example.com", "subject": "s"}, context))


@pytest.mark.parametrize("name", ["from_email", "smtp_host", "smtp_password", "api_key", "provider"])
def test_the_server_and_its_credentials_are_the_operators(name: str, mails: MailServer) -> None:
    with pytest.raises(ExecutorError, match=f"inputs.{name}: is set by the operator"):
        SendEmail().check_with_inputs({}, MAIL | {name: "x"})


def test_an_address_that_is_known_is_checked_before_anything_is_stored(mails: MailServer) -> None:
    SendEmail().check_with_inputs({}, MAIL | {"to": ["{{who.email}}", "ops@example.com"]})
    with pytest.raises(ExecutorError, match="must be one that the operator allows"):
        SendEmail().check_with_inputs({}, MAIL | {"to": ["{{who.email}}", "x@elsewhere.org"]})


async def test_a_mail_that_reached_some_addresses_fails_for_good(mails: MailServer, context: Context) -> None:
    mails.refused = {"gone@example.com"}
    error = await refusal(MAIL | {"to": ["ops@example.com", "gone@example.com"]}, context)
    assert "sent to 1 of 2 addresses" in str(error)
    assert "gone@example.com (550)" in str(error)
    assert error.permanent
    assert mails.recipients == [["ops@example.com"]]


@pytest.mark.parametrize(("answer", "is_permanent"), [("451 Later", False), ("550 Never", True)])
async def test_the_reply_decides_whether_another_attempt_helps(
    answer: str, is_permanent: bool, mails: MailServer, context: Context
) -> None:
    mails.answers = [answer]
    assert (await refusal(MAIL, context)).permanent is is_permanent


async def test_a_server_that_is_away_or_silent_fails_the_task(settings: Settings, context: Context) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        configure(settings, silent.getsockname()[1], timeout_seconds=1)
        error = await refusal(MAIL, context)
    assert str(error).startswith("The mail server cannot be used")
    assert not error.permanent


class Logins:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def __call__(self, server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
        self.seen.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password.decode() == PASSWORD, handled=False)


@pytest.mark.filterwarnings(
    "ignore:Requiring AUTH:UserWarning",
    "ignore:unclosed:ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)  # of aiosmtpd
@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
async def test_it_encrypts_and_logs_in(
    security: str,
    password: str,
    settings: Settings,
    context: Context,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tls, logins = server_context(tmp_path, "localhost"), Logins()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    how: Json = {"tls_context": tls, "require_starttls": True}
    if security == "tls":  # aiosmtpd counts only STARTTLS as TLS
        how = {"ssl_context": tls, "auth_require_tls": False}
    with mail_server(authenticator=logins, auth_required=True, **how) as mails:
        configure(settings, mails.port, host="localhost", security=security, username="apflow", password=password)
        if password == PASSWORD:
            await sent(MAIL, context)
            assert len(mails.received) == 1
        else:
            error = await refusal(MAIL, context)
            assert (str(error), error.permanent) == ("The mail server answered 535.", True)
    assert set(logins.seen) == {("apflow", password)}


async def test_a_certificate_that_is_not_trusted_gets_no_password(
    settings: Settings, context: Context, tmp_path: Path
) -> None:
    logins = Logins()
    with mail_server(authenticator=logins, tls_context=server_context(tmp_path, "localhost")) as mails:
        configure(settings, mails.port, host="localhost", security="starttls", username="apflow", password=PASSWORD)
        error = await refusal(MAIL, context)
    assert (logins.seen, mails.tries) == ([], 0)
    assert PASSWORD not in str(error)
