from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.urls import path

from support_desk import chat, logins, views

urlpatterns = [
    path("", views.home, name="home"),
    path("sessions/<uuid:pk>/", views.session, name="session"),
    path("sessions/<uuid:pk>/transcript/", views.transcript, name="transcript"),
    path("sessions/<uuid:pk>/change/", views.change, name="change"),
    path("sessions/<uuid:pk>/delete/", views.delete, name="delete"),
    path("start/", chat.start, name="start"),
    path("sessions/<uuid:pk>/send/", chat.send, name="send"),
    path("sessions/<uuid:pk>/edit/", chat.edit, name="edit"),
    path("sessions/<uuid:pk>/retry/", chat.retry, name="retry"),
    path("sessions/<uuid:pk>/stop/", chat.stop, name="stop"),
    path("sessions/<uuid:pk>/events/<uuid:run>/", chat.events, name="events"),
    path("login/", logins.LoginView.as_view(), name="login"),
    path("login/demo/", logins.demo_login, name="demo_login"),
    path("logout/", LogoutView.as_view(), name="logout"),
]
