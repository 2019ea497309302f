from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0047_mail_counts'),
    ]

    operations = [
        migrations.AddField(
            model_name='notification',
            name='testing_since',
            field=models.DateTimeField(null=True),
        ),
    ]
