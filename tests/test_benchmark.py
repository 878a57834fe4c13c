from __future__ import annotations

import socket
import subprocess
import sys
import threading

from tests.benchmark.network import Link

WORKLOADS = ["turn, 20 items", "first write", "pop"]
SUBJECTS = ["ours", "portable", "sqlite-reused", "sqlite-fresh"]


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.benchmark", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_benchmark_writes_its_tables(tmp_path):
    output = tmp_path / "report.md"
    chosen = [f"--workload={name}" for name in WORKLOADS]
    chosen += [f"--subject={key}" for key in SUBJECTS]
    printed = run("--quick", "--database=sqlite", f"--output={output}", *chosen)
    assert output.read_text() == printed
    ratios, times = printed.split("### SQLite\n\n")[1].strip().split("\n\n")
    for table in (ratios, times):
        head, rule, *rows = (line.split(" | ") for line in table.splitlines())
        assert {len(line) for line in (head, rule, *rows)} == {1 + len(SUBJECTS)}
        assert [row[0] for row in rows] == [
            "| turn, 20 items",
            "| first write",
            "| first write, the add alone",
            "| pop",
        ]
    assert all(cell in printed for cell in ("Python", "Django", "SQLite", "cores"))


def test_its_proxy_counts_round_trips():
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=answer, args=[server], daemon=True).start()
    with Link(*server.getsockname(), round_trip=0.001) as link:
        with socket.create_connection(("127.0.0.1", link.port)) as client:
            for request in (b"a" * 500_000, b"b", b"c"):
                client.sendall(request)
                received = b""
                while len(received) < len(request):
                    received += client.recv(1 << 16)
                assert received == request
        assert link.round_trips() == 3
    server.close()


def answer(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        for size in (500_000, 1, 1):
            request = b""
            while len(request) < size:
                request += connection.recv(1 << 16)
            connection.sendall(request)
        connection.recv(1)
