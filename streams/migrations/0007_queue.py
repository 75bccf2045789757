from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('streams', '0001_squashed_0006_live_runs_of_an_owner'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='lease_length',
            field=models.DurationField(editable=False, null=True),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('ended_event_id__isnull', True)), fields=['status', 'created_at'], name='waiting_runs'),
        ),
    ]
