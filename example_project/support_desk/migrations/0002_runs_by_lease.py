from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("agent_sessions", "0005_leases"),
        ("support_desk", "0001_initial"),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="chatrun", name="support_desk_one_run"),
        migrations.RemoveField(model_name="chatrun", name="seen_at"),
    ]
