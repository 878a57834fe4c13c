"""What commands ask before they do what cannot be undone."""

from __future__ import annotations

from django.core.management.base import (
    CommandError,
    CommandParser,
    OutputWrapper,
)


def add_no_input(parser: CommandParser) -> None:
    parser.add_argument(
        "--no-input",
        "--noinput",
        action="store_false",
        dest="interactive",
        help="Do not ask.",
    )


def confirm(question: str, *, on: OutputWrapper) -> None:
    """Ask whether to go on. Raise CommandError unless the answer is yes."""
    # Not input()'s own prompt: that goes to stdout, which is for results.
    on.write(f"{question}\nType 'yes' to go on: ", lambda text: text, ending="")
    try:
        answer = input()
    except EOFError:
        raise CommandError("Nobody answers: give --no-input.") from None
    if answer != "yes":
        raise CommandError("Nothing was done.")
