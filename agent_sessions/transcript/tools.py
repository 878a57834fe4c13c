"""
Calls of tools and their outputs, each kind with its own fields.

Source: the item types of openai.types.responses (ResponseInputItem). A type that is not
named here but ends in ``_call`` or ``_output`` is read as one of these all the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeGuard

from agent_sessions.shapes import Item
from agent_sessions.transcript.blocks import (
    Approval,
    Handoff,
    ToolCall,
    ToolOutput,
)
from agent_sessions.transcript.parts import (
    Code,
    Part,
    Text,
    code_part,
    json_part,
    read_arguments,
    read_content,
    read_image,
    read_output,
    text_part,
    word,
)
from agent_sessions.transcript.spelling import base64_size, read_json

HOSTED = {"code_interpreter", "file_search", "image_generation", "mcp", "web_search"}
# Named by what they are and not by "_call".
_CALLS = {"mcp_approval_request": "mcp_approval", "program": "program"}
_OUTPUTS = {
    "mcp_approval_response": "mcp_approval",
    "program_output": "program",
    "tool_search_output": "tool_search",
}
_APPROVED = {"approved": True, "rejected": False}
# Fields that say which item this is, and those that are shown in a place of their own.
_FRAME = {
    "call_id",
    "caller",
    "created_by",
    "id",
    "name",
    "namespace",
    "provider_data",
    "server_label",
    "status",
    "type",
}


def call_family(type: str) -> str:
    """Return the family of a call, "" if ``type`` is not one of a call."""
    return _CALLS.get(type) or (
        type.removesuffix("_call") if type.endswith("_call") else ""
    )


def output_family(type: str) -> str:
    """Return the family of an output, "" if ``type`` is not one of an output."""
    return _OUTPUTS.get(type) or (
        type.removesuffix("_call_output") if type.endswith("_call_output") else ""
    )


def read_call(item: Item, family: str, frame: dict[str, Any]) -> ToolCall:
    error = item.get("error")
    found: dict[str, Any] = {
        **frame,
        "family": word(family),
        "call_id": word(item.get("call_id")),
        "name": word(item.get("name")),
        "namespace": word(item.get("namespace")) or word(item.get("server_label")),
        "status": word(item.get("status")),
        "input": _INPUTS.get(family, _other_input)(item),
        "error": None if error is None else _error(error),
    }
    if family == "mcp_approval":
        return Approval(**{**found, "call_id": word(item.get("id"))})
    if family in HOSTED:
        found |= {"hosted": True, "results": _RESULTS[family](item)}
    return ToolCall(**found)


def read_call_output(item: Item, family: str, frame: dict[str, Any]) -> ToolOutput:
    call_id = word(item.get("call_id"))
    if family == "mcp_approval":
        call_id = word(item.get("approval_request_id"))
    elif family == "local_shell":
        # The API's own shape names the call by the output's id.
        call_id = call_id or word(item.get("id"))
    return ToolOutput(
        **frame,
        family=word(family),
        call_id=call_id,
        name=word(item.get("name")),
        status=_approval(item) or word(item.get("status")),
        parts=_OUTPUT_PARTS.get(family, _plain_output)(item),
    )


def join_output(call: ToolCall, output: ToolOutput) -> ToolCall:
    """Return the call with its output in it."""
    if isinstance(call, Approval):
        return replace(call, output=output, approved=_APPROVED.get(output.status))
    call = replace(call, output=output)
    target = _handoff_target(call, output)
    if not target:
        return call
    known = {field.name: getattr(call, field.name) for field in fields(call)}
    return Handoff(**known, target=target)


def _handoff_target(call: ToolCall, output: ToolOutput) -> str:
    # A refused handoff and a tool of the same name answer with something else.
    # Source: agents.Handoff.get_transfer_message() and default_tool_name().
    if call.family != "function" or not call.name.startswith("transfer_to_"):
        return ""
    if len(output.parts) != 1 or not isinstance(output.parts[0], Code):
        return ""
    answer = read_json(output.parts[0].text)
    if not isinstance(answer, dict) or set(answer) != {"assistant"}:
        return ""
    return word(answer["assistant"])


def _approval(item: Item) -> str:
    approve = item.get("approve")
    return {"True": "approved", "False": "rejected"}.get(repr(approve), "")


def _function_input(item: Item) -> tuple[Part, ...]:
    return read_arguments(item.get("arguments"))


def _custom_input(item: Item) -> tuple[Part, ...]:
    return read_arguments(item.get("input"))


def _computer_input(item: Item) -> tuple[Part, ...]:
    names = ("action", "actions", "pending_safety_checks")
    return tuple(json_part(item[name]) for name in names if item.get(name))


def _shell_input(item: Item) -> tuple[Part, ...]:
    action = item.get("action")
    if isinstance(action, dict):
        commands = action.get("commands")
        if _is_words(commands):
            return (code_part("\n".join(commands), "sh"),)
        command = action.get("command")
        if _is_words(command):
            return (code_part(shlex.join(command), "sh"),)
    return _other_input(item)


def _patch_input(item: Item) -> tuple[Part, ...]:
    operation = item.get("operation")
    if not isinstance(operation, dict):
        return _other_input(item)
    what = f"{word(operation.get('type'))} {word(operation.get('path'))}".strip()
    diff = operation.get("diff")
    parts: tuple[Part, ...] = (text_part(what),) if what else ()
    return (*parts, code_part(diff, "diff")) if isinstance(diff, str) else parts


def _code_input(item: Item) -> tuple[Part, ...]:
    code = item.get("code")
    return (code_part(code),) if isinstance(code, str) else ()


def _image_input(item: Item) -> tuple[Part, ...]:
    prompt = item.get("revised_prompt")
    return (text_part(prompt),) if isinstance(prompt, str) else ()


def _file_search_input(item: Item) -> tuple[Part, ...]:
    return _lines(item.get("queries"))


def _web_search_input(item: Item) -> tuple[Part, ...]:
    action = item.get("action")
    if not isinstance(action, dict):
        return _other_input(item)
    lines = [
        action[name]
        for name in ("query", "pattern", "url")
        if isinstance(action.get(name), str)
    ]
    queries = action.get("queries")
    if _is_words(queries):
        lines += [query for query in queries if query not in lines]
    return _lines(lines)


def _other_input(item: Item) -> tuple[Part, ...]:
    rest = {
        name: value
        for name, value in item.items()
        if name not in _FRAME | {"error", "output", "outputs", "result", "results"}
    }
    if set(rest) in ({"arguments"}, {"input"}):
        return read_arguments(next(iter(rest.values())))
    return (json_part(rest),) if rest else ()


def _mcp_results(item: Item) -> tuple[Part, ...]:
    return read_output(item.get("output"))


def _file_search_results(item: Item) -> tuple[Part, ...]:
    results = item.get("results")
    parts: list[Part] = []
    for result in results if isinstance(results, list) else []:
        text = result.get("text") if isinstance(result, dict) else None
        if not isinstance(text, str):
            parts.append(json_part(result))
            continue
        name = word(result.get("filename")) or word(result.get("file_id"))
        parts.append(text_part(f"{name}\n{text}" if name else text))
    return tuple(parts)


def _web_search_results(item: Item) -> tuple[Part, ...]:
    action = item.get("action")
    sources = action.get("sources") if isinstance(action, dict) else None
    if not isinstance(sources, list):
        return ()
    urls = [word(one.get("url")) if isinstance(one, dict) else "" for one in sources]
    return _lines([url for url in urls if url])


def _code_results(item: Item) -> tuple[Part, ...]:
    outputs = item.get("outputs")
    parts: list[Part] = []
    for output in outputs if isinstance(outputs, list) else []:
        if isinstance(output, dict) and isinstance(output.get("logs"), str):
            parts.append(code_part(output["logs"]))
        else:
            parts.extend(read_content([output]))
    return tuple(parts)


def _image_results(item: Item) -> tuple[Part, ...]:
    result = item.get("result")
    if not isinstance(result, str) or not result:
        return ()
    format = word(item.get("output_format")) or "png"
    image = read_image({"data": result, "media_type": f"image/{format}"})
    return (image,) if base64_size(result) else ()


def _plain_output(item: Item) -> tuple[Part, ...]:
    for name in ("output", "result", "outputs", "results"):
        if name in item:
            return read_output(item[name])
    return _other_input(item)


def _computer_output(item: Item) -> tuple[Part, ...]:
    checks = item.get("acknowledged_safety_checks")
    parts = _plain_output(item)
    return (*parts, json_part(checks)) if checks else parts


def _patch_output(item: Item) -> tuple[Part, ...]:
    return read_output(item.get("output"))


def _tool_search_output(item: Item) -> tuple[Part, ...]:
    names = tool_names(item.get("tools"))
    return _lines(names) if names else _other_input(item)


def _approval_output(item: Item) -> tuple[Part, ...]:
    if not _approval(item):
        return _other_input(item)
    reason = item.get("reason")
    return (text_part(reason),) if isinstance(reason, str) and reason else ()


def tool_names(tools: Any) -> list[str]:
    """Return the names of a list of tools, by their types where they have no name."""
    found = []
    for tool in tools if isinstance(tools, list) else []:
        if isinstance(tool, dict):
            names = (tool.get("name"), tool.get("server_label"), tool.get("type"))
            found += [word(name) for name in names if word(name)][:1]
    return found


def _error(value: Any) -> Code:
    return code_part(value) if isinstance(value, str) else json_part(value)


def _lines(value: Any) -> tuple[Part, ...]:
    if not value:
        return ()
    if not _is_words(value):
        return (json_part(value),)
    text: Text = text_part("\n".join(value))
    return (text,)


def _is_words(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


_Reader = Callable[[Item], tuple[Part, ...]]
_INPUTS: dict[str, _Reader] = {
    "apply_patch": _patch_input,
    "code_interpreter": _code_input,
    "computer": _computer_input,
    "custom_tool": _custom_input,
    "file_search": _file_search_input,
    "function": _function_input,
    "image_generation": _image_input,
    "local_shell": _shell_input,
    "mcp": _function_input,
    "mcp_approval": _function_input,
    "program": _code_input,
    "shell": _shell_input,
    "tool_search": _function_input,
    "web_search": _web_search_input,
}
_RESULTS: dict[str, _Reader] = {
    "code_interpreter": _code_results,
    "file_search": _file_search_results,
    "image_generation": _image_results,
    "mcp": _mcp_results,
    "web_search": _web_search_results,
}
_OUTPUT_PARTS: dict[str, _Reader] = {
    "apply_patch": _patch_output,
    "computer": _computer_output,
    "mcp_approval": _approval_output,
    "tool_search": _tool_search_output,
}
