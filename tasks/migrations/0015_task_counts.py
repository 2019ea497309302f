from typing import Any

from django.db import migrations, models

COLUMNS = 'user_id varchar(255) NOT NULL, is_root {bool} NOT NULL'
TABLES = [
    f"""
    CREATE TABLE tasks_count (
        {COLUMNS}, status varchar(11) NOT NULL, tasks bigint NOT NULL, PRIMARY KEY (user_id, is_root, status)
    ) {{options}}
    """,
    # Triggers only add rows: concurrent transactions of PostgreSQL must not wait for each other, and on SQLite, where
    # they could not, adding a row is quicker than finding two.
    f'CREATE TABLE tasks_count_change ({COLUMNS}, old_status varchar(11), new_status varchar(11))',
    """
    CREATE VIEW tasks_counted AS
        SELECT user_id, is_root, status, tasks FROM tasks_count
        UNION ALL
        SELECT user_id, is_root, old_status, -1 FROM tasks_count_change WHERE old_status IS NOT NULL
        UNION ALL
        SELECT user_id, is_root, new_status, 1 FROM tasks_count_change WHERE new_status IS NOT NULL
    """,
]
TYPES = {
    'sqlite': {'bool': 'bool', 'options': 'WITHOUT ROWID'},
    'postgresql': {'bool': 'boolean', 'options': 'WITH (fillfactor = 50)'},
}
CHANGE = 'INSERT INTO tasks_count_change VALUES ({row}.user_id, {row}.parent_id IS NULL, {old}, {new});'
CREATED = CHANGE.format(row='NEW', old='NULL', new='NEW.status')
CHANGED = CHANGE.format(row='NEW', old='OLD.status', new='NEW.status')
DELETED = CHANGE.format(row='OLD', old='OLD.status', new='NULL')
TRIGGERS = {
    'sqlite': [
        f'CREATE TRIGGER task_created AFTER INSERT ON tasks_task BEGIN {CREATED} END',
        f'CREATE TRIGGER task_deleted AFTER DELETE ON tasks_task BEGIN {DELETED} END',
        'CREATE TRIGGER task_status_changed AFTER UPDATE OF status ON tasks_task WHEN OLD.status <> NEW.status '
        f'BEGIN {CHANGED} END',
    ],
    'postgresql': [
        f"""
        CREATE FUNCTION tasks_count_task() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                {CREATED}
            ELSIF TG_OP = 'UPDATE' THEN
                {CHANGED}
            ELSE
                {DELETED}
            END IF;
            RETURN NULL;
        END
        $$
        """,
        """
        CREATE TRIGGER task_counted AFTER INSERT OR DELETE ON tasks_task
        FOR EACH ROW EXECUTE FUNCTION tasks_count_task()
        """,
        """
        CREATE TRIGGER task_status_changed AFTER UPDATE OF status ON tasks_task
        FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION tasks_count_task()
        """,
    ],
}
REMOVED_TRIGGERS = {
    'sqlite': ['DROP TRIGGER task_created', 'DROP TRIGGER task_deleted', 'DROP TRIGGER task_status_changed'],
    'postgresql': ['DROP FUNCTION tasks_count_task CASCADE'],
}
REMOVED = ['DROP VIEW tasks_counted', 'DROP TABLE tasks_count_change', 'DROP TABLE tasks_count']


def create(apps: Any, schema_editor: Any) -> None:
    vendor = schema_editor.connection.vendor
    for statement in [*(each.format(**TYPES[vendor]) for each in TABLES), *TRIGGERS[vendor]]:
        schema_editor.execute(statement)


def remove(apps: Any, schema_editor: Any) -> None:
    for statement in REMOVED_TRIGGERS[schema_editor.connection.vendor] + REMOVED:
        schema_editor.execute(statement)


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0014_run_is_demo'),
    ]

    operations = [
        migrations.CreateModel(
            name='TaskCount',
            fields=[
                ('pk', models.CompositePrimaryKey('user_id', 'is_root', 'status', blank=True, editable=False, primary_key=True, serialize=False)),
                ('user_id', models.CharField(max_length=255)),
                ('is_root', models.BooleanField()),
                ('status', models.CharField(max_length=11)),
                ('tasks', models.BigIntegerField()),
            ],
            options={
                'db_table': 'tasks_counted',
                'managed': False,
            },
        ),
        migrations.RunPython(create, remove),
    ]
