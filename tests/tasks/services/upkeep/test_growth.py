"""The size of the database and how fast it grows."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks.models import InstallationFact
from tasks.services.upkeep import growth

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]


def test_the_growth_is_that_since_the_oldest_day_that_was_measured() -> None:
    assert growth.growth().bytes_per_day is None
    growth.record_size()
    assert growth.growth().bytes_per_day is None, "of one day nothing follows"
    fact = InstallationFact.objects.get(name=growth.FACT)
    two_days_ago = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()
    fact.value = {two_days_ago: growth.size_bytes() - 1000}
    fact.updated_at = datetime.now(UTC) - timedelta(hours=2)
    fact.save()
    growth.record_size()
    found = growth.growth()
    assert found.bytes_per_day is not None
    assert found.bytes_per_day >= 500
    assert len(InstallationFact.objects.get(name=growth.FACT).value) == 2
