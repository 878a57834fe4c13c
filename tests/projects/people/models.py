"""Users without a username, each kind with another key."""

from __future__ import annotations

import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class Person(AbstractBaseUser):
    email = models.EmailField(unique=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "email"

    class Meta:
        abstract = True


class IntegerUser(Person):
    id = models.BigAutoField(primary_key=True)


class UUIDUser(Person):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)


class StringUser(Person):
    id = models.CharField(primary_key=True, max_length=40)
