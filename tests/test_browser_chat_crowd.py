"""Fifty visitors at once, without browsers but with all that theirs would send."""

from __future__ import annotations

import html
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from django.db import connection
from django.test import SimpleTestCase

from tests.example_site import ExampleSite

pytestmark = pytest.mark.browser

VISITORS = 50
POOL_SIZE = 10


class Visitor:
    """Talks to the site as its page does, and keeps what came over the wire."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        self.heard: list[str] = []
        self.web = requests.Session()
        self.fields = self.read_fields(self.get("/"))

    def get(self, path: str) -> str:
        answer = self.web.get(self.url + path, timeout=60)
        assert answer.status_code == 200, answer.status_code
        return answer.text

    def read_fields(self, page: str) -> dict[str, str]:
        composer = page[page.index('class="composer"') :]
        fields = re.findall(r'name="(\w+)" value="([^"]+)"', composer)
        return dict(fields)

    def say(self, path: str, text: str) -> dict[str, str]:
        answer = self.web.post(
            self.url + path,
            {**self.fields, "text": text},
            headers={"Accept": "application/json"},
            timeout=60,
        )
        assert answer.status_code == 202, (answer.status_code, answer.text[:200])
        content = answer.json()
        self.fields["run"] = content["next"]
        self.heard.append(self.listen(content["events"]))
        return content

    def listen(self, path: str) -> str:
        words, name = "", ""
        with self.web.get(self.url + path, stream=True, timeout=60) as stream:
            assert stream.status_code == 200
            for line in stream.iter_lines(decode_unicode=True):
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data" and name == "text":
                    words += json.loads(value)
                elif field == "data" and name == "end":
                    assert json.loads(value) == "finished"
        return words

    def talk(self) -> None:
        session = self.say("/start/", f"I am {self.name}. About your lamps!")["session"]
        self.say(f"{session}send/", "What is my name?")
        page = self.get(f"{session}transcript/")
        said = re.findall(r'<div dir="auto">(.*?)</div>', page, re.DOTALL)
        self.transcript = [html.unescape(text) for text in said]


class CrowdTests(SimpleTestCase):
    def test_fifty_visitors_stream_at_once(self):
        site = ExampleSite(OFFLINE_PAUSE="0.02")
        self.addCleanup(site.close)
        site.manage("prepare_demo")
        site.serve()
        names = [f"V{chr(65 + n // 26)}{chr(97 + n % 26)}x" for n in range(VISITORS)]
        connections, done = [], threading.Event()

        def watch():
            while connection.vendor == "postgresql" and not done.wait(0.1):
                connections.append(site.count_connections())

        watching = threading.Thread(target=watch)
        watching.start()
        began = time.monotonic()
        with ThreadPoolExecutor(VISITORS) as threads:
            visitors = list(threads.map(lambda name: Visitor(site.url, name), names))
            for _ in threads.map(Visitor.talk, visitors):
                pass
        seconds = time.monotonic() - began
        done.set()
        watching.join()
        for visitor in visitors:
            first, second = visitor.heard
            assert first.startswith(f"Nice to meet you, {visitor.name}! We make four")
            assert second == f"Your name is {visitor.name}."
            assert visitor.transcript == [
                f"I am {visitor.name}. About your lamps!",
                first,
                "What is my name?",
                second,
            ]
        assert max(connections, default=0) <= POOL_SIZE
        log = site.stop_serving()
        assert log == "", log[-2000:]
        most = max(connections, default=0)
        print(f"{VISITORS} visitors in {seconds:.1f} s, at most {most} connections")
