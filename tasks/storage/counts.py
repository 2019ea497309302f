"""The numbers of tasks by owner, level and status, which triggers keep as tasks change.

A count of millions of rows takes seconds. So each change of a task's status is also a row of `tasks_count_change`, in
the same transaction and no matter which version of the server makes it, and `compact` adds these rows up in
`tasks_count` now and then. (Two transactions that add to one row would wait for each other.) The view `tasks_counted`
(`TaskCount`) contains both, so the sums over its rows are exact at any time.
"""

from typing import Final

from django.db import connection, transaction

from apflow_site.db.connections import IS_SQLITE

MOST_CHANGES: Final = 100_000
"""In one transaction."""
COMPACTION_LOCK: Final = 0x61_70_66_63_6E_74
"""The number of PostgreSQL's advisory lock."""
SUM_UP: Final = """
    INSERT INTO tasks_count (user_id, is_root, status, tasks)
    SELECT user_id, is_root, status, sum(number) FROM (
        SELECT user_id, is_root, old_status AS status, -1 AS number FROM {gone} WHERE old_status IS NOT NULL
        UNION ALL
        SELECT user_id, is_root, new_status, 1 FROM {gone} WHERE new_status IS NOT NULL
    ) AS numbers GROUP BY user_id, is_root, status HAVING sum(number) <> 0
    ON CONFLICT (user_id, is_root, status) DO UPDATE SET tasks = tasks_count.tasks + excluded.tasks
"""
COMPACT: Final = f"""
    WITH gone AS (
        DELETE FROM tasks_count_change WHERE ctid = ANY (ARRAY(SELECT ctid FROM tasks_count_change LIMIT %s))
        RETURNING user_id, is_root, old_status, new_status
    ) {SUM_UP.format(gone="gone")}
"""  # noqa: S608  (constants of ours)


def compact() -> None:
    """Add up the changes so far. One process does it at a time; nothing waits for it."""
    if IS_SQLITE:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM tasks_count_change LIMIT 1")
            if cursor.fetchone() is None:  # a DELETE would take the lock
                return
        with transaction.atomic(), connection.cursor() as cursor:  # all rows, and others wait: for microseconds a row
            cursor.execute(SUM_UP.format(gone="tasks_count_change"))
            cursor.execute("DELETE FROM tasks_count_change")
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [COMPACTION_LOCK])
        if cursor.fetchone()[0]:
            cursor.execute(COMPACT, [MOST_CHANGES])
