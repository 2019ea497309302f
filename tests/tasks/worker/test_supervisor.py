"""The supervisor's sweeps: how often each of them looks."""

from datetime import UTC, datetime

import pytest

from accounts.models import SpentToken
from tasks.services.upkeep import housekeeping
from tasks.worker import supervisor
from tasks.worker.supervisor import Sweeps

pytestmark = pytest.mark.django_db(transaction=True)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def test_what_has_expired_is_looked_for_seldom_but_again_while_there_is_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "BATCH", 2)
    monkeypatch.setattr(housekeeping, "BATCHES", 1)
    monkeypatch.setattr(supervisor, "LEASE_SWEEP_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "UPKEEP_SECONDS", 1e6)
    add_expired(5)
    sweeps = Sweeps()
    for left in (3, 1, 0, 0):
        sweeps.sweep()
        assert SpentToken.objects.count() == left
    add_expired(1)
    sweeps.sweep()
    assert SpentToken.objects.count() == 1


def add_expired(number: int) -> None:
    SpentToken.objects.bulk_create([SpentToken(jti=str(each), expires_at=LONG_AGO) for each in range(number)])
