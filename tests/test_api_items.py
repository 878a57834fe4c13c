"""Items over HTTP: in order, in pages, and without what is heavy."""

from __future__ import annotations

import json

from asgiref.sync import sync_to_async

from agent_sessions import store
from agent_sessions.api.lightening import lighten_item
from agent_sessions.models import AgentSession, SessionItem
from tests.api_cases import ApiTestCase, session_url
from tests.nasty import NASTY_ITEMS, nested
from tests.projects.cases import say

IMAGE = "data:image/png;base64," + "iVBORw0KGgo" * 100
THOUGHT = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}


class ItemCase(ApiTestCase):
    def setUp(self):
        super().setUp()
        self.row = store.create_session(self.alice)
        self.url = session_url(self.row, "items")

    def append(self, *items):
        store.append_items(self.row, items)

    def positions(self, url):
        response = self.api.get(url)
        assert response.status_code == 200, response.content
        return [item["position"] for item in response.json()["results"]]


class ItemListTests(ItemCase):
    def test_items_are_shown_as_they_were_stored(self):
        self.append(say("hello"), {"type": "function_call", "zeta": 1, "alpha": 2})
        first, second = self.api.get(self.url).json()["results"]
        assert first.pop("created_at")
        assert first == {
            "position": 0,
            "turn": 1,
            "type": "",
            "role": "user",
            "data": say("hello"),
            "omitted": [],
            "replaced_at": None,
        }
        assert list(second["data"]) == ["type", "zeta", "alpha"]
        item = self.api.get(f"{self.url}1/")
        assert item.json() == second
        assert self.api.get(f"{self.url}7/").status_code == 404
        assert self.api.get(f"{self.url}{9**30}/").status_code == 404

    def test_pages_go_both_ways(self):
        self.append(*(say(str(number)) for number in range(45)))
        for ordering, expected in (
            ("position", list(range(45))),
            ("-position", list(range(44, -1, -1))),
        ):
            url, found = f"{self.url}?ordering={ordering}", []
            while url:
                response = self.api.get(url).json()
                found += [item["position"] for item in response["results"]]
                back, url = response["previous"], response["next"]
            assert found == expected
            assert self.positions(back) == expected[20:40]

    def test_filters_narrow_the_list(self):
        self.append(say("1"), {"type": "function_call"}, say("2"))
        store.replace_tail(self.row, [2], [say("3")])
        for query, expected in {
            "": [0, 1, 2, 3],
            "after=0": [1, 2, 3],
            "after=1&ordering=-position": [3, 2],
            "after=99": [],
            "type=function_call": [1],
            "type=function": [],
            "role=user": [0, 2, 3],
            "turn=1": [0, 1],
            "replaced=true": [2],
            "replaced=false": [0, 1, 3],
            f"after={2**31 - 1}": [],
        }.items():
            assert self.positions(f"{self.url}?{query}") == expected, query

    def test_every_bad_parameter_is_named(self):
        for query, name in {
            "after=-1": "after",
            "after=x": "after",
            f"after={2**31}": "after",
            "turn=-1": "turn",
            f"turn={10**30}": "turn",
            "type=": "type",
            "type=" + "x" * 65: "type",
            "role=%00": "role",
            "ordering=data": "ordering",
            "ordering=session__user__password": "ordering",
            "include=images": "include",
            "include=media,": "include",
            "replaced=0": "replaced",
            "limit=101": "limit",
            "metadata.a=1": "metadata.a",
            "data__contains=x": "data__contains",
            "cursor=WyJwb3NpdGlvbiIsMCwiMSJd": "cursor",
            "cursor=WyJwb3NpdGlvbiIsMCwtMV0": "cursor",
            "cursor=WyJwb3NpdGlvbiIsMCwxLDJd": "cursor",
            "cursor=" + "W" * 500: "cursor",
        }.items():
            self.assert_names(self.api.get(f"{self.url}?{query}"), name)
        self.assert_names(self.api.get(f"{self.url}0/?limit=2"), "limit")

    def test_a_page_costs_two_queries_however_many_there_are(self):
        for count in (1, 300):
            self.append(*(say("x") for _ in range(count)))
            with self.assertNumQueries(2):
                self.api.get(self.url)
            with self.assertNumQueries(2):
                self.api.get(f"{self.url}0/")
        with self.assertNumQueries(2):
            response = self.api.get(self.url + "?limit=100")
        assert len(response.json()["results"]) == 100

    def test_nobody_writes_items(self):
        self.append(say("hello"))
        for url in (self.url, f"{self.url}0/"):
            for call in (self.api.post, self.api.put, self.api.patch, self.api.delete):
                assert call(url, say("forged"), format="json").status_code == 405
        assert store.read_items(self.row) == [say("hello")]


class HeavyPartsTests(ItemCase):
    def test_heavy_parts_come_only_on_request(self):
        self.append(
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "see"},
                    {"type": "input_image", "image_url": IMAGE},
                ],
            },
            THOUGHT,
        )
        image, thought = "/content/1/image_url", "/encrypted_content"
        for query, omitted in {
            "": [[image], [thought]],
            "?include=media": [[], [thought]],
            "?include=encrypted": [[image], []],
            "?include=encrypted,media": [[], []],
        }.items():
            shown = self.api.get(self.url + query).json()["results"]
            assert [item["omitted"] for item in shown] == omitted
            url = shown[0]["data"]["content"][1]["image_url"]
            assert url == (None if image in omitted[0] else IMAGE)
            one = self.api.get(f"{self.url}0/{query}").json()
            assert one == shown[0]

    def test_words_are_not_taken_for_data(self):
        text = "word " * 500
        for item in (
            say(text),
            {"type": "x", "result": text},
            {"type": "x", "result": "abc"},
            {"role": "user", "content": "data:image/png;base64,AAAA"},
            {"role": "user", "content": "x" * 2000},
        ):
            assert lighten_item(dict(item), set()) == []

    def test_data_is_found_wherever_the_sdk_keeps_it(self):
        data = "iVBORw0KGgo=" * 100
        for item, place in (
            ({"type": "image_generation_call", "result": data}, "/result"),
            ({"content": [{"file_data": data}]}, "/content/0/file_data"),
            ({"input_audio": {"data": data}}, "/input_audio/data"),
            ({"output": IMAGE}, "/output"),
            ({"a/b": {"~": IMAGE}}, "/a~1b/~0"),
        ):
            assert lighten_item(item, set()) == [place]

    def test_whatever_was_stored_is_answered(self):
        for name, item in NASTY_ITEMS.items():
            row = store.create_session(self.alice)
            store.append_items(row, [item])
            for path in ("items", "items/0", "transcript"):
                response = self.api.get(session_url(row, path))
                assert response.status_code == 200, (name, path)
                json.loads(response.content.decode())
            shown = self.api.get(session_url(row, "items/0")).json()["data"]
            if name not in ("image", "lone surrogates", "surrogate key", "nul type"):
                assert shown == item, name
            if name == "lone surrogates":
                assert shown["content"] == "\ufffd and \ufffd"

    def test_the_deepest_item_is_answered_with_indents_too(self):
        self.append({"type": "tree", "value": nested(498)})
        for accept in ("application/json", "application/json; indent=2"):
            response = self.api.get(self.url, headers={"Accept": accept})
            assert response.status_code == 200

    def test_a_row_that_does_not_decode_says_nothing(self):
        self.append(say("hello"))
        for broken in ("{broken", "[1]", '"text"'):
            rows = SessionItem.objects.filter(session=self.row)
            rows.update(data=broken)
            shown = self.api.get(f"{self.url}0/").json()
            assert (shown["data"], shown["omitted"]) == (None, [])
            assert self.api.get(session_url(self.row, "transcript")).status_code == 200


class TranscriptTests(ItemCase):
    def test_calls_are_shown_with_their_outputs(self):
        self.append(
            say("Where is it?"),
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "on its way"},
        )
        shown = self.api.get(session_url(self.row, "transcript")).json()
        assert (shown["next"], shown["previous"]) == (None, None)
        message, call = shown["results"]
        assert message["kind"] == "message" and message["role"] == "user"
        assert message["parts"][0]["text"] == "Where is it?"
        assert (call["kind"], call["name"]) == ("tool_call", "f")
        assert call["output"]["kind"] == "tool_output"
        assert call["output"]["parts"][0]["text"] == "on its way"
        assert call["position"] == 1 and call["turn"] == 1

    def test_pages_lead_from_the_newest_back_to_the_first(self):
        self.append(*(say(str(number)) for number in range(45)))
        url = session_url(self.row, "transcript")
        shown = self.api.get(url).json()
        assert self.positions(url) == list(range(25, 45))
        older = shown["previous"]
        assert self.positions(older) == list(range(5, 25))
        oldest = self.api.get(older).json()["previous"]
        assert self.positions(oldest) == list(range(5))
        first = self.api.get(oldest).json()
        assert first["previous"] is None
        assert self.positions(first["next"]) == list(range(5, 25))
        assert self.positions(f"{url}?after=-1&limit=3") == [0, 1, 2]
        assert self.api.get(url).json()["next"] is None

    def test_every_bad_parameter_is_named(self):
        url = session_url(self.row, "transcript")
        for query, name in {
            "after=-2": "after",
            "before=x": "before",
            "after=1&before=3": "after",
            "limit=500": "limit",
            "cursor=x": "cursor",
        }.items():
            self.assert_names(self.api.get(f"{url}?{query}"), name)

    def test_a_page_costs_the_same_however_many_there_are(self):
        url = session_url(self.row, "transcript") + "?before=15"
        for count in (30, 300):
            self.append(*(say("x") for _ in range(count)))
            with self.assertNumQueries(3):
                self.api.get(url)


class ExportTests(ItemCase):
    def test_each_format_is_an_attachment_named_by_the_uuid(self):
        self.append(say("hello"))
        for query, extension, content_type in (
            ("", "json", "application/json"),
            ("?as=json", "json", "application/json"),
            ("?as=jsonl", "jsonl", "application/x-ndjson"),
            ("?as=md", "md", "text/markdown; charset=utf-8"),
        ):
            response = self.api.get(session_url(self.row, "export") + query)
            assert response.status_code == 200
            assert response.streaming
            assert response["Content-Type"] == content_type
            assert response["Content-Disposition"] == (
                f'attachment; filename="{self.row.pk}.{extension}"'
            )
            assert response["X-Content-Type-Options"] == "nosniff"
            assert b"hello" in response.getvalue()

    async def test_an_export_is_streamed_under_asgi_too(self):
        await sync_to_async(self.append)(say("hello"))
        await self.async_client.aforce_login(self.alice)
        url = session_url(self.row, "export")
        response = await self.async_client.get(url)
        assert response.is_async
        assert b"hello" in b"".join([chunk async for chunk in response])

    def test_an_export_is_whole(self):
        self.append(*NASTY_ITEMS.values())
        url = session_url(self.row, "export")
        whole = json.loads(self.api.get(url).getvalue())
        assert whole["session"]["id"] == str(self.row.pk)
        assert len(whole["items"]) == len(NASTY_ITEMS)
        lines = self.api.get(url + "?as=jsonl").getvalue().splitlines()
        assert len(lines) == len(NASTY_ITEMS) + 3

    def test_its_own_type_may_be_asked_for(self):
        url = session_url(self.row, "export") + "?as=md"
        for accept in ("text/markdown", "text/plain", "*/*"):
            response = self.api.get(url, headers={"Accept": accept})
            assert response.status_code == 200, accept

    def test_bad_formats_are_named(self):
        for query in ("?as=xml", "?as=", "?as=json&as=md"):
            self.assert_names(
                self.api.get(session_url(self.row, "export") + query), "as"
            )

    def test_titles_are_no_part_of_the_name(self):
        store.update_session(self.row, title='x"; filename="evil.exe')
        response = self.api.get(session_url(self.row, "export"))
        assert "evil" not in response["Content-Disposition"]
        assert AgentSession.objects.get(pk=self.row.pk).title
