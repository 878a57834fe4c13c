"""German, Spanish, French and Turkish have every string, and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from string import Formatter
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.test import TestCase, override_settings
from django.utils import timezone, translation
from django.utils.translation import override
from rest_framework.test import APIClient

from agent_sessions import exports, store
from agent_sessions.admin.ages import age
from agent_sessions.models import AgentSession, SessionItem
from agent_sessions.usage import TokenUsage
from tests.catalogs import (
    LANGUAGES,
    PACKAGE,
    Entry,
    compile_po,
    count_plurals,
    extract_strings,
    read_mo,
    read_po,
)

CHANGE_LIST = "/admin/agent_sessions/agentsession/"
# What is said in them are numbers: every word on a page is then ours or Django's.
ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": "1"},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "2"}]},
    {"type": "reasoning", "summary": [], "encrypted_content": "3"},
    {"type": "function_call", "call_id": "1", "name": "a", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "1", "output": ""},
    {"type": "function_call_output", "call_id": "2", "output": "4"},
    {"type": "function_call", "call_id": "3", "name": "transfer_to_b"},
    {"type": "web_search_call", "status": "failed"},
    {"type": "mcp_call", "name": "b", "error": "5", "server_label": "c"},
    {"type": "mcp_list_tools", "server_label": "c", "tools": [{"name": "b"}]},
    {"type": "mcp_approval_request", "id": "1", "name": "b", "arguments": "{}"},
    {
        "type": "mcp_approval_response",
        "approval_request_id": "1",
        "approve": False,
    },
    {"type": "mcp_approval_request", "id": "2", "name": "b", "arguments": "{}"},
    {"type": "compaction", "encrypted_content": "6"},
    {"type": "item_reference", "id": "7"},
    {"__enc__": 1, "v": 1, "kid": "8", "payload": "9"},
    {"type": "unheard_of"},
    {"role": "assistant", "phase": "commentary", "content": "1" * 30_000},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "2"}]},
    {"role": "developer", "content": [{"type": "input_image", "file_id": "3"}]},
    {"role": "system", "content": None, "status": "incomplete"},
    {"role": "user", "content": "4", "further": 5},
]


def catalog(language: str, kind: str = "po") -> Any:
    path = PACKAGE / "locale" / language / "LC_MESSAGES" / f"django.{kind}"
    return read_po(path) if kind == "po" else read_mo(path)


def entries(language: str) -> list[Entry]:
    return [entry for string, entry in catalog(language).items() if string.text]


def placeholders(text: str) -> set[str]:
    named = set(re.findall(r"%\(\w+\)[a-z]", text))
    if named:
        return named
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def frame(text: str) -> tuple[str, ...]:
    """Return what a translation shares with its string: its edges and entities."""
    start, end = text[: -len(text.lstrip())], text[len(text.rstrip()) :]
    mark = text[-1:] if text[-1:] in ".?!:…)" else ""
    return start, end, mark, *sorted(re.findall(r"&\w+;", text))


def test_a_catalog_for_each_language_and_no_other():
    assert sorted(path.name for path in (PACKAGE / "locale").iterdir()) == LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
class TestCatalog:
    def test_every_string_of_the_sources_is_in_it_and_no_other(self, language):
        strings = extract_strings()
        assert len(strings) > 250
        assert strings == {entry.string for entry in entries(language)}

    def test_nothing_is_empty_or_fuzzy(self, language):
        for entry in entries(language):
            assert "fuzzy" not in entry.flags, entry
            assert all(form.strip() for form in entry.forms), entry

    def test_there_are_as_many_forms_as_the_language_has(self, language):
        plurals = count_plurals(catalog(language))
        assert plurals > 1
        for entry in entries(language):
            wanted = 1 if entry.string.plural is None else plurals
            assert len(entry.forms) == wanted, entry

    def test_placeholders_are_those_of_the_string(self, language):
        for entry in entries(language):
            first, *others = entry.forms
            string = entry.string
            whole = placeholders(string.plural or string.text)
            assert placeholders(first) in (placeholders(string.text), whole), entry
            assert all(placeholders(form) == whole for form in others), entry

    def test_edges_and_entities_are_those_of_the_string(self, language):
        for entry in entries(language):
            for form in entry.forms:
                assert frame(form) == frame(entry.string.text), entry

    def test_it_is_compiled(self, language):
        assert catalog(language, "mo") == compile_po(catalog(language))


def test_zero_of_a_thing_is_counted():
    # French and Turkish say it with the form of one.
    for language in ("fr", "tr"):
        for entry in entries(language):
            if entry.string.plural is not None:
                assert placeholders(entry.forms[0]) == placeholders(entry.string.plural)


def test_the_models_speak_german():
    with override("de"):
        assert str(AgentSession._meta.verbose_name) == "Agentensitzung"
        field = AgentSession._meta.get_field("updated_at")
        assert str(field.verbose_name) == "letzte Aktivität"


class Reader(HTMLParser):
    """Gathers what a page says, without what people said."""

    WORDS = ("aria-label", "title", "alt", "placeholder")
    SAID = {"bdi", "code", "option", "pre", "script", "style", "textarea"}
    VOID = {"area", "br", "hr", "img", "input", "link", "meta", "rect"}

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "html":
            values.pop("dir")
        self.words += [values[name] or "" for name in self.WORDS if name in values]
        if values.get("type") == "submit":
            self.words.append(values.get("value") or "")
        if tag not in self.VOID:
            self.open.append(tag in self.SAID or values.get("dir") == "auto")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not any(self.open):
            self.words.append(data)


def words_of(html: str) -> list[str]:
    reader = Reader()
    reader.feed(html)
    assert not reader.open
    return [words.strip() for words in reader.words if words.strip()]


@override_settings(ROOT_URLCONF="tests.admin_site")
class PageTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        users = get_user_model().objects
        cls.root = users.create_superuser("1", "1@1.1")
        cls.row = store.create_session(cls.root)
        store.append_items(cls.row, ITEMS, usage=TokenUsage(1, 2, 3, 4, 5, 10_006))
        fork = store.fork_session(cls.row)
        cls.fork = store.fork_session(fork)
        store.delete_session(fork)
        store.archive_sessions([store.fork_session(cls.row).pk])
        items = SessionItem.objects.filter(session=cls.row)
        items.filter(position=0).update(replaced_at=cls.row.created_at)
        items.filter(position=1).update(data="[]")
        store.append_items("2", [{"role": "user", "content": "5"}])
        store.append_items("3", ITEMS[3:4])
        orphan = store.create_session(users.create_user("4"))
        store.archive_sessions([orphan.pk])
        users.get(username="4").delete()
        store.update_user_metadata({"5": 6}, user=cls.root)

    def setUp(self):
        self.client.force_login(self.root)

    def pages(self) -> dict[str, str]:
        page = f"{CHANGE_LIST}{self.row.pk}/"
        selected = {"_selected_action": [str(self.row.pk)]}
        answers = {
            url: self.client.get(url, follow=True)
            for url in (
                CHANGE_LIST,
                f"{CHANGE_LIST}?q=text:1",
                f"{CHANGE_LIST}?q=text:",
                f"{CHANGE_LIST}users/",
                f"{CHANGE_LIST}overview/",
                f"{page}change/",
                f"{CHANGE_LIST}{self.fork.pk}/change/",
                f"{page}items/17/",
                f"{page}delete/",
                "/admin/agent_sessions/sessionaccess/",
                f"/admin/agent_sessions/agentuser/{self.root.pk}/change/",
                f"/admin/auth/user/{self.root.pk}/change/",
                "/admin/",
            )
        }
        for action in (
            "remove_owner_selected",
            "delete_selected",
            "restore_selected",
            "archive_selected",
        ):
            answers[action] = self.client.post(
                CHANGE_LIST, {"action": action, **selected}, follow=True
            )
        answers["history"] = self.client.get(f"{page}history/")
        with override_settings(AGENT_SESSIONS_REQUIRE_REASON=True):
            answers["reason"] = self.client.get(f"{page}change/")
            answers["export_selected"] = self.client.post(
                CHANGE_LIST, {"action": "export_selected", **selected}
            )
        with override_settings(AGENT_SESSIONS_SHOW_CONTENT=False):
            answers["content off"] = self.client.get(f"{page}change/")
        assert {answer.status_code for answer in answers.values()} == {200}
        return {name: answer.content.decode() for name, answer in answers.items()}

    def test_every_page_opens_in_every_language(self):
        for language in LANGUAGES:
            with override_settings(LANGUAGE_CODE=language):
                for name, html in self.pages().items():
                    assert f'<html lang="{language}"' in html, name
                    said = set(words_of(html))
                    english = {
                        entry.string.text
                        for entry in entries(language)
                        if entry.string.text not in entry.forms
                    }
                    assert not said & english, (language, name)

    def test_no_word_on_a_page_is_outside_of_the_catalogs(self):
        marked = "⟦{}⟧".format
        fakes = {
            "gettext": lambda text: marked(text),
            "ngettext": lambda one, more, count: marked(one if count == 1 else more),
            "pgettext": lambda context, text: marked(text),
            "npgettext": lambda context, one, more, count: marked(more),
        }
        translation.gettext("")  # from now on the functions stand on _trans
        for name, fake in fakes.items():
            self.enterContext(patch.object(translation._trans, name, fake))
        unmarked = set()
        for html in self.pages().values():
            for words in words_of(html):
                rest, count = words, 1
                while count:
                    rest, count = re.subn("⟦[^⟦⟧]*⟧", "", rest)
                rest = re.sub("[0-9a-f]{8}-[0-9a-f-]{27}", "", rest)
                if re.search("[a-zA-Z]{2}", rest):
                    unmarked.add(words)
        # Names that are the same everywhere; and one word of Django's own.
        assert unmarked <= {"JSON", "UUID⟦:⟧", "Search"}
        assert "JSON" in unmarked

    @override_settings(LANGUAGE_CODE="de")
    def test_how_long_ago_is_inflected(self):
        assert age(timezone.now() - timedelta(days=3)) == "vor 3\xa0Tagen"
        assert age(timezone.now() - timedelta(days=1)) == "vor 1\xa0Tag"

    @override_settings(LANGUAGE_CODE="de")
    def test_the_log_is_in_english_and_read_in_ones_own_language(self):
        post = {"action": "archive_selected", "_selected_action": [str(self.row.pk)]}
        self.client.post(CHANGE_LIST, post)
        assert LogEntry.objects.get().change_message == "Archived."
        history = self.client.get(f"{CHANGE_LIST}{self.row.pk}/history/")
        assert "<td>Archiviert.</td>" in history.content.decode()

    @override_settings(LANGUAGE_CODE="de", TIME_ZONE="Europe/Berlin")
    def test_the_time_of_archiving_reads_like_other_times(self):
        moment = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
        AgentSession.objects.filter(pk=self.row.pk).update(archived_at=moment)
        page = self.client.get(f"{CHANGE_LIST}{self.row.pk}/change/")
        assert "2. März 2026 00:30" in words_of(page.content.decode())

    @override_settings(LANGUAGE_CODE="es")
    def test_a_transcript_is_taken_along_in_ones_own_language(self):
        text = b"".join(exports.export_markdown(self.row)).decode()
        assert "## Turno 1 · " in text
        assert "- Última actividad: " in text

    @override_settings(LANGUAGE_CODE="tr")
    def test_what_a_form_refuses_is_told_in_ones_own_language(self):
        url = f"{CHANGE_LIST}{self.row.pk}/change/"
        sent = {"title": "a\x01b", "metadata": '{"a": NaN}'}
        page = self.client.post(url, sent).content.decode()
        assert "Başlık en fazla 200 karakterdir; denetim karakteri" in page
        assert "Üst veri; en fazla 16384 bayt, 20 düzey ve 256 anahtardan" in page

    @override_settings(LANGUAGE_CODE="de")
    def test_a_session_id_that_is_refused_is_told_in_ones_own_language(self):
        with self.assertRaises(ValidationError) as caught:
            AgentSession(session_id=" ").full_clean()
        (words,) = caught.exception.message_dict["session_id"]
        assert words.startswith("Eine Sitzungskennung hat 1 bis 255 Zeichen")


@override_settings(LANGUAGE_CODE="fr")
class AnswerTests(TestCase):
    """What the REST API answers to people's mistakes."""

    def setUp(self):
        user = get_user_model().objects.create_user("1")
        self.row = store.create_session(user)
        self.url = f"/api/sessions/{self.row.pk}/"
        self.api = APIClient()
        self.api.force_authenticate(user)

    def test_a_body_is_refused_in_french(self):
        sent = {"title": "a\x01", "metadata": []}
        errors = self.api.patch(self.url, sent, format="json").json()
        assert errors["title"][0].startswith("Un titre compte au plus 200 caractères")
        assert errors["metadata"][0].startswith("Les métadonnées sont un objet JSON")
        errors = self.api.patch(self.url, {"owner": 1}, format="json").json()
        assert errors["owner"][0].startswith("Ce champ n’est pas connu ici")
        errors = self.api.patch(self.url, {"title": 1}, format="json").json()
        assert errors == {"title": ["Ce n’est pas une chaîne de caractères."]}

    def test_parameters_are_refused_in_french(self):
        query = {
            "a": "1",
            "created_after": "9999-01-01T00:00:00Z",
            "metadata.1": "a",
        }
        errors = self.api.get("/api/sessions/", query).json()
        assert errors["a"] == ["Ce paramètre n’est pas connu ici."]
        assert errors["created_after"] == ["La date est hors limites."]
        assert errors["metadata.1"][0].startswith("Une clé se compose de lettres")
        errors = self.api.get("/api/sessions/", {"cursor": "1"}).json()
        assert errors == {"cursor": ["Ce curseur n’est pas de cette liste."]}
        errors = self.api.get(f"{self.url}items/", {"include": "all"}).json()
        known = "Valeurs connues\xa0: media, encrypted."
        assert errors == {"include": [known]}

    def test_an_old_revision_is_refused_in_french(self):
        answer = self.api.patch(self.url, {}, format="json", headers={"If-Match": "9"})
        assert answer.status_code == 412
        words = "La session a été modifiée depuis sa lecture."
        assert answer.json() == {"detail": words}

    def test_a_bad_token_is_refused_in_french(self):
        url = "/api/sessions/claim/"
        errors = self.api.post(url, {"token": "a"}, format="json").json()
        words = "Le jeton n’est pas valide, a expiré ou a déjà servi."
        assert errors == {"token": [words]}
