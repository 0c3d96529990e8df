"""`python -m deploy.home_assistant.demo`, which is `make demo-home-assistant`."""

from __future__ import annotations

import argparse
import asyncio

from deploy.home_assistant.demo.run import run


def count(text: str) -> int:
    """A whole number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 up, not {text}")
    return int(text)


def main(words: list[str] | None = None) -> int:
    """The exit code. words: the arguments, those of the process by default."""
    parser = argparse.ArgumentParser(
        prog="make demo-home-assistant ARGS=...",
        description="A monolith behind a real Home Assistant is replaced by services, and nothing is lost.",
    )
    parser.add_argument("--fast", action="store_true", help="in its short form, in less than a minute")
    parser.add_argument("--lose", type=count, default=0, metavar="N", help="points to take from new's store at the end")
    parser.add_argument("--untimed", action="store_true", help="tell how long changes took, but do not judge it")
    parser.add_argument("-o", "--output", choices=("text", "json", "yaml"), default="text", help="form of the result")
    arguments = parser.parse_args(words)
    return asyncio.run(run(arguments.fast, arguments.output, arguments.lose, not arguments.untimed))


if __name__ == "__main__":
    raise SystemExit(main())
