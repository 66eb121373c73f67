"""Whether the programs of this repository accept a command: their own parsers decide."""

import re
from collections.abc import Callable

import click

from benchmarks.__main__ import WORKLOADS
from benchmarks.options import parse
from benchmarks.peers import PEERS
from proxy.cli.main import main
from tests.docs.pages import ROOT, text_of
from tests.docs.shell import Command

MAKEFILE = text_of("Makefile")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"^([A-Z_]+) \?=", MAKEFILE, re.MULTILINE))


def scope_proxy(words: tuple[str, ...], *, is_whole: bool) -> str:
    """What the command line itself rejects; a sentence may leave out what has to be given, a block may not."""
    command: click.Command = main
    name, rest = "scope-proxy", list(words)
    try:
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found, inner, rest = command.resolve_command(click.Context(command), rest)
            assert found is not None
            assert inner is not None
            name, command = found, inner
        command.make_context(name, rest)
    except click.exceptions.Exit:  # --version and --help
        return ""
    except (click.MissingParameter, click.BadOptionUsage, click.exceptions.NoArgsIsHelpError) as error:
        return error.format_message() if is_whole else ""
    except click.UsageError as error:
        return error.format_message()
    return ""


def make(words: tuple[str, ...], **_: bool) -> str:
    """Targets and variables that the Makefile does not have, and options that `make bench` does not have."""
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    unknown = [word for word in words if "=" not in word and word not in TARGETS] + sorted(settings.keys() - VARIABLES)
    try:
        parse(settings.get("BENCH_ARGS", "").replace("...", "VENV").split(), WORKLOADS, PEERS)
    except SystemExit:
        unknown.append(settings["BENCH_ARGS"])
    return ", ".join(unknown)


def pytest_of_one_file(words: tuple[str, ...], **_: bool) -> str:
    """A file that is missing."""
    return "" if words[:2] == ("-m", "pytest") and (ROOT / words[2]).is_file() else "no such test"


PARSERS: dict[str, Callable[..., str]] = {
    "scope-proxy": scope_proxy,
    "make": make,
    ".venv/bin/python": pytest_of_one_file,
}


def problem(command: Command, *, is_whole: bool = True) -> str:
    """Why a command fails; nothing if it is right or cannot be judged."""
    found = PARSERS[command.program](command.words[1:], is_whole=is_whole) if command.program in PARSERS else ""
    return f"{command}: {found}" if found else ""
