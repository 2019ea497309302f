from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('llmkeys', '0001_initial'),
        ('llmkeys', '0002_namedsecret'),
        ('llmkeys', '0003_secret_inputs'),
    ]

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name='LLMKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user_id', models.CharField(max_length=255)),
                ('provider', models.CharField(max_length=64)),
                ('sealed', models.TextField()),
                ('last_four', models.CharField(max_length=4)),
                ('created_at', models.DateTimeField()),
                ('used_at', models.DateTimeField(null=True)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('user_id', 'provider'), name='one_llm_key_per_provider')],
            },
        ),
        migrations.CreateModel(
            name='RunSecret',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('tree_id', models.CharField(max_length=255)),
                ('run_id', models.CharField(max_length=36, null=True, unique=True)),
                ('user_id', models.CharField(max_length=255)),
                ('provider', models.CharField(max_length=64, null=True)),
                ('model_names', models.JSONField(default=list)),
                ('sealed', models.TextField()),
                ('expires_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['tree_id'], name='secret_of_tree'), models.Index(fields=['expires_at'], name='secret_age')],
            },
        ),
        migrations.CreateModel(
            name='NamedSecret',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('user_id', models.CharField(blank=True, max_length=255)),
                ('name', models.CharField(max_length=64)),
                ('sealed', models.TextField()),
                ('allow_hosts', models.JSONField(default=list)),
                ('users', models.JSONField(default=list)),
                ('created_at', models.DateTimeField()),
                ('used_at', models.DateTimeField(null=True)),
                ('allow_in', models.JSONField(null=True)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('user_id', 'name'), name='one_secret_per_name')],
            },
        ),
    ]
