from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import override_settings
from django.utils import timezone

from agent_sessions import store
from agent_sessions.models import AgentSession, SessionItem
from tests.browsers import BrowserCase, serious_findings

pytestmark = pytest.mark.browser

RUN = "window.ran=1;alert(1)"
PAYLOADS = [
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"<img src=x onerror='{RUN}'>",
    f"<img src=https://evil.test/x.png onerror={RUN}>",
    f"<svg onload='{RUN}'>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin='{RUN}' attributeName=x dur=1s>",
    f"<body onload='{RUN}'>",
    f"<details open ontoggle='{RUN}'>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    "<iframe src=javascript:parent.ran=1></iframe>",
    "<object data=https://evil.test/o></object>",
    "<embed src=https://evil.test/e>",
    "<link rel=stylesheet href=https://evil.test/s.css>",
    "<style>@import 'https://evil.test/s.css';</style>",
    "<meta http-equiv=refresh content='0;url=https://evil.test/'>",
    "<base href=https://evil.test/>",
    f"<input autofocus onfocus='{RUN}'>",
    f"<video><source onerror='{RUN}'></video>",
    "<audio src=https://evil.test/a autoplay>",
    f"<math><mtext><table><mglyph><style><img src=x onerror='{RUN}'>",
    "<form action=https://evil.test/><button>x</button></form>",
    f'" onmouseover="{RUN}" x="',
    f"' onfocus='{RUN}' autofocus x='",
    f'" autofocus onfocus="{RUN}',
    f"--><script>{RUN}</script><!--",
    f"]]><script>{RUN}</script>",
    f"</textarea><script>{RUN}</script>",
    f"</title><script>{RUN}</script>",
    f"</pre></details><script>{RUN}</script>",
    "javascript:window.ran=1",
    "data:text/html,<script>parent.ran=1</script>",
    "data:image/svg+xml,<svg onload='window.ran=1'>",
    "[x](javascript:window.ran=1)",
    "![x](https://evil.test/i.png)",
    "[![x](https://evil.test/i.png)](https://evil.test/)",
    f"<a href='javascript:{RUN}'>x</a>",
    "<https://evil.test/> ![][r]\n\n[r]: https://evil.test/r.png",
    f"```html\n<script>{RUN}</script>\n```\n<script>{RUN}</script>",
    "{{ 7|add:7 }}{% load x %}",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    f"\u202e<script>{RUN}</script>",
    f"<scr\0ipt>{RUN}</scr\0ipt>",
    f"\ud800<script>{RUN}</script>",
]

# What the page holds of its own: no attribute that runs, no element that loads.
CHECK = """() => {
    const bad = [];
    for (const one of document.querySelectorAll('.agent-transcript *')) {
        for (const {name, value} of one.attributes) {
            if (name.startsWith('on') || name === 'style' || name === 'srcdoc')
                bad.push(one.outerHTML);
            if (['href', 'src', 'action', 'data', 'formaction'].includes(name)
                && !/^(https?:|mailto:|[?#]|\\/(?!\\/))/.test(value))
                bad.push(one.outerHTML);
        }
    }
    const loads = 'script,img,iframe,object,embed,svg,style,link,meta,base,form,video,'
        + 'audio,input,textarea,math';
    for (const one of document.querySelectorAll('.agent-transcript')) {
        for (const found of one.querySelectorAll(loads)) bad.push(found.outerHTML);
    }
    for (const one of document.querySelectorAll('details')) one.open = true;
    for (const one of document.querySelectorAll('.agent-transcript *')) {
        one.dispatchEvent(new MouseEvent('mouseover', {bubbles: true}));
    }
    if (window.ran) bad.push('it ran');
    return bad;
}"""


def payload_items(payload: str) -> list[dict[str, Any]]:
    """Return items with ``payload`` in every place that content can reach."""
    call = {
        "type": "function_call",
        "id": payload,
        "call_id": payload,
        "name": payload,
        "namespace": payload,
        "status": payload,
        "arguments": json.dumps({payload: payload}),
    }
    citation = {"type": "url_citation", "url": payload, "title": payload}
    parts = [
        {"type": "output_text", "text": payload, "annotations": [citation]},
        {"type": "refusal", "refusal": payload},
        {"type": "input_image", "image_url": payload},
        {"type": "input_file", "filename": payload, "file_url": payload},
        {"type": "input_file", "filename": payload, "file_id": payload},
        {"type": "input_audio", "input_audio": {"data": payload, "format": payload}},
        {"type": payload, payload: payload},
    ]
    return [
        {"role": "user", "content": payload},
        {"role": "assistant", "content": parts, "phase": payload, payload: payload},
        {"role": payload, "content": payload, "status": payload},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": payload}]},
        call,
        {"type": "function_call_output", "call_id": payload, "output": payload},
        {"type": "function_call_output", "call_id": "x", "output": payload},
        {**call, "call_id": "h", "name": "transfer_to_x"},
        {
            "type": "function_call_output",
            "call_id": "h",
            "output": json.dumps({"assistant": payload}),
        },
        {
            "type": "mcp_call",
            "server_label": payload,
            "name": payload,
            "arguments": payload,
            "output": payload,
            "error": payload,
        },
        {"type": "mcp_approval_request", "id": payload, "name": payload},
        {
            "type": "mcp_approval_response",
            "approval_request_id": payload,
            "approve": False,
            "reason": payload,
        },
        {
            "type": "mcp_list_tools",
            "server_label": payload,
            "tools": [{"name": payload}],
        },
        {"type": "web_search_call", "action": {"query": payload, "url": payload}},
        {
            "type": "file_search_call",
            "results": [{"filename": payload, "text": payload}],
        },
        {"type": "code_interpreter_call", "code": payload, "outputs": [payload]},
        {"type": "shell_call", "call_id": "s", "action": {"commands": [payload]}},
        {"type": "item_reference", "id": payload},
        {"__enc__": 1, "kid": payload, "payload": payload},
        {"type": payload, payload: [payload]},
    ]


class PayloadTests:
    """No content runs, and none makes the browser ask another host."""

    def setUp(self):
        users = get_user_model().objects
        self.root = users.create_superuser("root")

    def url(self, session: AgentSession, path: str = "change/") -> str:
        base = f"{self.live_server_url}/admin/agent_sessions/agentsession"
        return f"{base}/{session.pk}/{path}"

    def assert_harmless(self, urls: list[str]) -> None:
        def work(page: Any) -> list[Any]:
            found: list[Any] = []
            for url in urls:
                page.goto(url)
                assert page.locator(".agent-transcript").count(), url
                found += page.evaluate(CHECK)
                found += page.evaluate("window.ran ? ['it ran'] : []")
            return found

        assert self.visit(self.root, work) == []
        assert self.dialogs == []
        assert self.complaints == []
        assert self.foreign_requests() == []

    def test_nothing_in_items_runs(self):
        assert len(PAYLOADS) >= 40
        session = store.create_session(self.root)
        for payload in PAYLOADS:
            store.append_items(session, payload_items(payload))
        broken = f"{{broken {PAYLOADS[0]}"
        SessionItem.objects.filter(session=session, position=0).update(data=broken)
        count = SessionItem.objects.filter(session=session).count()
        pages = [
            self.url(session, f"change/?after={position}")
            for position in range(-1, count, 100)
        ]
        raw = [
            self.url(session, f"items/{position}/") for position in range(0, count, 7)
        ]
        for rendered in (False, True):
            with override_settings(AGENT_SESSIONS_RENDER_MARKDOWN=rendered):
                self.assert_harmless(
                    [url.replace("after=-1", "first=") for url in pages]
                )
        self.assert_harmless(raw)

    def test_nothing_in_what_people_keep_runs(self):
        urls = []
        for number, payload in enumerate(PAYLOADS):
            plain = "".join(
                character for character in payload if character >= " "
            ).replace("\ud800", "")
            owner = get_user_model().objects.create(username=f"{number}{plain}"[:150])
            session = store.create_session(
                owner,
                title=plain[:200],
                metadata={plain: [plain]},
                session_id=f"{number} {plain}".strip()[:255],
            )
            store.append_items(session, [{"role": "user", "content": payload}])
            urls.append(self.url(session))
        self.assert_harmless(urls)

    def test_downloads_are_saved_and_never_shown(self):
        session = store.create_session(self.root, title=PAYLOADS[0])
        store.append_items(session, payload_items(PAYLOADS[0]))
        files = ("download.md", "download.json", "download.jsonl")

        def work(page: Any) -> list[str]:
            names = []
            for path in (*files, "items/0/download.json"):
                page.goto(self.url(session))
                with page.expect_download() as download:
                    page.evaluate(
                        "url => { location.href = url }", self.url(session, path)
                    )
                names.append(download.value.suggested_filename)
            return names

        names = self.visit(self.root, work)
        kinds = (".md", ".json", ".jsonl", "-0.json")
        assert names == [f"{session.pk}{kind}" for kind in kinds]
        assert self.dialogs == []
        assert self.foreign_requests() == []


class WithoutPolicyTests(PayloadTests, BrowserCase):
    pass


@override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, "tests.browsers.strict_policy"])
class StrictPolicyTests(PayloadTests, BrowserCase):
    def test_the_page_is_styled_and_quiet(self):
        session = store.create_session(self.root)
        store.append_items(session, [{"role": "user", "content": "hello"}])

        def work(page: Any) -> str:
            page.goto(self.url(session))
            script = (
                "getComputedStyle(document.querySelector('.agent-block')).borderLeft"
            )
            return page.evaluate(script)

        assert "4px solid" in self.visit(self.root, work)
        assert self.complaints == []


@override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, "tests.browsers.strict_policy"])
class ReadingTests(BrowserCase):
    def setUp(self):
        self.root = get_user_model().objects.create_superuser("root")
        self.session = store.create_session(self.root, title="Order 1001")
        items = [item for item in payload_items("words") if item.get("role") != "words"]
        old = [{"role": "user", "content": "old"}]
        store.append_items(self.session, old)
        SessionItem.objects.update(replaced_at=timezone.now())
        rtl = {"role": "user", "content": "מתי אקבל את הכסף?"}
        long = {"role": "assistant", "content": "word " * 2000}
        store.append_items(self.session, [*items, rtl, long, {"type": "compaction"}])
        store.append_items(self.session, [rtl] * 90)

    def url(self, path: str = "change/") -> str:
        base = f"{self.live_server_url}/admin/agent_sessions/agentsession"
        return f"{base}/{self.session.pk}/{path}"

    def test_axe_finds_nothing_serious(self):
        for scheme in ("light", "dark"):
            for path in ("change/", "change/?first=", "items/5/"):

                def work(page: Any, path: str = path) -> list[str]:
                    page.goto(self.url(path))
                    page.evaluate(
                        "document.querySelectorAll('details')"
                        ".forEach(one => { one.open = true })"
                    )
                    return serious_findings(page)

                found = self.visit(self.root, work, color_scheme=scheme)
                assert found == [], (scheme, path)

    def test_axe_finds_nothing_serious_where_a_reason_is_asked(self):
        def work(page: Any) -> list[str]:
            page.goto(self.url())
            assert page.locator("[name=reason]").count() == 1
            return serious_findings(page)

        with override_settings(AGENT_SESSIONS_REQUIRE_REASON=True):
            assert self.visit(self.root, work) == []

    def test_it_reads_without_javascript(self):
        def work(page: Any) -> tuple[int, int, bool]:
            page.goto(self.url())
            page.click("text=First")
            newest = page.locator(".agent-block").count()
            page.click("summary:has-text('Show all')")
            shown = page.locator("details[open] .agent-text").first.is_visible()
            page.click("nav.agent-pages >> text=Newer")
            return newest, page.locator(".agent-block").count(), shown

        first, newer, shown = self.visit(self.root, work, java_script_enabled=False)
        assert first > 50
        assert newer > 0
        assert shown

    def test_the_keyboard_opens_what_is_folded(self):
        def work(page: Any) -> bool:
            page.goto(self.url("change/?first="))
            summary = page.locator(".agent-tool_call summary").first
            summary.focus()
            page.keyboard.press("Enter")
            return page.locator(".agent-tool_call details").first.evaluate(
                "one => one.open"
            )

        assert self.visit(self.root, work) is True

    def test_right_to_left_text_is_set_so(self):
        def work(page: Any) -> str:
            page.goto(self.url())
            return page.locator(".agent-text").last.evaluate(
                "one => getComputedStyle(one).direction"
            )

        assert self.visit(self.root, work) == "rtl"

    def test_a_narrow_screen_needs_no_sideways_scrolling(self):
        def work(page: Any) -> bool:
            page.goto(self.url("change/?first="))
            return page.evaluate(
                "() => { const one = document.querySelector('.agent-transcript');"
                "return one.scrollWidth <= one.clientWidth }"
            )

        size = {"width": 380, "height": 800}
        assert self.visit(self.root, work, viewport=size)
