from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0048_test_of_a_notification'),
    ]

    operations = [
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
    ]
