"""The usage of the model calls of each user, by day, model, executor and flow.

Each call is a row of `tasks_spending`, added when the executor reports it and never with the same id again. `compact` adds
these rows up in `tasks_flow_usage` now and then; `tasks_usage` has what earlier versions added up, without flows. The view
`tasks_used` (`Usage`) contains all three, so the sums over its rows are exact at any time, and no query reads tasks. The
rows remain when trees are deleted.
"""

from typing import Final

from django.db import connection, transaction

from apflow_site.db.connections import IS_SQLITE

MOST_ROWS: Final = 100_000
"""In one transaction."""
COMPACTION_LOCK: Final = 0x61_70_66_75_73_65
"""The number of PostgreSQL's advisory lock."""
NOW: Final = "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'now')" if IS_SQLITE else "clock_timestamp()"
SETTLED: Final = (
    "at < STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-2 minutes')"
    if IS_SQLITE
    else "at < clock_timestamp() - interval '2 minutes'"
)
"""A worker repeats a commit of which it has not heard for some seconds: until then the row is there to be found."""
KEY: Final = "user_id, day, model, executor_id, flow"
COLUMNS: Final = f"{KEY}, calls, prompt_tokens, completion_tokens, total_tokens, cost_nanos, unpriced"
FLOW: Final = (
    "COALESCE((SELECT f.name FROM tasks_run r JOIN tasks_flow f ON f.id = r.flow_id WHERE r.id = %(run_id)s), '')"
)
"""The name of the run's flow: it remains when the flow is deleted. Empty without one."""
ADD: Final = (
    f"INSERT INTO tasks_spending (id, {COLUMNS}, at) VALUES (%(id)s, %(user_id)s, %(day)s, %(model)s, %(executor_id)s, {FLOW}, 1, "  # noqa: S608  (constants of ours)
    f"%(prompt_tokens)s, %(completion_tokens)s, %(total_tokens)s, %(cost_nanos)s, %(unpriced)s, {NOW}) ON CONFLICT DO NOTHING"
)
OF_RUN: Final = ("model_calls", "prompt_tokens", "completion_tokens", "total_tokens", "cost_nanos", "unpriced_calls")
ADD_TO_RUN: Final = (
    f"UPDATE tasks_run SET {', '.join(f'{name} = COALESCE({name}, 0) + %s' for name in OF_RUN)} WHERE id = %s"  # noqa: S608  (constants of ours)
)
"""The sums of a run, which stay when its calls are pruned. Execute it in the transaction of the row: a repetition of that is refused."""
SUM_UP: Final = f"""
    INSERT INTO tasks_flow_usage ({COLUMNS})
    SELECT {KEY}, sum(calls), sum(prompt_tokens), sum(completion_tokens), sum(total_tokens), sum(cost_nanos), sum(unpriced)
    FROM {{gone}} GROUP BY {KEY}
    ON CONFLICT ({KEY}) DO UPDATE SET
        calls = tasks_flow_usage.calls + excluded.calls,
        prompt_tokens = tasks_flow_usage.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = tasks_flow_usage.completion_tokens + excluded.completion_tokens,
        total_tokens = tasks_flow_usage.total_tokens + excluded.total_tokens,
        cost_nanos = tasks_flow_usage.cost_nanos + excluded.cost_nanos,
        unpriced = tasks_flow_usage.unpriced + excluded.unpriced
"""  # noqa: S608  (constants of ours)
COMPACT: Final = f"""
    WITH gone AS (
        DELETE FROM tasks_spending WHERE ctid = ANY (ARRAY(SELECT ctid FROM tasks_spending WHERE {SETTLED} LIMIT %s))
        RETURNING {COLUMNS}
    ) {SUM_UP.format(gone="gone")}
"""  # noqa: S608  (constants of ours)


def compact() -> None:
    """Add up the rows that are old enough. One process does it at a time; nothing waits for it."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM tasks_spending WHERE {SETTLED} LIMIT 1", [])  # noqa: S608  (constants of ours)
        if cursor.fetchone() is None:  # a DELETE would take SQLite's lock
            return
    with transaction.atomic(), connection.cursor() as cursor:
        if IS_SQLITE:
            cursor.execute("SELECT max(at) FROM tasks_spending WHERE " + SETTLED, [])  # noqa: S608  (constants of ours)
            newest = cursor.fetchone()
            gone = "(SELECT * FROM tasks_spending WHERE at <= %s) WHERE true"
            cursor.execute(SUM_UP.format(gone=gone), newest)
            cursor.execute("DELETE FROM tasks_spending WHERE at <= %s", newest)
            return
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [COMPACTION_LOCK])
        if cursor.fetchone()[0]:
            cursor.execute(COMPACT, [MOST_ROWS])
