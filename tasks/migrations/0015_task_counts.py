from typing import Any

from django.db import migrations, models

TABLES = {
    'sqlite': [
        """
        CREATE TABLE tasks_count (
            user_id varchar(255) NOT NULL, is_root bool NOT NULL, status varchar(11) NOT NULL, tasks bigint NOT NULL,
            PRIMARY KEY (user_id, is_root, status)
        ) WITHOUT ROWID
        """,
        'CREATE VIEW tasks_counted AS SELECT user_id, is_root, status, tasks FROM tasks_count',
    ],
    'postgresql': [
        """
        CREATE TABLE tasks_count (
            user_id varchar(255) NOT NULL, is_root boolean NOT NULL, status varchar(11) NOT NULL, tasks bigint NOT NULL,
            PRIMARY KEY (user_id, is_root, status)
        ) WITH (fillfactor = 50)
        """,
        """
        CREATE TABLE tasks_count_change (
            user_id varchar(255) NOT NULL, is_root boolean NOT NULL, old_status varchar(11), new_status varchar(11)
        )
        """,
        """
        CREATE VIEW tasks_counted AS
            SELECT user_id, is_root, status, tasks FROM tasks_count
            UNION ALL
            SELECT user_id, is_root, old_status, -1 FROM tasks_count_change WHERE old_status IS NOT NULL
            UNION ALL
            SELECT user_id, is_root, new_status, 1 FROM tasks_count_change WHERE new_status IS NOT NULL
        """,
    ],
}
# Concurrent transactions must not wait for each other, so PostgreSQL only adds rows; SQLite has one writer anyway.
COUNT = """
    INSERT INTO tasks_count VALUES ({row}.user_id, {row}.parent_id IS NULL, {row}.status, {number})
    ON CONFLICT (user_id, is_root, status) DO UPDATE SET tasks = tasks + excluded.tasks;
"""
TRIGGERS = {
    'sqlite': [
        f"CREATE TRIGGER task_created AFTER INSERT ON tasks_task BEGIN {COUNT.format(row='NEW', number=1)} END",
        f"CREATE TRIGGER task_deleted AFTER DELETE ON tasks_task BEGIN {COUNT.format(row='OLD', number=-1)} END",
        'CREATE TRIGGER task_status_changed AFTER UPDATE OF status ON tasks_task WHEN OLD.status <> NEW.status BEGIN '
        f"{COUNT.format(row='OLD', number=-1)} {COUNT.format(row='NEW', number=1)} END",
    ],
    'postgresql': [
        """
        CREATE FUNCTION tasks_count_task() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                INSERT INTO tasks_count_change VALUES (NEW.user_id, NEW.parent_id IS NULL, NULL, NEW.status);
            ELSIF TG_OP = 'UPDATE' THEN
                INSERT INTO tasks_count_change VALUES (NEW.user_id, NEW.parent_id IS NULL, OLD.status, NEW.status);
            ELSE
                INSERT INTO tasks_count_change VALUES (OLD.user_id, OLD.parent_id IS NULL, OLD.status, NULL);
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
REMOVED = {
    'sqlite': [
        'DROP TRIGGER task_created', 'DROP TRIGGER task_deleted', 'DROP TRIGGER task_status_changed',
        'DROP VIEW tasks_counted', 'DROP TABLE tasks_count',
    ],
    'postgresql': [
        'DROP FUNCTION tasks_count_task CASCADE', 'DROP VIEW tasks_counted',
        'DROP TABLE tasks_count_change', 'DROP TABLE tasks_count',
    ],
}


def create(apps: Any, schema_editor: Any) -> None:
    vendor = schema_editor.connection.vendor
    for statement in TABLES[vendor] + TRIGGERS[vendor]:
        schema_editor.execute(statement)


def remove(apps: Any, schema_editor: Any) -> None:
    for statement in REMOVED[schema_editor.connection.vendor]:
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
