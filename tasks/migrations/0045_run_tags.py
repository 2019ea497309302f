from django.db import migrations, models

import tasks.fields


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0044_conversations'),
    ]

    operations = [
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
                'indexes': [
                    models.Index(fields=['user_id', 'tag', '-created_at', '-run_id'], name='tagged_of_owner'),
                    models.Index(fields=['tag', '-created_at', '-run_id'], name='tagged'),
                ],
                'constraints': [models.UniqueConstraint(fields=('run_id', 'tag'), name='tag_of_run')],
            },
        ),
        migrations.AddField(
            model_name='schedule',
            name='tags',
            field=tasks.fields.JsonTextField(null=True),
        ),
    ]
