"""What people do with a session after it happened: change, ask again, look back."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.chat_browser import (
    REFUSAL,
    ChatBrowserCase,
    ask,
    say,
    serious_findings,
    wait_for_answer,
)

pytestmark = pytest.mark.browser

LAMPS = "Tell me about your lamps"
LAST_WORDS = "a letter from the person who made it."


class ChangeTests(ChatBrowserCase):
    pause = "0.05"  # an answer about lamps takes four seconds

    def edit(self, page, number=0):
        """Open the editor of a message and return its field."""
        page.locator(".edit summary").nth(number).click()
        return page.get_by_label("Say this instead").nth(number)

    def tokens(self, page):
        return int(page.locator(".usage").inner_text().split()[0].replace(",", ""))

    def status(self, page, text):
        page.locator("#status", has_text=text).wait_for()

    def test_a_message_is_changed_by_keyboard_and_what_was_before_is_found(self):
        page = self.device("alice")
        ask(page, "Hello, I am Alice.")
        ask(page, "What is my name?", 2)
        page.locator(".edit summary").first.focus()
        page.keyboard.press("Enter")
        field = page.get_by_label("Say this instead").first
        expect(field).to_be_focused()
        expect(page.locator(".user div").first).to_be_hidden()
        page.keyboard.press("Control+A")
        field.press_sequentially("Hello, I am Carol.")
        page.keyboard.press("Escape")
        expect(field).to_be_hidden()
        expect(page.locator(".edit summary").first).to_be_focused()
        assert page.locator(".user div").first.inner_text() == "Hello, I am Alice."
        page.keyboard.press("Enter")
        expect(field).to_have_value("Hello, I am Carol.")
        page.keyboard.press("Enter")
        page.locator(".assistant", has_text="Carol").wait_for()
        assert len(wait_for_answer(page)) == 1
        page.get_by_role("heading", name="Hello, I am Carol.").wait_for()
        assert page.evaluate("document.activeElement.id") == "text"
        page.get_by_text("Older versions").click()
        link = page.get_by_role("link", name=re.compile("Before your change of"))
        link.click()
        page.get_by_role("link", name="The session as it is now").wait_for()
        said = page.locator(".user div").all_inner_texts()
        assert said == ["Hello, I am Alice.", "What is my name?"]
        assert page.get_by_label("Your message").count() == 0
        page.get_by_role("button", name="Go on from here").click()
        assert ask(page, "What is my name?", 3) == "Your name is Alice."

    def test_an_answer_is_asked_for_again_and_its_tokens_are_counted(self):
        page = self.device("bob")
        first = ask(page, "Where is my order #1002?")
        used = self.tokens(page)
        page.get_by_role("button", name="Ask again").dblclick()
        page.get_by_text("Older versions").wait_for()
        page.locator("#transcript:not(:has([data-events]))").wait_for()
        assert wait_for_answer(page) == [first]
        assert page.locator(".versions a").count() == 1
        assert self.tokens(page) == 2 * used
        ask(page, "Thanks!", 2)
        assert self.tokens(page) > 2 * used

    def test_words_that_are_refused_stay_in_their_field(self):
        self.expected = (REFUSAL,)
        page = self.device("alice")
        ask(page, "Hello")
        ask(page, "Thanks", 2)
        other = self.tab(page.context)
        other.goto(page.url)
        field = self.edit(other, 1)
        field.fill("Good evening")
        say(page, LAMPS)
        page.locator(".live").wait_for()
        expect(page.locator(".edit summary").first).to_be_hidden()
        field.press("Enter")  # it does not know yet
        self.status(other, "Another answer is being written here")
        expect(field).to_have_value("Good evening")
        expect(field).to_be_focused()
        save = other.get_by_role("button", name="Save and ask")
        expect(save).to_be_disabled()
        for tab in (page, other):
            assert wait_for_answer(tab, 3)[2].endswith(LAST_WORDS)
        expect(field).to_have_value("Good evening")
        expect(field).to_be_focused()
        expect(save).to_be_enabled()
        late = self.edit(page, 1)
        late.fill("Good morning")
        save.click()
        other.locator(".user div", has_text="Good evening").wait_for()
        other.locator("#transcript:not(:has([data-events]))").wait_for()
        # What the first tab would change is not there any more.
        late.press("Enter")
        self.status(page, "your words are in the box below")
        expect(page.get_by_label("Your message")).to_have_value("Good morning")
        said = page.locator(".user div").all_inner_texts()
        assert said == ["Hello", "Good evening"]

    def test_of_two_servers_one_answers_and_may_be_killed(self):
        self.expected = (REFUSAL,)
        twin = self.site.twin()
        self.addCleanup(twin.close)
        twin.serve()
        self.own += (f"{twin.url}/",)
        page = self.device("alice")
        ask(page, "Hello")
        there = self.tab(page.context)
        there.goto(page.url.replace(self.site.url, twin.url))
        say(there, LAMPS)
        there.locator(".live").wait_for()
        say(page, "And where is #1001?")
        self.status(page, "Another answer is being written here")
        there.close()
        twin.stop_serving()
        # Its lease ends by itself.
        page.get_by_text("The answer was interrupted.").wait_for()
        page.get_by_role("button", name="Ask again").click()
        assert wait_for_answer(page, 2)[1].endswith(LAST_WORDS)
        page.get_by_label("Your message").press("Enter")
        assert wait_for_answer(page, 3)[2].startswith("Order #1001")

    def test_all_of_it_is_there_on_a_phone_and_in_the_dark(self):
        phone = {"width": 320, "height": 640}
        for scheme in ("light", "dark"):
            page = self.device("bob", color_scheme=scheme, viewport=phone)
            ask(page, "Hello " + "long" * 40)
            page.get_by_role("button", name="Ask again").click()
            page.get_by_text("Older versions").click()
            page.locator("#transcript:not(:has([data-events]))").wait_for()
            page.locator(".versions a").wait_for()  # it stays open
            self.edit(page)
            assert serious_findings(page) == [], scheme
            assert page.evaluate("document.documentElement.scrollWidth") <= 320
            page.get_by_role("button", name="Cancel").click()
            page.locator(".versions a").click()
            page.get_by_role("button", name="Go on from here").wait_for()
            assert serious_findings(page) == [], scheme
            assert page.evaluate("document.documentElement.scrollWidth") <= 320
