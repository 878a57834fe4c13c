"""
Compare DjangoSession with what people would use instead: `make bench`.

Everything happens in databases of the benchmark's own, which it drops at the end.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

VENDORS = ("postgresql", "sqlite", "mariadb")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark")
    parser.add_argument("--output", type=Path, help="also write the report here")
    parser.add_argument("--rounds", type=int, help="default 15; 3 if quick")
    parser.add_argument(
        "--quick", action="store_true", help="see that all of it works; not for figures"
    )
    parser.add_argument(
        "--scale",
        action="store_true",
        help="also with a million sessions; minutes more",
    )
    parser.add_argument(
        "--database", action="append", choices=VENDORS, help="default: all three"
    )
    parser.add_argument(
        "--workload", action="append", help="part of a workload's name; repeatable"
    )
    parser.add_argument(
        "--subject", action="append", help="a subject's key; repeatable"
    )
    parser.add_argument(
        "--list", action="store_true", help="print workloads and subjects, and stop"
    )
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (3 if options.quick else 15)
    options.database = options.database or list(VENDORS)
    return options


def main(arguments: Sequence[str]) -> None:
    options = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="agent_sessions_bench_") as folder:
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmark.settings"
        os.environ["BENCHMARK_FOLDER"] = folder
        import django

        django.setup()
        from tests.benchmark.running import list_all, run_all

        if options.list:
            print(list_all(Path(folder)))
            return
        report = run_all(options, Path(folder))
    print(report)
    if options.output:
        options.output.write_text(report + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
