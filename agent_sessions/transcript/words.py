"""The words for roles, tools and states, in the reader's language."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from agent_sessions.amounts import shorten_amount
from agent_sessions.usage import TokenUsage

_ROLES: dict[str, Any] = {
    "": _("No role"),
    "assistant": _("Assistant"),
    "developer": _("Developer"),
    "system": _("System"),
    "tool": _("Tool"),
    "user": pgettext_lazy("role in a session", "User"),
}
_TOOLS: dict[str, Any] = {
    "apply_patch": _("Patch"),
    "code_interpreter": _("Code interpreter"),
    "computer": _("Computer"),
    "custom_tool": _("Custom tool"),
    "file_search": _("File search"),
    "function": _("Tool"),
    "image_generation": _("Image generation"),
    "local_shell": _("Shell"),
    "mcp": _("MCP tool"),
    "mcp_approval": _("Approval"),
    "program": _("Program"),
    "shell": _("Shell"),
    "tool_search": _("Tool search"),
    "web_search": _("Web search"),
}
_STATUSES: dict[str, Any] = {
    "approved": _("approved"),
    "calling": _("in progress"),
    "completed": "",
    "failed": _("failed"),
    "generating": _("in progress"),
    "in_progress": _("in progress"),
    "incomplete": _("incomplete"),
    "interpreting": _("in progress"),
    "rejected": _("rejected"),
    "searching": _("in progress"),
}
_ATTACHMENTS: dict[str, Any] = {
    "audio": _("Audio"),
    "file": _("File"),
    "image": _("Image"),
}
_PHASES: dict[str, Any] = {
    "commentary": _("interim remark"),
    "final_answer": "",
}


def role_word(role: str) -> str:
    return str(_ROLES.get(role, role))


def tool_word(family: str) -> str:
    return str(_TOOLS.get(family, family))


def status_word(status: str) -> str:
    """Return what is worth saying of a status; "" if all went well."""
    return str(_STATUSES.get(status, status))


def attachment_word(type: str) -> str:
    return str(_ATTACHMENTS.get(type, type))


def phase_word(phase: str) -> str:
    return str(_PHASES.get(phase, phase))


def usage_words(usage: TokenUsage) -> str:
    """Return the tokens in and out and the requests, in short; "" for nothing."""
    if not usage:
        return ""
    tokens = gettext("Tokens: %(input)s in, %(output)s out") % {
        "input": shorten_amount(usage.input_tokens),
        "output": shorten_amount(usage.output_tokens),
    }
    requests = ngettext("%(count)s request", "%(count)s requests", usage.requests)
    return f"{tokens}; {requests % {'count': shorten_amount(usage.requests)}}"
