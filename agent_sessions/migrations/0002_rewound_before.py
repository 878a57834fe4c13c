from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agent_sessions", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="agentsession",
            name="rewound_before",
            field=models.IntegerField(db_default=0, default=0, editable=False),
        ),
    ]
