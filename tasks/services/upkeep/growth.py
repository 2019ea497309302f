"""The size and the growth of the database: one measurement per day, kept for a week."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from django.db import connection, transaction
from django.db.models.functions import Now

from apflow_site.db.connections import IS_SQLITE
from tasks.models import InstallationFact

FACT: Final = "database_sizes"
KEPT_DAYS: Final = 8
EVERY: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """`bytes_per_day` is None until there are measurements of two days."""

    size_bytes: int
    bytes_per_day: float | None


def record_size() -> None:
    """Measure the database, at most once an hour. The last measurement of a day is kept."""
    fact = InstallationFact.objects.filter(name=FACT).first()
    if fact is not None and datetime.now(UTC) - fact.updated_at < EVERY:
        return
    sizes: dict[str, int] = {} if fact is None else fact.value
    sizes = dict(sorted({**sizes, _today().isoformat(): size_bytes()}.items())[-KEPT_DAYS:])
    with transaction.atomic():
        InstallationFact.objects.update_or_create(name=FACT, defaults={"value": sizes, "updated_at": Now()})


def growth() -> Growth:
    """Return the present size, and the growth since the oldest measurement that is kept."""
    size = size_bytes()
    fact = InstallationFact.objects.filter(name=FACT).first()
    if fact is None or not fact.value:
        return Growth(size_bytes=size, bytes_per_day=None)
    first, first_size = min(fact.value.items())
    days = (_today() - date.fromisoformat(first)).days
    return Growth(size_bytes=size, bytes_per_day=(size - first_size) / days if days else None)


def size_bytes() -> int:
    """Return the size of the database on its disk."""
    if IS_SQLITE:
        name = Path(str(connection.settings_dict["NAME"]))
        files = [name, name.with_name(f"{name.name}-wal")]
        return sum(file.stat().st_size for file in files if file.exists())
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        (size,) = cursor.fetchone()
    return int(size)


def _today() -> date:
    return datetime.now(UTC).date()
