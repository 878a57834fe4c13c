"""What people do to a chat without meaning harm, and what machines do to both."""

from __future__ import annotations

import pytest

from tests.chat_browser import (
    REFUSAL,
    UNREACHABLE,
    ChatBrowserCase,
    ask,
    say,
    wait_for_answer,
)

pytestmark = pytest.mark.browser

LAMPS = "Tell me about your lamps"
LAST_WORDS = "a letter from the person who made it."


class EdgeTests(ChatBrowserCase):
    pause = "0.05"  # an answer about lamps takes four seconds

    def begin(self, page, text=LAMPS):
        say(page, text)
        page.locator(".live").wait_for()

    def said(self, page):
        """Return who speaks in the transcript, from its start."""
        return [
            one.split("\n")[0]
            for one in page.locator(".transcript .user, .assistant").all_inner_texts()
        ]

    def status(self, page, text):
        page.locator("#status", has_text=text).wait_for()

    def test_a_closed_tab_misses_nothing(self):
        page = self.device("alice")
        self.begin(page)
        url, context = page.url, page.context
        page.close()
        page = self.tab(context)
        page.goto(url)  # while the answer is still being given
        page.locator(".live").wait_for()
        assert page.locator(".live div").inner_text().startswith("We make four")
        (answer,) = wait_for_answer(page)
        assert answer.endswith(LAST_WORDS)
        say(page, LAMPS)
        page.locator(".live").wait_for()
        page.close()
        page = self.tab(context)
        page.goto("about:blank")
        page.wait_for_timeout(7000)  # the agent ends without anybody
        page.goto(url)
        assert wait_for_answer(page, 2) == [answer, answer]
        assert self.said(page) == ["You", "Agent"] * 2

    def test_of_two_tabs_one_waits_with_its_words(self):
        self.expected = (REFUSAL,)
        page = self.device("alice")
        ask(page, "Hello")
        other = self.tab(page.context)
        other.goto(page.url)
        self.begin(page)
        say(other, "And where is #1001?")
        self.status(other, "being written here")
        other.locator(".live").wait_for()  # what goes on is shown, the refusal stays
        self.status(other, "being written here")
        assert other.get_by_label("Your message").input_value() == "And where is #1001?"
        for tab in (page, other):  # the second tab follows what goes on in the first
            assert wait_for_answer(tab, 2)[1].endswith(LAST_WORDS)
        other.get_by_label("Your message").focus()
        other.keyboard.press("Enter")
        wait_for_answer(other, 3)
        assert self.said(other) == ["You", "Agent"] * 3

    def test_a_model_that_fails_is_asked_again(self):
        page = self.device("alice")
        say(page, "/fail and tell me about your lamps")
        page.get_by_text("The model did not answer. What you wrote is kept.").wait_for()
        page.reload()
        assert self.said(page) == ["You"]
        page.get_by_role("button", name="Ask again").click()
        assert wait_for_answer(page)[0].endswith(LAST_WORDS)
        assert self.said(page) == ["You", "Agent"]

    def test_a_session_that_was_deleted_elsewhere(self):
        self.expected = (REFUSAL,)
        page = self.device("alice")
        ask(page, "Hello, I am going to vanish")
        other = self.tab(page.context)
        other.goto(page.url)
        self.begin(page)
        other.get_by_text("Manage").click()
        other.locator("summary", has_text="Delete").click()
        other.get_by_role("button", name="Delete for good").click()
        other.get_by_text("The session is deleted").wait_for()
        self.status(page, "it was deleted")
        say(page, "Are you there?")
        self.status(page, "it was deleted")
        assert page.get_by_label("Your message").input_value() == "Are you there?"
        page.reload()
        page.get_by_role("heading", name="This is not here").wait_for()

    def test_buttons_pressed_twice_send_once(self):
        page = self.device("alice")
        page.get_by_label("Your message").fill("Hello")
        page.get_by_role("button", name="Send").dblclick()
        wait_for_answer(page)
        assert self.said(page) == ["You", "Agent"]
        # Two scripts that do not know of each other, one form.
        states = page.evaluate(
            """async () => {
                document.getElementById("text").value = "Thanks";
                const form = document.querySelector(".composer");
                const send = () => fetch(form.action, {
                    method: "POST",
                    headers: {Accept: "application/json"},
                    body: new FormData(form),
                });
                const answers = await Promise.all([send(), send(), send()]);
                return answers.map(one => one.status);
            }"""
        )
        assert states == [202, 202, 202]
        page.reload()
        wait_for_answer(page, 2)
        assert self.said(page) == ["You", "Agent"] * 2

    def test_an_answer_that_is_lost_on_its_way(self):
        self.expected = ("Failed to load resource: net::ERR_",)

        def lose(route):
            route.fetch()
            route.abort("connectionreset")

        page = self.device("alice")
        ask(page, "Hello")
        for text, again in (("Thanks", "Thanks"), ("Hello again", "Good evening")):
            page.route("**/send/", lose, times=1)
            count = page.locator(".assistant").count()
            say(page, text)
            self.status(page, "cannot be reached")
            page.wait_for_timeout(1500)  # the agent answers what did arrive
            say(page, again)
            wait_for_answer(page, count + (1 if text == again else 2))
        said = page.locator(".user div").all_inner_texts()
        assert said == ["Hello", "Thanks", "Hello again", "Good evening"]
        assert self.said(page) == ["You", "Agent"] * 4

    def test_a_database_that_restarts_is_not_noticed(self):
        page = self.device("alice")
        ask(page, "Hello")
        self.site.cut_connections()
        assert ask(page, "Where is #1001?", 2).startswith("Order #1001")
        self.begin(page)
        self.site.cut_connections()  # and in mid-answer
        assert wait_for_answer(page, 3)[2].endswith(LAST_WORDS)
        assert self.said(page) == ["You", "Agent"] * 3

    def test_a_server_that_is_killed_in_mid_answer(self):
        self.expected = (UNREACHABLE, "Failed to load resource: net::ERR_INCOMPLETE")
        page = self.device("alice")
        ask(page, "Hello")
        self.begin(page)
        self.site.stop_serving()
        self.status(page, "The connection is lost")
        say(page, "Are you there?")
        self.status(page, "What you wrote is still in the box")
        self.site.serve()
        # The page connects again by itself, and the run is given up after a while.
        page.get_by_text(
            "The answer was interrupted. What you wrote is kept."
        ).wait_for()
        page.get_by_role("button", name="Ask again").click()
        assert wait_for_answer(page, 2)[1].endswith(LAST_WORDS)
        page.get_by_role("button", name="Send").click()
        wait_for_answer(page, 3)
        assert self.said(page) == ["You", "Agent"] * 3
