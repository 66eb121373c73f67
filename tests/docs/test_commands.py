"""Every command, option and exit status stands in docs/commands.md."""

import importlib
import re

import click

from proxy.cli.cache import cache
from proxy.cli.main import main
from proxy.cli.options import EXIT_CONFIG, EXIT_START
from tests.docs.pages import section, text_of

PAGE = "docs/commands.md"


def commands_of(group: click.Command) -> dict[str, click.Command]:
    """The commands of a group, by their names."""
    if not isinstance(group, click.Group):
        return {}
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


MAIN = commands_of(main)
COMMANDS = sorted(MAIN)


def options(command: click.Command) -> list[str]:
    """The options of a command, and of its own commands if it is a group."""
    own = [option for parameter in command.params for option in parameter.opts if isinstance(parameter, click.Option)]
    inner = commands_of(command).values() if command is not main else ()
    return [*own, *(option for each in inner for option in options(each))]


def statuses(name: str) -> set[int]:
    """The exit statuses of a command: of its constants, of its help, of click itself, and of success."""
    module = importlib.import_module(f"proxy.cli.{name}")
    own = {value for key, value in vars(module).items() if key.startswith("EXIT_")}
    own |= {EXIT_START} if hasattr(module, "threads_or_exit") else set()
    documented = {int(number) for number in re.findall(r"\bstatus (\d+)", MAIN[name].help or "")}
    return {0, click.UsageError.exit_code, EXIT_CONFIG} | own | documented


def test_every_command_of_the_cache_is_described() -> None:
    described = re.findall(r"^\| `cache (\w+)\b", section(PAGE, "`cache`"), re.MULTILINE)
    assert sorted(described) == sorted(commands_of(cache))


def test_every_command_has_its_section_and_no_other_has() -> None:
    assert sorted(re.findall(r"^## `(\w+)`$", text_of(PAGE), re.MULTILINE)) == COMMANDS


def test_every_option_is_described_and_exists() -> None:
    option = re.compile(r"(?<![\w-])-(?:-[a-z][a-z-]+|[a-z](?![\w-]))")
    described = {name: set(option.findall(section(PAGE, f"`{name}`"))) for name in COMMANDS}
    assert described == {name: set(options(MAIN[name])) for name in COMMANDS}


def test_every_exit_status_is_described() -> None:
    rows = {name: re.findall(r"^\| (\d+) \|", section(PAGE, f"`{name}`"), re.MULTILINE) for name in COMMANDS}
    assert {name: set(map(int, rows[name])) for name in COMMANDS} == {name: statuses(name) for name in COMMANDS}


def test_what_all_commands_share_is_described() -> None:
    page = text_of(PAGE)
    shared = [*options(main), "--help", "-h", "SCOPE_PROXY_CONFIG", "--config PATH", "--registries PATH"]
    assert [word for word in shared if f"`{word}`" not in page] == []
