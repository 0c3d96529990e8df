"""What can be typed where, read from the parser: the tables of the completion scripts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

FILES = {"FILE"}
"""Metavars of values that are files."""


class Value(NamedTuple):
    """What an option or a positional takes. choices: all there are, or none when anything goes."""

    choices: tuple[str, ...]
    is_file: bool


class Option(NamedTuple):
    """One option under all its names. value: None for a switch."""

    names: tuple[str, ...]
    help: str
    value: Value | None


class Command(NamedTuple):
    """One command. path: its words, none for proxyctl itself; children: name and summary of its subcommands.

    positionals: in order; the last one may repeat.
    """

    path: tuple[str, ...]
    options: tuple[Option, ...]
    children: tuple[tuple[str, str], ...]
    positionals: tuple[Value, ...]


def commands_of(parser: argparse.ArgumentParser) -> list[Command]:
    """Every command, parents before children."""
    return list(_walk(parser, ()))


def _walk(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> Iterator[Command]:
    options, positionals = [], []
    parents: list[argparse._SubParsersAction[argparse.ArgumentParser]] = []
    for action in parser._actions:  # argparse has no public way to list them
        if isinstance(action, argparse._SubParsersAction):
            parents.append(action)
        elif action.option_strings:
            value = None if action.nargs == 0 else _value(action)
            options.append(Option(tuple(action.option_strings), (action.help or "").replace("%%", "%"), value))
        else:
            positionals.append(_value(action))
    children = [(each.dest, each.help or "") for parent in parents for each in parent._choices_actions]
    yield Command(path, tuple(options), tuple(children), tuple(positionals))
    for parent in parents:
        for name, child in parent.choices.items():
            yield from _walk(child, (*path, name))


def _value(action: argparse.Action) -> Value:
    choices = tuple(str(choice) for choice in action.choices or ())
    return Value(choices, action.metavar in FILES)
