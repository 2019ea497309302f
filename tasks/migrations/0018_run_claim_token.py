from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0017_indexes_of_roots'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='claim_token',
            field=models.CharField(max_length=16, null=True),
        ),
    ]
