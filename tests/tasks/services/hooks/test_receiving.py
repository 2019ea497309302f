"""What a delivery stores, what it undoes, and how long it is kept."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.users import VIEWERS
from llmkeys.models import NamedSecret
from llmkeys.secret import Secret
from tasks.models import Flow, HookDelivery, Run, Task
from tasks.services import hooks
from tasks.services.flows import save_flow
from tasks.services.hooks import Target, delete_hook, deliveries_of, set_hook
from tasks.services.hooks.receiving import Verified, receive, replay, verified
from tasks.services.secrets.stored_secrets import set_secret
from tasks.services.upkeep.housekeeping import keep_house
from tests.sections import replace
from tests.tasks.trees import ALICE

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
Json = dict[str, Any]
ECHO: Final = [{"id": "echo", "name": "echo_executor", "inputs": {"n": "{{run.inputs.n}}"}}]


def address(**given: Any) -> str:
    set_secret(caller=ALICE, name="HOOK", value=Secret("the-secret-of-alice"))
    save_flow(caller=ALICE, name="triage", tasks=ECHO)
    target = Target(**given) if given else Target(flow="triage", inputs={"n": "{{body.n}}"})
    return set_hook(caller=ALICE, name="mine", verifier="github", secrets=["HOOK"], target=target).id


def taken(address: str, body: bytes, *, number: int = 0, secret: str = "the-secret-of-alice") -> Verified | None:
    mac = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": f"sha256={mac}", "x-github-delivery": str(number)}
    return verified(address, headers=headers, content_type="application/json", body=body)


def received(address: str, number: int = 0) -> HookDelivery:
    given = taken(address, b'{"n": %d}' % number, number=number)
    assert given is not None
    return receive(given).row


def test_a_stranger_costs_one_look_up_and_a_wrong_signature_one_more() -> None:
    found = address()
    with CaptureQueriesContext(connection) as queries:
        assert taken("unknown", b"{}") is None
    assert len(queries) == 1
    with CaptureQueriesContext(connection) as queries:
        assert verified(found, headers={}, content_type="application/json", body=b"{}") is None
    assert len(queries) == 1
    with CaptureQueriesContext(connection) as queries:
        assert taken(found, b"{}", secret="wrong") is None
    assert len(queries) == 2
    assert all(query["sql"].lstrip().upper().startswith("SELECT") for query in queries)
    assert NamedSecret.objects.get().used_at is None
    received(found)
    assert NamedSecret.objects.get().used_at is not None


def test_what_is_refused_leaves_the_delivery_and_nothing_else() -> None:
    found = address()
    Flow.objects.all().delete()
    row = received(found)
    assert (row.outcome, row.run_id) == ("failed", None)
    assert "triage" in str(row.reason)
    assert (Run.objects.count(), Task.objects.count()) == (0, 0)
    save_flow(caller=ALICE, name="triage", tasks=[*ECHO[:1], {"id": "b", "name": "echo_executor", "parent_id": "echo"}])
    again = replay(caller=ALICE, name="mine", delivery=row.pk).row
    assert (again.outcome, again.replay_of) == ("started", row.pk)
    assert Run.objects.get().id == again.run_id


def test_an_owner_who_is_a_viewer_by_now_starts_nothing() -> None:
    found = address()
    User.objects.create(username="alice").groups.add(Group.objects.get_or_create(name=VIEWERS)[0])
    row = received(found)
    assert (row.outcome, Run.objects.count()) == ("failed", 0)
    assert "viewer" in str(row.reason)


def test_a_disabled_owner_is_like_an_unknown_hook() -> None:
    found = address()
    User.objects.create(username="alice", is_active=False)
    assert taken(found, b"{}") is None


def test_an_event_that_is_too_long_fails(settings: LazySettings) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, event_bytes=1024))
    found = address(event="long")
    given = taken(found, b'{"n": "%s"}' % (b"x" * 2000))
    assert given is not None
    row = receive(given).row
    assert (row.outcome, "limits.event_bytes" in str(row.reason)) == ("failed", True)


def test_old_deliveries_and_surplus_ones_are_deleted(settings: LazySettings) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, hook_deliveries=100))
    found = address(event="e")
    for number in range(140):
        received(found, number)
    assert 100 <= HookDelivery.objects.count() < 100 + 32 + 1
    kept = deliveries_of(caller=ALICE, name="mine", limit=10)
    assert [row.delivery_id for row in kept][:2] == ["139", "138"]
    days = settings.APFLOW.retention.hook_delivery_days
    old = [row.pk for row in kept[2:5]]
    HookDelivery.objects.filter(id__in=old).update(received_at=datetime.now(UTC) - timedelta(days=days, minutes=1))
    assert set(hooks.old_deliveries().values_list("id", flat=True)) == set(old)
    keep_house()
    assert not HookDelivery.objects.filter(id__in=old).exists()
    assert delete_hook(caller=ALICE, name="mine")
    assert HookDelivery.objects.count() == 0
