from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('apflow_a2a', '0002_watched_resources'),
    ]

    operations = [
        migrations.CreateModel(
            name='EndedSession',
            fields=[
                ('session', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('expires_at', models.DateTimeField(db_index=True)),
            ],
        ),
    ]
