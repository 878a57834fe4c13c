from __future__ import annotations

import os

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example.settings")
# The demo serves its own static files; a real site leaves them to its web server.
application = ASGIStaticFilesHandler(get_asgi_application())
