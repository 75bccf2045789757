import django.db.models.deletion
import django.db.models.functions.datetime
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    replaces = [
        ('streams', '0001_initial'),
        ('streams', '0002_unsaid_runs'),
        ('streams', '0003_owners_latest_runs'),
        ('streams', '0004_unsaid_titles_and_removals'),
        ('streams', '0005_started_event'),
        ('streams', '0006_live_runs_of_an_owner'),
    ]

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Removal',
            fields=[
                ('conversation', models.UUIDField(primary_key=True, serialize=False)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
        ),
        migrations.CreateModel(
            name='Answer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('owner', models.CharField(max_length=64)),
                ('route', models.CharField(max_length=200)),
                ('key', models.CharField(max_length=255)),
                ('digest', models.CharField(help_text="SHA-256 of the request's body", max_length=64)),
                ('status', models.PositiveSmallIntegerField()),
                ('body', models.JSONField()),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'indexes': [models.Index(fields=['created_at'], name='answers_by_age')],
                'constraints': [models.UniqueConstraint(fields=('owner', 'route', 'key'), name='one_answer_a_key')],
            },
        ),
        migrations.CreateModel(
            name='Conversation',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('owner', models.CharField(help_text='user:<id>, or visitor:<uuid>', max_length=64)),
                ('title', models.CharField(max_length=200)),
                ('model', models.CharField(max_length=200)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('head', models.BigIntegerField(default=0, editable=False, help_text='the highest event id known to have been said')),
                ('title_pending_since', models.DateTimeField(editable=False, help_text='since when its readers are to be told of a new title', null=True)),
            ],
            options={
                'ordering': ['-created_at', '-id'],
                'indexes': [models.Index(fields=['owner', '-created_at', '-id'], name='owners_newest'), models.Index(fields=['title_pending_since'], name='unsaid_titles')],
            },
        ),
        migrations.CreateModel(
            name='Message',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('role', models.CharField(choices=[('system', 'System'), ('user', 'User'), ('assistant', 'Assistant')], max_length=9)),
                ('content', models.TextField()),
                ('turn', models.PositiveIntegerField(editable=False)),
                ('event', models.BigIntegerField(editable=False, help_text='the id of the event that first told readers of it', null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('conversation', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='messages', to='streams.conversation')),
                ('reply_to', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='replies', to='streams.message')),
            ],
            options={
                'ordering': ['turn', 'created_at', 'id'],
            },
        ),
        migrations.CreateModel(
            name='Run',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('owner', models.CharField(editable=False, max_length=64)),
                ('model', models.CharField(max_length=200)),
                ('status', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('completed', 'Completed'), ('cancelled', 'Cancelled'), ('failed', 'Failed')], default='queued', max_length=9)),
                ('attempt', models.PositiveIntegerField(default=0)),
                ('uncounted_attempts', models.PositiveIntegerField(default=0, help_text='attempts that do not count')),
                ('worker', models.UUIDField(blank=True, editable=False, null=True)),
                ('lease_until', models.DateTimeField(blank=True, editable=False, null=True)),
                ('dispatched_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('cancel_asked', models.BooleanField(default=False)),
                ('queued_event_id', models.BigIntegerField(editable=False, null=True)),
                ('started_event_id', models.BigIntegerField(editable=False, null=True)),
                ('ended_event_id', models.BigIntegerField(editable=False, null=True)),
                ('finish_reason', models.CharField(blank=True, max_length=40)),
                ('code', models.CharField(blank=True, max_length=40)),
                ('reason', models.CharField(blank=True, max_length=300)),
                ('input_tokens', models.PositiveIntegerField(default=0)),
                ('output_tokens', models.PositiveIntegerField(default=0)),
                ('total_tokens', models.PositiveIntegerField(default=0)),
                ('estimated', models.BooleanField(default=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('started_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('first_token_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('ended_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('conversation', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='streams.conversation')),
                ('message', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='streams.message')),
                ('reply', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='written_by', to='streams.message')),
            ],
            options={
                'ordering': ['message__turn', 'created_at', 'id'],
            },
        ),
        migrations.CreateModel(
            name='Token',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100)),
                ('digest', models.CharField(editable=False, max_length=64, unique=True)),
                ('scopes', models.CharField(default='read write', max_length=20)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('last_used_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tokens', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(fields=['conversation', 'turn', 'created_at', 'id'], name='turns'),
        ),
        migrations.AddConstraint(
            model_name='message',
            constraint=models.UniqueConstraint(condition=models.Q(('role', 'user')), fields=('conversation', 'turn'), name='one_question_a_turn'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('ended_event_id__isnull', True)), fields=['owner', 'status'], name='owners_live_runs'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('ended_event_id__isnull', True)), fields=['conversation'], name='unsaid_runs'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(fields=['owner', 'created_at'], name='owners_latest_runs'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(fields=['worker'], name='workers_runs'),
        ),
        migrations.AddConstraint(
            model_name='run',
            constraint=models.UniqueConstraint(condition=models.Q(('status', 'running')), fields=('conversation',), name='one_running_run'),
        ),
    ]
