"""The database's clock, by which all processes agree."""

from datetime import datetime

from django.db import connection

from tasks.queue.leases import DB_NOW, moment


def database_time() -> datetime:
    """Return the time of the database server, in UTC. On SQLite to the millisecond."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {DB_NOW.replace('%%', '%')}")
        (now,) = cursor.fetchone()
    return moment(now)
