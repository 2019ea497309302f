from typing import Any

from django.db import migrations, models

KEY = 'user_id varchar(255) NOT NULL, day date NOT NULL, model varchar(255) NOT NULL, executor_id varchar(255) NOT NULL'
SUMS = (
    'calls bigint NOT NULL, prompt_tokens bigint NOT NULL, completion_tokens bigint NOT NULL, total_tokens bigint NOT NULL, '
    'cost_nanos bigint NOT NULL, unpriced bigint NOT NULL'
)
COLUMNS = (
    'user_id, day, model, executor_id, calls, prompt_tokens, completion_tokens, total_tokens, cost_nanos, unpriced'
)
SUM_ID = "user_id || ' ' || CAST(day AS varchar(10)) || ' ' || executor_id || ' ' || model"
TABLES = [
    f'CREATE TABLE tasks_usage ({KEY}, {SUMS}, PRIMARY KEY (user_id, day, model, executor_id)) {{options}}',
    'CREATE INDEX usage_of_day ON tasks_usage (day)',
    # One row for each call: transactions that add to one sum would wait for each other.
    f'CREATE TABLE tasks_spending (id varchar(36) NOT NULL PRIMARY KEY, {KEY}, {SUMS}, at {{time}} NOT NULL)',
    f'CREATE VIEW tasks_used AS SELECT {SUM_ID} AS id, {COLUMNS} FROM tasks_usage '
    f'UNION ALL SELECT id, {COLUMNS} FROM tasks_spending',
]
TYPES = {
    'sqlite': {'options': 'WITHOUT ROWID', 'time': 'datetime'},
    'postgresql': {'options': 'WITH (fillfactor = 50)', 'time': 'timestamp with time zone'},
}
REMOVED = ['DROP VIEW tasks_used', 'DROP TABLE tasks_spending', 'DROP TABLE tasks_usage']


def create(apps: Any, schema_editor: Any) -> None:
    for statement in TABLES:
        schema_editor.execute(statement.format(**TYPES[schema_editor.connection.vendor]))


def remove(apps: Any, schema_editor: Any) -> None:
    for statement in REMOVED:
        schema_editor.execute(statement)


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0029_index_of_child_runs'),
    ]

    operations = [
        migrations.CreateModel(
            name='Usage',
            fields=[
                ('id', models.TextField(primary_key=True, serialize=False)),
                ('user_id', models.CharField(max_length=255)),
                ('day', models.DateField()),
                ('model', models.CharField(max_length=255)),
                ('executor_id', models.CharField(max_length=255)),
                ('calls', models.BigIntegerField()),
                ('prompt_tokens', models.BigIntegerField()),
                ('completion_tokens', models.BigIntegerField()),
                ('total_tokens', models.BigIntegerField()),
                ('cost_nanos', models.BigIntegerField()),
                ('unpriced', models.BigIntegerField()),
            ],
            options={
                'verbose_name_plural': 'usage',
                'db_table': 'tasks_used',
                'managed': False,
            },
        ),
        migrations.RunPython(create, remove),
    ]
