from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.authtoken.views import obtain_auth_token

# The page without what the content security policy forbids: styles and scripts inline.
docs = SpectacularSwaggerSplitView.as_view(
    url_name="schema", template_name="support_desk/api_docs.html"
)


def favicon(request: HttpRequest) -> HttpResponse:
    """Browsers ask for it on pages that name no icon, such as the admin's."""
    return redirect(static("support_desk/icon.svg"))


urlpatterns = [
    path("favicon.ico", favicon),
    path("admin/", admin.site.urls),
    path("api/", include("agent_sessions.api.urls")),
    path("api/token/", obtain_auth_token, name="api_token"),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", docs, name="api_docs"),
    path("integrations/", include("support_desk.integrations.urls")),
    path("", include("support_desk.urls")),
]
