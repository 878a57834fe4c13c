from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.urls import path

from support_desk import views

urlpatterns = [
    path("", views.sessions, name="sessions"),
    path("new/", views.start_session, name="start_session"),
    path("sessions/<uuid:pk>/", views.session, name="session"),
    path("sessions/<uuid:pk>/send/", views.send_message, name="send_message"),
    path("staff/", views.staff_sessions, name="staff_sessions"),
    path("staff/<uuid:pk>/", views.staff_session, name="staff_session"),
    path("login/", views.LoginView.as_view(), name="login"),
    path("login/demo/", views.demo_login, name="demo_login"),
    path("logout/", LogoutView.as_view(), name="logout"),
]
