"""
A TCP proxy in a process of its own, which adds delay and counts round trips.

A round trip is counted when a client sends after the server has sent. The proxy delays
each way by half of its round trip without holding up what follows, so a large answer
takes as long as a small one.
"""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
import time
from types import TracebackType

_CHUNK = 1 << 20


class Link:
    """A proxy process: connect to ``port`` on 127.0.0.1 instead of the server."""

    def __init__(self, host: str, port: int, *, round_trip: float = 0.0) -> None:
        self._target = (host, str(port), str(round_trip))

    def __enter__(self) -> Link:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmark.network", *self._target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = self._read()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def round_trips(self) -> int:
        """Return how many there were since the start."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


class _Proxy:
    def __init__(self, host: str, port: int, round_trip: float) -> None:
        self._target = (host, port)
        self._delay = round_trip / 2
        self._lock = threading.Lock()
        self.round_trips = 0

    def serve(self, listener: socket.socket) -> None:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(self._target)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(self)
            _start(self._carry, client, server, connection.count_request)
            _start(self._carry, server, client, connection.note_answer)

    def count(self) -> None:
        with self._lock:
            self.round_trips += 1

    def _carry(
        self, source: socket.socket, target: socket.socket, seen: threading._Action
    ) -> None:
        waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        if self._delay:
            _start(_deliver, waiting, target)
        data = b"-"
        while data:
            try:
                data = source.recv(_CHUNK)
            except OSError:
                data = b""
            if data:
                seen()
            if self._delay:
                waiting.put((time.monotonic() + self._delay, data))
            else:
                _send(target, data)


class _Connection:
    def __init__(self, proxy: _Proxy) -> None:
        self._proxy = proxy
        self._answered = True

    def count_request(self) -> None:
        if self._answered:
            self._answered = False
            self._proxy.count()

    def note_answer(self) -> None:
        self._answered = True


def _deliver(
    waiting: queue.SimpleQueue[tuple[float, bytes]], target: socket.socket
) -> None:
    data = b"-"
    while data:
        due, data = waiting.get()
        time.sleep(max(0.0, due - time.monotonic()))
        _send(target, data)


def _send(target: socket.socket, data: bytes) -> None:
    try:
        if data:
            target.sendall(data)
        else:
            target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side has gone: so will this one


def _start(run: threading._Action, *args: object) -> None:
    threading.Thread(target=run, args=args, daemon=True).start()


def main(host: str, port: str, round_trip: str) -> None:
    proxy = _Proxy(host, int(port), float(round_trip))
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    _start(proxy.serve, listener)
    print(listener.getsockname()[1], flush=True)
    for _ in sys.stdin:
        print(proxy.round_trips, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
