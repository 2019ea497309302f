"""Limits of rows per user: requests at once do not pass them together, on either engine."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from a2a.mcp import subscriptions
from a2a.models import WatchedResource
from llmkeys import named_secrets
from llmkeys.models import NamedSecret
from llmkeys.secret import Secret
from llmkeys.secret_forms import MalformedSecret
from tasks.models import Flow, Notification, Run, SavedView, Schedule, Webhook
from tasks.rules.exceptions import LimitReached
from tasks.services import flows, schedules, trees
from tasks.services.history import run_search
from tasks.services.messages import notifications, webhooks
from tests.sections import replace
from tests.tasks.services.trees.test_idempotency import together
from tests.tasks.trees import ALICE

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]

AT_ONCE = 50
MOST = 5
TREE = [{"name": "say", "schemas": {"method": "echo_executor"}, "inputs": {"text": "x"}}]
URL = "https://example.com/hook"


def limited(settings: Settings, **limits: int) -> None:
    settings.APFLOW = replace(
        settings.APFLOW,
        limits=replace(settings.APFLOW.limits, **limits),
        webhooks=replace(settings.APFLOW.webhooks, max_per_run=MOST),
        auth=replace(settings.APFLOW.auth, enabled=True),
    )


def set_secret(name: str) -> None:
    named_secrets.set_secret(user_id="alice", name=name, value=Secret("a value of the tests"))


def set_notification(name: str) -> None:
    notifications.set_notification(caller=ALICE, name=name, url=URL)


def save_flow(name: str) -> None:
    flows.save_flow(caller=ALICE, name=name, tasks=TREE)


def add_schedule(name: str) -> None:
    schedules.create_schedule(caller=ALICE, fields={"name": name, "tasks": TREE, "every_seconds": 3600})


def save_view(name: str) -> None:
    run_search.save_view(caller=ALICE, place="runs", name=name, query="")


def watch(name: str) -> None:
    subscriptions.watch(caller=ALICE, session="s", run_id="r", uri=name)


def start_run(_name: str) -> None:
    trees.execute_tree(caller=ALICE, tasks=TREE)


def add_webhook(_name: str) -> None:
    webhooks.add_webhook(run=Run.objects.get(), url=URL)


@pytest.mark.parametrize(
    ("add", "model"),
    [
        (set_secret, NamedSecret),
        (set_notification, Notification),
        (save_flow, Flow),
        (add_schedule, Schedule),
        (save_view, SavedView),
        (watch, WatchedResource),
        (start_run, Run),
        (add_webhook, Webhook),
    ],
)
def test_additions_at_once_do_not_pass_a_limit_together(
    add: Callable[[str], None], model: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = map("name_{}".format, itertools.count())
    limited(settings)
    if add is add_webhook:
        start_run("")
    limited(settings, secrets_per_user=MOST, notifications=MOST, flows=MOST, schedules=MOST, runs_per_user=MOST)
    monkeypatch.setattr(run_search, "MOST_VIEWS", MOST)
    monkeypatch.setattr(subscriptions, "MOST_WATCHED", MOST)

    def is_added() -> bool:
        try:
            add(next(names))
        except (LimitReached, MalformedSecret):
            return False
        return True

    assert sum(together(AT_ONCE, is_added)) == MOST
    assert model.objects.count() == MOST


@pytest.mark.parametrize(
    ("add", "model"), [(set_secret, NamedSecret), (set_notification, Notification), (save_flow, Flow)]
)
def test_the_last_place_goes_to_a_name_that_comes_many_times(
    add: Callable[[str], None], model: Any, settings: Settings
) -> None:
    limited(settings, secrets_per_user=1, notifications=1, flows=1)
    together(AT_ONCE, lambda: add("name"))
    assert model.objects.count() == 1
