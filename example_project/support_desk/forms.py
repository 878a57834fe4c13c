"""What the chat's forms send."""

from __future__ import annotations

from django import forms

MAX_LENGTH = 2000
MAX_INTEGER = 2**31 - 1


class RunForm(forms.Form):
    # Made for one press of a button: pressed twice, sent twice, it is still one run.
    run = forms.UUIDField()


class TextForm(RunForm):
    text = forms.CharField(max_length=MAX_LENGTH)


class AgainForm(RunForm):
    # How far the session went when its page was made.
    seen = forms.IntegerField(min_value=0, max_value=MAX_INTEGER)


class EditForm(AgainForm, TextForm):
    turn = forms.IntegerField(min_value=1, max_value=MAX_INTEGER)
