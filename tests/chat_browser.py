"""The example's chat in a real Chromium, as it is served: uvicorn, strict CSP."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from django.test import SimpleTestCase
from playwright.sync_api import BrowserContext, Page, sync_playwright

from tests.browsers import ARGUMENTS, CHROMIUM
from tests.example_site import ExampleSite

# Chromium's own line about an answer that is a refusal; the page says what it means.
REFUSAL = "Failed to load resource: the server responded with a status of 4"
UNREACHABLE = "Failed to load resource: net::ERR_CONNECTION_REFUSED"


class ChatBrowserCase(SimpleTestCase):
    """
    Tests get ``device()``: a browser of its own, with an empty cookie jar.

    What pages complain about, or ask of other hosts, fails the test.
    """

    pause = "0.03"  # seconds between two words

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site = ExampleSite(OFFLINE_PAUSE=cls.pause)
        cls.addClassCleanup(cls.site.close)
        cls.site.manage("prepare_demo")
        cls.site.serve()
        cls.driver = sync_playwright().start()
        cls.addClassCleanup(cls.driver.stop)
        cls.browser = cls.driver.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS
        )
        cls.addClassCleanup(cls.browser.close)

    def setUp(self):
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.own: tuple[str, ...] = (f"{self.site.url}/", "data:", "about:")
        self.expected: tuple[str, ...] = ()
        self.addCleanup(self.no_complaints)

    def no_complaints(self):
        seen = [one for one in self.complaints if not one.startswith(self.expected)]
        self.assertEqual((seen, self.foreign), ([], []))

    def device(self, username: str | None = None, **options: Any) -> Page:
        """Return a page of a new browser, logged in with one click."""
        options.setdefault("viewport", {"width": 1100, "height": 720})
        context = self.browser.new_context(**options)
        context.set_default_timeout(15_000)
        self.addCleanup(context.close)
        page = self.tab(context)
        page.goto(self.site.url)
        if username:
            page.get_by_role("link", name="Log in", exact=True).click()
            page.get_by_role("button", name=f"Log in as {username}").click()
            page.get_by_role("button", name=f"Log out {username}").wait_for()
        return page

    def tab(self, context: BrowserContext) -> Page:
        page = context.new_page()
        page.on("console", self.note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self.note_request)
        return page

    def note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def note_request(self, request: Any) -> None:
        if not request.url.startswith(self.own):
            self.foreign.append(request.url)


def say(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.wait_for_load_state()  # before its script is there, Enter begins a line
    page.keyboard.press("Enter")


def wait_for_answer(page: Page, count: int = 1) -> list[str]:
    """Wait for ``count`` answers that the server has rendered; return their words."""
    answers = page.locator(".assistant:not(.live)")
    answers.nth(count - 1).wait_for()
    page.locator(".live").wait_for(state="detached")
    return [one.split("\n", 1)[1] for one in answers.all_inner_texts()]


def ask(page: Page, text: str, count: int = 1) -> str:
    say(page, text)
    return wait_for_answer(page, count)[-1]


def serious_findings(page: Page) -> list[str]:
    """Return what axe-core finds serious or critical in the whole page."""
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in Axe().run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
