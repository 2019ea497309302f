"""Housekeeping: what has expired goes in small batches and is counted, and what is needed stays."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db.models import Model

from accounts.callers import LOCAL
from accounts.models import LoginLink, LoginTry, SpentToken
from tasks.models import IdempotencyKey, WebhookDelivery
from tasks.services import trees
from tasks.services.messages import webhooks
from tasks.services.upkeep import housekeeping
from tasks.services.upkeep.housekeeping import keep_house

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
NOW = datetime.now(UTC)
LONG_AGO, SOON = NOW - timedelta(days=40), NOW + timedelta(days=1)


def made(kind: type[Model], field: str, **fields: Any) -> None:
    """Two rows: one that is needed, and one that is not."""
    for name, moment in (("old", LONG_AGO), ("new", SOON)):
        own = {key: name if value is ... else value for key, value in fields.items()}
        kind._default_manager.create(**own, **{field: moment})


def test_what_has_expired_goes_and_the_rest_stays() -> None:
    user = User.objects.create(username="ada")
    run = trees.execute_tree(caller=LOCAL, tasks=[{"name": "echo_executor"}]).run
    webhook = webhooks.add_webhook(run=run, url="https://93.184.216.34/hook")
    made(Session, "expire_date", session_key=..., session_data="")
    made(SpentToken, "expires_at", jti=...)
    made(LoginLink, "expires_at", hash=..., user=user)
    made(LoginTry, "at", scope=...)
    made(IdempotencyKey, "created_at", user_id="ada", key=..., request_hash="")
    for seq, moment in ((1, LONG_AGO), (2, NOW)):
        WebhookDelivery.objects.create(webhook=webhook, seq=seq, status="delivered", attempts=1, updated_at=moment)
    keep_house()
    left: list[Any] = [model.objects.count() for model in (Session, SpentToken, LoginLink, LoginTry, IdempotencyKey)]
    assert left == [1] * 5
    assert [*WebhookDelivery.objects.values_list("seq", flat=True)] == [2]


def test_many_rows_go_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "BATCH", 2)
    monkeypatch.setattr(housekeeping, "BATCHES", 3)
    SpentToken.objects.bulk_create([SpentToken(jti=str(number), expires_at=LONG_AGO) for number in range(9)])
    for left in (3, 0):
        assert keep_house()
        assert SpentToken.objects.count() == left
    assert not keep_house()
