"""Tests in a real Chromium, against the site as it is served."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.http import HttpRequest, HttpResponse
from playwright.sync_api import Browser, Page, sync_playwright

T = TypeVar("T")

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'"
)


def strict_policy(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """A middleware that forbids everything inline and everything foreign."""

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response

    return respond


class BrowserCase(StaticLiveServerTestCase):
    """Each test gets ``visit()``, which runs a function with a logged-in page."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Playwright's event loop would make Django refuse its database to this thread.
        cls.thread = ThreadPoolExecutor(1)
        cls.addClassCleanup(cls.thread.shutdown)
        cls.driver = cls.thread.submit(lambda: sync_playwright().start()).result()
        cls.addClassCleanup(lambda: cls.thread.submit(cls.driver.stop).result())
        cls.browser: Browser = cls.thread.submit(cls.launch).result()
        cls.addClassCleanup(lambda: cls.thread.submit(cls.browser.close).result())

    @classmethod
    def launch(cls) -> Browser:
        chromium = cls.driver.chromium
        return chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)

    def visit(self, user: Any, work: Callable[[Page], T], **options: Any) -> T:
        """Return what ``work`` does with a page, and note what the page asked for."""
        self.client.force_login(user)
        value = self.client.cookies[settings.SESSION_COOKIE_NAME].value
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self.complaints: list[str] = []

        def run() -> T:
            context = self.browser.new_context(**options)
            try:
                cookie = {
                    "name": settings.SESSION_COOKIE_NAME,
                    "value": value,
                    "url": self.live_server_url,
                }
                context.add_cookies([cookie])
                page = context.new_page()
                page.on("request", lambda request: self.requests.append(request.url))
                page.on("dialog", self.note_dialog)
                page.on("console", self.note_complaint)
                page.on("pageerror", lambda error: self.complaints.append(str(error)))
                return work(page)
            finally:
                context.close()

        return self.thread.submit(run).result()

    def note_dialog(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def note_complaint(self, message: Any) -> None:
        # The browser asks for an icon on its own.
        if message.type == "error" and "favicon" not in str(message.location):
            self.complaints.append(message.text)

    def foreign_requests(self) -> list[str]:
        own = (self.live_server_url + "/", "data:", "blob:", "about:")
        return [url for url in self.requests if not url.startswith(own)]


def serious_findings(page: Page, within: str = "#content") -> list[str]:
    """Return what axe-core finds serious or critical in the page's own part."""
    # Around it is Django's: its breadcrumbs' links are told apart by colour alone.
    violations = Axe().run(page, context=within).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in violations
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
