from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from agent_sessions.exceptions import InvalidMetadata, InvalidTitle
from agent_sessions.metadata import clean_metadata
from agent_sessions.models import REASON_MAX_LENGTH, AgentSession
from agent_sessions.refusals import explain
from agent_sessions.store.sessions import clean_title


class SessionForm(forms.ModelForm):  # type: ignore[type-arg]
    """What people keep about a session. What was said in it is not theirs to edit."""

    archived = forms.BooleanField(label=_("archived"), required=False)

    class Meta:
        model = AgentSession
        fields = ["title", "metadata"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["archived"] = self.instance.archived_at is not None
        if "metadata" in self.fields:
            # Django trusts a hidden field for fields whose default is callable.
            self.fields["metadata"].show_hidden_initial = False

    def clean_title(self) -> str:
        try:
            return clean_title(self.cleaned_data["title"])
        except InvalidTitle as error:
            raise forms.ValidationError(explain(error), code="invalid") from None

    def clean_metadata(self) -> Any:
        metadata = self.cleaned_data["metadata"]
        try:
            return clean_metadata({} if metadata is None else metadata)
        except InvalidMetadata as error:
            raise forms.ValidationError(explain(error), code="invalid") from None


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=_("Reason"),
        max_length=REASON_MAX_LENGTH,
        help_text=_("As a ticket's number. It is kept with your name."),
    )
