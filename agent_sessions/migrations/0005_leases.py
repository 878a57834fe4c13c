from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agent_sessions", "0004_forks")]

    operations = [
        migrations.AddField(
            model_name="agentsession",
            name="lease",
            field=models.UUIDField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="agentsession",
            name="leased_until",
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
