from typing import Any

import django.db.models.deletion
import django.db.models.functions.comparison
import tasks.fields
import tasks.ids
from django.db import migrations, models

USAGE_KEY = 'user_id varchar(255) NOT NULL, day date NOT NULL, model varchar(255) NOT NULL, executor_id varchar(255) NOT NULL'
SUMS = (
    'calls bigint NOT NULL, prompt_tokens bigint NOT NULL, completion_tokens bigint NOT NULL, total_tokens bigint NOT NULL, '
    'cost_nanos bigint NOT NULL, unpriced bigint NOT NULL'
)
USAGE_COLUMNS = (
    'user_id, day, model, executor_id, calls, prompt_tokens, completion_tokens, total_tokens, cost_nanos, unpriced'
)
SUM_ID = "user_id || ' ' || CAST(day AS varchar(10)) || ' ' || executor_id || ' ' || model"
COUNT_COLUMNS = 'user_id varchar(255) NOT NULL, is_root {bool} NOT NULL'
TABLES = [
    f'CREATE TABLE tasks_count ({COUNT_COLUMNS}, status varchar(11) NOT NULL, tasks bigint NOT NULL, '
    'PRIMARY KEY (user_id, is_root, status)) {options}',
    # Triggers only add rows: concurrent transactions of PostgreSQL must not wait for each other, and on SQLite, where
    # they could not, adding a row is quicker than finding two.
    f'CREATE TABLE tasks_count_change ({COUNT_COLUMNS}, old_status varchar(11), new_status varchar(11))',
    """
    CREATE VIEW tasks_counted AS
        SELECT user_id, is_root, status, tasks FROM tasks_count
        UNION ALL
        SELECT user_id, is_root, old_status, -1 FROM tasks_count_change WHERE old_status IS NOT NULL
        UNION ALL
        SELECT user_id, is_root, new_status, 1 FROM tasks_count_change WHERE new_status IS NOT NULL
    """,
    f'CREATE TABLE tasks_usage ({USAGE_KEY}, {SUMS}, PRIMARY KEY (user_id, day, model, executor_id)) {{options}}',
    'CREATE INDEX usage_of_day ON tasks_usage (day)',
    f'CREATE TABLE tasks_flow_usage ({USAGE_KEY}, flow varchar(255) NOT NULL, {SUMS}, '
    'PRIMARY KEY (user_id, day, model, executor_id, flow)) {options}',
    'CREATE INDEX flow_usage_of_day ON tasks_flow_usage (day)',
    # One row for each call: transactions that add to one sum would wait for each other.
    f'CREATE TABLE tasks_spending (id varchar(36) NOT NULL PRIMARY KEY, {USAGE_KEY}, {SUMS}, at {{time}} NOT NULL, '
    "flow varchar(255) DEFAULT '' NOT NULL)",
    f"CREATE VIEW tasks_used AS SELECT {SUM_ID} AS id, {USAGE_COLUMNS}, '' AS flow FROM tasks_usage "
    f"UNION ALL SELECT {SUM_ID} || ' ' || flow, {USAGE_COLUMNS}, flow FROM tasks_flow_usage "
    f'UNION ALL SELECT id, {USAGE_COLUMNS}, flow FROM tasks_spending',
]
TYPES = {
    'sqlite': {'bool': 'bool', 'options': 'WITHOUT ROWID', 'time': 'datetime'},
    'postgresql': {'bool': 'boolean', 'options': 'WITH (fillfactor = 50)', 'time': 'timestamp with time zone'},
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
        'CREATE INDEX root_id_prefix ON tasks_task (id varchar_pattern_ops) WHERE parent_id IS NULL',
    ],
}
# Django doubles the index of each text key on PostgreSQL, for LIKE. Only ids of roots are searched by prefix.
UNUSED = [
    'tasks_task_id_9d65e96a_like', 'tasks_run_id_7bf7ef38_like', 'tasks_webhook_id_45c924e0_like',
    'tasks_webhook_run_id_ba0c0c4b_like', 'tasks_webhookdelivery_webhook_id_ae488fc2_like',
    'tasks_question_id_cbcb9a05_like', 'tasks_question_run_id_486702b6_like',
    'tasks_workerprocess_id_8cba5b00_like', 'tasks_installationfact_name_f67cd39d_like',
]


def create(apps: Any, schema_editor: Any) -> None:
    """Create what models do not declare: the tables, views and triggers of sums, and the index of prefixes."""
    vendor = schema_editor.connection.vendor
    for statement in [*(each.format(**TYPES[vendor]) for each in TABLES), *TRIGGERS[vendor]]:
        schema_editor.execute(statement)
    schema_editor.deferred_sql = [
        statement for statement in schema_editor.deferred_sql if not any(name in str(statement) for name in UNUSED)
    ]


class Migration(migrations.Migration):

    replaces = [('tasks', name) for name in '''
        0001_initial 0002_cancel_request 0003_idempotency_key 0004_webhooks 0005_questions 0006_runs_by_status_time
        0007_question_memo 0008_run_trace 0009_webhook_host 0010_run_turns 0011_run_asked_at 0012_places_and_facts
        0013_run_strikes 0014_run_is_demo 0015_task_counts 0016_count_earlier_tasks 0017_indexes_of_roots
        0018_run_claim_token 0019_many_open_runs 0020_skipped 0021_spawned_by 0022_waits 0023_indexes_of_waits
        0024_index_of_leases 0025_run_inputs 0026_question_schema 0027_assignees 0028_child_runs
        0029_index_of_child_runs 0030_usage 0031_run_budget 0032_question_alarms 0033_label 0034_flows
        0035_index_of_flows 0036_schedules 0037_indexes_of_run_status 0038_steps 0039_model_calls
        0040_schedules_of_tasks 0041_flow_is_tool 0042_notifications 0043_task_states 0044_conversations
        0045_run_tags 0046_index_of_failures 0047_mail_counts 0048_test_of_a_notification 0049_saved_views
        0050_notifications_about 0051_usage_of_flows 0052_day_limits 0053_evidence_of_strikes 0054_failures_of_runs
        0055_effects 0056_suspected_since 0057_index_of_suspects 0058_open_waits
    '''.split()]

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name='Run',
            fields=[
                ('id', models.CharField(default=tasks.ids.new_id, max_length=36, primary_key=True, serialize=False)),
                ('root_id', models.CharField(max_length=255)),
                ('target_id', models.CharField(max_length=255)),
                ('user_id', models.CharField(max_length=255)),
                ('context_id', models.CharField(max_length=255)),
                ('number', models.PositiveIntegerField(default=1)),
                ('status', models.CharField(choices=[('pending', 'pending'), ('in_progress', 'in_progress'), ('completed', 'completed'), ('failed', 'failed'), ('cancelled', 'cancelled'), ('skipped', 'skipped')], default='pending', max_length=11)),
                ('lease_owner', models.CharField(max_length=255, null=True)),
                ('lease_expires_at', models.DateTimeField(null=True)),
                ('epoch', models.PositiveIntegerField(default=0)),
                ('losses', models.PositiveSmallIntegerField(default=0)),
                ('last_seq', models.PositiveIntegerField(default=0)),
                ('created_at', models.DateTimeField()),
                ('started_at', models.DateTimeField(null=True)),
                ('finished_at', models.DateTimeField(null=True)),
                ('trace', models.CharField(max_length=55, null=True)),
                ('turn', models.PositiveBigIntegerField(db_default=0, default=0)),
                ('asked_at', models.DateTimeField(null=True)),
                ('strikes', models.PositiveSmallIntegerField(db_default=0, default=0)),
                ('is_demo', models.BooleanField(db_default=False, default=False)),
                ('claim_token', models.CharField(max_length=16, null=True)),
                ('wait_id', models.CharField(max_length=36, null=True)),
                ('flow_id', models.CharField(max_length=36, null=True)),
                ('flow_version', models.PositiveIntegerField(null=True)),
                ('completion_tokens', models.BigIntegerField(null=True)),
                ('cost_nanos', models.BigIntegerField(null=True)),
                ('model_calls', models.BigIntegerField(null=True)),
                ('prompt_tokens', models.BigIntegerField(null=True)),
                ('total_tokens', models.BigIntegerField(null=True)),
                ('unpriced_calls', models.BigIntegerField(null=True)),
                ('deaths', tasks.fields.JsonTextField(null=True)),
                ('host_losses', models.PositiveIntegerField(db_default=0, default=0)),
                ('failures', tasks.fields.JsonTextField(null=True)),
                ('suspected_at', models.DateTimeField(null=True)),
                ('interruption', models.CharField(db_default='', default='', max_length=8)),
            ],
            options={
                'indexes': [models.Index(fields=['root_id', '-number'], name='run_of_tree'), models.Index(fields=['context_id', 'created_at'], name='run_of_context'), models.Index(condition=models.Q(('finished_at', None)), fields=['user_id', 'turn'], name='run_unfinished_of_owner'), models.Index(condition=models.Q(('started_at__isnull', False)), fields=['turn'], name='run_turn'), models.Index(fields=['finished_at'], name='run_finished'), models.Index(models.F('user_id'), models.OrderBy(django.db.models.functions.comparison.Coalesce('finished_at', django.db.models.functions.comparison.Greatest(django.db.models.functions.comparison.Coalesce('started_at', 'created_at'), django.db.models.functions.comparison.Coalesce('asked_at', 'created_at'))), descending=True), models.OrderBy(models.F('id'), descending=True), name='run_of_owner'), models.Index(models.OrderBy(django.db.models.functions.comparison.Coalesce('finished_at', django.db.models.functions.comparison.Greatest(django.db.models.functions.comparison.Coalesce('started_at', 'created_at'), django.db.models.functions.comparison.Coalesce('asked_at', 'created_at'))), descending=True), models.OrderBy(models.F('id'), descending=True), name='run_recent'), models.Index(condition=models.Q(('finished_at', None), ('lease_owner', None)), fields=['turn', 'created_at'], name='run_unclaimed'), models.Index(condition=models.Q(('finished_at', None), ('lease_owner__isnull', False)), fields=['lease_owner'], name='run_leased'), models.Index(condition=models.Q(('wait_id__isnull', False)), fields=['wait_id'], name='run_of_wait'), models.Index(condition=models.Q(('flow_id__isnull', False)), fields=['flow_id', '-created_at'], name='run_of_flow'), models.Index(fields=['user_id', 'status', '-created_at', '-id'], name='run_status_of_owner'), models.Index(fields=['status', '-created_at', '-id'], name='run_status'), models.Index(condition=models.Q(('finished_at', None), ('suspected_at__isnull', False)), fields=['suspected_at'], name='run_suspected')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('finished_at', None)), fields=('root_id',), name='one_unfinished_run_per_tree')],
            },
        ),
        migrations.CreateModel(
            name='Task',
            fields=[
                ('id', models.CharField(default=tasks.ids.new_id, max_length=255, primary_key=True, serialize=False)),
                ('root_id', models.CharField(max_length=255)),
                ('parent_id', models.CharField(max_length=255, null=True)),
                ('position', models.PositiveIntegerField(default=0)),
                ('user_id', models.CharField(max_length=255)),
                ('name', models.CharField(max_length=255)),
                ('status', models.CharField(choices=[('pending', 'pending'), ('in_progress', 'in_progress'), ('completed', 'completed'), ('failed', 'failed'), ('cancelled', 'cancelled'), ('skipped', 'skipped')], default='pending', max_length=11)),
                ('priority', models.PositiveSmallIntegerField(default=2)),
                ('executor_id', models.CharField(max_length=255, null=True)),
                ('dependencies', tasks.fields.JsonTextField(default=list)),
                ('inputs', tasks.fields.JsonTextField(default=dict)),
                ('schemas', tasks.fields.JsonTextField(null=True)),
                ('params', tasks.fields.JsonTextField(null=True)),
                ('result', tasks.fields.JsonTextField(null=True)),
                ('error', models.TextField(null=True)),
                ('progress', models.FloatField(default=0.0)),
                ('attempt', models.PositiveIntegerField(default=0)),
                ('token_usage', tasks.fields.JsonTextField(null=True)),
                ('has_children', models.BooleanField(default=False)),
                ('has_copy', models.BooleanField(default=False)),
                ('original_task_id', models.CharField(max_length=255, null=True)),
                ('origin_type', models.CharField(default='create', max_length=6)),
                ('created_at', models.DateTimeField()),
                ('updated_at', models.DateTimeField()),
                ('started_at', models.DateTimeField(null=True)),
                ('completed_at', models.DateTimeField(null=True)),
                ('spawned_by', models.CharField(max_length=255, null=True)),
                ('label', models.CharField(max_length=255, null=True)),
                ('steps', tasks.fields.JsonTextField(null=True)),
                ('schedule_id', models.CharField(max_length=36, null=True)),
                ('effect', models.CharField(choices=[('awaited', 'awaited'), ('begun', 'begun')], max_length=7, null=True)),
            ],
            options={
                'indexes': [models.Index(fields=['root_id', 'position'], name='task_tree'), models.Index(condition=models.Q(('parent_id', None)), fields=['user_id', '-created_at', '-id'], name='root_of_owner'), models.Index(condition=models.Q(('parent_id', None)), fields=['-created_at', '-id'], name='root_recent'), models.Index(fields=['-created_at', '-id'], name='task_recent'), models.Index(condition=models.Q(('parent_id', None)), fields=['user_id', 'status', '-created_at', '-id'], name='root_status_of_owner'), models.Index(condition=models.Q(('parent_id', None)), fields=['status', '-created_at', '-id'], name='root_status'), models.Index(condition=models.Q(('parent_id', None)), fields=['user_id', 'name', '-created_at', '-id'], name='root_name_of_owner'), models.Index(condition=models.Q(('parent_id', None)), fields=['name', '-created_at', '-id'], name='root_name')],
            },
        ),
        migrations.CreateModel(
            name='TaskEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('run_id', models.CharField(max_length=36)),
                ('seq', models.PositiveIntegerField()),
                ('type', models.CharField(max_length=16)),
                ('task_id', models.CharField(max_length=255)),
                ('payload', tasks.fields.JsonTextField()),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('run_id', 'seq'), name='event_order')],
            },
        ),
        migrations.CreateModel(
            name='WorkerProcess',
            fields=[
                ('id', models.CharField(max_length=255, primary_key=True, serialize=False)),
                ('cluster_id', models.CharField(max_length=255)),
                ('host', models.CharField(max_length=255)),
                ('pid', models.PositiveIntegerField()),
                ('started_at', models.DateTimeField()),
                ('beat_at', models.DateTimeField()),
                ('places', models.PositiveIntegerField(db_default=0, default=0)),
                ('supervisor', models.CharField(db_default='', default='', max_length=255)),
            ],
            options={
                'indexes': [models.Index(fields=['cluster_id', 'beat_at'], name='worker_alive')],
                'verbose_name_plural': 'worker processes',
            },
        ),
        migrations.CreateModel(
            name='CancelRequest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('run_id', models.CharField(max_length=36)),
                ('task_id', models.CharField(max_length=255)),
                ('force', models.BooleanField(default=False)),
                ('message', models.TextField()),
            ],
            options={
                'indexes': [models.Index(fields=['run_id'], name='cancel_of_run')],
            },
        ),
        migrations.CreateModel(
            name='IdempotencyKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user_id', models.CharField(max_length=255)),
                ('key', models.CharField(max_length=255)),
                ('request_hash', models.CharField(max_length=64)),
                ('outcome', tasks.fields.JsonTextField(null=True)),
                ('response', tasks.fields.JsonTextField(null=True)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['created_at'], name='key_age')],
                'constraints': [models.UniqueConstraint(fields=('user_id', 'key'), name='one_request_per_key')],
            },
        ),
        migrations.CreateModel(
            name='Webhook',
            fields=[
                ('id', models.CharField(default=tasks.ids.new_id, max_length=36, primary_key=True, serialize=False)),
                ('kind', models.CharField(max_length=16)),
                ('config_id', models.CharField(max_length=255)),
                ('url', models.TextField()),
                ('method', models.CharField(default='POST', max_length=5)),
                ('sealed', models.TextField()),
                ('next_seq', models.PositiveIntegerField(default=1)),
                ('next_at', models.DateTimeField()),
                ('attempt', models.PositiveIntegerField(default=0)),
                ('failures', models.PositiveSmallIntegerField(default=0)),
                ('lease_owner', models.CharField(max_length=255, null=True)),
                ('lease_expires_at', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField()),
                ('closed_at', models.DateTimeField(null=True)),
                ('disabled_at', models.DateTimeField(null=True)),
                ('run', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='webhooks', to='tasks.run')),
                ('host', models.CharField(db_default='', max_length=255)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('closed_at', None)), fields=['next_at'], name='webhook_due')],
                'constraints': [models.UniqueConstraint(fields=('run', 'config_id'), name='one_webhook_per_config')],
            },
        ),
        migrations.CreateModel(
            name='WebhookDelivery',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('seq', models.PositiveIntegerField()),
                ('status', models.CharField(choices=[('delivered', 'delivered'), ('retrying', 'retrying'), ('failed', 'failed')], max_length=9)),
                ('attempts', models.PositiveIntegerField()),
                ('status_code', models.PositiveSmallIntegerField(null=True)),
                ('error', models.CharField(max_length=255, null=True)),
                ('updated_at', models.DateTimeField()),
                ('webhook', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='tasks.webhook')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('webhook', 'seq'), name='one_delivery_per_event')],
                'verbose_name_plural': 'webhook deliveries',
            },
        ),
        migrations.CreateModel(
            name='Question',
            fields=[
                ('id', models.CharField(default=tasks.ids.new_id, max_length=36, primary_key=True, serialize=False)),
                ('task_id', models.CharField(max_length=255)),
                ('text', models.TextField()),
                ('options', tasks.fields.JsonTextField(null=True)),
                ('answer', tasks.fields.JsonTextField(null=True)),
                ('answered_by', models.CharField(max_length=255, null=True)),
                ('comment', models.TextField(null=True)),
                ('asked_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField(null=True)),
                ('answered_at', models.DateTimeField(null=True)),
                ('closed_at', models.DateTimeField(null=True)),
                ('run', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='questions', to='tasks.run')),
                ('memo', models.TextField(db_default='null')),
                ('kind', models.CharField(choices=[('question', 'question'), ('time', 'time'), ('event', 'event'), ('run', 'run')], db_default='question', default='question', max_length=8)),
                ('on_expiry', models.CharField(choices=[('fail', 'fail'), ('resume', 'resume')], db_default='fail', default='fail', max_length=6)),
                ('user_id', models.CharField(max_length=255, null=True)),
                ('event', models.CharField(max_length=255, null=True)),
                ('match', tasks.fields.JsonTextField(null=True)),
                ('shape', models.CharField(max_length=64, null=True)),
                ('digest', models.CharField(max_length=64, null=True)),
                ('since', models.DateTimeField(null=True)),
                ('taken_id', models.BigIntegerField(null=True)),
                ('schema', tasks.fields.JsonTextField(null=True)),
                ('assignees', tasks.fields.JsonTextField(null=True)),
                ('tree', tasks.fields.JsonTextField(null=True)),
                ('alarm_at', models.DateTimeField(null=True)),
                ('alarms', tasks.fields.JsonTextField(null=True)),
            ],
            options={
                'constraints': [models.UniqueConstraint(condition=models.Q(('closed_at', None)), fields=('run', 'task_id'), name='one_open_question_per_task')],
                'indexes': [models.Index(condition=models.Q(('answered_at', None), ('closed_at', None), ('kind', 'question')), fields=['asked_at', 'id'], name='question_for_people'), models.Index(condition=models.Q(('closed_at', None), ('expires_at__isnull', False)), fields=['expires_at'], name='question_due'), models.Index(condition=models.Q(('closed_at', None), ('answered_at__isnull', False)), fields=['answered_at'], name='question_answered'), models.Index(condition=models.Q(('answered_at', None), ('closed_at', None), ('kind', 'event')), fields=['user_id', 'event', 'shape', 'digest'], name='wait_for_event'), models.Index(condition=models.Q(('taken_id__isnull', False)), fields=['taken_id'], name='wait_that_took'), models.Index(condition=models.Q(('alarm_at__isnull', False), ('answered_at', None), ('closed_at', None)), fields=['alarm_at'], name='question_alarm')],
            },
        ),
        migrations.CreateModel(
            name='InstallationFact',
            fields=[
                ('name', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('value', tasks.fields.JsonTextField()),
                ('updated_at', models.DateTimeField()),
            ],
        ),
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
        migrations.CreateModel(
            name='SentEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user_id', models.CharField(max_length=255)),
                ('event_id', models.CharField(max_length=255)),
                ('event', models.CharField(max_length=255)),
                ('payload', tasks.fields.JsonTextField(null=True)),
                ('received_at', models.DateTimeField()),
                ('woken', models.PositiveIntegerField(null=True)),
                ('wait_id', models.CharField(max_length=36, null=True)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('wait_id', None)), fields=['user_id', 'event', '-id'], name='event_by_name'), models.Index(fields=['user_id', '-id'], name='event_of_user'), models.Index(fields=['received_at'], name='event_age'), models.Index(condition=models.Q(('woken', None)), fields=['id'], name='event_unmatched')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('wait_id', None)), fields=('user_id', 'event_id'), name='one_event_per_id')],
            },
        ),
        migrations.CreateModel(
            name='RunInputs',
            fields=[
                ('run_id', models.CharField(max_length=36, primary_key=True, serialize=False)),
                ('inputs', tasks.fields.JsonTextField()),
            ],
            options={
                'verbose_name_plural': 'run inputs',
            },
        ),
        migrations.CreateModel(
            name='Assignee',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=255)),
                ('question', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tasks.question')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('name', 'question'), name='assignee_once')],
            },
        ),
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
        migrations.CreateModel(
            name='RunBudget',
            fields=[
                ('run_id', models.CharField(max_length=36, primary_key=True, serialize=False)),
                ('state', tasks.fields.JsonTextField()),
            ],
        ),
        migrations.CreateModel(
            name='Flow',
            fields=[
                ('id', models.CharField(default=tasks.ids.new_id, max_length=36, primary_key=True, serialize=False)),
                ('user_id', models.CharField(max_length=255)),
                ('name', models.CharField(max_length=100)),
                ('version', models.PositiveIntegerField(default=0)),
                ('created_at', models.DateTimeField()),
                ('updated_at', models.DateTimeField()),
                ('is_tool', models.BooleanField(db_default=False, default=False)),
            ],
            options={
                'indexes': [models.Index(fields=['name', 'user_id'], name='flow_by_name')],
                'constraints': [models.UniqueConstraint(fields=('user_id', 'name'), name='flow_of_owner')],
            },
        ),
        migrations.CreateModel(
            name='FlowVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('definition', tasks.fields.JsonTextField()),
                ('inputs_schema', tasks.fields.JsonTextField(null=True)),
                ('description', models.TextField(default='')),
                ('digest', models.CharField(max_length=64)),
                ('created_at', models.DateTimeField()),
                ('flow', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tasks.flow')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('flow', 'number'), name='version_of_flow')],
            },
        ),
        migrations.CreateModel(
            name='Schedule',
            fields=[
                ('id', models.CharField(default=tasks.ids.new_id, max_length=36, primary_key=True, serialize=False)),
                ('user_id', models.CharField(max_length=255)),
                ('name', models.CharField(max_length=255)),
                ('tasks', tasks.fields.JsonTextField(null=True)),
                ('task_id', models.CharField(max_length=255, null=True)),
                ('flow', models.CharField(max_length=100, null=True)),
                ('flow_version', models.PositiveIntegerField(null=True)),
                ('inputs', tasks.fields.JsonTextField(null=True)),
                ('cron', models.CharField(max_length=255, null=True)),
                ('every_seconds', models.PositiveIntegerField(null=True)),
                ('at', models.DateTimeField(null=True)),
                ('timezone', models.CharField(default='UTC', max_length=64)),
                ('starts_at', models.DateTimeField(null=True)),
                ('ends_at', models.DateTimeField(null=True)),
                ('max_runs', models.PositiveIntegerField(null=True)),
                ('overlap', models.CharField(choices=[('skip', 'skip'), ('queue', 'queue'), ('cancel_previous', 'cancel_previous'), ('allow', 'allow')], default='skip', max_length=15)),
                ('catch_up', models.CharField(choices=[('none', 'none'), ('last', 'last'), ('all', 'all')], default='none', max_length=4)),
                ('catch_up_window_seconds', models.PositiveIntegerField(default=3600)),
                ('jitter_seconds', models.PositiveIntegerField(default=0)),
                ('is_paused', models.BooleanField(default=False)),
                ('pause_reason', models.TextField(null=True)),
                ('pause_after_failures', models.PositiveIntegerField(null=True)),
                ('next_slot', models.DateTimeField(null=True)),
                ('next_run_at', models.DateTimeField(null=True)),
                ('last_run_at', models.DateTimeField(null=True)),
                ('last_run_id', models.CharField(max_length=36, null=True)),
                ('last_status', models.CharField(max_length=11, null=True)),
                ('run_count', models.PositiveIntegerField(default=0)),
                ('failures', models.PositiveIntegerField(default=0)),
                ('created_at', models.DateTimeField()),
                ('updated_at', models.DateTimeField()),
                ('schedule_type', models.CharField(max_length=8, null=True)),
                ('tags', tasks.fields.JsonTextField(null=True)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('next_run_at__isnull', False)), fields=['next_run_at'], name='schedule_due'), models.Index(fields=['user_id', '-created_at', '-id'], name='schedule_of_owner'), models.Index(fields=['-created_at', '-id'], name='schedule_recent'), models.Index(condition=models.Q(('task_id__isnull', False)), fields=['task_id'], name='schedule_of_task')],
            },
        ),
        migrations.CreateModel(
            name='Firing',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scheduled_for', models.DateTimeField()),
                ('outcome', models.CharField(choices=[('started', 'started'), ('queued', 'queued'), ('skipped', 'skipped'), ('failed', 'failed')], max_length=7)),
                ('cause', models.CharField(default='clock', max_length=8)),
                ('reason', models.TextField(null=True)),
                ('run_id', models.CharField(max_length=36, null=True)),
                ('root_id', models.CharField(max_length=255, null=True)),
                ('status', models.CharField(choices=[('pending', 'pending'), ('in_progress', 'in_progress'), ('completed', 'completed'), ('failed', 'failed'), ('cancelled', 'cancelled'), ('skipped', 'skipped')], max_length=11, null=True)),
                ('is_open', models.BooleanField(default=False)),
                ('started_at', models.DateTimeField(null=True)),
                ('schedule', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='firings', to='tasks.schedule')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('run_id__isnull', False)), fields=['run_id'], name='firing_of_run'), models.Index(condition=models.Q(('is_open', True)), fields=['schedule'], name='firing_open'), models.Index(condition=models.Q(('outcome', 'queued')), fields=['schedule', 'scheduled_for'], name='firing_queued')],
                'constraints': [models.UniqueConstraint(fields=('schedule', 'scheduled_for'), name='one_firing_for_each_time')],
            },
        ),
        migrations.CreateModel(
            name='ModelCall',
            fields=[
                ('id', models.CharField(max_length=36, primary_key=True, serialize=False)),
                ('run_id', models.CharField(max_length=36)),
                ('root_id', models.CharField(max_length=255)),
                ('task_id', models.CharField(max_length=255)),
                ('user_id', models.CharField(max_length=255)),
                ('executor_id', models.CharField(max_length=255)),
                ('attempt', models.PositiveIntegerField()),
                ('step', models.PositiveIntegerField(null=True)),
                ('agent', models.CharField(max_length=255, null=True)),
                ('crew_task', models.CharField(max_length=255, null=True)),
                ('model', models.CharField(max_length=255)),
                ('status', models.CharField(choices=[('pending', 'pending'), ('in_progress', 'in_progress'), ('completed', 'completed'), ('failed', 'failed'), ('cancelled', 'cancelled'), ('skipped', 'skipped')], max_length=11)),
                ('started_at', models.DateTimeField()),
                ('duration_ms', models.PositiveBigIntegerField(null=True)),
                ('prompt_tokens', models.BigIntegerField(null=True)),
                ('completion_tokens', models.BigIntegerField(null=True)),
                ('total_tokens', models.BigIntegerField(null=True)),
                ('cached_tokens', models.BigIntegerField(null=True)),
                ('reasoning_tokens', models.BigIntegerField(null=True)),
                ('cost_nanos', models.BigIntegerField(null=True)),
                ('finish_reason', models.CharField(max_length=64, null=True)),
                ('error', models.TextField(null=True)),
                ('content', tasks.fields.JsonTextField(null=True)),
            ],
            options={
                'indexes': [models.Index(fields=['run_id', 'started_at', 'id'], name='call_of_run'), models.Index(fields=['run_id', 'task_id', 'started_at', 'id'], name='call_of_task')],
            },
        ),
        migrations.CreateModel(
            name='Notification',
            fields=[
                ('id', models.CharField(default=tasks.ids.new_id, max_length=36, primary_key=True, serialize=False)),
                ('user_id', models.CharField(max_length=255)),
                ('name', models.CharField(max_length=100)),
                ('flow_id', models.CharField(max_length=36, null=True)),
                ('url', models.TextField()),
                ('host', models.CharField(max_length=255)),
                ('sealed', models.TextField()),
                ('created_at', models.DateTimeField()),
                ('updated_at', models.DateTimeField()),
                ('testing_since', models.DateTimeField(null=True)),
                ('on_failure', models.BooleanField(db_default=True, default=True)),
                ('on_question', models.BooleanField(db_default=False, default=False)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('flow_id__isnull', False)), fields=['flow_id'], name='notification_of_flow')],
                'constraints': [models.UniqueConstraint(fields=('user_id', 'name'), name='notification_of_owner')],
            },
        ),
        migrations.CreateModel(
            name='TaskState',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('run_id', models.CharField(max_length=36)),
                ('task_id', models.CharField(max_length=255)),
                ('key', models.CharField(max_length=64)),
                ('value', models.BinaryField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('run_id', 'task_id', 'key'), name='state_of_task')],
            },
        ),
        migrations.CreateModel(
            name='ConversationTurn',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user_id', models.CharField(max_length=255)),
                ('name', models.CharField(max_length=255)),
                ('run_id', models.CharField(max_length=36)),
                ('task_id', models.CharField(max_length=255)),
                ('said', tasks.fields.JsonTextField()),
                ('characters', models.PositiveBigIntegerField()),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'indexes': [models.Index(fields=['user_id', 'name', '-id'], name='turns_of_conversation')],
                'constraints': [models.UniqueConstraint(fields=('run_id', 'task_id'), name='turn_of_task')],
            },
        ),
        migrations.CreateModel(
            name='RunTag',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('run_id', models.CharField(max_length=36)),
                ('tag', models.CharField(max_length=64)),
                ('user_id', models.CharField(max_length=255)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['user_id', 'tag', '-created_at', '-run_id'], name='tagged_of_owner'), models.Index(fields=['tag', '-created_at', '-run_id'], name='tagged')],
                'constraints': [models.UniqueConstraint(fields=('run_id', 'tag'), name='tag_of_run')],
            },
        ),
        migrations.CreateModel(
            name='MailCount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user_id', models.CharField(max_length=255)),
                ('day', models.DateField(db_index=True)),
                ('recipients', models.PositiveBigIntegerField(default=0)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('user_id', 'day'), name='mails_of_user_and_day')],
            },
        ),
        migrations.CreateModel(
            name='SavedView',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user_id', models.CharField(max_length=255)),
                ('place', models.CharField(max_length=16)),
                ('name', models.CharField(max_length=100)),
                ('query', models.TextField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('user_id', 'place', 'name'), name='saved_view_of_user')],
            },
        ),
        migrations.CreateModel(
            name='DayAllowance',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user_id', models.CharField(max_length=255)),
                ('day', models.DateField(db_index=True)),
                ('measure', models.CharField(max_length=16)),
                ('allowed', models.FloatField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('user_id', 'day', 'measure'), name='allowance_of_user_and_day')],
            },
        ),
        migrations.CreateModel(
            name='DayCount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user_id', models.CharField(max_length=255)),
                ('day', models.DateField(db_index=True)),
                ('process', models.CharField(max_length=255)),
                ('tasks', models.BigIntegerField()),
                ('seconds', models.FloatField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('user_id', 'day', 'process'), name='day_of_user_and_process')],
            },
        ),
        migrations.CreateModel(
            name='OpenWaits',
            fields=[
                ('user_id', models.CharField(max_length=255, primary_key=True, serialize=False)),
                ('taken', models.BigIntegerField()),
            ],
        ),
        migrations.RunPython(create),
    ]
