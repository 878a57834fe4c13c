from __future__ import annotations

import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_sessions.fields import BrokenItem
from agent_sessions.transcript.blocks import (
    Approval,
    Broken,
    Compaction,
    Encrypted,
    Handoff,
    Message,
    Reasoning,
    Reference,
    ToolCall,
    ToolList,
    ToolOutput,
    Unknown,
    shorten,
)
from agent_sessions.transcript.markdown import fence, inline_code, write_markdown
from agent_sessions.transcript.parts import Attachment, Code, Refusal, Text
from agent_sessions.transcript.reading import pair_blocks, read_block
from agent_sessions.transcript.spelling import data_url, spell_json, spell_text
from agent_sessions.transcript.turns import Previous, group_blocks, select_blocks
from agent_sessions.transcript.words import role_word, status_word, tool_word
from agent_sessions.usage import TokenUsage
from tests.nasty import NASTY_ITEMS, nested

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Row:
    position: int
    data: Any
    turn: int = 1
    created_at: datetime = START
    replaced_at: datetime | None = None


def rows(*items: Any, first: int = 0) -> list[Row]:
    return [Row(first + number, item) for number, item in enumerate(items)]


def read(*items: Any) -> list[Any]:
    return list(pair_blocks(read_block(row) for row in rows(*items)))


def read_one(item: Any) -> Any:
    (block,) = read(item)
    return block


def texts(parts: Any) -> list[str]:
    return [part.text for part in parts]


def call(call_id: str = "c1", name: str = "look_up", **fields: Any) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": '{"id": 7}',
        **fields,
    }


def output(call_id: str = "c1", output: Any = "found") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


# Messages


def test_a_message_has_its_role_and_its_words():
    block = read_one({"role": "user", "content": "hello"})
    assert isinstance(block, Message)
    assert (block.role, texts(block.parts)) == ("user", ["hello"])
    assert block.extra is None


def test_a_message_may_have_parts_of_every_kind():
    block = read_one(
        {
            "type": "message",
            "role": "assistant",
            "status": "incomplete",
            "phase": "commentary",
            "content": [
                {"type": "output_text", "text": "one", "annotations": []},
                {"type": "refusal", "refusal": "I will not"},
                "two",
                {"type": "telepathy", "waves": 3},
                7,
            ],
        }
    )
    text, refusal, bare, unknown, number = block.parts
    assert (text.text, bare.text) == ("one", "two")
    assert isinstance(refusal, Refusal)
    assert refusal.text == "I will not"
    assert isinstance(unknown, Code)
    assert '"waves": 3' in unknown.text
    assert number.text == "7"
    assert (block.status, block.phase) == ("incomplete", "commentary")


def test_fields_that_only_this_message_has_are_not_hidden():
    block = read_one({"role": "assistant", "content": "", "tool_calls": [{"id": "x"}]})
    assert '"tool_calls"' in block.extra.text
    assert read_one({"role": "user", "content": "", "id": "m1"}).extra is None


def test_citations_are_named():
    url = {"type": "url_citation", "url": "https://x.test/", "title": "X"}
    file = {"type": "file_citation", "file_id": "f1", "filename": "a.pdf"}
    bare = {"type": "file_path", "file_id": "f2"}
    part = {"type": "output_text", "text": "t", "annotations": [url, file, bare, 3]}
    block = read_one({"role": "assistant", "content": [part]})
    found = [(one.title, one.target) for one in block.parts[0].citations]
    assert found == [("X", "https://x.test/"), ("a.pdf", "f1"), ("f2", "")]


# What stands in for data


def test_an_image_is_a_placeholder_with_media_type_and_size():
    url = "data:image/png;base64," + "A" * 400
    part = {"type": "input_image", "image_url": url, "detail": "auto"}
    block = read_one({"role": "user", "content": [part]})
    assert block.parts == (Attachment("image", "image/png", 300),)


def test_an_image_elsewhere_is_named_by_its_address():
    parts = [
        {"type": "input_image", "image_url": "https://x.test/a.png"},
        {"type": "input_image", "file_id": "file_1"},
        {"type": "image_url", "image_url": {"url": "https://x.test/b.png"}},
    ]
    block = read_one({"role": "user", "content": parts})
    references = [part.reference for part in block.parts]
    assert references == ["https://x.test/a.png", "file_1", "https://x.test/b.png"]
    assert {part.size for part in block.parts} == {None}


def test_files_and_audio_are_placeholders_too():
    parts = [
        {"type": "input_file", "filename": "a.pdf", "file_data": "AAAA"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AAA="},
        {"type": "file", "file": {"filename": "b.txt", "file_id": "f2"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
        {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"},
    ]
    block = read_one({"role": "user", "content": parts})
    assert block.parts == (
        Attachment("file", "", 3, "a.pdf"),
        Attachment("file", "application/pdf", 2),
        Attachment("file", "", None, "b.txt", "f2"),
        Attachment("audio", "audio/mp3", 3),
        Attachment("audio", "audio/wav", 3),
    )


def test_only_data_urls_count_as_data():
    assert data_url("data:image/png;base64,AAAA") == ("image/png", 3)
    assert data_url("data:image/svg+xml;charset=utf-8,<svg>") == ("image/svg+xml", 5)
    assert data_url("data: hello, world") is None
    assert data_url("data:,x") is None


# Tools


def test_a_call_and_its_output_are_one_block():
    block = read_one_pair(call(), output())
    assert (block.name, block.family, block.call_id) == ("look_up", "function", "c1")
    assert texts(block.input) == ['{\n  "id": 7\n}']
    assert texts(block.output.parts) == ["found"]
    assert (block.position, block.output.position) == (0, 1)
    assert block.is_answered


def read_one_pair(first: Any, second: Any) -> Any:
    (block,) = read(first, second)
    return block


def test_parallel_calls_find_each_their_own_output():
    blocks = read(call("a"), call("b"), user("?"), output("b", "B"), output("a", "A"))
    assert [block.position for block in blocks] == [0, 1, 2]
    assert texts(blocks[0].output.parts) == ["A"]
    assert texts(blocks[1].output.parts) == ["B"]


def test_an_output_before_its_call_is_found_as_well():
    (block,) = read(output(), call())
    assert isinstance(block, ToolCall)
    assert (block.position, block.output.position) == (1, 0)


def test_a_call_without_output_and_an_output_without_call_are_told():
    lonely_call, lonely_output = read(call("a"), output("b"))
    assert not lonely_call.is_answered
    assert isinstance(lonely_output, ToolOutput)
    assert lonely_output.call_position is None


def test_an_output_goes_to_the_latest_call_with_its_id():
    first, second = read(call(), call(), output())
    assert not first.is_answered
    assert second.is_answered


def test_a_second_output_stands_alone():
    pair, again = read(call(), output(), output())
    assert pair.output.position == 1
    assert (again.kind, again.position) == ("tool_output", 2)


def test_calls_of_another_kind_are_not_answered():
    custom = {"type": "custom_tool_call", "call_id": "c1", "name": "x", "input": "y"}
    assert len(read(custom, output())) == 2


def test_calls_without_an_id_are_not_paired():
    assert len(read(call(""), output(""))) == 2
    assert len(read(call(None), output(["c1"]))) == 2


def test_the_window_bounds_what_is_kept_in_memory():
    between = [user(str(number)) for number in range(10)]
    blocks = [read_block(row) for row in rows(call(), *between, output())]
    assert len(list(pair_blocks(iter(blocks), window=11))) == 11
    apart = list(pair_blocks(iter(blocks), window=10))
    assert len(apart) == 12
    assert not apart[0].is_answered

    given = iter(blocks)
    next(pair_blocks(given, window=3))
    assert len(list(given)) == 12 - 4


@pytest.mark.parametrize(
    ("first", "second", "name", "inputs", "outputs"),
    [
        (
            {"type": "custom_tool_call", "call_id": "1", "name": "sql", "input": "SEL"},
            {"type": "custom_tool_call_output", "call_id": "1", "output": "3 rows"},
            "sql",
            ["SEL"],
            ["3 rows"],
        ),
        (
            {
                "type": "local_shell_call",
                "call_id": "1",
                "action": {"type": "exec", "command": ["ls", "a b"], "env": {}},
            },
            {"type": "local_shell_call_output", "id": "1", "output": "x"},
            "",
            ["ls 'a b'"],
            ["x"],
        ),
        (
            {"type": "shell_call", "call_id": "1", "action": {"commands": ["a", "b"]}},
            {
                "type": "shell_call_output",
                "call_id": "1",
                "output": [
                    {
                        "stdout": "out",
                        "stderr": "err",
                        "outcome": {"type": "exit", "exit_code": 2},
                    }
                ],
            },
            "",
            ["a\nb"],
            ["out", "err", '{\n  "type": "exit",\n  "exit_code": 2\n}'],
        ),
        (
            {
                "type": "apply_patch_call",
                "call_id": "1",
                "operation": {"type": "update_file", "path": "a.py", "diff": "+x"},
            },
            {"type": "apply_patch_call_output", "call_id": "1", "status": "failed"},
            "",
            ["update_file a.py", "+x"],
            [],
        ),
        (
            {"type": "tool_search_call", "call_id": None, "arguments": {"q": 1}},
            {"type": "tool_search_output", "tools": [{"name": "a"}, {"type": "mcp"}]},
            "",
            ['{\n  "q": 1\n}'],
            ["a\nmcp"],
        ),
        (
            {"type": "program", "id": "p", "call_id": "1", "code": "x = 1"},
            {"type": "program_output", "call_id": "1", "result": "1"},
            "",
            ["x = 1"],
            ["1"],
        ),
        (
            {"type": "telepathy_call", "call_id": "1", "name": "t", "waves": 3},
            {"type": "telepathy_call_output", "call_id": "1", "answer": True},
            "t",
            ['{\n  "waves": 3\n}'],
            ['{\n  "answer": true\n}'],
        ),
    ],
    ids=lambda value: value.get("type") if isinstance(value, dict) else "",
)
def test_every_kind_of_call_is_paired(first, second, name, inputs, outputs):
    block = read_one_pair(first, second)
    assert block.name == name
    assert texts(block.input) == inputs
    assert texts(block.output.parts) == outputs
    assert tool_word(block.family)


def test_a_screenshot_is_a_placeholder():
    action = {"type": "click", "x": 1, "y": 2}
    block = read_one_pair(
        {"type": "computer_call", "call_id": "1", "action": action},
        {
            "type": "computer_call_output",
            "call_id": "1",
            "output": {
                "type": "computer_screenshot",
                "image_url": "data:image/png;base64,AAAA",
            },
            "acknowledged_safety_checks": [{"id": "s1"}],
        },
    )
    assert '"click"' in block.input[0].text
    screenshot, checks = block.output.parts
    assert screenshot == Attachment("image", "image/png", 3)
    assert "s1" in checks.text


def test_images_in_the_output_of_a_tool_are_placeholders():
    url = "data:image/jpeg;base64,AAAA"
    parts = [{"type": "input_text", "text": "see"}, {"type": "image", "data": "AAAA"}]
    assert texts(read_one_pair(call(), output(output=parts)).output.parts[:1]) == [
        "see"
    ]
    assert read_one_pair(call(), output(output=url)).output.parts == (
        Attachment("image", "image/jpeg", 3),
    )


def test_hosted_tools_have_their_results_inside():
    search = read_one(
        {
            "type": "file_search_call",
            "queries": ["refund", "return"],
            "status": "completed",
            "results": [{"filename": "a.md", "text": "30 days"}, {"file_id": "f"}, 3],
        }
    )
    assert search.is_answered
    assert texts(search.input) == ["refund\nreturn"]
    assert texts(search.results)[0] == "a.md\n30 days"

    web = read_one(
        {
            "type": "web_search_call",
            "action": {
                "type": "search",
                "query": "a",
                "queries": ["a", "b"],
                "sources": [{"type": "url", "url": "https://x.test/"}],
            },
        }
    )
    assert texts(web.input) == ["a\nb"]
    assert texts(web.results) == ["https://x.test/"]

    code = read_one(
        {
            "type": "code_interpreter_call",
            "code": "1/0",
            "outputs": [
                {"type": "logs", "logs": "oh"},
                {"type": "image", "url": "https://x.test/i.png"},
            ],
        }
    )
    assert texts(code.input) == ["1/0"]
    assert code.results[0].text == "oh"
    assert code.results[1].reference == "https://x.test/i.png"

    image = read_one(
        {
            "type": "image_generation_call",
            "revised_prompt": "a cat",
            "result": "AAAA",
            "output_format": "webp",
        }
    )
    assert image.results == (Attachment("image", "image/webp", 3),)

    mcp = read_one(
        {
            "type": "mcp_call",
            "server_label": "shop",
            "name": "find",
            "arguments": "{}",
            "output": '{"a": 1}',
            "error": "timeout",
        }
    )
    assert (mcp.namespace, mcp.name) == ("shop", "find")
    assert texts(mcp.results) == ['{\n  "a": 1\n}']
    assert mcp.error.text == "timeout"


def test_arguments_that_are_not_json_stay_as_they_are():
    broken = read_one(call(arguments='{"id": 7'))
    assert texts(broken.input) == ['{"id": 7']
    assert read_one(call(arguments="")).input == ()
    assert texts(read_one(call(arguments={"id": 7})).input) == ['{\n  "id": 7\n}']


def test_a_handoff_names_the_agent():
    block = read_one_pair(
        call(name="transfer_to_billing", arguments="{}"),
        output(output='{"assistant": "Billing agent"}'),
    )
    assert isinstance(block, Handoff)
    assert block.target == "Billing agent"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("transfer_to_savings", "done"),
        ("transfer_to_savings", '{"assistant": "a", "amount": 3}'),
        ("transfer_to_savings", '{"assistant": 3}'),
        ("look_up", '{"assistant": "a"}'),
    ],
)
def test_a_tool_that_only_looks_like_a_handoff_is_a_tool(name, answer):
    assert read_one_pair(call(name=name), output(output=answer)).kind == "tool_call"


@pytest.mark.parametrize(
    ("approve", "approved", "parts"),
    [(True, True, ["fine"]), (False, False, ["fine"])],
)
def test_an_approval_has_its_answer(approve, approved, parts):
    request = {
        "type": "mcp_approval_request",
        "id": "r1",
        "server_label": "shop",
        "name": "refund",
        "arguments": '{"order": 1}',
    }
    response = {
        "type": "mcp_approval_response",
        "approval_request_id": "r1",
        "approve": approve,
        "reason": "fine",
    }
    block = read_one_pair(request, response)
    assert isinstance(block, Approval)
    assert block.approved is approved
    assert texts(block.output.parts) == parts
    assert read_one(request).approved is None
    assert status_word(read_one(response).status)


# The rest


def test_of_encrypted_thoughts_only_the_length_is_known():
    block = read_one(
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "content": [{"type": "reasoning_text", "text": "aha"}],
            "encrypted_content": "secret",
        }
    )
    assert isinstance(block, Reasoning)
    assert texts(block.parts) == ["hm", "aha"]
    assert block.encrypted_length == 6
    assert "secret" not in repr(block)


def test_other_items_are_named():
    assert isinstance(
        read_one({"type": "compaction", "encrypted_content": "secret"}), Compaction
    )
    assert read_one({"type": "item_reference", "id": "i1"}).id == "i1"
    assert isinstance(read_one({"id": "i1"}), Reference)
    tools = read_one(
        {"type": "mcp_list_tools", "server_label": "s", "tools": [{"name": "a"}]}
    )
    assert isinstance(tools, ToolList)
    assert (tools.server, tools.names, tools.error) == ("s", ("a",), None)
    sealed = read_one({"__enc__": 1, "v": 1, "kid": "hkdf", "payload": "gAAA"})
    assert isinstance(sealed, Encrypted)
    assert (sealed.key_id, sealed.length) == ("hkdf", 4)


def test_an_unknown_item_is_json_without_its_secrets():
    block = read_one({"type": "telepathy", "encrypted_content": "secret", "a": [1]})
    assert isinstance(block, Unknown)
    assert block.type == "telepathy"
    assert '"a": [' in block.data.text
    assert "secret" not in block.data.text


def test_a_broken_row_is_kept_as_text():
    block = read_one(BrokenItem('{"role": "us'))
    assert isinstance(block, Broken)
    assert block.data.text == '{"role": "us'
    assert isinstance(read_one(None), Broken)
    assert isinstance(read_one([1]), Broken)


def test_what_has_no_glyph_becomes_visible():
    assert spell_text("a\0b\x7fc\ud83d\r\nd\re") == "a␀b␡c\\ud83d\nd\ne"
    block = read_one({"role": "\ud800", "content": "a\0\udc00"})
    assert block.parts[0].text.encode() == b"a\xe2\x90\x80\\udc00"
    assert block.role.encode()


def test_data_in_json_is_named_by_its_size():
    text = spell_json({"a": [{"url": "data:image/png;base64," + "A" * 4000}]})
    assert "data:image/png,… (3000 bytes)" in text


def test_json_keeps_to_forty_levels():
    text = spell_json(nested(500))
    assert text.endswith("]")
    assert '"…"' in text
    assert "deep" not in text
    assert "deep" in spell_json(nested(38))


def test_long_json_is_not_indented():
    assert "\n" in spell_json(["x" * 20] * 100)
    assert "\n" not in spell_json(["x" * 20] * 10_000)


def test_what_is_not_json_has_no_spelling():
    assert spell_json({"a": object()}) == "…"


def test_shortening_keeps_the_true_length():
    long = "x" * 5000
    block = shorten(read_one_pair(call(arguments=long), output(output=long)), 100)
    for part in (*block.input, *block.output.parts):
        assert (len(part.text), part.length, part.is_cut) == (100, 5000, True)
    unknown = shorten(read_one({"type": "x", "a": long}), 100)
    assert len(unknown.data.text) == 100
    message = read_one(user("short"))
    assert shorten(message, 100) == message


def test_the_head_of_a_long_text_ends_between_words():
    (part,) = read_one(user("word " * 1000)).parts
    assert part.head.endswith("word")
    assert 1900 < len(part.head) <= 2000
    assert part.head + part.rest == part.text
    (solid,) = read_one(user("x" * 5000)).parts
    assert len(solid.head) == 2000
    (short,) = read_one(user("x" * 2100)).parts
    assert (short.head, short.rest) == (short.text, "")


def test_a_call_has_a_gist_of_one_line():
    block = read_one_pair(call(), output(output="a\nb" * 100))
    assert block.gist == '{ "id": 7 }'
    assert block.answer_gist.startswith("a ba ba")
    assert len(block.answer_gist) == 90
    failed = read_one({"type": "mcp_call", "name": "x", "error": "timeout"})
    assert failed.answer_gist == "timeout"
    image = read_one({"type": "image_generation_call", "result": "AAAA"})
    assert image.answer_gist == "Image"
    assert read_one(call()).answer_gist == ""


# Turns


def test_turns_know_when_they_began_and_what_went_before():
    items = [
        Row(0, user("a"), turn=1, created_at=START),
        Row(1, call(), turn=1, created_at=START + timedelta(seconds=1)),
        Row(2, output(), turn=1, created_at=START + timedelta(seconds=9)),
        Row(3, user("b"), turn=2, created_at=START + timedelta(hours=2)),
    ]
    blocks = pair_blocks(read_block(row) for row in items)
    (section,) = group_blocks(blocks)
    first, second = section.turns
    assert (first.number, first.started_at, first.idle) == (1, START, None)
    assert second.idle == timedelta(hours=2) - timedelta(seconds=9)
    assert section.item_count == 4


def test_a_turn_that_began_before_is_continued():
    blocks = [read_block(Row(5, user("a"), turn=3))]
    before = START - timedelta(minutes=5)
    ((section,), (other,)) = (
        group_blocks(blocks, previous=Previous(3, before)),
        group_blocks(blocks, previous=Previous(2, before)),
    )
    assert (section.turns[0].continued, section.turns[0].idle) == (True, None)
    assert (other.turns[0].continued, other.turns[0].idle) == (
        False,
        timedelta(minutes=5),
    )


def test_times_that_run_backwards_are_no_gap():
    blocks = [read_block(Row(5, user("a"), turn=3))]
    later = Previous(2, START + timedelta(days=1))
    (section,) = group_blocks(blocks, previous=later)
    assert section.turns[0].idle == timedelta(0)


def test_what_compaction_replaced_is_a_section_of_its_own():
    when = START + timedelta(days=1)
    items = [
        Row(0, user("a"), turn=1, replaced_at=when),
        Row(1, user("b"), turn=2, replaced_at=when),
        Row(2, {"type": "compaction"}, turn=2),
    ]
    old, new = group_blocks(read_block(row) for row in items)
    assert (old.replaced_at, old.item_count, len(old.turns)) == (when, 2, 2)
    assert (new.replaced_at, new.item_count) == (None, 1)


def test_a_turn_tells_what_it_used_once():
    items = [
        Row(0, user("a"), turn=1),
        Row(1, user("b"), turn=2),
        Row(2, call(), turn=1),
    ]
    blocks = [read_block(row) for row in items]
    used = TokenUsage(requests=2, input_tokens=12_345, output_tokens=7)
    (section,) = group_blocks(blocks, usage={1: used, 3: used})
    assert [turn.usage for turn in section.turns] == [used, TokenUsage(), TokenUsage()]
    said = [turn.used for turn in section.turns]
    assert said == ["Tokens: 12.3k in, 7 out; 2 requests", "", ""]


def test_a_page_keeps_an_output_whose_call_is_before_it():
    items = rows(call("a"), user("x"), output("a"), call("b"), user("y"), output("b"))
    blocks = list(pair_blocks(read_block(row) for row in items))
    page = select_blocks(blocks, 1, 4)
    assert [block.position for block in page] == [1, 2, 3, 4]
    lonely, whole = page[1], page[2]
    assert (lonely.call_position, lonely.name) == (0, "look_up")
    assert whole.output.position == 5


# Markdown


def markdown(*items: Any) -> str:
    blocks = pair_blocks(read_block(row) for row in rows(*items))
    return "".join(write_markdown("Session *x*", [("Owner", "a`b")], blocks))


def test_markdown_tells_the_whole_story():
    text = markdown(
        user("where is it?"),
        {"type": "reasoning", "summary": [], "encrypted_content": "secret"},
        call(),
        output(),
        call("open"),
        output("lost"),
        call("h", "transfer_to_b"),
        output("h", '{"assistant": "Billing"}'),
        {"type": "mcp_approval_request", "id": "r", "name": "pay", "arguments": "{}"},
        {"type": "mcp_list_tools", "server_label": "s", "tools": [], "error": "no"},
        {"type": "compaction", "encrypted_content": "secret"},
        {"type": "item_reference", "id": "i1"},
        {"__enc__": 1, "kid": "k", "payload": "secret"},
        {"type": "telepathy"},
        BrokenItem("{"),
        {"type": "mcp_call", "name": "n", "arguments": "{}", "error": {"code": 1}},
        {
            "role": "assistant",
            "tool_calls": [1],
            "content": [
                {"type": "refusal", "refusal": "no"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
                {"type": "input_image", "image_url": "https://x.test/a.png"},
                {
                    "type": "output_text",
                    "text": "t",
                    "annotations": [{"url": "https://x.test/", "title": "X"}],
                },
            ],
        },
    )
    for words in (
        "# Session \\*x\\*",
        "- Owner: `` a`b ``",
        "## Turn 1",
        "**User**",
        "where is it?",
        "**Tool** `look_up`",
        "*Output · \\#3*",
        "No output among the items that follow",
        "Its call is not among the items before",
        "**Handoff to** `Billing`",
        "**Approval asked for** `pay`",
        "3 bytes",
        "`https://x.test/a.png`",
        "encrypted, 6 characters",
    ):
        assert words in text, words
    assert "secret" not in text


def test_markdown_says_what_the_agent_no_longer_reads():
    items = [Row(0, user("a"), replaced_at=START), Row(1, user("b"))]
    text = "".join(write_markdown("x", [], map(read_block, items)))
    assert "Replaced by compaction" in text
    assert "From here on the agent reads" in text


@pytest.mark.parametrize(
    "text",
    [
        "```\n# out\n```",
        "`````",
        "<script>alert(1)</script>",
        "~~~\n</code></pre>",
        "ends with a line\n",
        "",
    ],
)
def test_nothing_ends_a_fence_from_inside(text):
    written = fence(text, "json")
    mark = re.match(r"\n(`{3,})json\n", written).group(1)
    assert mark not in text
    assert written.endswith(f"\n{mark}\n")
    assert written.count(f"\n{mark}") == 2


def test_inline_code_holds_its_content():
    assert inline_code("a`b``c") == "``` a`b``c ```"
    assert inline_code("a\n# b") == "`a # b`"
    assert inline_code(" ") == ""


def test_roles_of_others_cannot_write_markdown():
    text = markdown({"role": "[x](javascript:1) <b>\n# y", "content": "c"})
    assert "[x](" not in text
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert role_word("critic") == "critic"


# Whatever comes


def random_json(chance: random.Random, depth: int = 4) -> Any:
    words = ["", "a", "\0", "\ud800", "<b>", "data:image/png;base64,AA", "{", "```"]
    if depth == 0 or chance.random() < 0.3:
        return chance.choice(
            [None, True, False, 0, -1, 1e308, 10**30, *words, float("inf")]
        )
    if chance.random() < 0.4:
        return [random_json(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {
        chance.choice(FIELDS): random_json(chance, depth - 1)
        for _ in range(chance.randrange(5))
    }


FIELDS = re.findall(
    r"\w+",
    """type role content text refusal annotations summary encrypted_content
    arguments input output outputs action actions operation queries results result error
    tools call_id id name status server_label approve reason code logs url image_url
    file_data input_audio file format data commands command diff path stdout outcome
    __enc__ payload kid title filename""",
)
TYPES = re.findall(
    r"\w+",
    """message reasoning function_call function_call_output custom_tool_call
    custom_tool_call_output computer_call computer_call_output local_shell_call
    local_shell_call_output shell_call shell_call_output apply_patch_call
    apply_patch_call_output tool_search_call tool_search_output program program_output
    file_search_call web_search_call code_interpreter_call image_generation_call
    mcp_list_tools mcp_call mcp_approval_request mcp_approval_response compaction
    item_reference additional_tools input_text output_text refusal input_image
    input_file input_audio computer_screenshot _call _call_output""",
)


def odd_item(chance: random.Random) -> Any:
    item = random_json(chance)
    if isinstance(item, dict):
        item["type"] = chance.choice(TYPES)
        if chance.random() < 0.5:
            item["call_id"] = item["id"] = item["approval_request_id"] = "c1"
        if chance.random() < 0.5:
            item["content"] = [random_json(chance) for _ in range(3)]
            for part in item["content"]:
                if isinstance(part, dict):
                    part["type"] = chance.choice(TYPES)
    return item


@pytest.mark.parametrize("seed", range(20))
def test_nothing_raises_for_odd_data(seed):
    chance = random.Random(seed)
    items = rows(*(odd_item(chance) for _ in range(200)))
    blocks = [shorten(read_block(row), 50) for row in items]
    paired = list(pair_blocks(iter(blocks)))
    sections = group_blocks(select_blocks(paired, 10, 190))
    assert sum(section.item_count for section in sections) >= 181
    text = "".join(write_markdown("x", [], paired))
    assert text.encode()


@pytest.mark.parametrize("name", NASTY_ITEMS)
def test_items_that_stores_get_wrong_are_read(name):
    block = read_one(NASTY_ITEMS[name])
    assert "".join(write_markdown("x", [], [block])).encode()


@pytest.mark.parametrize("type", TYPES)
def test_deep_nesting_breaks_nothing(type):
    deep = {"type": type, "call_id": "c", "id": "i"}
    names = ("content", "arguments", "output", "action", "tools", "summary", "results")
    block = read_one(deep | {name: nested(498) for name in names})
    assert "".join(write_markdown("x", [], [block])).encode()
    text = "[" * 100_000
    assert read_one({"type": type, "arguments": text, "output": text})


def test_parts_are_told_apart_by_kind():
    assert {Text.kind, Code.kind, Refusal.kind, Attachment.kind} == {
        "text",
        "code",
        "refusal",
        "attachment",
    }
