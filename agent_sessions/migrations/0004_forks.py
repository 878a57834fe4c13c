from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("agent_sessions", "0003_usage"),
    ]

    operations = [
        migrations.AddField(
            model_name="agentsession",
            name="forked_from",
            field=models.UUIDField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="agentsession",
            name="forked_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddIndex(
            model_name="agentsession",
            index=models.Index(
                fields=["forked_from"], name="agent_sessions_forked_from"
            ),
        ),
    ]
