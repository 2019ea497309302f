"""The audit log: what is recorded of each change, by whom and from where, and that a change that fails leaves nothing."""

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.utils import timezone

from accounts import api_keys, audit, logins, users
from accounts.audit import Action
from accounts.callers import LOCAL, Role
from accounts.models import AuditEntry
from llmkeys.secret import Secret
from tasks.models import Run, Schedule
from tasks.queue import maintenance
from tasks.rules.exceptions import CannotDelete
from tasks.services import flows, schedules, trees
from tasks.services.messages import notifications, webhooks
from tasks.services.secrets import stored_secrets
from tasks.services.trees import editing
from tasks.services.upkeep import housekeeping
from tests.accounts.conftest import PASSWORD
from tests.accounts.test_views import log_in, post
from tests.sections import replace

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_engines_nightly]

Row = tuple[str, str, str, str]
KEY = "sk-ant-this-is-a-key-of-the-tests-whose-end-is-in-no-time-zzyx"
ADDRESS = "192.0.2.7"
HOOK = "https://hooks.example.com/hook?token=of-the-hook"


def rows() -> list[Row]:
    return list(AuditEntry.objects.order_by("id").values_list("action", "actor", "address", "target"))


def details() -> dict[str, Any]:
    found = AuditEntry.objects.order_by("id").last()
    assert found is not None
    return dict(found.details)


def with_key(verb: Callable[[User], Any]) -> None:
    verb(users.user_named("alice"))


def delete_tree() -> None:
    trees.create_tree(caller=LOCAL, tasks=[{"id": "root", "name": "echo_executor"}])
    editing.delete_task(caller=LOCAL, task_id="root")


def delete_flow() -> None:
    for _ in range(2):
        flows.save_flow(caller=LOCAL, name="greet", tasks=[{"name": "echo_executor"}])
    flows.delete_flow(caller=LOCAL, name="greet")


def change_schedule() -> None:
    fields = {"tasks": [{"name": "echo_executor"}], "every_seconds": 60}
    made = schedules.create_schedule(caller=LOCAL, fields=fields)
    Schedule.objects.filter(id=made.id).update(id="daily")
    AuditEntry.objects.filter(target=made.id).update(target="daily")
    schedule = {"schedule_id": "daily"}
    schedules.update_schedule(caller=LOCAL, fields={"name": "new"}, **schedule)
    schedules.pause_schedule(caller=LOCAL, **schedule)
    for _ in range(2):
        schedules.resume_schedule(caller=LOCAL, **schedule)
    schedules.delete_schedule(caller=LOCAL, **schedule)


def change_webhooks() -> None:
    """The first is a part of the run that it comes with, and is not recorded."""
    start = partial(trees.execute_tree, caller=LOCAL, tasks=[{"id": "root", "name": "echo_executor"}])
    run = webhooks.with_webhook(start, {"url": HOOK}).run
    Run.objects.filter(id=run.id).update(id="run")
    run = Run.objects.get()
    webhooks.add_webhook(run=run, url=HOOK, config_id="one")
    webhook = webhooks.add_webhook(run=run, url=HOOK, config_id="one", actor="ada")
    for _ in range(2):
        webhooks.delete_webhook(caller=LOCAL, webhook_id=webhook.id)


def change_notifications() -> None:
    notifications.set_notification(caller=LOCAL, name="on-call", url=HOOK)
    for _ in range(2):
        notifications.delete_notification(caller=LOCAL, name="on-call")


VERBS: dict[str, tuple[Callable[[], Any], list[tuple[str, str, str]]]] = {
    "a user": (
        lambda: users.create_user("bob", password="open sesame 42", role=Role.VIEWER),
        [("user.created", "ada", "bob")],
    ),
    "a role": (lambda: users.set_role("alice", Role.ADMIN), [("user.role_set", "ada", "alice")]),
    "the same role": (lambda: users.set_role("alice", Role.OPERATOR), []),
    "a password": (
        lambda: users.set_password("alice", password="open sesame 43"),
        [("user.password_set", "ada", "alice")],
    ),
    "disabled": (lambda: users.set_active("alice", is_active=False), [("user.disabled", "ada", "alice")]),
    "enabled": (lambda: users.set_active("alice", is_active=True), [("user.enabled", "ada", "alice")]),
    "an LLM key": (
        lambda: stored_secrets.set_llm_key(caller=LOCAL, user_id="bob", provider="google", key=Secret(KEY)),
        [("llm_key.set", "local", "gemini")],
    ),
    "no LLM key": (lambda: stored_secrets.delete_llm_key(caller=LOCAL, user_id="bob", provider="openai"), []),
    "a secret": (
        lambda: stored_secrets.set_secret(caller=LOCAL, name="github", value=Secret(KEY), scope="shared"),
        [("secret.set", "local", "github")],
    ),
    "no secret": (lambda: stored_secrets.delete_secret(caller=LOCAL, name="github"), []),
    "maintenance": (
        lambda: (maintenance.begin(), maintenance.begin(), maintenance.end(), maintenance.end()),
        [("maintenance.on", "ada", ""), ("maintenance.off", "ada", "")],
    ),
    "a tree": (delete_tree, [("tree.deleted", "local", "root")]),
    "a flow": (delete_flow, [("flow.saved", "local", "greet"), ("flow.deleted", "local", "greet")]),
    "a schedule": (
        change_schedule,
        [
            ("schedule.created", "local", "daily"),
            ("schedule.updated", "local", "daily"),
            ("schedule.paused", "local", "daily"),
            ("schedule.resumed", "local", "daily"),
            ("schedule.deleted", "local", "daily"),
        ],
    ),
    "a webhook": (
        change_webhooks,
        [
            ("webhook.added", "local", "run"),
            ("webhook.deleted", "ada", "run"),
            ("webhook.added", "ada", "run"),
            ("webhook.deleted", "local", "run"),
        ],
    ),
    "a notification": (
        change_notifications,
        [("notification.set", "local", "on-call"), ("notification.deleted", "local", "on-call")],
    ),
}


#: On a push. The entry is one statement, and the changes themselves have tests on both engines.
ON_ONE_ENGINE = {
    "the same role",
    "a password",
    "disabled",
    "enabled",
    "an LLM key",
    "a secret",
    "no secret",
    "maintenance",
    "a tree",
}


@pytest.mark.parametrize(
    "verb",
    [pytest.param(verb, marks=[] if verb in ON_ONE_ENGINE else [pytest.mark.both_engines]) for verb in VERBS],
)
def test_a_change_is_recorded_with_user_address_and_target(verb: str, alice: User) -> None:
    act, expected = VERBS[verb]
    with audit.origin(actor="ada", address=ADDRESS):
        act()
    assert rows() == [(action, actor, ADDRESS, target) for action, actor, target in expected]


@pytest.mark.both_engines
def test_what_was_set_is_recorded_when_it_is_deleted() -> None:
    stored_secrets.set_llm_key(caller=LOCAL, user_id="bob", provider="openai", key=Secret(KEY))
    assert stored_secrets.delete_llm_key(caller=LOCAL, user_id="bob", provider="openai")
    assert (rows()[-1], details()) == (("llm_key.deleted", "local", "", "openai"), {"owner": "bob"})
    stored_secrets.set_secret(caller=LOCAL, name="github", value=Secret(KEY))
    assert stored_secrets.delete_secret(caller=LOCAL, name="github")
    assert (rows()[-1], details()) == (("secret.deleted", "local", "", "github"), {"scope": "own"})


@pytest.mark.both_engines
def test_an_api_key_is_recorded_by_its_first_characters(alice: User) -> None:
    key, text = api_keys.create_key(users.user_named("alice"), name="ci", is_read_only=True, actor="alice")
    assert details() == {"owner": "alice", "name": "ci", "role": "operator", "is_read_only": True}
    api_keys.revoke_key(key.prefix)
    assert rows() == [
        ("api_key.created", "alice", "", f"{text[:12]}…"),
        ("api_key.revoked", "", "", f"{text[:12]}…"),
    ]


@pytest.mark.both_engines
def test_logins_and_logouts_over_http_are_recorded_with_the_address_of_the_client(client: Client, alice: User) -> None:
    assert log_in(client, "alice", "wrong password").status_code == 401
    assert log_in(client, "my password is sesame", PASSWORD).status_code == 401
    tokens = log_in(client, "alice", PASSWORD).json()
    assert post(client, "/auth/logout", {"refresh": tokens["refresh"]}).status_code == 204
    assert post(client, "/auth/logout", {"refresh": tokens["refresh"]}).status_code == 401
    assert rows() == [
        ("login.failed", "", "127.0.0.1", "alice"),
        ("login.failed", "", "127.0.0.1", ""),  # a name that no user has may be a password
        ("login", "alice", "127.0.0.1", ""),
        ("logout", "alice", "127.0.0.1", ""),
    ]


@pytest.mark.both_engines
def test_a_link_is_a_login_once(alice: User) -> None:
    secret = logins.make_link(alice)
    assert [logins.use_link(secret) is None for _ in range(2)] == [False, True]
    assert [(*row[:2], details()) for row in rows()] == [("login", "alice", {"by": "link"})]


def test_the_limit_of_wrong_passwords_bounds_the_entries(alice: User) -> None:
    for _ in range(10):
        with pytest.raises((logins.WrongCredentials, logins.TooManyTries)):
            logins.log_in("alice", "wrong", address=ADDRESS)
    assert rows() == [("login.failed", "", ADDRESS, "alice")] * logins.TRIES["user"]


@pytest.mark.both_engines
def test_a_change_that_is_rolled_back_leaves_neither_an_entry_nor_a_line(
    alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "audit"), pytest.raises(ZeroDivisionError), transaction.atomic():
        users.set_role("alice", Role.ADMIN)
        raise ZeroDivisionError
    with caplog.at_level(logging.INFO, "audit"), pytest.raises(users.Refused):
        users.set_password("alice", password="")
    assert (rows(), caplog.messages) == ([], [])


def test_a_refused_deletion_leaves_no_entry() -> None:
    trees.execute_tree(caller=LOCAL, tasks=[{"id": "root", "name": "echo_executor"}])
    with pytest.raises(CannotDelete):
        editing.delete_task(caller=LOCAL, task_id="root", force=True)
    assert rows() == []


@pytest.mark.both_engines
def test_a_line_follows_the_commit(alice: User, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "audit"), audit.origin(actor="a\nb", address=ADDRESS):
        with transaction.atomic():
            users.set_active("alice", is_active=False)
            assert caplog.messages == []
        [line] = caplog.records
    assert line.getMessage() == rf"user.disabled user='a\nb' address='{ADDRESS}' target='alice'"
    found = vars(line)
    names = ("event", "action", "user", "address", "target", "details")
    assert [found[name] for name in names] == ["audit.user.disabled", "user.disabled", "a\nb", ADDRESS, "alice", {}]


@pytest.mark.both_engines
def test_no_secret_is_in_a_row_or_line(alice: User, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "audit"):
        users.set_password("alice", password="a-new-password 17")
        logins.log_in("alice", "a-new-password 17", address=ADDRESS)
        _, text = api_keys.create_key(users.user_named("alice"), name="ci")
        stored_secrets.set_llm_key(caller=LOCAL, user_id="alice", provider="anthropic", key=Secret(KEY))
        stored_secrets.set_secret(caller=LOCAL, name="github", value=Secret("the value of the secret"))
        change_notifications()
    written = f"{list(AuditEntry.objects.values())} {[vars(line) for line in caplog.records]}"
    assert len(caplog.records) == 7
    for secret in ("a-new-password", text, text[12:], KEY, KEY[-4:], "the value of the secret", "of-the-hook"):
        assert secret not in written


@pytest.mark.both_engines
def test_long_names_are_cut(alice: User) -> None:
    audit.record(Action.LOGIN, actor="a" * 300, address="b" * 300, target="c" * 300)
    assert rows() == [("login", "a" * 255, "b" * 255, "c" * 255)]


@pytest.mark.both_engines
def test_entries_are_found_by_time_user_and_kind_of_action() -> None:
    for action, actor in ((Action.LOGIN, "ada"), (Action.LOGIN_FAILED, ""), (Action.USER_CREATED, "ada")):
        audit.record(action, actor=actor)
    AuditEntry.objects.filter(action="login").update(at=timezone.now() - timedelta(days=2))
    found = [
        audit.entries(),
        audit.entries(since=timezone.now() - timedelta(days=1)),
        audit.entries(actor="ada"),
        audit.entries(action="login"),
        audit.entries(action="login.failed"),
    ]
    assert [[entry.action for entry in each] for each in found] == [
        ["user.created", "login.failed", "login"],
        ["user.created", "login.failed"],
        ["user.created", "login"],
        ["login.failed", "login"],
        ["login.failed"],
    ]


@pytest.mark.parametrize(("days", "left"), [pytest.param(30, 1, marks=pytest.mark.both_engines), (0, 2)])
def test_housekeeping_deletes_old_entries(days: int, left: int, settings: LazySettings) -> None:
    settings.APFLOW = replace(settings.APFLOW, retention=replace(settings.APFLOW.retention, audit_days=days))
    for _ in range(2):
        audit.record(Action.MAINTENANCE_ON)
    first = AuditEntry.objects.order_by("id").first()
    assert first is not None
    AuditEntry.objects.filter(id=first.id).update(at=timezone.now() - timedelta(days=31))
    housekeeping.keep_house()
    assert AuditEntry.objects.count() == left
