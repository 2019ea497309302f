from typing import Any

from django.db import migrations

KEY = 'user_id varchar(255) NOT NULL, day date NOT NULL, model varchar(255) NOT NULL, executor_id varchar(255) NOT NULL'
SUMS = (
    'calls bigint NOT NULL, prompt_tokens bigint NOT NULL, completion_tokens bigint NOT NULL, total_tokens bigint NOT NULL, '
    'cost_nanos bigint NOT NULL, unpriced bigint NOT NULL'
)
COLUMNS = (
    'user_id, day, model, executor_id, calls, prompt_tokens, completion_tokens, total_tokens, cost_nanos, unpriced'
)
SUM_ID = "user_id || ' ' || CAST(day AS varchar(10)) || ' ' || executor_id || ' ' || model"
# Processes of the earlier version go on adding up in tasks_usage, whose key they name, so it stays as it is.
TABLES = [
    'DROP VIEW tasks_used',
    "ALTER TABLE tasks_spending ADD COLUMN flow varchar(255) DEFAULT '' NOT NULL",
    f'CREATE TABLE tasks_flow_usage ({KEY}, flow varchar(255) NOT NULL, {SUMS}, '
    'PRIMARY KEY (user_id, day, model, executor_id, flow)) {options}',
    'CREATE INDEX flow_usage_of_day ON tasks_flow_usage (day)',
    f"CREATE VIEW tasks_used AS SELECT {SUM_ID} AS id, {COLUMNS}, '' AS flow FROM tasks_usage "
    f"UNION ALL SELECT {SUM_ID} || ' ' || flow, {COLUMNS}, flow FROM tasks_flow_usage "
    f'UNION ALL SELECT id, {COLUMNS}, flow FROM tasks_spending',
]
OPTIONS = {'sqlite': 'WITHOUT ROWID', 'postgresql': 'WITH (fillfactor = 50)'}
REMOVED = [
    'DROP VIEW tasks_used',
    f'INSERT INTO tasks_spending (id, {COLUMNS}, at) SELECT {{new_id}}, {COLUMNS}, CURRENT_TIMESTAMP FROM tasks_flow_usage',
    'DROP TABLE tasks_flow_usage',
    'ALTER TABLE tasks_spending DROP COLUMN flow',
    f'CREATE VIEW tasks_used AS SELECT {SUM_ID} AS id, {COLUMNS} FROM tasks_usage '
    f'UNION ALL SELECT id, {COLUMNS} FROM tasks_spending',
]
NEW_ID = {'sqlite': 'lower(hex(randomblob(16)))', 'postgresql': 'gen_random_uuid()::text'}


def create(apps: Any, schema_editor: Any) -> None:
    for statement in TABLES:
        schema_editor.execute(statement.format(options=OPTIONS[schema_editor.connection.vendor]))


def remove(apps: Any, schema_editor: Any) -> None:
    for statement in REMOVED:
        schema_editor.execute(statement.format(new_id=NEW_ID[schema_editor.connection.vendor]))


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0050_notifications_about'),
    ]

    operations = [
        migrations.RunPython(create, remove),
    ]
