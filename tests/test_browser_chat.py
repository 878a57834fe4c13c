from __future__ import annotations

import pytest

from tests.chat_browser import (
    ChatBrowserCase,
    ask,
    say,
    serious_findings,
    wait_for_answer,
)

pytestmark = pytest.mark.browser

# What is on the page for moments only.
WATCH = """() => {
window.watched = {running: "", words: []};
new MutationObserver(() => {
    const running = document.querySelector(".tool.running span")?.textContent;
    const words = document.querySelector(".live div")?.textContent;
    if (running) watched.running = running;
    if (words && !watched.words.includes(words)) watched.words.push(words);
}).observe(document, {childList: true, subtree: true, characterData: true});
}"""
MANY = """
from django.contrib.auth.models import User
from agent_sessions import store
bob = User.objects.get(username="bob")
for number in range(60):
    store.create_session(bob, title=f"Old session {number:02}")
"""


class ChatTests(ChatBrowserCase):
    def test_a_visitor_sees_the_tool_and_then_the_words_come(self):
        page = self.device()
        ask(page, "Hello!")
        page.evaluate(WATCH)
        answer = "Please log in: then I can look up order #1001."
        assert ask(page, "Where is my order #1001?", 2) == answer
        running, words = page.evaluate("[watched.running, watched.words]")
        assert running == 'look_up_order {"number": "1001"}'
        assert len(words) > 3
        assert all(answer.startswith(one.strip()) for one in words)
        assert page.locator(".tool").inner_text().startswith("look_up_order")
        # Heard once and whole, and the keyboard is where one goes on.
        assert page.locator("#spoken").inner_text() == f"Agent: {answer}"
        assert page.evaluate("document.activeElement.id") == "text"

    def test_the_keyboard_is_enough(self):
        page = self.device()
        box = page.get_by_label("Your message")
        box.press_sequentially("Hello")
        page.keyboard.press("Shift+Enter")
        box.press_sequentially("I am Kim.")
        page.keyboard.press("Enter")
        assert wait_for_answer(page) == ["Nice to meet you, Kim! How can I help?"]
        assert page.locator(".user div").inner_text() == "Hello\nI am Kim."
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Send"

    def test_an_answer_is_stopped_and_asked_for_again(self):
        page = self.device("alice")
        ask(page, "Hello")
        say(page, "Tell me about your lamps")
        page.locator(".live").wait_for()
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("Stopped here.").wait_for()
        half = wait_for_answer(page, 2)[1]
        half = half.removesuffix("\nStopped here.").strip()
        page.reload()
        assert page.locator(".assistant").nth(1).inner_text().count(half) == 1
        page.get_by_role("button", name="Ask again").click()
        page.locator(".assistant", has_text="the person who made it").wait_for()
        whole = wait_for_answer(page, 2)[1]
        assert whole.startswith(half) and whole != half
        assert page.get_by_text("You stopped the answer.").count() == 0

    def test_a_session_goes_on_on_another_device(self):
        page = self.device("alice")
        ask(page, "Hi, I'm Alice. Where is #1003?")
        phone = self.device("alice", viewport={"width": 380, "height": 700})
        phone.get_by_role("link", name="Hi, I'm Alice. Where is #1003?").first.click()
        assert ask(phone, "What is my name?", 2) == "Your name is Alice."
        # The first device sees it as soon as somebody looks at it.
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.get_by_text("Your name is Alice.").wait_for()

    def test_a_session_is_renamed_archived_found_and_deleted(self):
        page = self.device("bob")
        ask(page, "Hallo, wo ist meine Bestellung #1002?")
        page.get_by_text("Manage").click()
        page.get_by_label("Title").fill("The Nova lamp")
        page.get_by_role("button", name="Rename").click()
        page.get_by_role("heading", name="The Nova lamp").wait_for()
        page.get_by_text("Manage").click()
        page.get_by_role("button", name="Archive").click()
        page.get_by_role("link", name="New session").click()
        assert page.get_by_role("link", name="The Nova lamp").count() == 0
        page.get_by_role("link", name="Archived sessions").click()
        page.get_by_label("Search your sessions").fill("nova")
        page.keyboard.press("Enter")
        page.get_by_role("link", name="The Nova lamp").click()
        page.get_by_text("Manage").click()
        page.get_by_role("button", name="Take out of the archive").click()
        page.locator("aside").get_by_role("link", name="The Nova lamp").wait_for()
        page.get_by_text("Manage").click()
        page.locator("summary", has_text="Delete").click()
        page.get_by_role("button", name="Delete for good").click()
        page.get_by_text("The session is deleted").wait_for()
        assert page.get_by_role("link", name="The Nova lamp").count() == 0

    def test_the_list_grows_while_one_scrolls(self):
        self.site.manage("shell", "--no-imports", "-c", MANY)
        page = self.device("bob")
        assert page.locator(".sessions a").count() < 60
        first = page.get_by_role("link", name="Old session 00")
        for _ in range(50):
            if first.count():
                break
            page.evaluate(
                "document.querySelector('.sessions').lastElementChild.scrollIntoView()"
            )
            page.wait_for_timeout(100)
        titles = page.locator(".sessions span").all_inner_texts()
        assert len([one for one in titles if one.startswith("Old")]) == 60
        assert len(set(titles)) == len(titles)

    def test_login_takes_a_visitors_session_along_once(self):
        page = self.device()
        ask(page, "I am Sam.")
        url = page.url
        page.get_by_role("link", name="Log in", exact=True).click()
        page.get_by_text("comes along").wait_for()
        login = page.content()
        page.get_by_role("button", name="Log in as alice").click()
        page.get_by_text("now in the account of alice").wait_for()
        assert page.url == url
        assert ask(page, "What is my name?", 2) == "Your name is Sam."
        # Somebody else who comes upon the same form gets nothing.
        other = self.device()
        other.goto(f"{self.site.url}/login/")
        claim = login.split('name="claim" value="')[1].split('"')[0]
        other.evaluate(
            """claim => {
                const form = document.querySelector(".one-click");
                const field = document.createElement("input");
                Object.assign(field, {name: "claim", value: claim});
                form.append(field);
            }""",
            claim,
        )
        other.get_by_role("button", name="Log in as bob").click()
        other.get_by_role("button", name="Log out bob").wait_for()
        assert other.get_by_role("link", name="I am Sam.").count() == 0

    def test_staff_read_in_the_admin_what_was_just_said(self):
        ask(self.device("alice"), "Hello, it is about #1001")
        page = self.device("support")
        page.get_by_role("link", name="Admin").click()
        page.get_by_role("link", name="alice").first.wait_for()
        page.locator("#result_list tbody th a").first.click()
        page.get_by_text("Hello, it is about #1001").first.wait_for()
        page.goto(self.site.url)
        page.get_by_role("link", name="API").click()
        page.locator(".opblock").first.wait_for()

    def test_narrow_screens_show_all_of_it(self):
        page = self.device("alice", viewport={"width": 320, "height": 640})
        ask(page, "Hello " + "long" * 60)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        assert page.get_by_label("Your message").is_visible()
        page.get_by_role("link", name="← Your sessions").click()
        page.get_by_role("link", name="Hello longlong").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 320

    def test_axe_finds_nothing_serious_in_light_and_dark(self):
        for scheme in ("light", "dark"):
            page = self.device(color_scheme=scheme)
            assert serious_findings(page) == [], scheme
            page.goto(f"{self.site.url}/login/")
            page.get_by_text("With a password").click()
            assert serious_findings(page) == [], scheme
            page = self.device("alice", color_scheme=scheme)
            ask(page, "Where is #1001?")
            say(page, "Tell me about your lamps")
            page.locator(".live").wait_for()
            assert serious_findings(page) == [], scheme
            wait_for_answer(page, 2)
            page.get_by_text("Manage").click()
            assert serious_findings(page) == [], scheme
